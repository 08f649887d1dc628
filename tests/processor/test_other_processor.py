"""The stand-in for another processor changes what a processor may change, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jupyter_client.manager import start_new_kernel
from torch import nn

from fnlib.teaching import memory
from tests.processor.other_processor import OtherProcessor
from tools import checks

X = torch.randn(16, 24, generator=torch.Generator().manual_seed(0))

EXACT = {
    "a sum of zeros": lambda: torch.zeros(9).sum(),
    "a sum of small integers": lambda: torch.arange(100.0).sum(),
    "a product of powers of two": lambda: torch.full((4, 4), 0.5) @ torch.full((4, 4), 8.0),
    "a sum of integers": lambda: torch.arange(1_000_001).sum(),
    "one product a number": lambda: X * 3.7,
    "one addition a number": lambda: X + X.roll(1),
    "infinity and no number": lambda: torch.tensor([torch.inf, -torch.inf]).exp(),
}
ROUNDED = {
    "a product of matrices": lambda: X @ X.T,
    "a sum": lambda: X.sum(1),
    "zero on paper": lambda: (X - X.mean(0)).sum(0),
    "a norm in float64": lambda: X.double().norm(dim=1),
    "a softmax": lambda: X.softmax(1),
    "a convolution": lambda: nn.functional.conv1d(X[None], X[None, :, :3]),
    "draws": lambda: torch.randn(64, generator=torch.Generator().manual_seed(0)),
    "a function that is approximated": lambda: X.exp(),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_is_exact_everywhere_keeps_its_bits(name: str) -> None:
    here = EXACT[name]()
    with OtherProcessor():
        assert torch.equal(EXACT[name](), here)


@pytest.mark.parametrize("name", ROUNDED)
def test_what_is_rounded_changes_its_last_bits(name: str) -> None:
    """And always to the same bits, or equal computations would differ."""
    here = ROUNDED[name]()
    with OtherProcessor():
        there, again = ROUNDED[name](), ROUNDED[name]()
    assert torch.equal(there, again) and not torch.equal(there, here)
    assert torch.allclose(there, here, rtol=1e-6, atol=1e-5)


def gradients() -> list[torch.Tensor]:
    """The gradients of a bias that BatchNorm subtracts again, and of a bias that counts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    nn.functional.cross_entropy(model(X), torch.arange(16) % 3).backward()
    return [model[0].bias.grad, model[2].bias.grad]


def test_a_gradient_of_rounding_noise_is_other_noise() -> None:
    """Such a bias moves on one processor and stays on another: a count of moved weights differs."""
    noise, gradient = gradients()
    with OtherProcessor():
        other_noise, other_gradient = gradients()
    assert noise.abs().max() < 1e-6 and not torch.equal(noise, other_noise)
    assert torch.allclose(gradient, other_gradient, rtol=1e-4)


def step(weight: torch.Tensor) -> None:
    for _ in range(2):
        loss = (X @ weight).sum()
        loss.backward()


def test_the_memory_of_a_loop_stays_as_it_is() -> None:
    """The changes need memory of their own, which lessons that measure memory must not see."""
    here = memory.record(step, torch.ones(24, 24, requires_grad=True)).peak
    with OtherProcessor():
        assert memory.record(step, torch.ones(24, 24, requires_grad=True)).peak == here


def test_the_compiler_compiles_and_its_graphs_round() -> None:
    """Lesson 12 counts graphs, and what they compute is rounded as any other result."""
    graphs = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    product = torch.compile(lambda x: x @ x.T, backend=counting)
    here = product(X)
    with OtherProcessor():
        torch.compiler.reset()
        there = product(X)
    assert len(graphs) == 2
    assert torch.allclose(there, here, rtol=1e-6, atol=1e-5) and not torch.equal(there, here)


IN_A_KERNEL = """
import torch, fnlib
from torch.utils._python_dispatch import _disable_current_modes
x = torch.linspace(0.0, 1.0, 100)
with _disable_current_modes():
    here = x @ x
assert not torch.equal(x @ x, here), "this kernel rounds as this machine does"
w = torch.ones(3)
with fnlib.Ledger(w=w) as ledger:
    total = (x.outer(w)).sum()
assert not any("other_processor" in str(e.file) for e in ledger.entries), str(ledger.entries)
"""


def test_kernels_of_the_stage_round_otherwise(tmp_path: Path) -> None:
    """And their ledgers take the stand-in for a library, whose lines they leave out."""
    settings = checks._other_processor(tmp_path)
    manager, client = start_new_kernel(env=settings)
    try:
        reply = client.execute_interactive(IN_A_KERNEL, timeout=60, output_hook=lambda _: None)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
