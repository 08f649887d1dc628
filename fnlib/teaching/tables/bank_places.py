"""The question bank for lessons 00 to 03: places that are changed."""

from __future__ import annotations

from fnlib.teaching.questions import Option, Question

_ONE = "import torch\nfrom torch import nn\nmodel = nn.Linear(3, 2)\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"

QUESTIONS = (
    Question(
        key="00-bank-alias",
        kind="bank",
        prompt="What does `b` hold after these lines?",
        code="a = torch.zeros(2)\nb = a\na.add_(1)",
        options=(
            Option("`[0, 0]`", "assignment-copies"),
            Option("`[1, 1]`", why="Both names point to one tensor, and `add_` wrote into it."),
            Option(
                "Nothing: `b` was not assigned a tensor",
                "names-are-boxes",
                why="An assignment points the name to the object on its right side.",
            ),
            Option("`[1, 0]`", "in-place-replaces", why="`add_(1)` adds to every number of the tensor."),
        ),
        right=1,
        proof="assert b.tolist() == [1, 1]",
    ),
    Question(
        key="00-bank-detach",
        kind="bank",
        prompt="Which line keeps the weights as they are now, whatever training does next?",
        options=(
            Option("`best = model.weight.detach()`", "detach-copies"),
            Option("`best = model.state_dict()`", "state-dict-is-snapshot"),
            Option("`best = model.weight`", "assignment-copies"),
            Option("`best = model.weight.detach().clone()`", why="`clone` makes numbers of its own."),
        ),
        right=3,
        proof=_ONE + "kept = model.weight.detach().clone(), model.weight.detach(), model.state_dict()['weight'], model.weight\n"
        "before = kept[0].clone()\nwith torch.no_grad():\n    model.weight.add_(1)\n"
        "assert [torch.equal(k, before) for k in kept] == [True, False, False, False]",
    ),
    Question(
        key="00-bank-rerun",
        kind="bank",
        prompt="You run this cell three times. What is true of the third time?",
        code="for feature, label in training_data:\n    gradient = model.backward(criterion(model(feature), label))\n"
        "    model = ModelFactory(model.step(gradient))",
        options=(
            Option("It gives what the first gave: the loop is functional", "rerun-is-safe"),
            Option("It raises an error: values cannot be trained twice", "immutable-is-untrainable"),
            Option(
                "It trains a third epoch: `model` is rebound by the cell",
                why="The values never change, and the name moves on with each run.",
            ),
            Option(
                "It trains from the start, because the factory has no weights",
                "names-are-boxes",
                why="The factory binds what `model` was last rebound to.",
            ),
        ),
        right=2,
    ),
    Question(
        key="00-bank-function",
        kind="bank",
        prompt="Which cell gives the same bits each time it is run?",
        options=(
            Option("`model = train(model)`", "rerun-is-safe"),
            Option(
                "`trained = train(start)`, where `train` depends on its argument alone",
                why="Nothing that it reads is changed by running it.",
            ),
            Option(
                "`train(model)`, where `train` calls `optimizer.step()`",
                "rerun-is-safe",
                why="Each run goes on from the weights that the last one left.",
            ),
            Option(
                "`start = nn.Linear(3, 2); trained = train(start)`",
                "random-layers-repeat",
                "Building the layer draws from the global generator each time.",
            ),
        ),
        right=1,
    ),
    Question(
        key="01-bank-backward",
        kind="bank",
        prompt="Which state has `loss.backward()` changed, in a stock loop?",
        options=(
            Option("The weights", "backward-updates"),
            Option(
                "`.grad` of the weights, and it used up the graph",
                why="The gradients are written, and the record of the forward pass is freed.",
            ),
            Option("The state of the optimizer", "optimizer-computes-gradient"),
            Option(
                "Nothing: it returns the gradients",
                "state-lives-in-module",
                why="It returns `None`; the gradients stand on the parameters.",
            ),
        ),
        right=1,
        proof=_ONE + "w = model.weight.detach().clone()\nresult = model(torch.ones(1, 3)).sum().backward()\n"
        "assert result is None and torch.equal(w, model.weight) and model.weight.grad is not None and not optimizer.state",
    ),
    Question(
        key="01-bank-twice",
        kind="bank",
        prompt="`zero_grad` is forgotten once. What stands in `.grad` after two identical backward passes?",
        options=(
            Option("The gradient of the second pass", "backward-overwrites"),
            Option("Twice the gradient", why="`backward` adds to what is there."),
            Option("Their mean", "gradient-per-example", why="`backward` adds; nothing divides."),
            Option(
                "PyTorch raises an error", "mistakes-are-loud", why="Nothing is raised: accumulating is a feature, used for large batches."
            ),
        ),
        right=1,
        proof=_ONE + "x = torch.ones(1, 3)\nmodel(x).sum().backward()\nonce = model.weight.grad.clone()\nmodel(x).sum().backward()\n"
        "assert torch.equal(model.weight.grad, 2 * once)",
    ),
    Question(
        key="01-bank-zero-grad",
        kind="bank",
        prompt="What does `optimizer.zero_grad()` do, as PyTorch comes?",
        options=(
            Option("It sets the weights to zero", "zero-grad-zeroes-weights"),
            Option("It clears the moments of the optimizer", "state-lives-in-module", why="The moments stay; only the gradients go."),
            Option("It computes the gradient anew", "optimizer-computes-gradient"),
            Option("It sets `.grad` of its weights to `None`", why="`set_to_none=True` is the default; the tensors are removed."),
        ),
        right=3,
        proof=_ONE + "model(torch.ones(1, 3)).sum().backward()\nw = model.weight.detach().clone()\noptimizer.zero_grad()\n"
        "assert model.weight.grad is None and torch.equal(w, model.weight)",
    ),
    Question(
        key="01-bank-owner",
        kind="bank",
        prompt="In stock PyTorch, where is the gradient of a weight stored?",
        options=(
            Option("In the optimizer, which needs it for the step", "optimizer-computes-gradient"),
            Option(
                "In the loss, which computed it",
                "graph-is-network",
                why="The loss starts the backward pass; it keeps no gradient of the weights.",
            ),
            Option("On the weight itself, as `.grad`", why="The optimizer holds the same weights and reads `.grad` from them."),
            Option("In the module, beside `state_dict()`", "state-lives-in-module", why="`state_dict()` holds no gradients."),
        ),
        right=2,
        proof=_ONE + "model(torch.ones(1, 3)).sum().backward()\nassert model.weight.grad.shape == (2, 3) and not optimizer.state",
    ),
    Question(
        key="01-bank-momentum",
        kind="bank",
        prompt="Momentum 0.5; the gradient of a weight is exactly 0 in this step, and was not in the last. What does the step do to it?",
        options=(
            Option("Nothing: a zero gradient means no movement", "zero-gradient-no-movement"),
            Option("It moves on, by half of the last step", why="The buffer holds half of the last step, and the weight follows it."),
            Option("It moves back", "zero-gradient-no-movement", why="The buffer keeps its sign; the weight goes on as before."),
            Option("The buffer is cleared", "zero-gradient-no-movement", why="The buffer is halved, not cleared."),
        ),
        right=1,
        proof="import torch\nw = torch.tensor(1.0, requires_grad=True)\nrule = torch.optim.SGD([w], lr=0.25, momentum=0.5)\npath = []\n"
        "for _ in range(3):\n    rule.zero_grad()\n    ((2 * w - 4) ** 2 / 4).backward()\n    rule.step()\n    path.append((w.grad.item(), w.item()))\n"
        "assert path == [(-2.0, 1.5), (-1.0, 2.0), (0.0, 2.25)]",
    ),
    Question(
        key="01-bank-shape",
        kind="bank",
        prompt="`model = nn.Linear(128, 64)`. What is the shape of `model.weight.grad` after a backward pass over a batch of 32?",
        options=(
            Option("`(64, 128)`", why="One number for each weight; the batch is summed or averaged by the loss."),
            Option(
                "`(32, 64, 128)`",
                "gradient-per-example",
                why="That would be a gradient for each example; autograd gives that of the one loss.",
            ),
            Option("`(32, 64)`", "gradient-per-example", why="That is the shape of the output."),
            Option(
                "`(128, 64)`",
                "gradient-per-example",
                why="`nn.Linear` stores its weight as (outputs, inputs), and the gradient has the shape of the weight.",
            ),
        ),
        right=0,
        proof="import torch\nm = torch.nn.Linear(128, 64)\nm(torch.ones(32, 128)).mean().backward()\nassert m.weight.grad.shape == (64, 128)",
    ),
    Question(
        key="01-bank-step",
        kind="bank",
        prompt="`optimizer.step()` is called before any backward pass. What happens?",
        options=(
            Option("The weights move by the learning rate", "backward-updates", "Without a gradient there is no step."),
            Option("Nothing, and nothing is said", why="A weight whose `.grad` is `None` is left as it is."),
            Option("An error is raised", "mistakes-are-loud", why="`.grad is None` is a normal state, for example of a frozen weight."),
            Option("The gradient is computed first", "optimizer-computes-gradient"),
        ),
        right=1,
        proof=_ONE + "w = model.weight.detach().clone()\noptimizer.step()\nassert torch.equal(w, model.weight)",
    ),
    Question(
        key="02-bank-replaced",
        kind="bank",
        prompt="The optimizer is built; then the last layer is replaced: `model[2] = nn.Linear(64, 5)`. What is trained?",
        options=(
            Option("All layers: the optimizer holds the model", "optimizer-follows"),
            Option("The new layer only", "optimizer-follows", why="The optimizer does not know of it."),
            Option("The old layers; the new one stays as it was drawn", why="The optimizer holds the tensors that it was given."),
            Option("Nothing: `step` raises", "mistakes-are-loud", why="The old tensors still exist; nothing is missed."),
        ),
        right=2,
        proof="import torch\nfrom torch import nn\nmodel = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nmodel[2] = nn.Linear(3, 5)\nnew = model[2].weight.detach().clone()\n"
        "model(torch.ones(1, 4)).pow(2).sum().backward()\noptimizer.step()\nassert torch.equal(new, model[2].weight)",
    ),
    Question(
        key="02-bank-any-function",
        kind="bank",
        prompt="What does this print?",
        code="x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)\n(x ** 2).sum().backward()\nprint(x.grad)",
        options=(
            Option("`[1, 4, 9]`", "gradient-is-value", why="That is the value of the function; its derivative is `2 * x`."),
            Option("`[2, 4, 6]`", why="The derivative of `x ** 2` is `2 * x`; no network is needed."),
            Option("`None`: there is no optimizer", "optimizer-computes-gradient"),
            Option("An error: there is no module", "functional-is-f", "Autograd works on tensors; modules are built on it."),
        ),
        right=1,
        proof="assert x.grad.tolist() == [2, 4, 6]",
    ),
    Question(
        key="02-bank-non-scalar",
        kind="bank",
        prompt="Why does `(x ** 2).backward()` raise for a tensor of three numbers?",
        options=(
            Option("Its graph is used up", "graph-is-network", why="It was never used."),
            Option(
                "A loss is one number; for three, the weights of each must be given",
                why="Pass them as `gradient=`, or sum first.",
            ),
            Option("`x` is not a parameter of a module", "functional-is-f", "Autograd asks for `requires_grad`, not for a module."),
            Option("`zero_grad` was not called", "backward-overwrites", "Nothing was in `.grad` yet, and `backward` would add to it."),
        ),
        right=1,
        proof="import torch\nx = torch.ones(3, requires_grad=True)\ntry:\n    (x ** 2).backward()\nexcept RuntimeError as e:\n"
        "    assert 'scalar' in str(e)\nelse:\n    raise AssertionError",
    ),
    Question(
        key="02-bank-two-losses",
        kind="bank",
        prompt="Two losses of one network, `a.backward()`, then `b.backward()`, then one `step()`. Which gradient does the step use?",
        options=(
            Option("That of `b`", "backward-overwrites"),
            Option("The sum of both", why="`backward` adds; this is why stock loops can accumulate."),
            Option("That of `a`; the second raises", "graph-is-network", why="The two losses have graphs of their own here."),
            Option("None: the step recomputes it", "optimizer-computes-gradient"),
        ),
        right=1,
        proof=_ONE + "x, y = torch.ones(1, 3), torch.zeros(1, 3)\nmodel(x).sum().backward()\nmodel(x).pow(2).sum().backward()\n"
        "both = model.weight.grad\nt = model(x).sum() + model(x).pow(2).sum()\nassert torch.allclose(both, torch.autograd.grad(t, model.weight)[0])",
    ),
    Question(
        key="02-bank-two-owners",
        kind="bank",
        prompt="Two optimizers hold the same weight, and both call `step()`. What happens to it?",
        options=(
            Option("It is stepped twice, in silence", why="Each optimizer updates what it holds; neither knows of the other."),
            Option("The second step is skipped", "optimizer-follows", why="Nothing records that a gradient was used."),
            Option("An error is raised", "mistakes-are-loud", why="Sharing is allowed, and sometimes wanted."),
            Option("Each optimizer has its own copy of it", "assignment-copies"),
        ),
        right=0,
        proof="import torch\nw = torch.tensor(0.0, requires_grad=True)\na, b = torch.optim.SGD([w], lr=1.0), torch.optim.SGD([w], lr=1.0)\n"
        "w.backward()\na.step()\nb.step()\nassert w.item() == -2.0",
    ),
    Question(
        key="03-bank-fit-twice",
        kind="bank",
        prompt="What does a second call of scikit-learn's `MLPClassifier.fit(X, y)` do, as it comes?",
        options=(
            Option(
                "It goes on training, as a second stock loop would",
                "rerun-is-safe",
                "Here the stock loop's habit misleads: `fit` starts afresh.",
            ),
            Option("It starts again from new weights", why="`warm_start=False` is the default."),
            Option("It raises: the model is fitted", "mistakes-are-loud", why="Fitting again is allowed."),
            Option("Nothing: it is fitted already", "trained-is-finished", why="It forgets what it had learnt and starts again."),
        ),
        right=1,
        proof="import numpy as np, warnings\nfrom sklearn.neural_network import MLPClassifier\nwarnings.simplefilter('ignore')\n"
        "X = np.eye(4)\ny = np.array([0, 1, 0, 1])\nm = MLPClassifier((3,), max_iter=2, random_state=0)\nonce = m.fit(X, y).coefs_[0].copy()\n"
        "assert (m.fit(X, y).coefs_[0] == once).all()",
    ),
    Question(
        key="03-bank-needs",
        kind="bank",
        prompt="A model offers `model.step(feature, label)` and nothing else. Which need asks you to reach inside?",
        options=(
            Option("Training on one more batch", "box-forbids-all", why="That is what `step` is for."),
            Option("Clipping the gradient between backward and update", why="Both happen inside one call; there is no line between them."),
            Option("Choosing another learning rate before building it", "box-forbids-all", why="That is an argument of the constructor."),
            Option("Naming new images", "box-forbids-all", why="The forward pass is there: `model(feature)`."),
        ),
        right=1,
    ),
    Question(
        key="03-bank-owner",
        kind="bank",
        prompt="What does the encapsulated `model.step(feature, label)` make clear, compared with the stock loop?",
        options=(
            Option("Who owns the change: the object that is named in the line", why="The line names `model`, and `model` is what changes."),
            Option("What the gradient was", "box-is-open", why="It is computed and used inside; nothing comes out."),
            Option("That nothing is changed in place", "immutable-is-untrainable", "The weights in the box are still places."),
            Option("That the model can be kept with `best = model`", "assignment-copies"),
        ),
        right=0,
    ),
)
