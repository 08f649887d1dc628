"""Lesson 15, "How does JAX say it?": its exercises."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fnlib.teaching.exercises import Exercise, Mistake, Unreadable, in_words

Tree = dict[str, Tensor]
Chain = Callable[[Any, Any], Any]

# --- 15-chain: two rules, one after the other ------------------------------------------------------


def _clip(length: float) -> Any:
    """Shorten a long gradient; nothing to remember."""

    def update(gradient: Tree, state: Any) -> tuple[Tree, Any]:
        norm = torch.stack([part.norm() for part in gradient.values()]).norm()
        factor = min(1.0, length / float(norm))
        return {name: factor * part for name, part in gradient.items()}, ()

    return SimpleNamespace(init=lambda params: (), update=update)


def _trace(decay: float) -> Any:
    """Momentum: the state is the velocity."""

    def init(params: Tree) -> Tree:
        return {name: torch.zeros_like(part) for name, part in params.items()}

    def update(gradient: Tree, state: Tree) -> tuple[Tree, Tree]:
        velocity = {name: decay * state[name] + part for name, part in gradient.items()}
        return velocity, velocity

    return SimpleNamespace(init=init, update=update)


def _shrink(factor: float) -> Any:
    """Scale the gradient; the state counts the steps."""

    def update(gradient: Tree, state: int) -> tuple[Tree, int]:
        return {name: factor * part for name, part in gradient.items()}, state + 1

    return SimpleNamespace(init=lambda params: 0, update=update)


_PARAMS: Tree = {"w": torch.tensor([4.0, 0.0]), "b": torch.tensor([1.0])}
_GRADIENTS: list[Tree] = [
    {"w": torch.tensor([3.0, 4.0]), "b": torch.tensor([0.0])},
    {"w": torch.tensor([0.0, 12.0]), "b": torch.tensor([5.0])},
    {"w": torch.tensor([0.25, 0.0]), "b": torch.tensor([0.0])},
]
_PAIRS = ((_clip(1.0), _trace(0.5)), (_trace(0.5), _clip(1.0)), (_trace(0.5), _shrink(-0.25)))


def _three_steps(chain: Chain) -> Any:
    """Three updates of three chains: what each returned, as lists of numbers; None for a stub."""
    said: list[dict[str, list[float]]] = []
    kept = pure = True
    for first, second in _PAIRS:
        rule = chain(first, second)
        if rule is None or rule is ...:
            return None
        state = first_state = rule.init(_PARAMS)
        beginning = len(said)
        for before in _GRADIENTS:
            gradient = {name: part.clone() for name, part in before.items()}
            result = rule.update(gradient, state)
            if result is None or result is ...:
                return None
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise Unreadable(
                    f"`update` returns the updates and the new state, a pair; it returned {in_words(result)}."
                )
            updates, state = result
            if not isinstance(updates, Mapping):
                raise Unreadable(
                    f"The first of the two is a dictionary of updates; you returned {in_words(updates)}."
                )
            kept = kept and all(torch.equal(gradient[name], before[name]) for name in before)
            said.append({name: part.tolist() for name, part in updates.items()})
        again, _ = rule.update({n: part.clone() for n, part in _GRADIENTS[0].items()}, first_state)
        pure = pure and {n: part.tolist() for n, part in again.items()} == said[beginning]
    return SimpleNamespace(given=said, updates=said, kept=kept, pure=pure)


def _chained(update: Callable[[Any, Any, Tree, Any], Any]) -> Chain:
    """A chain whose `update` is given, with `init` as in the lesson."""
    return lambda first, second: SimpleNamespace(
        init=lambda params: (first.init(params), second.init(params)),
        update=lambda gradient, state: update(first, second, gradient, state),
    )


def _one_by_one(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    updates, first_state = first.update(gradient, state[0])
    updates, second_state = second.update(updates, state[1])
    return updates, (first_state, second_state)


def _in_a_loop(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    states = []
    for rule, its_state in zip((first, second), state, strict=True):
        gradient, its_state = rule.update(gradient, its_state)
        states.append(its_state)
    return gradient, tuple(states)


def _raw(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    _, first_state = first.update(gradient, state[0])
    updates, second_state = second.update(gradient, state[1])
    return updates, (first_state, second_state)


def _first_only(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    updates, first_state = first.update(gradient, state[0])
    _, second_state = second.update(updates, state[1])
    return updates, (first_state, second_state)


def _old_state(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    updates, _ = first.update(gradient, state[0])
    return second.update(updates, state[1])[0], state


def _second_first(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    updates, second_state = second.update(gradient, state[1])
    updates, first_state = first.update(updates, state[0])
    return updates, (first_state, second_state)


def _added(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    one, first_state = first.update(gradient, state[0])
    other, second_state = second.update(gradient, state[1])
    return {name: one[name] + other[name] for name in one}, (first_state, second_state)


def _in_a_closure(first: Any, second: Any) -> Any:
    """A chain that keeps its states instead of passing them on."""
    states: dict[str, Any] = {}

    def init(params: Tree) -> Any:
        states.update(first=first.init(params), second=second.init(params))
        return ()

    def update(gradient: Tree, state: Any) -> Any:
        updates, states["first"] = first.update(gradient, states["first"])
        updates, states["second"] = second.update(updates, states["second"])
        return updates, state

    return SimpleNamespace(init=init, update=update)


def _into_the_list(first: Any, second: Any) -> Any:
    """A chain that writes the new states into the list it was given."""

    def update(gradient: Tree, state: list[Any]) -> Any:
        updates, (state[0], state[1]) = _one_by_one(first, second, gradient, state)
        return updates, state

    return SimpleNamespace(
        init=lambda params: [first.init(params), second.init(params)], update=update
    )


def _writing(first: Any, second: Any, gradient: Tree, state: Any) -> Any:
    updates, states = _one_by_one(first, second, gradient, state)
    for name, part in updates.items():
        gradient[name].copy_(part)
    return updates, states


_VARIANTS = {
    update: _three_steps(_chained(update)).updates
    for update in (_one_by_one, _raw, _first_only, _old_state, _second_first, _added)
}


def _says(update: Any) -> Callable[[Any], bool]:
    return lambda seen: bool(seen.updates == _VARIANTS[update])


def _chain_so_far(seen: Any) -> str:
    right = sum(a == b for a, b in zip(seen.updates, _VARIANTS[_one_by_one], strict=True))
    return f"{right} of {len(seen.updates)} updates are right: three steps of each of three chains."


# --- 15-split: a module, its structure and its values ----------------------------------------------


def _module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        module(torch.randn(8, 3))  # its running statistics move
    return module.eval()


def _stir(module: nn.Module) -> None:
    """Write into a module as training does."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(1.0)
        for buffer in module.buffers():
            buffer.add_(1)


