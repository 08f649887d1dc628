"""Lesson 04, "Can you train a network without changing anything?": its exercises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fnlib import SGD, Factory, Gradient, Model, Parameters, Sequential
from fnlib.teaching.content.exercises.shared import Batches, criterion, layers, some_batches
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, names_in

RATE = 0.5


def _small(optimizer: SGD) -> Factory:
    return Sequential(*layers(), optimizer=optimizer)


def _same(given: Any, wanted: Parameters) -> bool:
    """The same parameters but for rounding: there are several right ways to shorten a gradient."""
    return isinstance(given, Parameters) and all(
        torch.allclose(given[name], wanted[name], rtol=0, atol=1e-5) for name in wanted
    )


# --- 04-clip: one step with a clipped gradient ---------------------------------------------------


def _two_steps(clipped_step: Callable[[Model, Tensor], Any]) -> Any:
    """Let ``clipped_step`` step with a gradient that is too long, and with one that is short."""
    seen = SimpleNamespace(names=names_in(clipped_step))
    for case, scale in (("long", 20.0), ("short", 0.1)):
        model = _small(SGD(lr=RATE))(Parameters(seed=0))
        feature, label = some_batches(1)[0]
        loss = criterion(model(scale * feature), label)
        gradient = model.backward(criterion(model(scale * feature), label))
        try:
            given = clipped_step(model, loss)
        except Exception as problem:
            if "clip_grad_norm_" in seen.names:
                raise Unreadable(
                    "`clip_grad_norm_` writes into .grad, and here no .grad is filled. Look among the methods of `gradient`."
                ) from problem
            raise
        if given is None or given is ...:
            return None
        made = SimpleNamespace(
            given=given,
            old=model.parameters,
            gradient=gradient,
            clipped=model.step(gradient.clip_norm(1.0)),
            unclipped=model.step(gradient),
        )
        setattr(seen, case, made)
    return seen


def _length(case: Any) -> float:
    """The length of the gradient that leads from the old parameters to those given."""
    moved = [((case.old[name] - case.given[name]) / RATE).flatten() for name in case.old]
    return float(torch.cat(moved).norm())


def _how_long(seen: Any) -> str:
    for case in (seen.long, seen.short):
        if not isinstance(case.given, Parameters):
            return ""
        if not _same(case.given, case.clipped):
            had, wanted = case.gradient.norm(), case.gradient.clip_norm(1.0).norm()
            return (
                f"For a gradient of length {had:.2f} we wanted a step along it with length {wanted:.2f}, "
                f"got one with length {_length(case):.2f}."
            )
    return ""


def _clipped(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss)
    return model.step(gradient.clip_norm(1.0))


def _scaled(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss)
    return model.step(gradient if gradient.norm() <= 1 else gradient / gradient.norm())


def _normalized(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss)
    return model.step(gradient / gradient.norm())


def _clip_lost(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss)
    gradient.clip_norm(1.0)
    return model.step(gradient)


def _clip_stock(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss)
    torch.nn.utils.clip_grad_norm_(list(gradient.values()), 1.0)
    return model.step(gradient)


def _step_lost(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss).clip_norm(1.0)
    model.step(gradient)
    return model.parameters


# --- 04-take-back: refuse a step that makes the loss worse ---------------------------------------


def _train(careful: Callable[[Factory, Parameters, Batches], Any]) -> Any:
    """Let ``careful`` train at a rate that is often too high, and see which of the steps it took."""
    factory, batches = _small(SGD(lr=8.0, momentum=0.9)), some_batches(20)[3:15]
    start = factory(Parameters(seed=0)).parameters
    given = careful(factory, start, batches)
    if given is None or given is ...:
        return None
    loops = {
        "wanted": _careful,
        "reckless": _reckless,
        "last": _only_the_last,
        "stopped": _stops,
        "opposite": _keeps_the_bad,
    }
    others = {name: loop(factory, start, batches) for name, loop in loops.items()}
    seen = SimpleNamespace(given=given, start=start, broken=False, **others)
    if given == seen.wanted:
        feature, label = batches[0]
        after = careful(factory, start, [(feature * float("nan"), label)])
        seen.broken = not (isinstance(after, Parameters) and after == start)
    return seen


def _loop(take: Callable[[Tensor, Tensor], bool], stop: bool = False) -> Callable[..., Parameters]:
    """A loop that takes a step if ``take(loss before, loss after)``, and may stop at the first it refuses."""

    def loop(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
        for feature, label in batches:
            model = factory(parameters)
            loss = criterion(model(feature), label)
            proposal = model.step(model.backward(loss))
            if take(loss, criterion(factory(proposal)(feature), label)):
                parameters = proposal
            elif stop:
                break
        return parameters

    return loop


_careful = _loop(lambda before, after: bool(after <= before))
_strict = _loop(lambda before, after: bool(after < before))
_stops = _loop(lambda before, after: bool(after <= before), stop=True)
_larger = _loop(lambda before, after: not after > before)
_keeps_the_bad = _loop(lambda before, after: bool(after > before))
_reckless = _loop(lambda before, after: True)


def _model_instead(factory: Factory, parameters: Parameters, batches: Batches) -> Model:
    return factory(_careful(factory, parameters, batches))


def _never(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
    for feature, label in batches:
        model = factory(parameters)
        model.step(model.backward(criterion(model(feature), label)))
    return parameters


def _old_model_twice(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
    for feature, label in batches:
        model = factory(parameters)
        loss = criterion(model(feature), label)
        proposal = model.step(model.backward(loss))
        if criterion(model(feature), label) < loss:
            parameters = proposal
    return parameters


def _only_the_last(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
    new = parameters
    for feature, label in batches:
        model = factory(parameters)
        loss = criterion(model(feature), label)
        new = model.step(model.backward(loss))
    return new


def _steps(seen: Any) -> str:
    if not isinstance(seen.given, Parameters):
        return ""
    taken, wanted = seen.given.step_count, seen.wanted.step_count
    if taken == wanted:
        return (
            f"You took {taken} of the 12 steps, which is the right number, but not the right ones."
        )
    return f"Wanted: {wanted} of the 12 steps. Got: {taken}."


EXERCISES = (
    Exercise(
        key="04-clip",
        objective="Given a gradient as a value, the learner clips it and takes the step.",
        expects="the parameters after one step with the clipped gradient",
        try_out=_two_steps,
        passes=lambda seen: all(
            _same(case.given, case.clipped) for case in (seen.long, seen.short)
        ),
        so_far=_how_long,
        because="A long gradient was shortened to length 1, and a short one stayed as it was.",
        hints=(
            "You need two results with a name: a shorter gradient, and the parameters after the step.",
            'The cell of "A gradient is a value" has a method that shortens a gradient. It returns a new one.',
            "Which gradient does `model.step` get from you? Print its `norm()` just before the step.",
        ),
        right=(lambda: _clipped, lambda: _scaled),
        mistakes=(
            Mistake(
                matches=lambda seen: isinstance(seen.long.given, Gradient),
                says="That's a gradient. The function returns parameters: take the step with it.",
                examples=(lambda: lambda model, loss: model.backward(loss).clip_norm(1.0),),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.long.given, Model),
                says="That's a model. The function returns parameters, so leave the binding to the caller.",
                examples=(lambda: lambda model, loss: model.factory(_clipped(model, loss)),),
            ),
            Mistake(
                matches=lambda seen: (
                    isinstance(seen.long.given, Mapping)
                    and not isinstance(seen.long.given, Parameters)
                ),
                says="That's a mapping of tensors. Return the parameters as `model.step` returns them.",
                examples=(lambda: lambda model, loss: dict(_clipped(model, loss)),),
            ),
            Mistake(
                matches=lambda seen: seen.long.given == seen.long.old,
                slug="result-not-needed",
                says="These are the parameters that went in. Print `step_count` of what `model.step` returns, and of what you return.",
                examples=(lambda: _step_lost, lambda: lambda model, loss: model.parameters),
            ),
            Mistake(
                matches=lambda seen: (
                    seen.long.given == seen.long.unclipped and "clip_grad_norm_" in seen.names
                ),
                says=(
                    "The step used the whole gradient: `clip_grad_norm_` writes into .grad, and here no .grad is filled. "
                    "Look among the methods of `gradient`."
                ),
                examples=(lambda: _clip_stock,),
            ),
            Mistake(
                matches=lambda seen: (
                    seen.long.given == seen.long.unclipped and "clip_norm" in seen.names
                ),
                slug="result-not-needed",
                says="The step used the whole gradient. `clip_norm` leaves that as it is and returns another: print the `norm()` of both.",
                examples=(lambda: _clip_lost,),
            ),
            Mistake(
                matches=lambda seen: (
                    _same(seen.long.given, seen.long.clipped)
                    and isinstance(seen.short.given, Parameters)
                    and abs(_length(seen.short) - 1) < 1e-3
                ),
                says="Long gradients are right. A gradient shorter than 1 was stretched to 1, though: try it with `loss / 100`.",
                examples=(lambda: _normalized,),
            ),
        ),
    ),
    Exercise(
        key="04-take-back",
        objective="Given parameters as values, the learner refuses a step by keeping the old value.",
        expects="the parameters after all batches, without the steps that made their own batch's loss larger, or NaN",
        try_out=_train,
        passes=lambda seen: seen.given == seen.wanted and not seen.broken,
        so_far=_steps,
        because="Refusing a step took no undo: the old value, momentum included, was never touched.",
        hints=(
            "Give the result of `model.step` a name of its own. Then you have the old and the new parameters side by side.",
            "You need the loss of the same batch twice: from the model you have, and from a model bound to the new parameters.",
            "Three lines are as in the loop of the lesson. A fourth compares, and only then does `parameters` get its new value.",
        ),
        right=(lambda: _careful, lambda: _strict),
        mistakes=(
            Mistake(
                matches=lambda seen: isinstance(seen.given, Model),
                says="That's a model. Return its parameters.",
                examples=(lambda: _model_instead,),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.wanted,
                says="All 12 steps are right. But a step whose loss was NaN was taken, too: run `float('nan') > 1`, then `float('nan') <= 1`.",
                examples=(lambda: _larger,),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.reckless,
                says="All 12 steps were taken, the bad ones too. Print the loss of each batch before and after its step.",
                examples=(lambda: _reckless,),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.start,
                slug="result-not-needed",
                says="None of the 12 steps is in what you return. For the first batch, print both losses you compare: which parameters does each come from?",
                examples=(lambda: _never, lambda: _old_model_twice),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.stopped,
                says="Right up to the first refused step, and there your loop ends. The batches after it still have their turn.",
                examples=(lambda: _stops,),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.opposite,
                says="Your loop takes the steps that raise the loss and refuses the others. Print both losses beside the decision.",
                examples=(lambda: _keeps_the_bad,),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.last,
                says="Only the last step is in what you return. Print `step_count` of the parameters at the top of each iteration.",
                examples=(lambda: _only_the_last,),
            ),
        ),
    ),
)
