"""The question bank for lessons 07 to 09: running statistics, modes, randomness, hidden state, silent bugs."""

from __future__ import annotations

from fnlib.teaching.questions import Option, Question

_NORM = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nnorm = nn.BatchNorm1d(3)\nx = torch.randn(8, 3) + 5\n"

QUESTIONS = (
    Question(
        key="07-bank-no-grad",
        kind="bank",
        prompt="A BatchNorm in training mode is called under `torch.no_grad()`. What happens to its running statistics?",
        options=(
            Option("They stay: nothing is recorded", "eval-is-no-grad"),
            Option("They move", why="The forward pass updates them in training mode; `no_grad` only stops the graph."),
            Option("They are reset", "eval-is-no-grad", why="Only `reset_running_stats()` does that."),
            Option("An error is raised", "mistakes-are-loud", why="Nothing is said."),
        ),
        right=1,
        proof=_NORM + "with torch.no_grad():\n    norm(x)\nassert norm.running_mean.abs().sum() > 0",
    ),
    Question(
        key="07-bank-eval",
        kind="bank",
        prompt="After `model.eval()`, you call `loss.backward()`. What happens?",
        options=(
            Option("It raises: there is no graph", "eval-is-no-grad"),
            Option("Gradients are computed as usual", why="`eval()` changes how layers compute, not what autograd records."),
            Option("Gradients are zero", "eval-is-no-grad"),
            Option("Only the running statistics change", "eval-is-no-grad", why="In evaluation mode they are read, not written."),
        ),
        right=1,
        proof="import torch\nm = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout()).eval()\nm(torch.ones(1, 2)).sum().backward()\n"
        "assert m[0].weight.grad.abs().sum() > 0",
    ),
    Question(
        key="07-bank-freeze",
        kind="bank",
        prompt="Every parameter of a BatchNorm has `requires_grad = False`. Does it still change in training mode?",
        options=(
            Option("No: it is frozen", "eval-is-no-grad", "`requires_grad` speaks of weights; running statistics are buffers."),
            Option("Yes: its running statistics do", why="Only `norm.eval()`, or the mode of the bind, holds them."),
            Option(
                "Yes: its weights do, through momentum",
                "zero-gradient-no-movement",
                "Here no gradient ever came, so that there is no momentum.",
            ),
            Option("Only if the optimizer holds it", "optimizer-follows", "The optimizer never touches buffers."),
        ),
        right=1,
        proof=_NORM + "norm.requires_grad_(False)\nnorm(x)\nassert norm.running_mean.abs().sum() > 0",
    ),
    Question(
        key="07-bank-dropout",
        kind="bank",
        prompt="`torch.manual_seed(0)`, then `dropout(x)` twice. Are the two results equal?",
        options=(
            Option("Yes: the seed is the same", "random-layers-repeat"),
            Option("No: the first draw moved the generator on", why="The seed sets where the generator starts, once."),
            Option(
                "Yes, in evaluation mode only they differ",
                "eval-is-no-grad",
                why="In evaluation mode dropout passes everything on, and both are equal to `x`.",
            ),
            Option("No: dropout ignores the seed", "seed-is-position", why="It draws from the seeded generator."),
        ),
        right=1,
        proof="import torch\ndropout = torch.nn.Dropout(0.5)\nx = torch.ones(100)\ntorch.manual_seed(0)\nassert not torch.equal(dropout(x), dropout(x))",
    ),
    Question(
        key="07-bank-extra-draw",
        kind="bank",
        prompt="Somebody adds one `torch.rand(1)` before the network is built. What else changes?",
        options=(
            Option("Nothing: it is not used", "random-layers-repeat"),
            Option("The initial weights of every layer built after it", why="All draws come from one generator, one after the other."),
            Option("Only the first layer", "seed-is-position", why="Every later draw is shifted too."),
            Option("The seed", "seed-is-position", why="The seed is the start; it is the position that moved."),
        ),
        right=1,
        proof="import torch\ntorch.manual_seed(0)\na = torch.nn.Linear(2, 2)\ntorch.manual_seed(0)\n_ = torch.rand(1)\nb = torch.nn.Linear(2, 2)\n"
        "assert not torch.equal(a.weight, b.weight)",
    ),
    Question(
        key="07-bank-where",
        kind="bank",
        prompt="In the functional style, how does a training step return new running statistics?",
        options=(
            Option("It does not: they stay in the module", "immutable-is-untrainable", "The module that was given is never changed."),
            Option(
                "As a result: `output, buffers = model.with_buffers(feature)`",
                why="And `model.step(gradient, buffers=buffers)` passes them on.",
            ),
            Option("In the gradient", "optimizer-computes-gradient", "Statistics have no gradient; the forward pass makes them."),
            Option("Through `eval()`", "eval-is-no-grad"),
        ),
        right=1,
    ),
    Question(
        key="08-bank-detach",
        kind="bank",
        prompt="`hidden = hidden.detach()` between two pieces of a sequence. What does the next piece get?",
        options=(
            Option("A hidden state of zeros", "detach-forgets", why="The numbers go on; only the graph is cut."),
            Option("The same numbers, without the way back", why="The gradient stops here; the memory of the network does not."),
            Option("A copy with numbers of its own", "detach-copies"),
            Option("Nothing changes: `detach` is for evaluation", "eval-is-no-grad"),
        ),
        right=1,
        proof="import torch\nh = torch.ones(2, requires_grad=True) * 2\nd = h.detach()\nassert torch.equal(h, d) and d.grad_fn is None and d.data_ptr() == h.data_ptr()",
    ),
    Question(
        key="08-bank-window",
        kind="bank",
        prompt="The task is to name the digit before. Training is truncated at every single digit, and the hidden state is carried on. What is learnt?",
        options=(
            Option("The task, more slowly", "carrying-teaches", why="No gradient ever tells the network to keep what it saw a digit ago."),
            Option("Nothing better than chance", why="The gradient stops before it reaches the digit that matters."),
            Option(
                "The task: the hidden state is carried", "detach-copies", "The numbers are carried; what to put into them is not learnt."
            ),
            Option("It raises an error", "mistakes-are-loud", why="Nothing is said: the loss just does not fall."),
        ),
        right=1,
    ),
    Question(
        key="08-bank-redesign",
        kind="bank",
        prompt="Where did stock PyTorch keep the hidden state of an RNN, all along?",
        options=(
            Option("In a buffer of the module", "state-dict-is-snapshot", "It is in no `state_dict`."),
            Option("It is an argument and a result of the call", why="A value that is passed on; no redesign was needed."),
            Option("In the optimizer", "optimizer-computes-gradient", "The optimizer holds weights and moments."),
            Option("In a global variable", "random-layers-repeat", "Random numbers are like that; hidden states are not."),
        ),
        right=1,
        proof="import torch\nrnn = torch.nn.RNN(2, 3)\nout, h = rnn(torch.ones(4, 1, 2), torch.zeros(1, 1, 3))\nassert h.shape == (1, 1, 3) and not list(rnn.buffers())",
    ),
    Question(
        key="08-bank-undetached",
        kind="bank",
        prompt="The hidden state is carried into the next piece without `detach`. What does the second `backward` do?",
        options=(
            Option("It adds to the first gradient", "backward-overwrites", "It would, but it never gets there."),
            Option("It raises: the graph of the first piece is used up", why="The new graph leads back into the old one, which was freed."),
            Option("It trains through both pieces", "carrying-teaches", why="For that, both must be in one backward pass."),
            Option("It skips the first piece", "detach-forgets", why="Only `detach` says where to stop."),
        ),
        right=1,
        proof="import torch\nrnn = torch.nn.RNN(2, 3)\nx = torch.ones(4, 1, 2)\nout, h = rnn(x)\nout.sum().backward()\nout, h = rnn(x, h)\n"
        "try:\n    out.sum().backward()\nexcept RuntimeError as e:\n    assert 'second time' in str(e)\nelse:\n    raise AssertionError",
    ),
    Question(
        key="09-bank-total",
        kind="bank",
        prompt="`total = total + loss` over an epoch, to print the mean. What grows?",
        options=(
            Option("Nothing: it is one number", "assignment-copies", "The number carries the graph of every step with it."),
            Option("Memory: each loss keeps its graph", why="Add `loss.item()`, or `loss.detach()`."),
            Option("The gradients", "backward-overwrites", "They grow only if `zero_grad` is missing."),
            Option("The optimizer's state", "optimizer-computes-gradient", "It holds nothing of the losses."),
        ),
        right=1,
    ),
    Question(
        key="09-bank-frozen-weight",
        kind="bank",
        prompt="With momentum, a weight is frozen after ten steps by setting its gradient to zero. Does it stop?",
        options=(
            Option("Yes: the gradient is zero", "zero-gradient-no-movement"),
            Option("No: the momentum buffer moves it on", why="Set `.grad = None`, or take it out of the optimizer."),
            Option("Yes, from the next epoch on", "zero-gradient-no-movement", why="Epochs are nothing to an optimizer."),
            Option("No: zero_grad moves it", "zero-grad-zeroes-weights"),
        ),
        right=1,
        proof="import torch\nw = torch.tensor(1.0, requires_grad=True)\nrule = torch.optim.SGD([w], lr=0.1, momentum=0.9)\nw.grad = torch.tensor(1.0)\nrule.step()\n"
        "before = w.item()\nw.grad = torch.tensor(0.0)\nrule.step()\nassert w.item() != before",
    ),
    Question(
        key="09-bank-load",
        kind="bank",
        prompt="`model.load_state_dict(saved, assign=True)` after the optimizer was built. What does the optimizer train?",
        options=(
            Option("The loaded weights", "optimizer-follows"),
            Option(
                "The old weights, which nobody uses any more",
                why="`assign=True` puts new tensors into the model; the optimizer holds the old ones.",
            ),
            Option("Both", "optimizer-follows", why="It holds only what it was given."),
            Option("It raises", "mistakes-are-loud", why="Nothing is missing, so nothing is said."),
        ),
        right=1,
        proof="import torch\nm = torch.nn.Linear(2, 1)\nrule = torch.optim.SGD(m.parameters(), lr=0.1)\n"
        "m.load_state_dict({k: v.clone() for k, v in m.state_dict().items()}, assign=True)\nkept = m.weight.detach().clone()\n"
        "m(torch.ones(1, 2)).pow(2).sum().backward()\nrule.step()\nassert torch.equal(kept, m.weight)",
    ),
    Question(
        key="09-bank-own-bug",
        kind="bank",
        prompt="Which bug can only happen in the functional style?",
        options=(
            Option("A forgotten `zero_grad`", "backward-overwrites", "There is no `.grad` to clear."),
            Option("A snapshot that follows the training", "state-dict-is-snapshot", "A value follows nothing."),
            Option(
                "The returned value is ignored, and the old model used", why="Where nothing is changed, a result that is not bound is lost."
            ),
            Option("Running statistics that move during evaluation", "eval-is-no-grad", "There a forward that changes buffers says so."),
        ),
        right=2,
    ),
)