def _state(module: nn.Module) -> Tree:
    return {name: part.clone() for name, part in module.state_dict().items()}


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def _both_ways(answer: Any) -> Any:
    """Split a module, change it, merge twice, change one of the two: who noticed?"""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2 or not all(map(callable, answer)):
        raise Unreadable("The check takes both functions: `(split, merge)`.")
    split, merge = answer
    module = _module()
    first = _state(module)
    pair = split(module)
    if pair is None or pair is ...:
        return None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise Unreadable(
            f"`split` returns a pair, the structure and the values; it returned {in_words(pair)}."
        )
    structure, values = pair
    if not isinstance(values, Mapping):
        raise Unreadable(
            f"The values are a dictionary, from names to tensors; yours are {in_words(values)}."
        )
    taken = set(values)
    _stir(module)
    snapshot = {name: part.detach().clone() for name, part in values.items()}
    fresh = all(torch.equal(snapshot[name], first[name]) for name in taken & set(first))
    stirred = _state(module)
    doubled = {name: 2 * part for name, part in snapshot.items()}
    missing = sorted(set(first) - taken)
    try:
        one, other = merge(structure, values), merge(structure, values)
    except RuntimeError:
        if missing:  # `load_state_dict` misses them too; the check says which they are
            return SimpleNamespace(given=pair, complete=False, missing=missing, fresh=fresh)
        raise
    if one is None or one is ...:
        return None
    if not isinstance(one, nn.Module):
        raise Unreadable(f"`merge` returns a module; it returned {in_words(one)}.")
    merged = _state(one)
    _stir(one)
    return SimpleNamespace(
        given=pair,
        complete=taken == set(first),
        missing=missing,
        fresh=fresh,
        same=_equal(merged, first),
        two=one is not other,
        apart=_equal(_state(other), first),
        kept=all(torch.equal(values[name], snapshot[name]) for name in taken),
        intact=_equal(_state(module), stirred),
        other=_uses(merge(structure, doubled), doubled),
    )


