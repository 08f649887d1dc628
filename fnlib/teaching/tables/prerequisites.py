"""The eight questions that stand before lesson 00, and again after lesson 05."""

from __future__ import annotations

from fnlib.teaching.questions import Option, Question

_NAMES = "[Python tutorial: names and objects](https://docs.python.org/3/tutorial/classes.html#a-word-about-names-and-objects)"
_LISTS = (
    "[Python FAQ: why changing y also changed x](https://docs.python.org/3/faq/programming.html#why-did-changing-list-y-also-change-list-x)"
)
_COPY = "[Python library: copy](https://docs.python.org/3/library/copy.html)"
_AUTOGRAD = "[PyTorch notes: autograd mechanics](https://docs.pytorch.org/docs/stable/notes/autograd.html)"

QUESTIONS = (
    Question(
        key="pre-names",
        kind="prerequisite",
        prompt="How many lists are there after these two lines?",
        code="a = [1, 2]\nb = a",
        options=(
            Option("Two, with the same numbers", "assignment-copies"),
            Option("One, with two names", why="The second line makes a name, not a list."),
            Option("Two, and they become one when `b` changes", "assignment-copies", "There never were two."),
            Option("One; the name `a` is gone", "names-are-boxes", why="A name stays until it is assigned again or deleted."),
        ),
        right=1,
        proof="assert a is b",
        read=_NAMES,
    ),
    Question(
        key="pre-alias",
        kind="prerequisite",
        prompt="What does `b` hold at the end?",
        code="a = [1, 2]\nb = a\na.append(3)",
        options=(
            Option("`[1, 2]`", "assignment-copies"),
            Option("`[1, 2, 3]`", why="There is one list, and it was changed."),
            Option("`[3]`", "in-place-replaces", why="`append` adds to what is there."),
            Option("It raises: `b` was not told", "mistakes-are-loud", why="Nobody is told. That is what this course is about."),
        ),
        right=1,
        proof="assert b == [1, 2, 3]",
        read=_LISTS,
    ),
    Question(
        key="pre-rebind",
        kind="prerequisite",
        prompt="What does `b` hold at the end?",
        code="a = [1, 2]\nb = a\na = a + [3]",
        options=(
            Option(
                "`[1, 2, 3]`: both names follow", "names-are-boxes", why="`a + [3]` makes a new list, and only the name `a` goes to it."
            ),
            Option("`[1, 2]`: only the name `a` moved on", why="The old list was not changed; `b` still points to it."),
            Option("`[3]`", "in-place-replaces", why="Nothing was done to `b`."),
            Option("`[1, 2]`, because `b` is a copy", "assignment-copies", "The right numbers for the wrong reason."),
        ),
        right=1,
        proof="assert b == [1, 2]",
        read=_NAMES,
    ),
    Question(
        key="pre-plus-equals",
        kind="prerequisite",
        prompt="And what does `b` hold here?",
        code="a = [1, 2]\nb = a\na += [3]",
        options=(
            Option("`[1, 2]`: `+=` is short for `a = a + ...`", "names-are-boxes", why="For a list, `+=` changes the list in place."),
            Option("`[1, 2, 3]`: the one list was changed", why="For lists and tensors, `+=` writes into what is there."),
            Option("`[3]`", "in-place-replaces", why="`+=` adds to the list."),
            Option("`[1, 2]`, because `b` is a copy", "assignment-copies"),
        ),
        right=1,
        proof="assert b == [1, 2, 3]",
        read="[Python FAQ: augmented assignment](https://docs.python.org/3/faq/programming.html"
        "#why-does-a-tuple-i-item-raise-an-exception-when-the-addition-works)",
    ),
    Question(
        key="pre-function",
        kind="prerequisite",
        prompt="What does this print?",
        code="def grow(numbers):\n    numbers.append(3)\n\na = [1, 2]\ngrow(a)\nprint(a)",
        options=(
            Option("`[1, 2]`: a function works on copies", "assignment-copies", "An argument is a name for the same object."),
            Option("`[1, 2, 3]`: the function changed the list", why="Nothing in the line `grow(a)` says so."),
            Option("`None`", "in-place-replaces", why="That is what `grow(a)` returns, not what `a` holds."),
            Option("`[3]`", "in-place-replaces", why="`append` adds to what is there."),
        ),
        right=1,
        proof="assert a == [1, 2, 3]",
        read=_LISTS,
    ),
    Question(
        key="pre-copy",
        kind="prerequisite",
        prompt="`a = [[1], [2]]`. After which line is nothing in `b` shared with `a`?",
        options=(
            Option("`b = a`", "assignment-copies"),
            Option("`b = copy.deepcopy(a)`", why="It copies the object, and all that is in it."),
            Option("`b = list(a)`", "frozen-tuple-freezes", "In the same way, a new outer list holds the old inner ones."),
            Option("`b = copy.copy(a)`", "frozen-tuple-freezes", why="A shallow copy: a new outer list, the old inner ones."),
        ),
        right=1,
        proof="import copy\na = [[1], [2]]\nassert [b[0] is a[0] for b in (a, copy.deepcopy(a), list(a), copy.copy(a))] == [True, False, True, True]",
        read=_COPY,
    ),
    Question(
        key="pre-gradient",
        kind="prerequisite",
        prompt="What does this print?",
        code="w = torch.tensor(3.0, requires_grad=True)\n(w * w).backward()\nprint(w.grad)",
        options=(
            Option("`9`", "gradient-is-value", why="That is `w * w`; the derivative is `2 * w`."),
            Option("`6`", why="The derivative of `w * w` is `2 * w`."),
            Option("`3`", "backward-updates", "And that is `w` itself."),
            Option("`None`, until an optimizer is there", "optimizer-computes-gradient"),
        ),
        right=1,
        proof="assert w.grad.item() == 6",
        read=_AUTOGRAD,
    ),
    Question(
        key="pre-graph",
        kind="prerequisite",
        prompt="What is the graph behind a loss?",
        options=(
            Option(
                "The picture of the layers, made when the network is built",
                "graph-is-network",
                why="It is recorded anew in each forward pass.",
            ),
            Option("The record of the operations that led to the loss", why="The backward pass walks along it, and uses it up."),
            Option(
                "The curve of the loss over the epochs",
                "graph-is-network",
                why="That is a plot. The graph behind one loss is what autograd walks along.",
            ),
            Option("Where the optimizer keeps the gradients", "optimizer-computes-gradient"),
        ),
        right=1,
        proof="import torch\nw = torch.tensor(3.0, requires_grad=True)\nloss = w * w\nassert loss.grad_fn is not None\nloss.backward()\n"
        "try:\n    loss.backward()\nexcept RuntimeError:\n    pass\nelse:\n    raise AssertionError",
        read=_AUTOGRAD,
    ),
)
