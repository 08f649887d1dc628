"""Lesson 12, "What does a compiler want from your loop?": its exercises."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from fnlib.teaching.content.exercises.shared import criterion, layers, some_batches
from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

Train = Callable[[Any, Any, Any, Any], Any]
Weights = Mapping[str, Tensor]

# --- what a check sees of the compiler -------------------------------------------------------------


class _Again(Exception):
    """A function was compiled again."""


class _Compiler:
    """Compiles for an exercise, and counts the graphs and the calls of what it made."""

    def __init__(self) -> None:
        self.graphs = self.calls = self.late = 0

    def _backend(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        self.late += self.calls > 1
        return graph.forward

    def __call__(self, function: Any) -> Any:
        compiled = torch.compile(function, backend=self._backend)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                return compiled(*args, **kwargs)
            try:
                with torch.compiler.set_stance("fail_on_recompile"):
                    return compiled(*args, **kwargs)
            except RuntimeError as error:
                if "recompile" in str(error):
                    raise _Again from None
                raise

        return call


@contextlib.contextmanager
def _afresh() -> Iterator[None]:
    """Forget what was compiled before, and keep what the compiler says out of the lesson."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    torch.compiler.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.compiler.reset()
        logging.disable(disabled)


# --- 12-mend: a stock loop that compiles once ------------------------------------------------------

_STEPS = 6


def _fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(*layers())
    return network, torch.optim.SGD(network.parameters(), lr=0.1)


