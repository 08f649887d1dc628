"""Networks as strangers write them: small versions of what libraries and notebooks do."""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any

import numpy
import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """A layer of four inputs and outputs; each stranger changes its forward."""

    def __init__(self) -> None:
        super().__init__(4, 4)


# --- trained by stock PyTorch, and by fnlib to the same bits --------------------------------------


class Variational(Linear):
    """The first forward draws the weights, as gpytorch's SVGP does; it sets attributes too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("initialized", torch.tensor(0))
        self.mean = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.shape = x.shape
        if not self.initialized.item():
            self.mean.data.copy_(torch.randn(4))
            self.initialized.fill_(1)
        return super().forward(x) + self.mean


class Decays(Linear):
    """Writes to a weight at every pass, and sets an attribute."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.shape
        with torch.no_grad():
            self.bias.mul_(0.9)
        return super().forward(x)


class ClipsLate(Linear):
    """Writes to a weight when an input asks for it, not on the first pass."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            with torch.no_grad():
                self.weight.clamp_(-0.2, 0.2)
        return super().forward(x)


class Config:
    def __init__(self) -> None:
        self.problem_type: str | None = None


class Classifier(Linear):
    """Writes what it has found out about its labels into a config, as Hugging Face's do."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()

    def forward(self, x: Tensor) -> Tensor:
        if self.config.problem_type is None:
            self.config.problem_type = "regression"
        return super().forward(x)


class MemoryBank(Linear):
    """A buffer that grows to eight rows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(0, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.bank = torch.cat([self.bank, y.detach()])[-8:]
        return y + self.bank.mean(0)


class Resizes(Linear):
    """A buffer that the first pass resizes, as observers for quantisation do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.low.numel() == 0:
            self.low.resize_(4).fill_(0.0)
        self.low.copy_(torch.minimum(self.low, y.detach().amin(0)))
        return y - self.low


class ResizesLate(Linear):
    """The same, but not before an input asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            self.low.resize_(4).fill_(1.0)
        return super().forward(x) + self.low.sum()


class LazyBias(Linear):
    """A buffer that is None until a forward fills it with what depends on shapes only."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or len(self.table) < len(x):
            self.table = torch.arange(len(x)).cos()[:, None]
        return super().forward(x) * self.table[: len(x)]


class RegistersMask(Linear):
    """Registers a buffer in its forward, a cache."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.arange(4).sin(), persistent=False)
        return super().forward(x) * self.mask


class ActNorm(Linear):
    """One tensor as a buffer and as an attribute; forward exchanges the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.done_cpu = torch.tensor(0.0)
        self.register_buffer("done", self.done_cpu)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        if not self.done > 0:
            self.scale.data = 1 / (x.std(0) + 1)
            self.done = torch.tensor(1.0)
        return super().forward(x) * self.scale


class RandomConstant(Linear):
    """A constant that is drawn when the network is built and registered nowhere; forward sets an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.randn(4)

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return super().forward(x) + self.noise


class CachesInClass(Linear):
    """A table for all modules of the class."""

    tables: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if len(x) not in self.tables:
            self.tables[len(x)] = torch.arange(len(x)).cos()[:, None]
        return super().forward(x) * self.tables[len(x)]


class PreHook(Linear):
    """A hook before forward computes what forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(_scale)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def _scale(module: Any, args: Any) -> None:
    module.scale = module.weight.abs().mean()


class HoldsGlobalGenerators(Linear):
    """Refers to the generators of the whole program, as scikit-learn's check_random_state does."""

    def __init__(self) -> None:
        super().__init__()
        self.draw, self.gauss = numpy.random.rand, random.gauss
        self.generator = torch.default_generator

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.shape
        noise = torch.rand(x.shape, generator=self.generator)
        return super().forward(x) * self.draw() + self.gauss(0.0, 1.0) * noise


class ByName(dict[str, Any]):
    """A dict with methods of its own: keys are modules, stored under the names of their classes."""

    def __setitem__(self, module: Any, value: Any) -> None:
        super().__setitem__(type(module).__name__, value)

    def items(self) -> Any:
        raise NotImplementedError


class Reversed(list[Any]):
    """A list with methods of its own."""

    def __getitem__(self, i: Any) -> Any:
        return super().__getitem__(-1 - i)

    def __iter__(self) -> Any:
        return reversed(list.copy(self))

    def append(self, value: Any) -> None:
        self.insert(0, value)


