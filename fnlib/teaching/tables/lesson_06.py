# ruff: noqa: E501  # a question is read as it is printed
"""Lesson 06, "What does immutability cost?": its exercises and questions."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import SGD, Model, Parameters, Sequential
from fnlib.teaching.exercises import Exercise, Mistake
from fnlib.teaching.questions import Option, Question

Batches = list[tuple[Tensor, Tensor]]
Train = Callable[[Any, Parameters, Batches], Any]
Keep = Callable[[Any, Parameters, Batches, int], Any]

_criterion = nn.NLLLoss()


class _Unwritten(Exception):
    """A blank was bound: there is no answer yet."""


class _Watched:
    """A factory that remembers the values that were bound to it."""

    def __init__(self) -> None:
        self._factory = Sequential(nn.Linear(4, 3), nn.LogSoftmax(dim=1), optimizer=SGD(lr=0.5, momentum=0.9))
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


def _some_batches(count: int) -> Batches:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(count)]


def _one(ModelFactory: Any, parameters: Parameters, batch: tuple[Tensor, Tensor], donate: bool = False) -> Parameters:
    model = ModelFactory(parameters)
    return model.step(model.backward(_criterion(model(batch[0]), batch[1])), donate=donate)


def _watch(answer: Callable[..., Any], count: int, *more: int) -> Any:
    """Let the answer train, and see what came back, what was given away, and what every step should have made."""
    ModelFactory, batches = _Watched(), _some_batches(count)
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
    return SimpleNamespace(given=given, start_gone=_gone(start), away=ModelFactory.given_away, values=values)


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
        model.backward(_criterion(model(feature), label))
        parameters = ...
        model = ModelFactory(parameters)
    return parameters


# --- 06-keep: keep some, give the others away ----------------------------------------------------------

_LONG, _EVERY = 12, 4


def _keep(donate: Callable[[int], bool], kept: Callable[[int], bool] = lambda step: step % _EVERY == _EVERY - 1) -> Keep:
    """Keep the values that ``kept`` names; give the value before a step away where ``donate`` says so."""

    def keep_some(ModelFactory: Any, parameters: Parameters, batches: Batches, every: int) -> list[Parameters]:
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
        passes=lambda seen: not seen.start_gone and seen.away >= _STEPS - 1 and seen.given == seen.values[-1],
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
                examples=(lambda: _train(lambda step: True), lambda: _train(lambda step: step == 0)),
            ),
            Mistake(
                matches=lambda seen: seen.given == seen.values[0],
                slug="immutable-is-untrainable",
                says="You gave back what went in: bind what each step returns.",
                examples=(lambda: _result_lost, lambda: lambda ModelFactory, parameters, batches: parameters),
            ),
            Mistake(
                matches=lambda seen: seen.away == 0 and seen.given == seen.values[-1],
                says="Right bits, but nothing was given away: during each step the old and the new value both stand. donate=... is missing.",
                examples=(lambda: _train(lambda step: False),),
            ),
            Mistake(
                matches=lambda seen: 0 < seen.away < _STEPS - 1 and seen.given == seen.values[-1],
                says="Some values that only your loop knows were not given away. Which step is the only one that must not donate?",
                examples=(lambda: _train(lambda step: step == 1), lambda: _train(lambda step: step > 1)),
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
                examples=(lambda: _keep(lambda step: True), lambda: _keep(lambda step: step % _EVERY != 1)),
            ),
            Mistake(
                matches=lambda seen: any(_gone(value) for value in seen.given),
                slug="names-are-boxes",
                says="A list holds the value itself, no copy of it: the next step gave a kept value away.",
                examples=(lambda: _keep(lambda step: step > 0),),
            ),
            Mistake(
                matches=lambda seen: seen.away < _LONG - len(seen.values[_EVERY::_EVERY]) and list(seen.given) == seen.values[_EVERY::_EVERY],
                says="The right values are kept, but others stand too while their step runs. Give away what nobody can reach.",
                examples=(lambda: _keep(lambda step: False),),
            ),
            Mistake(
                matches=lambda seen: all(isinstance(value, Parameters) for value in seen.given),
                says=f"These are not the values after every {_EVERY} steps. The first to be kept is the one after step {_EVERY}.",
                examples=(
                    lambda: _keep(lambda step: step % _EVERY != 1 and step > 0, lambda step: step % _EVERY == 0),
                    lambda: _keep(lambda step: False, lambda step: True),
                ),
            ),
        ),
    ),
)

_LOOP = (
    "for feature, label in training_data:\n"
    "    output = model(feature)\n"
    "    loss = criterion(output, label)\n"
    "    gradient = model.backward(loss)\n"
    "    parameters = model.step(gradient)\n"
    "    model = ModelFactory(parameters)\n"
    "    del gradient"
)

_RECORD = (
    "import torch, fnlib\nfrom torch import nn\nfrom fnlib.teaching import memory\n"
    "def build(width):\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Linear(128, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))\n"
    "def stock(batches, width, **rule):\n"
    "    network = build(width)\n    optimizer = torch.optim.SGD(network.parameters(), **rule)\n"
    "    for feature in batches:\n        optimizer.zero_grad()\n        loss = network(feature).square().mean()\n        loss.backward()\n        optimizer.step()\n"
    "def functional(batches, width, donate=False, **rule):\n"
    "    ModelFactory = fnlib.Factory(lambda: build(width), optimizer=fnlib.SGD(**rule))\n    model = ModelFactory(fnlib.Parameters(seed=0))\n"
    "    for feature in batches:\n        loss = model(feature).square().mean()\n        gradient = model.backward(loss)\n"
    "        parameters = model.step(gradient, donate=donate)\n        model = ModelFactory(parameters)\n        del gradient\n"
    "def copies(loop, rows, width, **more):\n"
    "    size = sum(weight.nbytes for weight in build(width).parameters())\n"
    "    return memory.record(loop, list(torch.randn(3, rows, 128)), width, lr=0.01, **more).rounds[-1].peak / size\n"
)

_FN = (
    "import torch, fnlib, weakref\nfrom torch import nn\nModelFactory = fnlib.Sequential(nn.Linear(3, 2), optimizer=fnlib.SGD(lr=0.1))\n"
    "model = ModelFactory(fnlib.Parameters(seed=0))\n"
    "def one(model, **options):\n    return model.step(model.backward(model(torch.ones(1, 3)).pow(2).sum()), **options)\n"
)

QUESTIONS = (
    Question(
        key="06-copies",
        kind="predict",
        prompt="A stock step with plain SGD holds two tensors of the size of each weight: the weight and its gradient. Leave activations aside: how many copies of the weights' size does this loop hold at most, however many steps it takes?",
        options=(
            Option("Four: all that the stock loop holds, twice", "values-double-memory", "There is one gradient in both loops."),
            Option("One more with each step", "values-pile-up"),
            Option("Three: the old weights, the gradient, the new weights", why="Only the weights stand twice, from `step` until the last name lets the old ones go."),
            Option("Two: the new weights are written over the old ones", why="Nothing is written over; that is what donation is for."),
        ),
        right=2,
        code=_LOOP,
        proof=_RECORD + "assert 1.9 < copies(stock, 4, 256) < 2.3 and 2.9 < copies(functional, 4, 256) < 3.3",
    ),
    Question(
        key="06-exit",
        kind="exit",
        prompt="A network with 5 MB of weights is trained with plain SGD. Its activations take 200 MB. You rewrite the loop in the functional style, and no name holds more than it must. What becomes of the peak of its memory?",
        options=(
            Option(
                "It stays about the same", why="The peak comes in `backward`, among the activations, and at that moment one copy of the weights stands."
            ),
            Option("It doubles", "values-double-memory"),
            Option("It grows with every step", "values-pile-up"),
            Option(
                "It falls: values need no gradient in memory",
                "optimizer-computes-gradient",
                "The gradient is a value of the same size in this style.",
            ),
        ),
        right=0,
        proof=_RECORD + "assert 0.95 < copies(functional, 2048, 64) / copies(stock, 2048, 64) < 1.05",
    ),
    Question(
        key="06-bank-momentum",
        kind="bank",
        prompt="SGD with momentum, in the stock style: three copies of the weights' size stand in memory (weights, gradient, momentum buffer). And in the functional style, while `step` runs?",
        options=(
            Option("Six: everything twice", "values-double-memory", "The gradient is not made anew in `step`."),
            Option("Five: weights and momentum twice, the gradient once", why="What the optimizer keeps is part of the value, so that it stands twice too."),
            Option("Three, and one more with each step", "values-pile-up"),
        ),
        right=1,
        proof=_RECORD
        + "momentum = {'momentum': 0.9}\nassert 2.9 < copies(stock, 4, 256, **momentum) < 3.3 and 4.9 < copies(functional, 4, 256, **momentum) < 5.3\n"
        "assert 2.9 < copies(functional, 4, 256, donate=True, **momentum) < 3.3",
    ),
    Question(
        key="06-bank-list",
        kind="bank",
        prompt="You append `parameters` to a list after each of 1,000 functional steps. What does that do to memory?",
        options=(
            Option("Nothing: a list holds names, and names cost nothing", "names-are-boxes", "A name costs nothing, but it keeps alive what it points to."),
            Option("Nothing: old values would stay until the garbage collector runs anyway", "values-pile-up"),
            Option("It doubles, as always with values", "values-double-memory"),
            Option("All 1,000 values stay, each with its weights", why="You asked for it, by name; without the list one would be left."),
        ),
        right=3,
        proof=_FN + "made, kept = [], []\nfor _ in range(1000):\n    parameters = one(model)\n    model = ModelFactory(parameters)\n"
        "    made.append(weakref.ref(parameters))\n    kept.append(parameters)\nassert sum(value() is not None for value in made) == 1000\n"
        "kept.clear()\nassert sum(value() is not None for value in made) == 1",
    ),
    Question(
        key="06-bank-best",
        kind="bank",
        prompt="`best = parameters` after the best step; all later steps are taken with `donate=True`. What is `best` at the end?",
        options=(
            Option("The best parameters: the assignment made a copy", "assignment-copies"),
            Option("The last parameters, in silence", "donation-is-unguarded"),
            Option("A value that says where it was given away, if you use it", why="`best` named the very value that the next step gave away."),
            Option("The best parameters: a name keeps its object", "names-are-boxes", "The object is still there, but its memory was given away."),
        ),
        right=2,
        proof=_FN + "parameters = one(model)\nbest = parameters\nmodel = ModelFactory(parameters)\nparameters = one(model, donate=True)\n"
        "try:\n    best['0.weight']\nexcept fnlib.Donated as error:\n    said = str(error)\nassert 'was given away by' in said and 'given away' in repr(best)",
    ),
)