def _stock_losses() -> tuple[nn.Module, list[Tensor]]:
    network, optimizer = _fresh()
    losses = []
    for feature, label in some_batches(_STEPS):
        optimizer.zero_grad()
        loss = criterion(network(feature), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return network, losses


def _try_mend(train: Train) -> Any:
    """Let the answer train with a compiler that counts, and compare with a plain stock loop."""
    network, optimizer = _fresh()
    compiler = _Compiler()
    again = False
    given: Any = []
    with _afresh():
        try:
            given = train(network, optimizer, some_batches(_STEPS), compiler)
        except _Again:
            again = True
    if given is None or given is ...:
        return None
    if not isinstance(given, (list, tuple, Tensor)) or (
        isinstance(given, Tensor) and not given.ndim
    ):
        raise Unreadable(f"Return the losses in a list; you returned {in_words(given)}.")
    wanted_network, wanted = _stock_losses()
    numbers = [part for part in given if isinstance(part, (float, Tensor))]
    pairs = list(zip(network.parameters(), wanted_network.parameters(), strict=True))
    return SimpleNamespace(
        given=given,
        compiled=compiler.graphs > 0,
        again=again or compiler.late > 0,
        length=len(given),
        numbers=len(numbers),
        attached=any(isinstance(part, Tensor) and part.requires_grad for part in numbers),
        losses=len(numbers) == len(given) == _STEPS
        and all(abs(_number(a) - _number(b)) < 1e-4 for a, b in zip(numbers, wanted, strict=True)),
        trained=all(torch.allclose(a, b, atol=1e-4) for a, b in pairs),
    )


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _mended(seen: Any) -> bool:
    return bool(
        seen.compiled and not seen.again and seen.losses and seen.trained and not seen.attached
    )


def _mend_so_far(seen: Any) -> str:
    if not seen.trained:
        return "Nothing is compiled after the first step, but the weights differ from those of the stock loop. Compare your step with it, line by line."
    return f"Nothing is compiled after the first step, and the network trains. But of {_STEPS} losses, others came back: print what `train` returns."


def _mending(
    *,
    result: Callable[[Tensor], Any] = lambda loss: loss.detach(),
    inside: Callable[[list[Any], Tensor], Any] | None = None,
    compile_it: Callable[[Any, Any], Any] = lambda compiler, step: compiler(step),
    keep: Callable[[list[Any], Any], Any] = lambda losses, loss: losses.append(loss),
    zero: bool = True,
) -> Train:
    """A training loop with one thing changed."""

    def train(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
        losses: list[Any] = []

        def step(feature: Tensor, label: Tensor) -> Any:
            if zero:
                optimizer.zero_grad()
            loss = criterion(network(feature), label)
            loss.backward()
            optimizer.step()
            if inside:
                inside(losses, loss)
                return None
            return result(loss)

        fast = compile_it(compiler, step)
        for feature, label in batches:
            loss = fast(feature, label)
            if not inside:
                keep(losses, loss)
        return losses

    return train


def _network_alone(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    fast = compiler(network)
    losses = []
    for feature, label in batches:
        optimizer.zero_grad()
        loss = criterion(fast(feature), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def _counting(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    seen: dict[int, Tensor] = {}

    def step(feature: Tensor, label: Tensor) -> None:
        optimizer.zero_grad()
        loss = criterion(network(feature), label)
        loss.backward()
        optimizer.step()
        seen[len(seen)] = loss.detach()

    fast = compiler(step)
    for feature, label in batches:
        fast(feature, label)
    return list(seen.values())


def _only_compiled(network: Any, optimizer: Any, batches: Any, compiler: Any) -> Any:
    def step(feature: Tensor, label: Tensor) -> Any:
        return criterion(network(feature), label).detach()

    compiler(step)
    return [step(feature, label) for feature, label in batches]


# --- 12-momentum: momentum as a pure step ----------------------------------------------------------

_RATES = (0.1, 0.05, 0.2, 0.1)
_Move = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


with torch.random.fork_rng():
    torch.manual_seed(0)
    _TEMPLATE = nn.Sequential(*layers())
_BATCHES = some_batches(len(_RATES))
_START = {name: weight.detach().clone() for name, weight in _TEMPLATE.named_parameters()}


def _loss_of(weights: Weights, feature: Tensor, label: Tensor) -> Tensor:
    return criterion(functional_call(_TEMPLATE, dict(weights), (feature,)), label)


def _right_move(w: Tensor, v: Tensor, g: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    v = 0.9 * v + g
    return w - lr * v, v


# Ways to move a weight that people write, by name.
_MOVES: dict[str, _Move] = {
    "without velocity": lambda w, v, g, lr: (w - lr * g, 0.9 * v + g),
    "with the old velocity": lambda w, v, g, lr: (w - lr * v, 0.9 * v + g),
    "uphill": lambda w, v, g, lr: (w + lr * (0.9 * v + g), 0.9 * v + g),
    "without rate": lambda w, v, g, lr: (w - (0.9 * v + g), 0.9 * v + g),
    "rate in velocity": lambda w, v, g, lr: (w - (0.9 * v + lr * g), 0.9 * v + lr * g),
    "as an average": lambda w, v, g, lr: (w - lr * (0.9 * v + 0.1 * g), 0.9 * v + 0.1 * g),
    "gradient kept": lambda w, v, g, lr: (w - lr * (0.9 * v + g), g),
    "velocity kept": lambda w, v, g, lr: (w - lr * (0.9 * v + g), v),
}


def _moved(move: _Move, steps: int = len(_RATES)) -> tuple[Weights, Weights]:
    """The weights and velocities after some steps of one way to move."""
    weights, velocity = dict(_START), {name: torch.zeros_like(w) for name, w in _START.items()}
    for (feature, label), rate in list(zip(_BATCHES, _RATES, strict=True))[:steps]:
        gradient = grad(_loss_of)(weights, feature, label)
        pairs = {n: move(weights[n], velocity[n], gradient[n], rate) for n in weights}
        weights = {name: pair[0] for name, pair in pairs.items()}
        velocity = {name: pair[1] for name, pair in pairs.items()}
    return weights, velocity


def _same(some: Any, others: Weights) -> bool:
    return some.keys() == others.keys() and all(
        isinstance(one := some[name], Tensor)
        and one.shape == other.shape
        and torch.allclose(one, other, atol=1e-4)
        for name, other in others.items()
    )


def _try_momentum(step: Any) -> Any:
    """Take steps with the answer, first as it is and then compiled whole."""
    weights = {name: weight.clone() for name, weight in _START.items()}
    velocity = {name: torch.zeros_like(weight) for name, weight in _START.items()}
    given = (weights, velocity)
    copies = [{name: t.clone() for name, t in part.items()} for part in given]
    pair: Any = given
    pairs = []
    for (feature, label), rate in zip(_BATCHES, _RATES, strict=True):
        pair = step(_loss_of, *pair, feature, label, torch.tensor(rate))
        if pair is None or pair is ...:
            return None
        if not (
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and all(isinstance(part, Mapping) for part in pair)
        ):
            raise Unreadable(
                f"Return new weights and the new velocity, two dictionaries; you returned {in_words(pair)}."
            )
        pairs.append(pair)
    intact = all(map(_same, given, copies))
    right = _moved(_right_move)
    way = next((name for name, move in _MOVES.items() if all(map(_same, pair, _moved(move)))), "")
    if all(map(_same, pairs[0], reversed(_moved(_right_move, 1)))):
        way = "swapped"
    graphs, broke = _compiled_whole(step, copies)
    return SimpleNamespace(
        given=pair, intact=intact, same=all(map(_same, pair, right)), way=way, broke=broke, graphs=graphs
    )  # fmt: skip


def _compiled_whole(step: Any, pair: Any) -> tuple[int, bool]:
    """Count the graphs of all steps, and say whether one breaks."""
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    with _afresh():
        compiled = torch.compile(step, backend=backend, fullgraph=True)
        try:
            for (feature, label), rate in zip(_BATCHES, _RATES, strict=True):
                pair = compiled(_loss_of, *pair, feature, label, torch.tensor(rate))
        except Exception:  # whatever the compiler says of it: uncompiled, it ran
            return len(graphs), True
    return len(graphs), False


def _momentum_so_far(seen: Any) -> str:
    return "Two dictionaries came back, with other numbers than SGD with momentum has. Take one weight and compare: print its gradient, its new velocity, and how far it moved."


def _moving(move: _Move, before: Callable[[Any], Any] = lambda lr: lr) -> Any:
    """A step with momentum that moves each weight in the given way."""

    def step(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
        rate = before(lr)
        gradient = grad(loss_of)(weights, feature, label)
        pairs = {n: move(w, velocity[n], gradient[n], rate) for n, w in weights.items()}
        return {n: p[0] for n, p in pairs.items()}, {n: p[1] for n, p in pairs.items()}

    return step


def _printing(lr: Any) -> Any:
    print(end="")
    return lr


def _in_place(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    gradient = grad(loss_of)(weights, feature, label)
    for name in weights:
        velocity[name].mul_(0.9).add_(gradient[name])
        weights[name].sub_(lr * velocity[name])
    return weights, velocity


def _velocity_in_place(
    loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any
) -> Any:
    gradient = grad(loss_of)(weights, feature, label)
    for name in weights:
        velocity[name] *= 0.9
        velocity[name] += gradient[name]
    return {name: w - lr * velocity[name] for name, w in weights.items()}, velocity


def _by_backward(
    loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any
) -> Any:
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    loss_of(leaves, feature, label).backward()
    moved = {n: _right_move(weights[n], velocity[n], leaves[n].grad, lr) for n in weights}
    return {n: p[0] for n, p in moved.items()}, {n: p[1] for n, p in moved.items()}


def _swapped(loss_of: Any, weights: Any, velocity: Any, feature: Any, label: Any, lr: Any) -> Any:
    return _moving(_right_move)(loss_of, weights, velocity, feature, label, lr)[::-1]


def _keeping() -> Any:
    rates: list[Any] = []

    def kept(lr: Any) -> Any:
        rates.append(lr)
        return lr

    return _moving(_right_move, kept)


EXERCISES = (
    Exercise(
        key="12-mend",
        objective="Given a stock loop that compiles at each step, the learner mends it so that nothing is compiled after the first.",
        expects="a list of losses",
        try_out=_try_mend,
        passes=_mended,
        so_far=_mend_so_far,
        because="Nothing was compiled after the first step, and the losses are those of the stock loop.",
        hints=(
            "Who can keep the losses: the step, or the loop that calls it?",
            "A step can return its loss. Detach it, so that it doesn't keep its graph.",
            "`fast = compiler(step)` once, then append what `fast(feature, label)` returns.",
        ),
        right=(
            lambda: _mending(),
            lambda: _mending(result=lambda loss: loss.item()),
            lambda: _network_alone,
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: seen.again,
                slug="compiled-once",
                says="The second call compiles again, so the step still changes something that a guard looks at. What in it grows, or counts? Move that into the loop.",
                examples=(
                    lambda: _mending(inside=lambda losses, loss: losses.append(loss.detach())),
                    lambda: _mending(inside=lambda losses, loss: losses.append(loss.item())),
                    lambda: _counting,
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.compiled and seen.trained,
                says="The training is right, but nothing was compiled. `compiler(step)` returns the compiled step: call that one in the loop.",
                examples=(
                    lambda: _mending(compile_it=lambda compiler, step: step),
                    lambda: _mending(compile_it=lambda compiler, step: (compiler(step), step)[1]),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.attached and seen.losses,
                says="Nothing is compiled again, and the losses are right. Each of them still holds its graph, though: print one, and look for `grad_fn`.",
                examples=(lambda: _mending(result=lambda loss: loss),),
            ),
            Mistake(
                matches=lambda seen: seen.trained and seen.numbers < _STEPS,
                says=f"The network trains, and nothing is compiled again. But fewer than {_STEPS} losses came back: print what `fast(feature, label)` returns, and what `train` does.",
                examples=(
                    lambda: _mending(result=lambda loss: None),
                    lambda: _mending(keep=lambda losses, loss: None),
                    lambda: _mending(
                        keep=lambda losses, loss: losses.__setitem__(slice(None), [loss])
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.trained,
                says="The losses come back, but the weights end elsewhere than in the stock loop. All four lines of the step are needed: which one is gone or changed?",
                examples=(
                    lambda: _mending(zero=False),
                    lambda: _only_compiled,
                ),
            ),
        ),
    ),
    Exercise(
        key="12-momentum",
        objective="Given momentum, the learner writes the step as a pure function that compiles to one graph for all rates.",
        expects="new weights and the new velocity, two dictionaries",
        try_out=_try_momentum,
        passes=lambda seen: seen.same and seen.intact and not seen.broke and seen.graphs == 1,
        so_far=_momentum_so_far,
        because="One graph served four rates, and the weights moved as SGD with momentum moves them.",
        hints=(
            "Three lines: the gradient, the new velocity, the new weights. `plain_step` has two of them.",
            "Make new dictionaries: `{name: ... for name, v in velocity.items()}`.",
            "The weights use the new velocity, so compute that first.",
        ),
        right=(
            lambda: _moving(_right_move),
            lambda: _moving(lambda w, v, g, lr: (w - lr * (g + v * 0.9), g + v * 0.9)),
            lambda: _moving(
                _right_move, lambda lr: lr.item()
            ),  # a whole graph keeps it as a number
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.intact,
                slug="in-place-replaces",
                says="The numbers are those of momentum or near, but the weights or the velocity you were given have changed. Look for `+=`, `*=` and names that end in `_`, and make new tensors.",
                examples=(lambda: _in_place, lambda: _velocity_in_place),
            ),
            Mistake(
                matches=lambda seen: seen.same and seen.broke,
                slug="one-program",
                says="The numbers are right, but it isn't one graph. Compile `momentum_step` with `fullgraph=True` and call it on a batch: the error names the line.",
                examples=(
                    lambda: _moving(_right_move, lambda lr: lr if lr > 0 else -lr),
                    lambda: _moving(_right_move, _printing),
                    lambda: _by_backward,
                ),
            ),
            Mistake(
                matches=lambda seen: seen.same and seen.graphs > 1,
                slug="compiled-once",
                says="The numbers are right, and each step is one graph. But a later step compiles again: what does the function change that isn't among its arguments?",
                examples=(lambda: _keeping(),),
            ),
            Mistake(
                matches=lambda seen: seen.way == "swapped",
                says="Both dictionaries are right, in the other order: return the weights first.",
                examples=(lambda: _swapped,),
            ),
            Mistake(
                matches=lambda seen: seen.way in ("without velocity", "with the old velocity"),
                says="The velocity is right. The weights move by something else: print the new velocity of one weight, and how far that weight moved, divided by `lr`.",
                examples=(
                    lambda: _moving(_MOVES["without velocity"]),
                    lambda: _moving(_MOVES["with the old velocity"]),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.way in ("uphill", "without rate"),
                says="The velocity is right. Each weight should move by `-lr * velocity`: check the sign, and the rate.",
                examples=(
                    lambda: _moving(_MOVES["uphill"]),
                    lambda: _moving(_MOVES["without rate"]),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.way in ("rate in velocity", "as an average"),
                says="That's another kind of momentum: here the velocity is `0.9 * velocity + gradient`. Print the first one, from a velocity of zero, and compare it with the gradient.",
                examples=(
                    lambda: _moving(_MOVES["rate in velocity"]),
                    lambda: _moving(_MOVES["as an average"]),
                ),
            ),
            Mistake(
                matches=lambda seen: seen.way in ("gradient kept", "velocity kept"),
                slug="result-not-needed",
                says="The first step is right, and the next ones aren't: look at the second dictionary that you return. What does the next step need in it?",
                examples=(
                    lambda: _moving(_MOVES["gradient kept"]),
                    lambda: _moving(_MOVES["velocity kept"]),
                ),
            ),
        ),
    ),
)