def _uses(module: nn.Module, values: Tree) -> bool:
    state = module.state_dict()
    return all(torch.equal(state[name], values[name]) for name in values if name in state)


def _copied(module: nn.Module) -> tuple[nn.Module, Tree]:
    return copy.deepcopy(module), _state(module)


def _on_meta(module: nn.Module) -> tuple[nn.Module, Tree]:
    return copy.deepcopy(module).to("meta"), _state(module)


def _merged(structure: nn.Module, values: Tree) -> nn.Module:
    module = copy.deepcopy(structure)
    module.load_state_dict(values)
    return module


def _merged_clones(structure: nn.Module, values: Tree) -> nn.Module:
    module = copy.deepcopy(structure)
    module.load_state_dict({name: part.clone() for name, part in values.items()}, assign=True)
    return module


def _merged_alias(structure: nn.Module, values: Tree) -> nn.Module:
    module = copy.deepcopy(structure)
    module.load_state_dict(values, assign=True)
    return module


def _into_the_structure(structure: nn.Module, values: Tree) -> nn.Module:
    structure.load_state_dict(values)
    return structure


def _merged_shallow(structure: nn.Module, values: Tree) -> nn.Module:
    module = copy.copy(structure)
    module.load_state_dict(values)
    return module


def _weights_alone(module: nn.Module) -> tuple[nn.Module, Tree]:
    weights = {name: part.detach().clone() for name, part in module.named_parameters()}
    return copy.deepcopy(module), weights


def _merged_loosely(structure: nn.Module, values: Tree) -> nn.Module:
    module = copy.deepcopy(structure)
    module.load_state_dict(values, strict=False)
    return module