REGISTRY = ByName()


class OwnContainers(Linear):
    """Containers that are no plain dict and list, one of them for all networks (transformers has it)."""

    def __init__(self) -> None:
        super().__init__()
        REGISTRY[self] = {"scale": 2.0}
        self.scales = ByName()
        self.scales[self] = 0.5
        self.order = Reversed([1.0, 3.0])

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.shape
        scale = REGISTRY[type(self).__name__]["scale"] * self.scales[type(self).__name__]
        return super().forward(x) * scale + self.order[0]


def quantized() -> nn.Module:
    """Quantisation-aware training, per channel: observers that resize in C++."""
    from torch.ao import quantization

    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).train()
    network.qconfig = quantization.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    return quantization.prepare_qat(network)


def renormed() -> nn.Module:
    return nn.Sequential(nn.Embedding(5, 4, max_norm=0.5), nn.Linear(4, 2))


# --- state that no value holds --------------------------------------------------------------------


class InClosure(Linear):
    def __init__(self) -> None:
        super().__init__()
        k = [0]
        self.count = lambda: k.__setitem__(0, k[0] + 1) or k[0]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.count()


class InCell(Linear):
    def __init__(self) -> None:
        super().__init__()
        n = 0

        def count() -> int:
            nonlocal n
            n += 1
            return n

        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.count()


class InSlot(Linear):
    __slots__ = ("n",)

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "n", 0)

    def forward(self, x: Tensor) -> Tensor:
        object.__setattr__(self, "n", self.n + 1)
        return super().forward(x) * self.n


class InClass(Linear):
    n = 0

    def forward(self, x: Tensor) -> Tensor:
        InClass.n += 1
        return super().forward(x) * InClass.n


class Counter:
    __slots__ = ("lock", "n")

    def __init__(self) -> None:
        self.n, self.lock = 0, threading.Lock()


class InUnpicklable(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.counter = Counter()

    def forward(self, x: Tensor) -> Tensor:
        self.counter.n += 1
        return super().forward(x) * self.counter.n


calls = 0


class InGlobal(Linear):
    def forward(self, x: Tensor) -> Tensor:
        global calls
        calls += 1
        return super().forward(x) * calls


class InPythonsGenerator(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.generator = random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.generator.random()


class InNumpysGenerator(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.generator = numpy.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(self.generator.random())


class InArray(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.n = numpy.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return super().forward(x) * float(self.n[0])


class InIterator(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.items = iter(range(1, 100))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * next(self.items)


class InGenerator(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.items = (i for i in itertools.count(1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * next(self.items)


class FirstBatch(Linear):
    """Keeps statistics of its first input, under a flag: the same input again shows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mean is None:
            self.mean = x.detach().mean(0)
        return super().forward(x) - self.mean


class LongestSoFar(Linear):
    """Rescales a buffer for the longest input so far, as rotary embeddings of type "dynamic" do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.ones(4), persistent=False)
        self.longest = 2

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.longest:
            self.register_buffer("frequencies", torch.arange(4.0) / len(x), persistent=False)
            self.longest = len(x)
        return super().forward(x) * self.frequencies


class PastBatches(Linear):
    """Compares a batch with those before it, which it keeps in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.past = torch.zeros(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        similar = output @ self.past.T
        self.past = torch.cat([self.past, output.detach()])[-8:]
        return similar


class DrawsASeed(Linear):
    """Seeds PyTorch's generator from the clock and keeps the seed, as Reformer does."""

    def forward(self, x: Tensor) -> Tensor:
        self.seed = torch.seed()
        torch.manual_seed(self.seed)
        return nn.functional.dropout(super().forward(x))


STATEFUL = [
    LongestSoFar, PastBatches, DrawsASeed, InClosure, InCell, InSlot, InClass, InUnpicklable, InGlobal,
    InPythonsGenerator, InNumpysGenerator, InArray, InIterator, InGenerator, FirstBatch,
]  # fmt: skip


class WarmsUp(Linear):
    """A counter that matters only after some passes."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return super().forward(x) * (2.0 if self.n > 5 else 1.0)


class StaleCache(Linear):
    """Computes something of its weights once, and never again."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.cache is None:
            self.cache = self.weight.detach().sum()
        return super().forward(x) + self.cache
