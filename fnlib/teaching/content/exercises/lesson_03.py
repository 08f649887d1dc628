"""Lesson 03, "What does closing the box cost?": its exercises."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import SGD, Gradient, Parameters, encapsulated
from fnlib.teaching.content.exercises.shared import criterion, layers, some_batches
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, names_in

Box = encapsulated.Sequential

_LR, _MAX_NORM = 0.25, 0.05
_NO_GRAD = "`clip_grad_norm_` clips what is in `.grad`, and here no `.grad` is filled. Clip the gradient that `backward` returns."


def _near(given: Any, wanted: Any) -> bool:
    """Whether two numbers agree to four digits: sums may be taken in another order."""
    return math.isclose(float(given), float(wanted), rel_tol=1e-4)


# --- 03-look: the norm of a gradient, and the box as it was ---------------------------------------


def _look(gradient_norm: Callable[[Box, Tensor, Tensor], Any]) -> Any:
    """Pass a box that has one step of momentum behind it; see what comes back and how the box changed."""
    feature, label = some_batches(1)[0]
    box = Box(*layers(), loss=criterion, optimizer=SGD(lr=_LR, momentum=0.5), seed=0)
    box.step(feature, label)
    before, model = box.parameters, box.factory(box.parameters)
    loss = box.loss(model(feature), label)
    gradient = model.backward(loss)
    after = model.step(gradient)
    try:
        given = gradient_norm(box, feature, label)
    except Exception as problem:
        _explain_stock_reflex(problem)
        raise
    if given is None or given is ...:
        return None
    if not isinstance(given, Gradient):
        given = _number(given)
    step = sum((after[name] - before[name]).square().sum() for name in before) ** 0.5
    return SimpleNamespace(
        given=given,
        untouched=box.parameters == before,
        loss=loss.detach(),
        gradient=gradient,
        step=step,
    )


def _explain_stock_reflex(problem: Exception) -> None:
    """Errors that follow from asking the box for what a stock model has."""
    if "does not require grad" in str(problem):
        raise Unreadable(
            "`box(feature)` is for predictions, so its output has no graph. Make a model from the box, and call that."
        ) from problem
    if isinstance(problem, AttributeError) and isinstance(problem.obj, Box):
        raise Unreadable(
            f"A box has no `{problem.name}`. What it has: `box.factory`, `box.parameters`, `box.loss`."
        ) from problem


def _number(given: Any) -> float:
    """The one number that was returned."""
    try:
        return float(given.detach() if isinstance(given, Tensor) else given)
    except (TypeError, ValueError, RuntimeError):
        kind = (
            f"a tensor of shape {tuple(given.shape)}"
            if isinstance(given, Tensor)
            else f"a {type(given).__name__}"
        )
        raise Unreadable(f"Return one number. Your function returned {kind}.") from None


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
    return sum((after[name] - before[name]).square().sum() for name in before) ** 0.5


def _length_of_step_over_rate(box: Box, feature: Tensor, label: Tensor) -> Any:
    return _length_of_step(box, feature, label) / _LR


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
            raise Unreadable(_NO_GRAD) from problem
        raise
    if said is None and clipped.parameters == start or said is ...:
        return None
    without.step(feature, label)
    door.plain, door.without, door.given = plain.parameters, without.parameters, clipped.parameters
    door.stock_clip = "clip_grad_norm_" in names_in(kind)
    door.loss = isinstance(said, (Tensor, float)) and _near(torch.as_tensor(said).detach(), loss)
    return door


def _agree(mine: Parameters, wanted: Parameters) -> bool:
    """Whether weights agree but for rounding: a gradient can be clipped with `clip_norm` or by hand."""
    return all(torch.allclose(mine[name], wanted[name], rtol=1e-5, atol=1e-7) for name in wanted)


def _moved(door: Any) -> str:
    """How far a step with max_norm went, and how far it should have gone."""
    went, wanted = (
        sum((after[name] - door.start[name]).square().sum() for name in door.start) ** 0.5
        for after in (door.given, door.clipped)
    )
    return (
        f"With max_norm={_MAX_NORM} the weights move by {float(went):.4f}; "
        f"the right step moves them by {float(wanted):.4f}."
    )


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


class _StockClip(Box):
    def step(self, feature: Any, label: Any, max_norm: float | None = None) -> Tensor:
        model = self.factory(self.parameters)
        loss = self.loss(model(feature), label)
        gradient = model.backward(loss)
        if max_norm is not None:
            nn.utils.clip_grad_norm_(list(gradient.values()), max_norm)
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
        objective="Given a closed box, the learner reads the norm of its gradient to four digits and leaves the box unchanged.",
        expects="the norm of the gradient of all weights, one number",
        try_out=_look,
        passes=lambda seen: (
            not isinstance(seen.given, Gradient)
            and _near(seen.given, seen.gradient.norm())
            and seen.untouched
        ),
        because="The norm is right, and the box has the same parameters as before.",
        so_far=lambda seen: (
            f"Wanted {float(seen.gradient.norm()):.4f}, got {float(seen.given):.4f}."
            + ("" if seen.untouched else " The box has also changed: look without `step`.")
        ),
        hints=(
            "The box offers no gradient. Which line of the opened loop makes one?",
            "`box.factory(box.parameters)` is a model with a `backward`. It takes the loss of this model's output.",
            "You now have a gradient with one tensor for each weight. Its methods begin with `gradient.`; one gives the norm of all.",
        ),
        right=(
            lambda: _length,
            lambda: lambda box, feature, label: float(_length(box, feature, label)),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: isinstance(seen.given, Gradient),
                says="That's the gradient itself. What's wanted is one number, its norm.",
                examples=(lambda: _gradient_itself,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.gradient.norm()),
                says="The norm is right, but the box has changed: `box.parameters` isn't what it was. Look without `step`.",
                examples=(lambda: _length_after_step,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.loss),
                slug="box-is-open",
                says="That's the loss, which is what `step` returns. The gradient was used up inside.",
                examples=(lambda: lambda box, feature, label: box.step(feature, label),),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.step),
                says="That's how far a step moves the weights. The rate scales it, and in this box momentum adds to it. Read the gradient before `step`.",
                examples=(lambda: _length_of_step,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.step / _LR),
                says="That's the length of the step divided by the rate. In this box momentum adds to the step, so read the gradient before `step`.",
                examples=(lambda: _length_of_step_over_rate,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.gradient["0.weight"].norm()),
                says="That's the norm for `0.weight` alone. The gradient has other tensors too: print `gradient.keys()`, and take the norm over all of them.",
                examples=(lambda: _length_of_first,),
            ),
            Mistake(
                matches=lambda seen: _near(
                    seen.given, sum(seen.gradient[name].norm() for name in seen.gradient)
                ),
                says="You added the norms of the tensors. Add their squares instead, and take the root.",
                examples=(lambda: _lengths_added,),
            ),
            Mistake(
                matches=lambda seen: _near(seen.given, seen.gradient.norm() ** 2),
                says="That's the square of the norm: take its root.",
                examples=(lambda: _length_squared,),
            ),
        ),
    ),
    Exercise(
        key="03-door",
        objective="Given a box that can't clip, the learner teaches it to; without clipping it has the same bits as before.",
        expects="a class of box whose step takes max_norm",
        try_out=_open_door,
        passes=lambda door: (
            door.without == door.plain and _agree(door.given, door.clipped) and door.loss
        ),
        because="Your box clips when it's asked to, and without `max_norm` it gives the same bits as before.",
        so_far=_moved,
        hints=(
            "What does a box do inside? The opened loop above has the lines.",
            "Between `backward` and `step` there's a gradient. If `max_norm` is given, a clipped one takes its place.",
            "`inside.step` returns new parameters. Where does the box keep its parameters, and what should `step` return?",
        ),
        right=(lambda: _Door, lambda: _DoorToo),
        mistakes=(
            Mistake(
                matches=lambda door: door.given == door.start,
                slug="result-not-needed",
                says="The box has the same parameters after your step as before it. Compare `self.parameters` at the first and the last line.",
                examples=(lambda: _NotPutBack, lambda: _StepReturned),
            ),
            Mistake(
                matches=lambda door: door.given == door.plain and door.stock_clip,
                says=_NO_GRAD,
                examples=(lambda: _StockClip,),
            ),
            Mistake(
                matches=lambda door: door.given == door.plain,
                slug="result-not-needed",
                says="With `max_norm` your box takes the same step as without it. Print the norm of the gradient that you pass to `step`.",
                examples=(lambda: _ClipLost, lambda: _ArgumentIgnored),
            ),
            Mistake(
                matches=lambda door: (
                    _agree(door.given, door.clipped) and door.without != door.plain
                ),
                says="With `max_norm` it's right. Without it, your box has to take the same step as the old one, bit for bit.",
                examples=(lambda: _AlwaysClips,),
            ),
            Mistake(
                matches=lambda door: _agree(door.given, door.clipped) and not door.loss,
                says="The steps are right. `step` also has to return the loss, because `fit` adds up what it returns.",
                examples=(lambda: _NoLoss,),
            ),
        ),
    ),
)
