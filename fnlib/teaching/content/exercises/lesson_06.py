"""Lesson 06, "What does immutability cost?": its exercises."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from fnlib import SGD, Model, Parameters, Sequential
from fnlib.teaching.content.exercises.shared import Batches, criterion, layers, some_batches
from fnlib.teaching.exercises import Exercise, Mistake

Train = Callable[[Any, Parameters, Batches], Any]
Keep = Callable[[Any, Parameters, Batches, int], Any]


class _Unwritten(Exception):
    """A blank was bound: there is no answer yet."""


class _Watched:
    """A factory that remembers the values that were bound to it."""

    def __init__(self) -> None:
        self._factory = Sequential(*layers(), optimizer=SGD(lr=0.5, momentum=0.9))
        self._bound: dict[int, Parameters] = {}

    def __call__(self, parameters: Any, **options: Any) -> Model:
        if parameters is ...:
            raise _Unwritten
        model = self._factory(parameters, **options)
        self._bound[id(model.parameters)] = model.parameters
        return model

    @property
    def given_away(self) -> int:
        """How many of those values were given away since."""
        return sum(map(_gone, self._bound.values()))


def _gone(parameters: Any) -> bool:
    return "given away" in repr(parameters)  # what a value still says when it says nothing else


def _one(
    ModelFactory: Any, parameters: Parameters, batch: tuple[Tensor, Tensor], donate: bool = False
) -> Parameters:
    model = ModelFactory(parameters)
    return model.step(model.backward(criterion(model(batch[0]), batch[1])), donate=donate)


def _watch(answer: Callable[..., Any], count: int, *more: int) -> Any:
    """Let the answer train, and see what came back, what was given away, and what every step should have made."""
    ModelFactory, batches = _Watched(), some_batches(count)
    start = ModelFactory(Parameters(seed=0)).parameters
    try:
        given = answer(ModelFactory, start, batches, *more)
    except _Unwritten:
        return None
    if given is None or given is ...:
        return None
    others = _Watched()
    values = [others(Parameters(seed=0)).parameters]
    for batch in batches:
        values.append(_one(others, values[-1], batch))
    return SimpleNamespace(
        given=given, start_gone=_gone(start), away=ModelFactory.given_away, values=values
    )


# --- 06-let-go: give away all that nobody needs any more ---------------------------------------------

_STEPS = 6


def _train(donate: Callable[[int], bool]) -> Train:
    """A training that gives the value before a step away where ``donate(step)`` says so."""

    def train(ModelFactory: Any, parameters: Parameters, batches: Batches) -> Parameters:
        for step, batch in enumerate(batches):
            parameters = _one(ModelFactory, parameters, batch, donate(step))
        return parameters

    return train


def _copied_first(ModelFactory: Any, parameters: Parameters, batches: Batches) -> Any:
    return _train(lambda step: True)(ModelFactory, deepcopy(parameters), batches)


def _result_lost(ModelFactory: Any, parameters: Parameters, batches: Batches) -> Parameters:
    for batch in batches:
        _one(ModelFactory, parameters, batch)
    return parameters


def _blank(ModelFactory: Any, parameters: Any, batches: Batches) -> Any:
    """The lesson's cell as it is shipped."""
    model = ModelFactory(parameters)
    for feature, label in batches:
        model.backward(criterion(model(feature), label))
        parameters = ...
        model = ModelFactory(parameters)
    return parameters


# --- 06-keep: keep some, give the others away ----------------------------------------------------------

_LONG, _EVERY = 12, 4


def _keep(
    donate: Callable[[int], bool],
    kept: Callable[[int], bool] = lambda step: step % _EVERY == _EVERY - 1,
) -> Keep:
    """Keep the values that ``kept`` names; give the value before a step away where ``donate`` says so."""

    def keep_some(
        ModelFactory: Any, parameters: Parameters, batches: Batches, every: int
    ) -> list[Parameters]:
        found = []
        for step, batch in enumerate(batches):
            parameters = _one(ModelFactory, parameters, batch, donate(step))
            if kept(step):
                found.append(parameters)
        return found

    return keep_some


