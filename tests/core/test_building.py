"""Promise 6: drawing and binding empty parameters peak at one copy of the weights and one layer."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fnlib
from fnlib.network.ownership import held_elsewhere
from tests.core import networks as nets

# --- memory ---------------------------------------------------------------------------------------

WIDTH, LAYERS = 1024, 16  # 64 MiB of weights


def build() -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def twice() -> None:
    """A factory that knows its network already draws again."""
    ModelFactory = fnlib.Factory(Network)
    for seed in (0, 1):
        ModelFactory(fnlib.Parameters(seed=seed))


def from_module() -> object:
    network = Network()
    return network, fnlib.Factory(network)(fnlib.Parameters.from_module(network))


def redrawn() -> object:
    network = build()
    return network, fnlib.Factory(network)(fnlib.Parameters(seed=0))


CASES: dict[str, tuple[Callable[[], object], float]] = {  # and how many copies of the weights
    "stock": (build, 1),
    "layers": (
        lambda: fnlib.Sequential(*build().children())(fnlib.Parameters(seed=0)),
        1,
    ),
    "class": (lambda: fnlib.Factory(Network)(fnlib.Parameters()), 1),
    "forward": (
        lambda: fnlib.Factory(Network)(fnlib.Parameters(seed=0))(torch.ones(1, WIDTH)),
        1,
    ),
    "twice": (twice, 1),
    "device": (
        lambda: fnlib.Factory(Network)(fnlib.Parameters(seed=0, device="cpu")),
        1,
    ),
    "dtype": (
        lambda: fnlib.Factory(Network)(fnlib.Parameters(seed=0, dtype=torch.float16)),
        1,
    ),
    "instance": (redrawn, 2),  # and the instance
    "from_module": (from_module, 2),  # and the module
}


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured on Linux only")
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_one_copy_and_one_layer(case: str) -> None:
    env = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "65536",  # so that memory is given back when it is free
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.core.test_building", case]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    copies = float(run.stdout)
    assert copies < CASES[case][1] + 0.3, f"{copies:.2f} copies of the weights"


def measure(case: str) -> float:
    """Return the peak of memory in copies of the weights."""
    from tests.benchmarks.large import memory, reset_peak

    small = fnlib.Sequential(nn.Linear(2, 2))(fnlib.Parameters(seed=0))
    small(torch.ones(1, 2))  # PyTorch loads parts of itself at the first use
    before = memory("VmRSS")
    reset_peak()
    kept = CASES[case][0]()
    del kept
    return (memory("VmHWM") - before) / (4 * WIDTH * WIDTH * LAYERS)


# --- whose a network is ---------------------------------------------------------------------------


class Upward(nn.Module):
    """Refers to itself in many ways, and to nothing outside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        vars(self.layer)["parent"] = self
        self.weights = [self.layer.weight]
        self.apply_layer = lambda x: self.layer(x)
        self.register_forward_hook(self.hook)
        self.register_buffer("scale", torch.ones(4))

    def hook(self, *args: Any) -> None:
        pass


CONFIG = {"width": 4}


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = CONFIG
        self.layer = nn.Linear(CONFIG["width"], 4)


OURS: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
    "lstm": lambda: nn.LSTM(4, 4),
    "transformer": lambda: nn.TransformerEncoder(nets.encoder_layer(), 1),
    "tied": nets.Tied,
    "cycles": Upward,
    "shared settings": Configured,
}

KEPT = nn.Linear(4, 4)
PLACES: list[Any] = []


def kept_in(place: Callable[[nn.Module], object]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(4, 4))
        PLACES.append(place(network))
        return network

    return build


def with_a_list() -> nn.Module:
    """The list is somebody else's, and a weight is in it."""
    network = nn.Sequential(nn.Linear(4, 4))
    weights = [network[0].weight]
    network.weights = weights  # type: ignore[assignment]
    PLACES.append(weights)
    return network


def weakly_kept() -> nn.Module:
    import weakref

    network = nn.Sequential(nn.Linear(4, 4))
    PLACES.append(weakref.ref(network))
    return network


THEIRS: dict[str, Callable[[], nn.Module]] = {
    "itself": lambda: KEPT,
    "a layer": lambda: nn.Sequential(KEPT),
    "in a cache": functools.lru_cache(lambda: nn.Sequential(nn.Linear(4, 4))),
    "in a list": kept_in(lambda network: network),
    "a weight": kept_in(lambda network: network[0].weight),  # type: ignore[index]
    "a dict of weights": kept_in(lambda network: vars(network[0])["_parameters"]),  # type: ignore[index]
    "a method": kept_in(lambda network: network.forward),
    "a closure": kept_in(lambda network: lambda: network),
    "a list that the network holds": with_a_list,
    "weakly": weakly_kept,
}


@pytest.mark.parametrize("case", OURS)
def test_a_network_that_nobody_else_holds(case: str) -> None:
    assert not held_elsewhere([OURS[case]()])


@pytest.mark.parametrize("case", THEIRS)
def test_a_network_that_somebody_holds(case: str) -> None:
    assert held_elsewhere([THEIRS[case]()])


def test_a_cached_build_keeps_its_weights() -> None:
    """The first call returns a new network, and each later one the same."""

    @functools.cache
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    ModelFactory = fnlib.Factory(build)
    model = ModelFactory(fnlib.Parameters(seed=0))
    _, buffers = model.with_buffers(torch.ones(3, 4))
    assert not build()[0].weight.is_meta
    assert torch.equal(build()[0].weight, model.parameters["0.weight"])
    assert build()[1].num_batches_tracked == 0 and buffers["1.num_batches_tracked"] == 1


def test_a_network_is_ours_alone_after_something_was_compiled() -> None:
    """`torch.compile` keeps a weak reference to each module that is made after its first use."""
    torch.compile(nn.Linear(2, 2), backend="eager")(torch.ones(1, 2))
    box = [nn.Linear(2, 2)]
    assert not held_elsewhere(box)
    mine = weakref.ref(box[0])
    assert held_elsewhere(box) and mine() is box[0]


def test_building_once_is_enough() -> None:
    built = []

    def build() -> nn.Module:
        built.append(None)
        return nn.Linear(4, 4)

    ModelFactory = fnlib.Factory(build)
    model = ModelFactory(fnlib.Parameters(seed=0))
    model.backward(model(torch.ones(2, 4)).sum())
    assert len(built) == 1


if __name__ == "__main__":
    print(measure(sys.argv[1]))
