"""The question bank for lessons 04 to 06: values that are passed on, four loops, and what immutability costs."""

from __future__ import annotations

from fnlib.teaching.questions import Option, Question

_FN = (
    "import torch, fnlib\nfrom torch import nn\nModelFactory = fnlib.Sequential(nn.Linear(3, 2), optimizer=fnlib.SGD(lr=0.1))\n"
    "model = ModelFactory(fnlib.Parameters(seed=0))\nloss = model(torch.ones(1, 3)).pow(2).sum()\n"
)

QUESTIONS = (
    Question(
        key="04-bank-functional",
        kind="bank",
        prompt="What makes a training loop functional, in this course?",
        options=(
            Option("It calls `torch.nn.functional` instead of modules", "functional-is-f"),
            Option(
                "It is written with `def` and `lambda`",
                "functional-is-f",
                why="A function can change places too; what counts is what it reads and writes.",
            ),
            Option(
                "State goes in as an argument and comes out as a result", why="Then a line shows all that it reads and all that it makes."
            ),
            Option("It works without gradients", "immutable-is-untrainable"),
        ),
        right=2,
    ),
    Question(
        key="04-bank-step",
        kind="bank",
        prompt="What has changed in `model` after this line?",
        code="parameters = model.step(gradient)",
        options=(
            Option("Its weights", "immutable-is-untrainable", "The new weights are in `parameters`; the old ones still stand."),
            Option("Nothing: the new weights are in `parameters`", why="`step` makes a new value."),
            Option("Its gradient was set to zero", "zero-grad-zeroes-weights", "The gradient is a value too, and stands as it was."),
            Option("It is bound to `parameters`", "result-not-needed", why="Binding is the next line: `model = ModelFactory(parameters)`."),
        ),
        right=1,
        proof=_FN + "before = model.weights['0.weight'].detach().clone()\nparameters = model.step(model.backward(loss))\n"
        "assert torch.equal(before, model.weights['0.weight']) and not torch.equal(before, parameters['0.weight'])",
    ),
    Question(
        key="04-bank-forgot",
        kind="bank",
        prompt="In a functional loop you write `model.step(gradient)` on a line of its own. What happens?",
        options=(
            Option("The model is trained", "backward-updates", "Here nothing is: the new value is thrown away."),
            Option(
                "Nothing is trained, and the loss stays where it is",
                why="The result must be bound to a name. This is the functional style's own bug.",
            ),
            Option("An error is raised", "mistakes-are-loud", why="A result that nobody binds is no error in Python."),
            Option("The gradient is added to the next one", "backward-overwrites", "Values do not accumulate unless you add them."),
        ),
        right=1,
    ),
    Question(
        key="04-bank-add",
        kind="bank",
        prompt="You want the gradient of two batches together, in the functional style. What do you write?",
        options=(
            Option(
                "`backward` twice, then one `step`: it accumulates",
                "backward-overwrites",
                "Here `backward` returns a value; nothing is kept in between.",
            ),
            Option("`model.step(first + second)`", why="A gradient is a value, so that two can be added."),
            Option("It cannot be done: gradients are immutable", "immutable-is-untrainable"),
            Option("`gradient.add_(second)`", "in-place-replaces", why="A value has no in-place methods; `+` makes a new one."),
        ),
        right=1,
        proof=_FN
        + "first = model.backward(loss)\nsecond = model.backward(model(torch.ones(1, 3)).sum())\nassert 'step_count' in dir(model.step(first + second))\n"
        "assert torch.equal((first + second)['0.bias'], first['0.bias'] + second['0.bias'])",
    ),
    Question(
        key="04-bank-frozen",
        kind="bank",
        prompt="What does the last line print?",
        code="weights = (torch.zeros(2),)\nkept = weights\nweights[0].add_(1)\nprint(kept[0])",
        options=(
            Option("`[0, 0]`: a tuple cannot be changed", "frozen-tuple-freezes"),
            Option(
                "`[1, 1]`: the tuple is fixed, the numbers are not",
                why="A tuple fixes which tensor it holds; `add_` wrote into that tensor.",
            ),
            Option("It raises in line 3", "frozen-tuple-freezes", "Nothing is assigned into the tuple, so Python has nothing to refuse."),
            Option("`[0, 0]`: `kept` is a copy", "assignment-copies"),
        ),
        right=1,
        proof="assert kept[0].tolist() == [1, 1]",
    ),
    Question(
        key="04-bank-keep",
        kind="bank",
        prompt="How do you keep the best weights in the functional loop?",
        options=(
            Option("`best = parameters`", why="A value cannot change, so that a name is enough."),
            Option(
                "`best = copy.deepcopy(parameters)`",
                "assignment-copies",
                "True of places. A value needs no copy: nobody can write into it.",
            ),
            Option("It cannot be done: the next step overwrites them", "immutable-is-untrainable"),
            Option(
                "`best = parameters.state_dict()`", "state-dict-is-snapshot", "Of a value it would be one, but a copy that you do not need."
            ),
        ),
        right=0,
        proof=_FN + "best = model.parameters\nkept = best['0.weight'].clone()\nfor _ in range(3):\n"
        "    model = ModelFactory(model.step(model.backward(model(torch.ones(1, 3)).pow(2).sum())))\nassert torch.equal(kept, best['0.weight'])",
    ),
    Question(
        key="05-bank-bits",
        kind="bank",
        prompt="The same start, data and rule, once in a stock loop and once in the functional one. How do the weights compare after 100 steps?",
        options=(
            Option(
                "Equal to about six digits: the order of operations differs",
                "style-changes-numbers",
                why="The kit uses the same operations in the same order, and the lesson compares bits.",
            ),
            Option("Bit for bit equal", why="Style decides where results are put, not how they are computed."),
            Option(
                "Close at first, then apart: values cannot carry momentum",
                "immutable-is-untrainable",
                "The moments are carried in `parameters`.",
            ),
            Option(
                "The functional ones train more slowly at each step",
                "values-double-memory",
                "What may differ is seconds and bytes, never the numbers.",
            ),
        ),
        right=1,
        proof="import torch, fnlib\nfrom torch import nn\nx = torch.ones(4, 3)\nnet = nn.Sequential(nn.Linear(3, 2))\n"
        "F = fnlib.Sequential(nn.Linear(3, 2), optimizer=fnlib.SGD(lr=0.01))\nm = F(fnlib.Parameters.from_module(net))\n"
        "rule = torch.optim.SGD(net.parameters(), lr=0.01)\nfor _ in range(100):\n    rule.zero_grad()\n    net(x).pow(2).mean().backward()\n    rule.step()\n"
        "    m = F(m.step(m.backward(m(x).pow(2).mean())))\nassert all(torch.equal(m.weights[k], p) for k, p in net.named_parameters())",
    ),
    Question(
        key="05-bank-ledger",
        kind="bank",
        prompt="A ledger shows five statements, none of which changes a tensor in place, and a new `parameters` in each round. Which loop wrote it?",
        options=(
            Option("The stock loop", "immutable-is-untrainable", "Its `step` changes weights in place; that is how it trains."),
            Option("The encapsulated `step`", "box-is-open", why="It changes the places inside its box; the ledger sees them."),
            Option("`fit`", "box-is-open", why="Inside, it is a loop that changes places."),
            Option("The functional loop", why="New values in each round, and nothing written over."),
        ),
        right=3,
    ),
    Question(
        key="05-bank-fair",
        kind="bank",
        prompt="Which is a fair reason for the stock design?",
        options=(
            Option("It computes better gradients", "optimizer-computes-gradient", "Both styles use the same autograd."),
            Option("One optimizer can serve any tensors, of any number of networks", why="Sharing composes; that is what it buys."),
            Option("Values cannot be trained", "immutable-is-untrainable"),
            Option("Values need twice the memory of all training", "values-double-memory"),
        ),
        right=1,
    ),
    Question(
        key="05-bank-resume",
        kind="bank",
        prompt="You want to stop training with Adam and go on tomorrow with the same bits. What must you save in the stock style?",
        options=(
            Option(
                "`model.state_dict()`: everything is in it",
                "state-dict-is-snapshot",
                "Adam's averages and step count are in the optimizer.",
            ),
            Option(
                "`model.state_dict()` and `optimizer.state_dict()`, both copied or written to disk",
                why="Weights and buffers in one, moments and rate in the other.",
            ),
            Option("The gradients", "optimizer-computes-gradient", "They are computed afresh in the next step."),
            Option("Nothing: the file of the code repeats itself", "random-layers-repeat"),
        ),
        right=1,
    ),
    Question(
        key="06-bank-memory",
        kind="bank",
        prompt="In the functional loop, how many copies of the weights are alive right after `step` returns?",
        options=(
            Option("One", "names-are-boxes", why="The old value still stands until its last name lets go of it."),
            Option("Two: the old and the new", why="And never more, unless you keep more names."),
            Option("One for each step so far", "values-double-memory", "A value that no name holds is freed at once."),
            Option("Two of weights and of activations", "values-double-memory"),
        ),
        right=1,
    ),
    Question(
        key="06-bank-part",
        kind="bank",
        prompt="A small network trains on large batches. What takes most of its memory during a step?",
        options=(
            Option("The second copy of the weights", "values-double-memory"),
            Option("The activations", why="They grow with the batch; the weights do not."),
            Option("The optimizer", "optimizer-computes-gradient", "SGD without momentum keeps nothing."),
            Option("The gradients", "values-double-memory", "They are as many as the weights, and the weights are few here."),
        ),
        right=1,
    ),
    Question(
        key="06-bank-donate",
        kind="bank",
        prompt="After `new = model.step(gradient, donate=True)` you use the old parameters. What happens?",
        options=(
            Option("They hold the old numbers", "assignment-copies", "Their memory was given away, and has new numbers in it."),
            Option("They hold the new numbers, in silence", "donation-is-unguarded", why="That is what the guard prevents."),
            Option(
                "An error says where they were given away, and what to do",
                why="A donated value is marked unusable before a byte is written.",
            ),
            Option("The process crashes", "donation-is-unguarded", why="Freed memory is never read: the guard is in the value."),
        ),
        right=2,
    ),
)
