"""Lesson 04, "Can you train a network without changing anything?": its exercises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from fnlib import SGD, Factory, Gradient, Model, Parameters, Sequential
from fnlib.teaching.content.exercises.shared import Batches, criterion, layers, some_batches
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, names_in


def _small(optimizer: SGD) -> Factory:
    return Sequential(*layers(), optimizer=optimizer)


# --- 04-clip: one step with a clipped gradient ---------------------------------------------------


def _one_step(clipped_step: Callable[[Model, Tensor], Any]) -> Any:
    """Let ``clipped_step`` take one step, and see which value came back."""
    model = _small(SGD(lr=0.5))(Parameters(seed=0))
    feature, label = some_batches(1)[0]
    try:
        given = clipped_step(model, criterion(model(20 * feature), label))
    except Exception as problem:
        if "clip_grad_norm_" in names_in(clipped_step):
            raise Unreadable(
                "clip_grad_norm_ writes into .grad, and here no .grad is filled: gradient.clip_norm(1.0) gives a shorter gradient."
            ) from problem
        raise
    if given is None or given is ...:
        return None
    gradient = model.backward(criterion(model(20 * feature), label))
    return SimpleNamespace(
        given=given,
        old=model.parameters,
        clipped=model.step(gradient.clip_norm(1.0)),
        unclipped=model.step(gradient),
    )


def _clipped(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss)
    return model.step(gradient.clip_norm(1.0))


def _clip_lost(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss)
    gradient.clip_norm(1.0)
    return model.step(gradient)


def _step_lost(model: Model, loss: Tensor) -> Parameters:
    gradient = model.backward(loss).clip_norm(1.0)
    model.step(gradient)
    return model.parameters


# --- 04-take-back: refuse a step that makes the loss worse ---------------------------------------


def _train(careful: Callable[[Factory, Parameters, Batches], Any]) -> Any:
    """Let ``careful`` train at a rate that is often too high, and see which of the steps it took."""
    factory, batches = _small(SGD(lr=8.0, momentum=0.9)), some_batches(12)
    start = factory(Parameters(seed=0)).parameters
    given = careful(factory, start, batches)
    if given is None or given is ...:
        return None
    wanted, reckless, last = (
        loop(factory, start, batches) for loop in (_careful, _reckless, _only_the_last)
    )
    return SimpleNamespace(given=given, start=start, wanted=wanted, reckless=reckless, last=last)


def _proposals(
    factory: Factory,
    parameters: Parameters,
    batches: Iterable[tuple[Tensor, Tensor]],
    take_all: bool,
) -> Parameters:
    for feature, label in batches:
        model = factory(parameters)
        loss = criterion(model(feature), label)
        proposal = model.step(model.backward(loss))
        if take_all or criterion(factory(proposal)(feature), label) < loss:
            parameters = proposal
    return parameters


def _careful(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
    return _proposals(factory, parameters, batches, take_all=False)


def _reckless(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
    return _proposals(factory, parameters, batches, take_all=True)


def _model_instead(factory: Factory, parameters: Parameters, batches: Batches) -> Model:
    return factory(_careful(factory, parameters, batches))


def _never(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
    for feature, label in batches:
        model = factory(parameters)
        model.step(model.backward(criterion(model(feature), label)))
    return parameters


def _only_the_last(factory: Factory, parameters: Parameters, batches: Batches) -> Parameters:
    new = parameters
    for feature, label in batches:
        model = factory(parameters)
        loss = criterion(model(feature), label)
        new = model.step(model.backward(loss))
    return new


EXERCISES = (
    Exercise(
        key="04-clip",
        objective="Given a gradient as a value, the learner makes another value of it and takes the step with that one.",
        expects="the parameters after one step with the clipped gradient",
        try_out=_one_step,
        passes=lambda seen: seen.given == seen.clipped,
        so_far=lambda seen: (
            "These parameters come from a gradient of another length: it must be 1 at most."
            if isinstance(seen.given, Parameters)
            else ""
        ),
        because="The clipped gradient is a new value, and the unclipped one still stands.",
        hints=(
            "Which names do your lines bind? A value that no name takes is gone.",
            "gradient.clip_norm(1.0) returns a gradient. Hand that one to model.step.",
            "parameters = model.step(gradient.clip_norm(1.0))",
        ),
        right=(lambda: _clipped,),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.given == seen.unclipped,
                slug="result-not-needed",
                says="Your step was made with the gradient as it was before clip_norm.",
                examples=(
                    lambda: _clip_lost,
                    lambda: lambda model, loss: model.step(model.backward(loss)),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.old,
                slug="immutable-is-untrainable",
                says="You gave back the parameters that went in: give back what step returns.",
                examples=(lambda: _step_lost, lambda: lambda model, loss: model.parameters),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, Gradient),
                says="That is the clipped gradient. Hand it to model.step, and give back the parameters.",
                examples=(lambda: lambda model, loss: model.backward(loss).clip_norm(1.0),),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, Model),
                says="That is a model. Give back the parameters: whoever calls you binds them.",
                examples=(lambda: lambda model, loss: model.factory(_clipped(model, loss)),),
            ),
        ),
    ),
    Exercise(
        key="04-take-back",
        objective="Given parameters as values, the learner refuses a step by keeping the old value.",
        expects="the parameters after all batches, without the steps that made their own batch's loss worse",
        try_out=_train,
        passes=lambda seen: seen.given == seen.wanted,
        so_far=lambda seen: (
            f"You took {seen.given.step_count} of 12 steps, and not those that lowered the loss of their own batch."
        ),
        because="A refused step needs no undo: the old value, momentum included, was never touched.",
        hints=(
            "Call the result of model.step by a name of its own first. Which two values can you compare now?",
            "Bind that result with ModelFactory, and look at the loss of the same batch.",
            "if criterion(ModelFactory(proposal)(feature), label) < loss: parameters = proposal",
        ),
        right=(lambda: _careful,),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.given == seen.reckless,
                says="You took every step, the bad ones too. Compare the loss of the batch before and after, and keep the old value where it rose.",
                examples=(lambda: _reckless,),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.start,
                slug="immutable-is-untrainable",
                says="No step was taken: the name parameters was never given a new value.",
                examples=(lambda: _never,),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, Model),
                says="That is a model. Give back its parameters.",
                examples=(lambda: _model_instead,),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.last,
                slug="immutable-is-untrainable",
                says="Every batch of yours begins at the same old parameters, so that only the last step counts.",
                examples=(lambda: _only_the_last,),
            ),
        ),
    ),
)
