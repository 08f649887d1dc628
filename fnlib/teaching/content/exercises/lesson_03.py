"""Lesson 03, "What does closing the box cost?": its exercises."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from fnlib import SGD, Gradient, encapsulated
from fnlib.teaching.content.exercises.shared import criterion, layers, some_batches
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, names_in

Box = encapsulated.Sequential

_LR, _MAX_NORM = 0.25, 0.05


def _near(given: Any, wanted: Any) -> bool:
    return abs(float(given) - float(wanted)) < 1e-5


# --- 03-look: the length of a gradient, and the box as it was ------------------------------------


def _look(gradient_length: Callable[[Box, Tensor, Tensor], Any]) -> Any:
    """Hand over a box with a step of momentum behind it, and see what comes back and what became of the box."""
    feature, label = some_batches(1)[0]
    box = Box(*layers(), loss=criterion, optimizer=SGD(lr=_LR, momentum=0.5), seed=0)
    box.step(feature, label)
    before, model = box.parameters, box.factory(box.parameters)
    loss = box.loss(model(feature), label)
    gradient = model.backward(loss)
    after = model.step(gradient)
    given = gradient_length(box, feature, label)
    if given is None or given is ...:
        return None
    step = sum((after[name] - before[name]).square().sum() for name in before) ** 0.5 / _LR
    return SimpleNamespace(
        given=given,
        untouched=box.parameters == before,
        loss=loss.detach(),
        gradient=gradient,
        step=step,
    )


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
    feature, label = some_batches(1)[0]

    def made(one: type[Box]) -> Box:
        return one(*layers(), loss=criterion, optimizer=SGD(lr=_LR, momentum=0.5), seed=0)

    plain, without, clipped, door = made(Box), made(kind), made(kind), SimpleNamespace()
    start, model = plain.parameters, plain.factory(plain.parameters)
    gradient = model.backward(plain.loss(model(feature), label))
    door.start, door.clipped = start, model.step(gradient.clip_norm(_MAX_NORM))
    loss = plain.step(feature, label)
    try:
        said: Any = clipped.step(feature, label, max_norm=_MAX_NORM)  # type: ignore[call-arg]
    except Exception as problem:
        if "clip_grad_norm_" in names_in(kind):
            raise Unreadable(
                "clip_grad_norm_ writes into .grad, and a box has none: gradient.clip_norm(max_norm) gives a shorter gradient."
            ) from problem
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
        right=(
            lambda: _length,
            lambda: lambda box, feature, label: float(_length(box, feature, label)),
        ),
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
                matches=lambda seen: _near(
                    seen.given, sum(seen.gradient[name].norm() for name in seen.gradient)
                ),
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
