"""Checks of tensors that somebody gives: names, shapes, kinds and ties."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor

from fnlib import errors
from fnlib.show import words
from fnlib.values.held import Held
from fnlib.values.protect import Tensors, carried, detached, has_graph, owned, same_bits
from fnlib.values.trees import same_entries, storable


def check_match(
    things: str,
    given: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    right: str,
    partial: bool = False,
    exact: bool = False,
    free: Collection[str] = (),
) -> None:
    """Check that given tensors have the names, shapes and kinds of those that are expected.

    Args:
        things: what they are called in an error.
        given: what a user or a rule gives.
        expected: names to tensors of the right shape and kind.
        right: the line to write instead.
        partial: whether names may be missing.
        exact: whether dtype and device must agree too.
        free: names of tensors that may have any shape.
    """

    def wrong(detail: str) -> errors.WrongParameters:
        return errors.WrongParameters(f"These {things} don't match", detail, right)

    if not isinstance(given, Mapping):
        what = f"Pass {things} as a mapping of names to tensors"
        raise errors.WrongParameters(what, f"got {type(given).__name__}", right)
    unknown = [name for name in given if name not in expected]
    missing = [] if partial else [name for name in expected if name not in given]
    if unknown or missing:
        parts = [
            f"{words.names(names)} {'is' if len(names) == 1 else 'are'} {what}"
            for names, what in ((unknown, "unknown"), (missing, "missing"))
            if names
        ]
        raise wrong(f"{' and '.join(parts)}; expected: {words.names(expected) or 'none'}")
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            raise wrong(f"'{name}' is {type(tensor).__name__}, expected a tensor")
        like = expected[name]
        if tensor.shape != like.shape and name not in free:
            raise wrong(f"'{name}' has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}")
        if tensor.dtype != like.dtype and (exact or _number_kind(tensor) != _number_kind(like)):
            same = _number_kind(tensor) == _number_kind(like)
            other = "" if same else f" or another {_number_kind(like)} dtype"
            raise wrong(f"'{name}' has dtype {tensor.dtype}, expected {like.dtype}{other}")
        if exact and tensor.device != like.device:
            raise wrong(f"'{name}' is on {tensor.device}, expected {like.device}")


def _number_kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    return "floating" if tensor.is_floating_point() else "integer"


def slopes_of(
    gradient: Mapping[str, Tensor] | None, held: Held, known: bool, right: str
) -> Mapping[str, Tensor]:
    """Check a gradient and return its tensors, without a graph: a step isn't differentiated.

    Its names and shapes may be `known` to be those of the weights; otherwise an error shows the
    line `right`.
    """
    given: Any = {} if gradient is None else gradient
    gradient, weights = given._tensors if isinstance(given, Tensors) else given, held.weights
    if not (known and all([gradient[name].dtype == weights[name].dtype for name in gradient])):
        gradient = untied("gradient entries", gradient, held.names.ties, right)
        check_match("gradient entries", gradient, weights, right, partial=True, exact=True)
    return detached(gradient)


def untied(
    things: str, given: Mapping[str, Tensor], ties: Mapping[str, str], right: str
) -> Mapping[str, Tensor]:
    """Rename tied tensors to their first names; two names of one may not contradict each other."""
    if not ties or not isinstance(given, Mapping) or not any(name in ties for name in given):
        return given
    found: dict[str, Tensor] = {}
    for name in given:
        first, tensor = ties.get(name, name), given[name]
        if first in found and not (
            isinstance(tensor, Tensor)
            and isinstance(found[first], Tensor)
            and same_bits(tensor, found[first])
        ):
            names = [other for other in given if ties.get(other, other) == first]
            raise errors.WrongParameters(
                f"These {things} contradict each other",
                f"{words.names(names)} are names of one tensor, and two different ones are given",
                right,
            )
        found[first] = tensor
    return found


KEEP: Any = object()  # "as it is", where None has a meaning of its own


def replaced(
    held: Held,
    weights: Mapping[str, Tensor] | None,
    buffers: Mapping[str, Tensor] | None,
    state: Any = KEEP,
) -> Held:
    """Replace parts of a record by what a user gives. See ``fnlib.Parameters.replace``."""
    new = held._replace(
        weights=_merged("weights", held.weights, weights, held.names.ties, carried),
        buffers=_merged("buffers", held.buffers, buffers, held.names.ties, owned),
    )
    if state is KEEP:
        return new
    if state is None:
        return new._replace(state=None, rule=None)
    state = storable(state, "optimizer_state", owned)
    return new._replace(state=state, rule=held.rule if same_entries(state, held.state) else None)


def _merged(
    things: str,
    mine: dict[str, Tensor],
    given: Mapping[str, Tensor] | None,
    ties: Mapping[str, str],
    take: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    if given is None:
        return mine
    right = f"parameters.replace({things}={{name: tensor}})   # names and shapes of this network"
    given = untied(things, given, ties, right)
    check_match(things, given, mine, right, partial=True)
    return {name: take(given[name]) if name in given else tensor for name, tensor in mine.items()}


def refuse_graph(held: Held, action: str) -> Held:
    """Return a record whose weights carry no graph, without which it can't do `action`."""
    if has_graph(held.weights.values()):
        raise errors.CarriesGraph(action)
    return held