def _passes_keep(seen: Any) -> bool:
    wanted = seen.values[_EVERY::_EVERY]
    return not seen.start_gone and seen.away >= _LONG - len(wanted) and list(seen.given) == wanted


EXERCISES = (
    Exercise(
        key="06-let-go",
        objective="Given a functional loop, the learner gives away every value that nobody needs any more, and no other.",
        expects="the parameters after the last step",
        try_out=lambda train: _watch(train, _STEPS),
        passes=lambda seen: (
            not seen.start_gone and seen.away >= _STEPS - 1 and seen.given == seen.values[-1]
        ),
        because="Same bits, one set of weights in place of two, and what the caller gave you still stands.",
        hints=(
            "Who else has a name for the value that you give away?",
            "The first step starts from the caller's value. The later ones start from values that only your loop knows.",
            "parameters = model.step(gradient, donate=step > 0)",
        ),
        right=(lambda: _train(lambda step: step > 0), lambda: _copied_first),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.start_gone,
                slug="assignment-copies",
                says="`parameters` was the caller's name for the value too, and the first step gave it away.",
                examples=(
                    lambda: _train(lambda step: True),
                    lambda: _train(lambda step: step == 0),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.values[0],
                slug="immutable-is-untrainable",
                says="You gave back what went in: bind what each step returns.",
                examples=(
                    lambda: _result_lost,
                    lambda: lambda ModelFactory, parameters, batches: parameters,
                ),
            ),
            Mistake(
                matches=lambda seen: seen.away == 0 and seen.given == seen.values[-1],
                says="Right bits, but nothing was given away: during each step the old and the new value both stand. donate=... is missing.",
                examples=(lambda: _train(lambda step: False),),
            ),
            Mistake(
                matches=lambda seen: 0 < seen.away < _STEPS - 1 and seen.given == seen.values[-1],
                says="Some values that only your loop knows were not given away. Which step is the only one that must not donate?",
                examples=(
                    lambda: _train(lambda step: step == 1),
                    lambda: _train(lambda step: step > 1),
                ),
            ),
        ),
    ),
    Exercise(
        key="06-keep",
        objective="Given a long training, the learner keeps every so many values readable and gives all the others away.",
        expects=f"a list of the parameters after every {_EVERY} steps",
        try_out=lambda keep_some: _watch(keep_some, _LONG, _EVERY),
        passes=_passes_keep,
        because="What you keep stands, the start too, and only what nobody can reach was given away.",
        hints=(
            "A value in the list is the value itself. Which step would give it away?",
            "The step after a kept value must not donate, nor the first one. All others may.",
            "donate=step % every != 0   # steps counted from 0: 0, 4, 8 start from a value that somebody keeps",
        ),
        right=(lambda: _keep(lambda step: step % _EVERY != 0),),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.start_gone,
                slug="assignment-copies",
                says="The first step starts from the caller's value; it must not give that away.",
                examples=(
                    lambda: _keep(lambda step: True),
                    lambda: _keep(lambda step: step % _EVERY != 1),
                ),
            ),
            Mistake(
                matches=lambda seen: any(_gone(value) for value in seen.given),
                slug="names-are-boxes",
                says="A list holds the value itself, no copy of it: the next step gave a kept value away.",
                examples=(lambda: _keep(lambda step: step > 0),),
            ),
            Mistake(
                matches=lambda seen: (
                    seen.away < _LONG - len(seen.values[_EVERY::_EVERY])
                    and list(seen.given) == seen.values[_EVERY::_EVERY]
                ),
                says="The right values are kept, but others stand too while their step runs. Give away what nobody can reach.",
                examples=(lambda: _keep(lambda step: False),),
            ),
            Mistake(
                matches=lambda seen: all(isinstance(value, Parameters) for value in seen.given),
                says=f"These are not the values after every {_EVERY} steps. The first to be kept is the one after step {_EVERY}.",
                examples=(
                    lambda: _keep(
                        lambda step: step % _EVERY != 1 and step > 0,
                        lambda step: step % _EVERY == 0,
                    ),
                    lambda: _keep(lambda step: False, lambda step: True),
                ),
            ),
        ),
    ),
)
