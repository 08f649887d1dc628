"""Lesson 06, "What does immutability cost?": its exercises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from fnlib import SGD, Factory, Model, Parameters
from fnlib.teaching.content.exercises.shared import Batches, criterion, layers, some_batches
from fnlib.teaching.exercises import Exercise, Mistake

Train = Callable[[Any, Parameters, Batches], Any]
Keep = Callable[[Any, Parameters, Batches, int], Any]


class _Unwritten(Exception):
    """A blank was bound: there is no answer yet."""


class _Watched(Factory):
    """A factory that remembers the values that were bound to it."""

    _bound: dict[int, Parameters]
    passed: list[Any]

    def __init__(self) -> None:
        super().__init__(nn.Sequential(*layers()), optimizer=SGD(lr=0.5, momentum=0.9))
        vars(self).update(_bound={}, passed=[])

    def __call__(self, parameters: Any, **options: Any) -> Model:
        if parameters is ...:
            raise _Unwritten
        self.passed.append(parameters)
        model = super().__call__(parameters, **options)
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
        given=given,
        start_gone=_gone(start),
        away=ModelFactory.given_away,
        values=values,
        passed=ModelFactory.passed,
    )


# --- 06-let-go: donate all that nobody needs any more ------------------------------------------------

_STEPS = 6


def _train(donate: Callable[[int], bool]) -> Train:
    """A training that donates the value before a step where ``donate(step)`` says so."""

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


# --- 06-keep: keep some, donate the others -------------------------------------------------------------

_LONG, _EVERY = 12, 4


def _keep(
    donate: Callable[[int], bool],
    kept: Callable[[int], bool] = lambda step: step % _EVERY == _EVERY - 1,
) -> Keep:
    """Keep the values that ``kept`` names; donate the value before a step where ``donate`` says so."""

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


def _all_copied(
    ModelFactory: Any, parameters: Parameters, batches: Batches, every: int
) -> list[Parameters]:
    current = deepcopy(parameters)
    kept = []
    for step, batch in enumerate(batches, 1):
        current = _one(ModelFactory, current, batch, donate=True)
        if step % every == 0:
            kept.append(deepcopy(current))
    return kept


def _state_dicts(
    ModelFactory: Any, parameters: Parameters, batches: Batches, every: int
) -> list[Any]:
    return [value.state_dict() for value in _right_keep(ModelFactory, parameters, batches, every)]


_right_keep = _keep(lambda step: step % _EVERY != 0)


def _kept(seen: Any) -> bool:
    """Whether the right values are in the list and can be read."""
    return list(seen.given) == seen.values[_EVERY::_EVERY]


def _copies(seen: Any) -> bool:
    """Whether the steps after a kept value started from another object: a copy."""
    return any(all(value is not one for one in seen.passed) for value in seen.given[:-1])


_MAY_GO = (
    _LONG - _LONG // _EVERY
)  # of the values before the 12 steps: not the first, nor those after 4 and 8


def _passes_keep(seen: Any) -> bool:
    return not seen.start_gone and seen.away >= _MAY_GO and _kept(seen) and not _copies(seen)


def _donated(seen: Any) -> str:
    """Say what a training that returned parameters made and donated."""
    if not isinstance(seen.given, Parameters):
        return ""
    return (
        f"Wanted the parameters after step {_STEPS} and {_STEPS - 1} donated values; got those after "
        f"step {seen.given.step_count} and {seen.away}."
    )


def _list_of(seen: Any) -> str:
    """Say which values are in a list of parameters."""
    steps = [str(value.step_count) for value in seen.given]
    return f"Wanted the parameters after steps 4, 8 and 12; got those after {', '.join(steps) or 'none'}."


EXERCISES = (
    Exercise(
        key="06-let-go",
        objective="Given a functional loop, the learner donates every value that nobody needs any more, and no other.",
        expects="the parameters after the last step",
        try_out=lambda train: _watch(train, _STEPS),
        passes=lambda seen: (
            not seen.start_gone and seen.away >= _STEPS - 1 and seen.given == seen.values[-1]
        ),
        so_far=_donated,
        because="The same bits as without a donation, and the caller can still read what came in.",
        hints=(
            "Which names lead to the value that a step donates? Ask it for the first step, and for the second.",
            "The first step starts from the caller's value. The later ones start from values that only your loop knows.",
            "`donate=` takes True or False, and `step` tells you which of the steps this is.",
        ),
        right=(lambda: _train(lambda step: step > 0), lambda: _copied_first),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.start_gone,
                slug="assignment-copies",
                says="The first step donated the caller's value: `parameters` is another name for it. Which step is that?",
                examples=(
                    lambda: _train(lambda step: True),
                    lambda: _train(lambda step: step == 0),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.values[0],
                slug="result-not-needed",
                says="These are the parameters that went in. Give what `model.step` returns the name `parameters`.",
                examples=(
                    lambda: _result_lost,
                    lambda: lambda ModelFactory, parameters, batches: parameters,
                ),
            ),
            Mistake(
                matches=lambda seen: seen.away == 0 and seen.given == seen.values[-1],
                says="The bits are right, and nothing was donated. `step` takes `donate=`.",
                examples=(lambda: _train(lambda step: False),),
            ),
            Mistake(
                matches=lambda seen: 0 < seen.away < _STEPS - 1 and seen.given == seen.values[-1],
                says=f"The bits are right, but some values that only your loop knows stayed. {_STEPS - 1} of the {_STEPS} steps can donate.",
                examples=(
                    lambda: _train(lambda step: step == 1),
                    lambda: _train(lambda step: step > 1),
                ),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, Model),
                says="That's a model. Return its parameters.",
                examples=(
                    lambda: (
                        lambda ModelFactory, parameters, batches: ModelFactory(
                            _train(lambda step: step > 0)(ModelFactory, parameters, batches)
                        )
                    ),
                ),
            ),
        ),
    ),
    Exercise(
        key="06-keep",
        objective="Given a long training, the learner keeps every so many values readable and donates all the others.",
        expects=f"a list of the parameters after every {_EVERY} steps",
        try_out=lambda keep_some: _watch(keep_some, _LONG, _EVERY),
        passes=_passes_keep,
        so_far=_list_of,
        because="The kept values and the start can be read, and nothing was copied for it.",
        hints=(
            "Putting a value into a list copies nothing. Which step could donate it?",
            "A step donates the value it starts from. So the step after a kept value has to leave it alone, and so has the first.",
            "Count the steps from 0. With `every` 4, steps 0, 4 and 8 start from a value that somebody needs. What have these numbers in common?",
        ),
        right=(lambda: _right_keep,),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.start_gone,
                slug="assignment-copies",
                says="The first step starts from the caller's value and donated it. That step has to leave its value alone.",
                examples=(
                    lambda: _keep(lambda step: True),
                    lambda: _keep(lambda step: step % _EVERY != 1),
                ),
            ),
            Mistake(
                matches=lambda seen: any(_gone(value) for value in seen.given),
                slug="names-are-boxes",
                says="A value in your list was donated: the list holds the value itself, and the next step starts from it.",
                examples=(lambda: _keep(lambda step: step > 0),),
            ),
            Mistake(
                matches=lambda seen: _kept(seen) and _copies(seen),
                slug="assignment-copies",
                says="The right values, but you copied them, and each copy costs what a donation saves. Keep a value by not donating it.",
                examples=(lambda: _all_copied,),
            ),
            Mistake(
                matches=lambda seen: seen.away < _MAY_GO and _kept(seen),
                says=f"The right values are kept, but others stayed as well. {_MAY_GO} of the {_LONG} steps can donate.",
                examples=(lambda: _keep(lambda step: False),),
            ),
            Mistake(
                matches=lambda seen: (
                    seen.given
                    and all(
                        isinstance(value, Mapping) and not isinstance(value, Parameters)
                        for value in seen.given
                    )
                ),
                says="These are dicts of tensors, without the moments. Put the parameters themselves into the list.",
                examples=(lambda: _state_dicts,),
            ),
            Mistake(
                matches=lambda seen: isinstance(seen.given, Parameters),
                says="That's one value. Return a list of those after each `every` steps.",
                examples=(
                    lambda: (
                        lambda ModelFactory, parameters, batches, every: _train(
                            lambda step: step > 0
                        )(ModelFactory, parameters, batches)
                    ),
                ),
            ),
        ),
    ),
)