EXERCISES = (
    Exercise(
        key="15-chain",
        objective="Given two rules, the learner chains them, so that each sees what the other returned and has its own state.",
        expects="a function that chains two rules",
        try_out=_three_steps,
        passes=lambda seen: _says(_one_by_one)(seen) and seen.kept and seen.pure,
        so_far=_chain_so_far,
        because="Each rule got what the rule before it returned, and each got its own state back.",
        hints=(
            "`state` is the pair that `init` returned: one state for each rule.",
            "The second rule works on the updates that the first one returned.",
            "Return the last updates, and a pair of the two new states.",
        ),
        right=(lambda: _chained(_one_by_one), lambda: _chained(_in_a_loop)),
        mistakes=(
            Mistake(
                matches=_says(_old_state),
                slug="optax-remembers",
                says="The first updates of each chain are right. Later ones aren't, since the chain returns the states it was given. What else does `first.update(...)` return?",
                examples=(lambda: _chained(_old_state),),
            ),
            Mistake(
                matches=_says(_raw),
                says="Each rule gets its own state. But the second one works on the raw gradient, so the work of the first is lost: print what it gets.",
                examples=(lambda: _chained(_raw),),
            ),
            Mistake(
                matches=_says(_first_only),
                says="Both rules run. What you return are the updates of the first one, though: print what the second one returns.",
                examples=(lambda: _chained(_first_only),),
            ),
            Mistake(
                matches=_says(_second_first),
                says="Both rules run and keep their states. They run in the other order: `chain(clip, momentum)` clips first.",
                examples=(lambda: _chained(_second_first),),
            ),
            Mistake(
                matches=lambda seen: not seen.kept,
                slug="result-not-needed",
                says="The updates are right. But your chain writes into the gradient it was given: print `gradient` before and after a call of `update`.",
                examples=(lambda: _chained(_writing),),
            ),
            Mistake(
                matches=lambda seen: _says(_one_by_one)(seen) and not seen.pure,
                slug="optax-remembers",
                says="The updates are right. But `update` isn't pure: called again with the first state, it returns other updates. Call it twice with one gradient and one state, and print both.",
                examples=(lambda: _in_a_closure, lambda: _into_the_list),
            ),
            Mistake(
                matches=_says(_added),
                says="Both rules run and keep their states. You add up what they return, but a chain passes it on: the second rule takes the updates of the first.",
                examples=(lambda: _chained(_added),),
            ),
        ),
    ),
    Exercise(
        key="15-split",
        objective="Given a PyTorch module, the learner splits it into structure and values and merges them again, with no alias on either side.",
        expects="the two functions, `(split, merge)`",
        try_out=_both_ways,
        passes=lambda seen: (
            seen.complete
            and seen.fresh
            and seen.same
            and seen.two
            and seen.apart
            and seen.kept
            and seen.intact
            and seen.other
        ),
        because="Values go in, a new module comes out, and neither the first module nor the values notice what you do with it.",
        hints=(
            "What has all tensors of a module by name, the running statistics included?",
            "`state_dict()` doesn't copy. A module is copied by `copy.deepcopy`.",
            "`merge` copies the structure first, loads the values into the copy, and returns it.",
        ),
        right=(
            lambda: (_copied, _merged),
            lambda: (_copied, _merged_clones),
            lambda: (_on_meta, _merged_clones),
            lambda: (lambda module: (module, _state(module)), _merged),
        ),
        mistakes=(
            Mistake(
                matches=lambda seen: not seen.fresh,
                slug="split-copies",
                says="All the names are there. But when the module trained on, your values changed with it: compare `values[name].data_ptr()` with that of the module's tensor.",
                examples=(
                    lambda: (lambda module: (copy.deepcopy(module), module.state_dict()), _merged),
                    lambda: (
                        lambda module: (copy.deepcopy(module), dict(module.state_dict())),
                        _merged,
                    ),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.complete and bool(seen.missing),
                slug="weights-are-everything",
                says="The weights are among your values. BatchNorm's running statistics aren't: compare `values` with `module.state_dict()`.",
                examples=(
                    lambda: (_weights_alone, _merged_loosely),
                    lambda: (_weights_alone, _merged),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.same or not seen.other,
                says="Your values are right. The merged module doesn't have them, though: compare its `state_dict()` with `values`.",
                examples=(
                    lambda: (_copied, lambda structure, values: copy.deepcopy(structure)),
                    lambda: (_copied, lambda structure, values: _module()),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.two,
                slug="assignment-copies",
                says="The values arrive. But two merges give one module, so that training one trains the other: run `merge(structure, values) is merge(structure, values)`.",
                examples=(
                    lambda: (_copied, _into_the_structure),
                    lambda: (lambda module: (module, _state(module)), _into_the_structure),
                ),
            ),
            Mistake(
                matches=lambda seen: not seen.apart and seen.kept,
                slug="assignment-copies",
                says="The values arrive. But two merged modules share their tensors, so that training one trains the other: your copy of the structure is a new module around the old tensors.",
                examples=(lambda: (_copied, _merged_shallow),),
            ),
            Mistake(
                matches=lambda seen: not seen.kept,
                slug="split-copies",
                says="The values arrive. But when the merged module trained, they changed with it: it has your tensors, not copies of them.",
                examples=(lambda: (_copied, _merged_alias), lambda: (_on_meta, _merged_alias)),
            ),
        ),
    ),
)
