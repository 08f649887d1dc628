# ruff: noqa: E501  # a question is read as it is printed
"""Lesson 03, "What does closing the box cost?": its exercises and questions."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import SGD, Gradient, encapsulated
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, names_in
from fnlib.teaching.questions import Option, Question

Box = encapsulated.Sequential

_LR, _MAX_NORM = 0.25, 0.05


def _layers() -> list[nn.Module]:
    return [nn.Linear(4, 3), nn.LogSoftmax(dim=1)]


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)


def _near(given: Any, wanted: Any) -> bool:
    return abs(float(given) - float(wanted)) < 1e-5


# --- 03-look: the length of a gradient, and the box as it was ------------------------------------


def _look(gradient_length: Callable[[Box, Tensor, Tensor], Any]) -> Any:
    """Hand over a box with a step of momentum behind it, and see what comes back and what became of the box."""
    feature, label = _batch()
    box = Box(*_layers(), loss=nn.NLLLoss(), optimizer=SGD(lr=_LR, momentum=0.5), seed=0)
    box.step(feature, label)
    before, model = box.parameters, box.factory(box.parameters)
    loss = box.loss(model(feature), label)
    gradient = model.backward(loss)
    after = model.step(gradient)
    given = gradient_length(box, feature, label)
    if given is None or given is ...:
        return None
    step = sum((after[name] - before[name]).square().sum() for name in before) ** 0.5 / _LR
    return SimpleNamespace(given=given, untouched=box.parameters == before, loss=loss.detach(), gradient=gradient, step=step)


def _length(box: Box, feature: Tensor, label: Tensor) -> Any:
    model = box.factory(box.parameters)
    return model.backward(box.loss(model(feature), label)).norm()


def _length_after_step(box: Box, feature: Tensor, label: Tensor) -> Any:
    length = _length(box, feature, label)
    box.step(feature, label)
    return length


def _length_of_step(box: Box, feature: Tensor, label: Tensor) -> Any:
    before = box.parameters
    box.step(feature, label)
    after, box.parameters = box.parameters, before
    return sum((after[name] - before[name]).square().sum() for name in before) ** 0.5 / _LR


def _length_of_first(box: Box, feature: Tensor, label: Tensor) -> Any:
    model = box.factory(box.parameters)
    return model.backward(box.loss(model(feature), label))["0.weight"].norm()


def _lengths_added(box: Box, feature: Tensor, label: Tensor) -> Any:
    model = box.factory(box.parameters)
    gradient = model.backward(box.loss(model(feature), label))
    return sum(gradient[name].norm() for name in gradient)


def _length_squared(box: Box, feature: Tensor, label: Tensor) -> Any:
    return _length(box, feature, label) ** 2


def _gradient_itself(box: Box, feature: Tensor, label: Tensor) -> Any:
    model = box.factory(box.parameters)
    return model.backward(box.loss(model(feature), label))


# --- 03-door: a box whose step takes one argument more -------------------------------------------


def _open_door(kind: type[Box]) -> Any:
    """Step a box of ``kind`` with the argument and without it, and lay both beside the plain box."""
    feature, label = _batch()

    def made(one: type[Box]) -> Box:
        return one(*_layers(), loss=nn.NLLLoss(), optimizer=SGD(lr=_LR, momentum=0.5), seed=0)

    plain, without, clipped, door = made(Box), made(kind), made(kind), SimpleNamespace()
    start, model = plain.parameters, plain.factory(plain.parameters)
    gradient = model.backward(plain.loss(model(feature), label))
    door.start, door.clipped = start, model.step(gradient.clip_norm(_MAX_NORM))
    loss = plain.step(feature, label)
    try:
        said: Any = clipped.step(feature, label, max_norm=_MAX_NORM)  # type: ignore[call-arg]
    except Exception as problem:
        if "clip_grad_norm_" in names_in(kind):
            raise Unreadable("clip_grad_norm_ writes into .grad, and a box has none: gradient.clip_norm(max_norm) gives a shorter gradient.") from problem
        raise
    if said is None and clipped.parameters == start or said is ...:
        return None
    without.step(feature, label)
    door.plain, door.without, door.given = plain.parameters, without.parameters, clipped.parameters
    door.loss = isinstance(said, (Tensor, float)) and _near(said, loss)
    return door


class _Door(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Tensor:
        model = self.factory(self.parameters)
        loss = self.loss(model(feature), label)
        gradient = model.backward(loss)
        self.parameters = model.step(gradient if max_norm is None else gradient.clip_norm(max_norm))
        return loss.detach()


class _DoorToo(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Tensor:
        if max_norm is None:
            return super().step(feature, label)
        model = self.factory(self.parameters)
        loss = self.loss(model(feature), label)
        self.parameters = model.step(model.backward(loss).clip_norm(max_norm))
        return loss.detach()


class _ClipLost(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Tensor:
        model = self.factory(self.parameters)
        loss = self.loss(model(feature), label)
        gradient = model.backward(loss)
        if max_norm is not None:
            gradient.clip_norm(max_norm)
        self.parameters = model.step(gradient)
        return loss.detach()


class _ArgumentIgnored(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Tensor:
        return super().step(feature, label)


class _NotPutBack(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Tensor:
        model = self.factory(self.parameters)
        loss = self.loss(model(feature), label)
        model.step(model.backward(loss).clip_norm(max_norm or 1e9))
        return loss.detach()


class _StepReturned(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Any:
        model = self.factory(self.parameters)
        gradient = model.backward(self.loss(model(feature), label))
        return model.step(gradient.clip_norm(max_norm or 1e9))


class _AlwaysClips(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = _MAX_NORM) -> Tensor:
        return _Door.step(self, feature, label, max_norm)  # type: ignore[arg-type]


class _NoLoss(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Tensor:
        _Door.step(self, feature, label, max_norm)  # type: ignore[arg-type]
        return None  # type: ignore[return-value]


EXERCISES = (
    Exercise(
        key="03-look",
        objective="Given a closed box, the learner reads the length of its gradient to five digits, and leaves the box as it was.",
        expects="the length of the gradient of all weights, one number",
        try_out=_look,
        passes=lambda seen: _near(seen.given, seen.gradient.norm()) and seen.untouched,
        because="You looked inside, and the box did not notice: what it holds is a value.",
        hints=(
            "The box offers no gradient. Which line of the opened box makes one?",
            "inside = box.factory(box.parameters) is a model: it has backward. The box's loss is box.loss.",
            "return inside.backward(box.loss(inside(feature), label)).norm()",
        ),
        right=(lambda: _length, lambda: lambda box, feature, label: float(_length(box, feature, label))),
        mistakes=(
            Mistake(
                matches=lambda seen: isinstance(seen.given, Gradient),
                says="That is the gradient. Its length is gradient.norm().",
                examples=(lambda: _gradient_itself,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.gradient.norm()),
                says="The length is right, but the box took a step as well. Look without step.",
                examples=(lambda: _length_after_step,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.loss),
                slug="box-is-open",
                says="What step gives you is the loss; the gradient was used up inside.",
                examples=(lambda: lambda box, feature, label: box.step(feature, label),),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.step),
                says="That is how far the weights moved, divided by the rate. In this box momentum moves them too, so it is not the gradient.",
                examples=(lambda: _length_of_step,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.gradient["0.weight"].norm()),
                says="That is the length of one of the tensors. gradient.norm() counts all of them.",
                examples=(lambda: _length_of_first,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, sum(seen.gradient[name].norm() for name in seen.gradient)),
                says="You added the lengths of the tensors up. Lengths add in squares: gradient.norm() does it.",
                examples=(lambda: _lengths_added,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.gradient.norm() ** 2),
                says="That is the square of the length: its root is missing.",
                examples=(lambda: _length_squared,),
            ),
        ),
    ),
    Exercise(
        key="03-door",
        objective="Given a need that a box does not foresee, the learner gives the box a door for it; without the need it has the old bits.",
        expects="a class of box whose step takes max_norm",
        try_out=_open_door,
        passes=lambda door: door.without == door.plain and door.given == door.clipped and door.loss,
        because="Your box clips when it is asked to, and is the old box when it is not.",
        hints=(
            "What does the box do inside? The opened box above has the lines.",
            "Take the gradient, clip it if max_norm is given, and put what model.step returns into self.parameters.",
            "self.parameters = inside.step(gradient if max_norm is None else gradient.clip_norm(max_norm))",
        ),
        right=(lambda: _Door, lambda: _DoorToo),
        mistakes=(
            Mistake(
                matches=lambda door: door.given == door.start,
                slug="result-not-needed",
                says="The box stands where it stood: put the new parameters into self.parameters.",
                examples=(lambda: _NotPutBack, lambda: _StepReturned),
            ),
            Mistake(
                matches=lambda door: door.given == door.plain,
                slug="result-not-needed",
                says="With max_norm your box took the same step as without it. Is the clipped gradient the one that you step with?",
                examples=(lambda: _ClipLost, lambda: _ArgumentIgnored),
            ),
            Mistake(
                matches=lambda door: door.given == door.clipped and door.without != door.plain,
                says="With max_norm it is right. Without it your box must take the same step as the old one.",
                examples=(lambda: _AlwaysClips,),
            ),
            Mistake(
                matches=lambda door: door.given == door.clipped and not door.loss,
                says="The steps are right, but step must still return the loss: fit adds up what it returns.",
                examples=(lambda: _NoLoss,),
            ),
        ),
    ),
)

_BOX = (
    "import torch, fnlib\n"
    "from torch import nn\n"
    "feature, label = torch.eye(4), torch.tensor([0, 1, 2, 0])\n"
    "box = fnlib.encapsulated.Sequential(nn.Linear(4, 3), loss=nn.CrossEntropyLoss(), optimizer=fnlib.SGD(lr=0.5), seed=0)\n"
)
_CLASSIFIER = (
    "import warnings\n"
    "import numpy as np\n"
    "from sklearn.neural_network import MLPClassifier\n"
    "warnings.simplefilter('ignore')\n"
    "X, y = np.eye(4), np.array([0, 1, 0, 1])\n"
)

QUESTIONS = (
    Question(
        key="03-second-fit",
        kind="predict",
        prompt="`box` is a closed box of `fnlib`, `classifier` is scikit-learn's `MLPClassifier`, as it comes. Both are fitted twice. What does the second call do?",
        code="box.fit(X, y)\nbox.fit(X, y)\n\nclassifier.fit(X, y)\nclassifier.fit(X, y)",
        options=(
            Option("Both go on where the first call ended", "same-name-same-meaning", "The stock loop goes on, and the box with it."),
            Option(
                "Both start afresh: `fit` means to train from the beginning", "same-name-same-meaning", "It means that in scikit-learn."
            ),
            Option("The box goes on, and the classifier starts afresh", why="Their authors chose differently, each with a reason."),
            Option("Nothing: both are trained already", "trained-is-finished"),
        ),
        right=2,
        proof=_BOX.replace("\nfrom torch", "\nimport warnings\nfrom torch") + "from sklearn.neural_network import MLPClassifier\n"
        "warnings.simplefilter('ignore')\n"
        "X, y = feature, label\n"
        "once = box.fit(X, y).parameters\n"
        "assert box.fit(X, y).parameters.step_count == 2 * once.step_count\n"
        "classifier = MLPClassifier((3,), max_iter=2, random_state=0)\n"
        "first = classifier.fit(X.numpy(), y.numpy()).coefs_[0].copy()\n"
        "assert (classifier.fit(X.numpy(), y.numpy()).coefs_[0] == first).all()",
    ),
    Question(
        key="03-exit",
        kind="exit",
        prompt="A box offers `step(feature, label)`, and takes `loss=` and `optimizer=` when it is built. Which need is one line?",
        options=(
            Option("To print the gradient: the box owns it, so it can show it", "box-is-open"),
            Option(
                "To move the weights by the gradients of two batches at once: call `step` twice",
                why="Each call moves the weights: these are two steps, not one.",
            ),
            Option("None: whoever closes a box gives up all needs", "box-forbids-all"),
            Option("To add a second loss on the output: write it into `loss=`", why="There is a door for it; its author foresaw it."),
        ),
        right=3,
        proof=_BOX + "assert not any('grad' in name for name in dir(box))\n"
        "usual = nn.CrossEntropyLoss()\n"
        "def both(output, label):\n"
        "    return usual(output, label) + output.square().mean()\n"
        "other = fnlib.encapsulated.Sequential(nn.Linear(4, 3), loss=both, optimizer=fnlib.SGD(lr=0.5), seed=0)\n"
        "assert other.step(feature, label) > box.step(feature, label) and other.parameters != box.parameters",
    ),
    Question(
        key="03-bank-warm-start",
        kind="bank",
        prompt="`classifier = MLPClassifier(max_iter=5, warm_start=True)`. You call `classifier.fit(X, y)` twice. How many epochs has it learnt from, if it does not stop early?",
        options=(
            Option("Ten: the second call goes on", why="`warm_start=True` keeps the weights that the first call left."),
            Option("Five: each `fit` starts afresh", "same-name-same-meaning", why="That is so without `warm_start=True`."),
            Option("Five: a fitted classifier is left as it is", "trained-is-finished"),
            Option("None: the second call raises an error", "mistakes-are-loud"),
        ),
        right=0,
        proof=_CLASSIFIER + "m = MLPClassifier((3,), max_iter=5, random_state=0, warm_start=True)\n"
        "once = m.fit(X, y).coefs_[0].copy()\n"
        "m.fit(X, y)\n"
        "assert len(m.loss_curve_) == 10 and not (m.coefs_[0] == once).all()",
    ),
    Question(
        key="03-bank-best-box",
        kind="bank",
        prompt="A box is trained ten epochs more. What do you find in `best` and in `kept` afterwards?",
        code="best = box\nkept = box.parameters\nbox.fit(feature, label, epochs=10)",
        options=(
            Option("Both hold the weights from before", "assignment-copies"),
            Option(
                "Both hold the new weights: a box shows what it holds now",
                "box-is-open",
                why="`kept` names a value, and values do not change.",
            ),
            Option(
                "`best` holds the new weights, `kept` the ones from before",
                why="`best` is one more name for the box; `kept` is a value that was in it.",
            ),
            Option("`best` is as before, `kept` is new", "names-are-boxes"),
        ),
        right=2,
        proof=_BOX + "best, kept = box, box.parameters\n"
        "first = kept['0.weight'].clone()\n"
        "box.fit(feature, label, epochs=10)\n"
        "assert torch.equal(kept['0.weight'], first) and not torch.equal(best.parameters['0.weight'], first)",
    ),
    Question(
        key="03-bank-two-steps",
        kind="bank",
        prompt="`box.step(a, p)`, then `box.step(b, q)`. Is this the same as one step with the mean of the two gradients?",
        options=(
            Option(
                "Yes: gradients are added up until they are used",
                "state-lives-in-module",
                why="A box that steps uses its gradient at once.",
            ),
            Option(
                "No: the second gradient is taken where the first step has led",
                why="The weights move in between, so that the second gradient is another one.",
            ),
            Option(
                "Yes: the order of operations does not matter", "style-changes-numbers", why="Here the operations are not the same ones."
            ),
            Option(
                "No: the second call repeats the first gradient",
                "backward-overwrites",
                why="Each call has a forward and a backward pass of its own.",
            ),
        ),
        right=1,
        proof=_BOX + "inside = box.factory(box.parameters)\n"
        "halves = [inside.backward(box.loss(inside(feature[i : i + 2]), label[i : i + 2]) / 2) for i in (0, 2)]\n"
        "together = inside.step(sum(halves))\n"
        "box.step(feature[:2], label[:2])\n"
        "box.step(feature[2:], label[2:])\n"
        "assert box.parameters.step_count == 2 and not torch.allclose(box.parameters['0.weight'], together['0.weight'], atol=1e-3)",
    ),
    Question(
        key="03-bank-rule",
        kind="bank",
        prompt="A box is built with `optimizer=fnlib.SGD(lr=0.1)`. Why not with `optimizer=torch.optim.SGD(lr=0.1)`?",
        options=(
            Option(
                "The stock optimizer wants the weights when it is built, and the box makes them later",
                why="`fnlib.SGD` is a rule: it holds no weights and can be built first.",
            ),
            Option("Both work: an optimizer finds the weights of its model", "optimizer-follows"),
            Option("The stock optimizer cannot compute a gradient for a box", "optimizer-computes-gradient"),
            Option("It works, and the numbers differ in the last digits", "style-changes-numbers"),
        ),
        right=0,
        proof="import torch, fnlib\nfnlib.SGD(lr=0.1)\n"
        "try:\n    torch.optim.SGD(lr=0.1)\nexcept TypeError as error:\n    assert 'params' in str(error)\nelse:\n    raise AssertionError('it was built without weights')",
    ),
)
