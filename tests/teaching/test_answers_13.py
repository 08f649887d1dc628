"""What learners typed into the checks of lesson 13, and what they read; see `test_answers`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fnlib.teaching.exercises import Outcome
from tests.teaching.test_answers import ERROR, NOT_YET, PASSED, _judged

# --- 13-clip ----------------------------------------------------------------------------------------


def _as_asked(model: Any, loss: Any, all_reduce: Any) -> Any:
    gradient = model.backward(loss)
    gradient = all_reduce(gradient)
    gradient = gradient.clip_norm(max_norm=1.0)
    return model.step(gradient)


def _by_hand(model: Any, loss: Any, all_reduce: Any) -> Any:
    gradient = all_reduce(model.backward(loss))
    norm = gradient.norm()
    if norm > 1:
        gradient = gradient / norm
    return model.step(gradient)


def _reduced_twice(model: Any, loss: Any, all_reduce: Any) -> Any:
    gradient = all_reduce(all_reduce(model.backward(loss)))
    return model.step(gradient.clip_norm(1.0))


def _only_if_mine_is_long(model: Any, loss: Any, all_reduce: Any) -> Any:
    gradient = model.backward(loss)
    long = gradient.norm() > 1
    gradient = all_reduce(gradient)
    return model.step(gradient.clip_norm(1.0) if long else gradient)


def _clip_mine_if_long(model: Any, loss: Any, all_reduce: Any) -> Any:
    gradient = model.backward(loss)
    if gradient.norm() > 1:
        gradient = gradient.clip_norm(1.0)
    return model.step(all_reduce(gradient))


def _reduce_if_long(model: Any, loss: Any, all_reduce: Any) -> Any:
    gradient = model.backward(loss)
    if gradient.norm() > 1:
        gradient = all_reduce(gradient).clip_norm(1.0)
    return model.step(gradient)


def _weights_averaged(model: Any, loss: Any, all_reduce: Any) -> Any:
    return all_reduce(model.step(model.backward(loss).clip_norm(1.0)))


def _loss_averaged(model: Any, loss: Any, all_reduce: Any) -> Any:
    return model.step(model.backward(all_reduce(loss)).clip_norm(1.0))


def _gradient_returned(model: Any, loss: Any, all_reduce: Any) -> Any:
    return all_reduce(model.backward(loss)).clip_norm(1.0)


def _not_returned(model: Any, loss: Any, all_reduce: Any) -> None:
    model.step(all_reduce(model.backward(loss)).clip_norm(1.0))


def _as_in_stock(model: Any, loss: Any, all_reduce: Any) -> Any:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return model.step()


def _halved(model: Any, loss: Any, all_reduce: Any) -> Any:
    return model.step((all_reduce(model.backward(loss)) / 2).clip_norm(1.0))


def _norm_2(model: Any, loss: Any, all_reduce: Any) -> Any:
    return model.step(all_reduce(model.backward(loss)).clip_norm(2.0))


def _clip_as_function(model: Any, loss: Any, all_reduce: Any) -> Any:
    return model.step(all_reduce(model.backward(loss)).clip(1.0))


STEPS: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_as_asked, PASSED, "Both ranks return the same parameters"),
    (_by_hand, PASSED, ""),
    (_reduced_twice, PASSED, ""),
    (_only_if_mine_is_long, NOT_YET, "the two ranks return different parameters"),
    (_clip_mine_if_long, NOT_YET, "clipped by itself before they were averaged"),
    (_reduce_if_long, NOT_YET, "waited there for the other"),
    (_weights_averaged, NOT_YET, "`all_reduce` averages a gradient here; it got a Parameters"),
    (_loss_averaged, NOT_YET, "`all_reduce` averages a gradient here; it got a Tensor"),
    (_gradient_returned, NOT_YET, "which `model.step` makes; you returned a Gradient"),
    (_not_returned, NOT_YET, "Is `return` missing"),
    (_as_in_stock, ERROR, "`parameters` is a value, not a method"),
    (_halved, NOT_YET, "A long gradient is treated right"),
    (_norm_2, NOT_YET, "Where the average gradient is long, the step is 2.00 times as long"),
    (_clip_as_function, ERROR, "no attribute 'clip'"),
]

# --- 13-differ --------------------------------------------------------------------------------------


def _a_loop(replicas: Any) -> Any:
    found = []
    for name in replicas[0]:
        for replica in replicas:
            if not torch.equal(replica[name], replicas[0][name]):
                found.append(name)
                break
    return found


def _twice_in_the_list(replicas: Any) -> Any:
    return [
        name
        for name in replicas[0]
        for replica in replicas
        if not torch.equal(replica[name], replicas[0][name])
    ]


def _by_hash(replicas: Any) -> Any:
    def digest(tensor: Any) -> str:
        return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()

    return {n for n in replicas[0] if len({digest(replica[n]) for replica in replicas}) > 1}


def _neighbours(replicas: Any) -> Any:
    pairs = list(zip(replicas, replicas[1:], strict=False))
    return [n for n in replicas[0] if not all(torch.equal(a[n], b[n]) for a, b in pairs)]


def _any_instead_of_all(replicas: Any) -> Any:
    return [
        name
        for name in replicas[0]
        if not any(torch.equal(r[name], replicas[0][name]) for r in replicas[1:])
    ]


def _a_verdict(replicas: Any) -> Any:
    return all(torch.equal(r[name], replicas[0][name]) for r in replicas for name in replicas[0])


def _the_first(replicas: Any) -> Any:
    for name in replicas[0]:
        for replica in replicas:
            if not torch.equal(replica[name], replicas[0][name]):
                return name
    return []


def _rounded(replicas: Any) -> Any:
    return [
        name
        for name in replicas[0]
        if any(
            not torch.equal(
                r[name].float().round(decimals=4), replicas[0][name].float().round(decimals=4)
            )
            for r in replicas
        )
    ]


def _whole_dictionaries(replicas: Any) -> Any:
    return [name for name in replicas[0] if any(r != replicas[0] for r in replicas)]


def _tensors_returned(replicas: Any) -> Any:
    first = replicas[0]
    return [first[n] for n in first if any(not torch.equal(r[n], first[n]) for r in replicas)]


def _largest_difference(replicas: Any) -> Any:
    first = replicas[0]
    return [n for n in first if any((r[n] - first[n]).abs().max() > 0 for r in replicas)]


def _pairs(replicas: Any) -> Any:
    first, second = replicas
    return [name for name in first if not torch.equal(first[name], second[name])]


CHECKS: list[tuple[Callable[..., Any], Outcome, str]] = [
    (_a_loop, PASSED, "All 6 cases"),
    (_twice_in_the_list, PASSED, ""),
    (_by_hash, PASSED, ""),
    (_neighbours, PASSED, ""),
    (_largest_difference, PASSED, ""),
    (_any_instead_of_all, NOT_YET, "In one, 0.weight differs, and you found nothing"),
    (_a_verdict, NOT_YET, "Return a list of names; you returned a bool"),
    (_the_first, NOT_YET, "Return a list of names; you returned a str"),
    (_rounded, NOT_YET, "A difference in the last bit isn't"),
    (_whole_dictionaries, ERROR, "more than one value is ambiguous"),
    (_tensors_returned, NOT_YET, "each entry is a key of the `state_dict`"),
    (_pairs, ERROR, "too many values to unpack"),
]


@pytest.mark.parametrize(("answer", "outcome", "said"), STEPS)
def test_clip_on_ranks(answer: Any, outcome: Outcome, said: str) -> None:
    """Steps on two ranks, or nearly."""
    _judged("13-clip", answer, outcome, said)


@pytest.mark.parametrize(("answer", "outcome", "said"), CHECKS)
def test_differ(answer: Any, outcome: Outcome, said: str) -> None:
    """Comparisons of replicas, bit for bit or nearly."""
    _judged("13-differ", answer, outcome, said)
