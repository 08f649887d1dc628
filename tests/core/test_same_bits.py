"""The comparison on which "nothing was changed" rests: bytes, for every kind of number and every layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fnlib.values.protect import same_bits

KINDS = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.int8,
]
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.mT,
    "every second": lambda tensor: tensor[:, ::2],
    "corner": lambda tensor: tensor[1:, 1:],
    "scalar": lambda tensor: tensor[0, 0],
    "expanded": lambda tensor: tensor[:1].expand(4, 6),
    "empty": lambda tensor: tensor[:0],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_number_makes_the_difference(kind: torch.dtype, view: str) -> None:
    seen = VIEWS[view](torch.randn(4, 6).to(kind))
    assert same_bits(seen, seen.clone()) and same_bits(
        seen.clone(memory_format=torch.contiguous_format), seen
    )
    for i in range(seen.numel()):
        other = seen.clone(memory_format=torch.contiguous_format).reshape(-1)
        other[i] = torch.tensor(3.0).to(kind)
        assert not same_bits(seen, other.reshape(seen.shape))


def test_signs_of_zero_and_nan() -> None:
    zero, nan = torch.zeros(2), torch.tensor([float("nan"), 1.0])
    assert not same_bits(zero, -zero) and same_bits(nan, nan.clone())
    assert not same_bits(zero, zero.double()) and not same_bits(zero, zero.reshape(1, 2))


def test_conjugates_and_negatives_that_are_not_computed_yet() -> None:
    a = torch.randn(3, dtype=torch.complex64)
    assert same_bits(a.conj(), a.conj().resolve_conj()) and not same_bits(a.conj(), a)
    assert a.conj().imag.is_neg() and same_bits(a.conj().imag, (-a.imag).clone())


@pytest.mark.skipif(
    not hasattr(Tensor, "_lazy_clone"), reason="this PyTorch has no copy-on-write tensors"
)
def test_comparing_copies_nothing() -> None:
    a = torch.randn(3, requires_grad=True)
    b = a._lazy_clone()
    assert same_bits(a, b) and torch._C._is_cow_tensor(a) and torch._C._is_cow_tensor(b)
