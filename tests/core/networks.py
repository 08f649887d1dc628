"""Networks that no layer of torch.nn stands for: the awkward cases of the table."""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint


def network(
    name: str,
    does: str,
    parts: Callable[[], dict[str, Any]],
    forward: Callable[..., Any],
    then: Callable[[Any], dict[str, Any] | None] = lambda self: None,
) -> type[nn.Module]:
    """Make a class of networks from a row of the table.

    Args:
        name: of the class.
        does: its docstring.
        parts: makes its attributes, in order.
        forward: its forward pass.
        then: ties what has been made, or returns more attributes that hold it.
    """

    def init(self: Any) -> None:
        nn.Module.__init__(self)
        for attribute, value in parts().items():
            setattr(self, attribute, value)
        for attribute, value in (then(self) or {}).items():
            setattr(self, attribute, value)

    methods = {"__init__": init, "forward": forward, "__doc__": does, "__module__": __name__}
    return type(name, (nn.Module,), methods)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


def linear(inputs: int = 4, outputs: int = 4, **kind: Any) -> nn.Linear:
    return nn.Linear(inputs, outputs, **kind)


def again_in_backward(self: Any, x: Tensor) -> Tensor:
    return checkpoint(self.body, x, use_reentrant=False)


# fmt: off
# A row: its name, what is special about it, its parts in the order in which they are drawn, its forward.
Square = network("Square", "A function as a module: no weights at all.",
    lambda: {}, lambda self, x: x**2)
Bare = network("Bare", "Parameters of no layer.",
    lambda: {"a": weight(3, 4), "b": weight(3)}, lambda self, x: x @ self.a.T + self.b)
Scalar = network("Scalar", "A weight without dimensions, and one without elements.",
    lambda: {"scale": nn.Parameter(torch.tensor(1.5)), "nothing": nn.Parameter(torch.empty(0, 3))},
    lambda self, x: x * self.scale + self.nothing.sum())
HeldTwice = network("HeldTwice", "Weights that are registered, and held in a list, a dict and a plain attribute as well.",
    lambda: {"first": linear(), "second": linear()},
    lambda self, x: torch.tanh(x @ self.held[0] + self.by_name["bias"]) @ self.held[1] + self.second.bias,
    lambda self: {"held": [self.first.weight, self.second.weight], "by_name": {"bias": self.first.bias}})
Tied = network("Tied", "A decoder that shares its encoder's embedding, as language models do.",
    lambda: {"embed": nn.Embedding(7, 5), "mix": linear(5, 5), "decode": nn.Linear(5, 7, bias=False)},
    lambda self, x: self.decode(torch.tanh(self.mix(self.embed(x)))),
    lambda self: setattr(self.decode, "weight", self.embed.weight))
TiedModule = network("TiedModule", "One layer registered under two names.",
    lambda: {"once": linear()}, lambda self, x: self.again(torch.tanh(self.once(x))),
    lambda self: {"again": self.once})
Unused = network("Unused", "A weight that the loss does not depend on, between two that it does.",
    lambda: {"first": linear(), "spare": linear(), "last": linear(4, 2)}, lambda self, x: self.last(self.first(x)))
SometimesUsed = network("SometimesUsed", "An expert that only some inputs reach: in some steps it has a gradient, in others none.",
    lambda: {"gate": linear(), "expert": linear()},
    lambda self, x: self.expert(self.gate(x)) if x[0, 0] > 0 else self.gate(x))
Frozen = network("Frozen", "A first layer that is not trained.",
    lambda: {"body": linear().requires_grad_(False), "head": linear(4, 2)}, lambda self, x: self.head(torch.tanh(self.body(x))))
Complex = network("Complex", "Complex and real weights together.",
    lambda: {"rotate": nn.Parameter(torch.randn(4, 4, dtype=torch.complex64)), "scale": weight(4)},
    lambda self, x: (torch.fft.fft(x) @ self.rotate) * self.scale)
MixedKinds = network("MixedKinds", "float32, float64 and bfloat16 weights together.",
    lambda: {"single": linear(), "wide": linear(dtype=torch.float64), "brain": linear(4, 2, dtype=torch.bfloat16)},
    lambda self, x: self.brain(self.wide(self.single(x).double()).bfloat16()))
Siamese = network("Siamese", "Two passes of one BatchNorm in one forward.",
    lambda: {"body": nn.Sequential(linear(), nn.BatchNorm1d(4))}, lambda self, a, b: (self.body(a) - self.body(b)).abs())
Shaped = network("Shaped", "A transposed weight: strides that are not contiguous.",
    lambda: {"weight": nn.Parameter(torch.randn(4, 3).t())}, lambda self, x: x @ self.weight.t())
ReturnsWeight = network("ReturnsWeight", "A prompt that is learnt: the output is the weight itself.",
    lambda: {"prompt": weight(3, 4)}, lambda self: self.prompt)
ReturnsFunction = network("ReturnsFunction", "Its output is a function of its weights, to be called later.",
    lambda: {"layer": linear(4, 2)}, lambda self, x: lambda scale: self.layer(x) * scale)
Checkpointed = network("Checkpointed", "Runs part of its forward again in backward.",
    lambda: {"body": nn.Sequential(linear(4, 8), nn.Tanh(), nn.Dropout(0.3), linear(8, 4))}, again_in_backward)
CheckpointedNorm = network("CheckpointedNorm", "A BatchNorm that runs again in backward: stock PyTorch counts its statistics twice.",
    lambda: {"body": nn.Sequential(linear(), nn.BatchNorm1d(4))}, again_in_backward)
OwnGenerator = network("OwnGenerator", "Draws from a generator of its own, whose position is state.",
    lambda: {"layer": linear(), "generator": torch.Generator().manual_seed(0)},
    lambda self, x: self.layer(x) + torch.randn(4, generator=self.generator))
Symmetric = network("Symmetric", "A parametrization: the upper triangle, mirrored.",
    lambda: {}, lambda self, x: x.triu() + x.triu(1).transpose(-1, -2))
TiedBuffers = network("TiedBuffers", "Two BatchNorms that keep one running mean.",
    lambda: {"a": nn.BatchNorm1d(4), "b": nn.BatchNorm1d(4)}, lambda self, x: self.b(self.a(x)),
    lambda self: setattr(self.b, "running_mean", self.a.running_mean))
CallsFunctionally = network("CallsFunctionally", "Uses torch.func inside.",
    lambda: {"layer": linear(), "scale": weight(4, 4)},
    lambda self, x: torch.func.functional_call(self.layer, {"weight": self.scale * 2, "bias": self.layer.bias}, (x,)))
# fmt: on


class Listed(nn.Module):
    """ParameterList and ParameterDict."""

    def __init__(self) -> None:
        super().__init__()
        self.several = nn.ParameterList([torch.randn(4, 4) for _ in range(3)])
        self.named = nn.ParameterDict({"left": torch.randn(4), "right": torch.randn(4)})

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.several:
            x = torch.tanh(x @ weight)
        return x * self.named["left"] + self.named["right"]


class TwoInputs(nn.Module):
    """Two positional inputs and keyword ones."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(
        self, a: Tensor, b: Tensor, *, scale: float = 1.0, shift: Tensor | None = None
    ) -> Tensor:
        y = self.left(a) + scale * self.right(b)
        return y if shift is None else y + shift


class Pair(NamedTuple):
    mean: Tensor
    spread: Tensor


class ManyOutputs(nn.Module):
    """A dict of a tensor, a tuple, a named tuple and None."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.layer(x)
        return {
            "y": y,
            "parts": (y[:, :3], [y[:, 3:]]),
            "pair": Pair(y.mean(), y.std()),
            "none": None,
        }


class FrozenNorm(nn.Module):
    """A BatchNorm whose own train() keeps it in evaluation, as fine-tuned detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.bn, self.free = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self.bn.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.free(self.bn(self.layer(x)))


class Counting(nn.Module):
    """A buffer that is counted up, one that is replaced, and one that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("last", torch.zeros(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x) - self.mean
        self.seen += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.last = y.detach()[0]
        return y


class Caching(nn.Module):
    """Keeps the last activation for whoever wants to look: forward never reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        self.activation = torch.tanh(self.layer(x))
        self.seen.append(x.shape)
        return self.activation


class RotaryCache(nn.Module):
    """Computes a table when it first meets a length, and keeps it: the same output with and without."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.table: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if len(x) not in self.table:
            self.table[len(x)] = torch.arange(len(x)).cos()[:, None]
        return self.layer(x) * self.table[len(x)]


class DropoutCache(nn.Module):
    """Keeps an activation that was drawn at random."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.activation = nn.functional.dropout(self.layer(x), 0.5, self.training)
        return self.activation


class Recurrent(nn.Module):
    """An LSTM with a hidden state that is passed in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = (
            nn.LSTM(3, 5, num_layers=2, batch_first=True, dropout=0.2),
            nn.Linear(5, 2),
        )

    def forward(
        self, x: Tensor, hidden: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, hidden = self.lstm(x, hidden)
        return self.head(y), hidden


class GradientPenalty(nn.Module):
    """Differentiates in its forward, with a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        y = self.net(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return y + slope.square().sum(1, keepdim=True)


encoder_layer = functools.partial(
    nn.TransformerEncoderLayer, 8, 2, dim_feedforward=16, batch_first=True
)


class Autoencoder(nn.Module):
    """Other methods than forward."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 4)

    def encode(self, x: Tensor) -> Tensor:
        return torch.tanh(self.down(x))

    def decode(self, z: Tensor) -> Tensor:
        return self.up(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


# --- networks that keep state where no value can carry it ---------------------------------------


class Remembers(nn.Module):
    """Its hidden state is an attribute, in one of several forms."""

    def __init__(self, start: Any, read: Any, write: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.state, self.read, self.write = start, read, write

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x) + self.read(self.state)
        written = self.write(self.state, y.detach())
        if written is not None:
            self.state = written
        return y


def remembers(how: str) -> nn.Module:
    """Build one of them."""
    return {
        "tensor replaced": lambda: Remembers(
            torch.zeros(4), lambda s: s, lambda s, y: s + y.mean(0)
        ),
        "tensor in place": lambda: Remembers(
            torch.zeros(4), lambda s: s.clone(), lambda s, y: _quiet(s.add_(y.mean(0)))
        ),
        "number": lambda: Remembers(0, lambda s: s, lambda s, y: s + 1),
        "list": lambda: Remembers([], len, lambda s, y: s.append(1)),
        "dict": lambda: Remembers({"n": 0}, lambda s: s["n"], lambda s, y: s.update(n=s["n"] + 1)),
        "deque": lambda: Remembers(collections.deque(maxlen=3), len, lambda s, y: s.append(1)),
        "nested": lambda: Remembers(
            {"a": [[0]]},
            lambda s: s["a"][0][0],
            lambda s, y: s["a"][0].__setitem__(0, s["a"][0][0] + 1),
        ),
        "object": lambda: Remembers(_Cell(), lambda s: s.n, lambda s, y: setattr(s, "n", s.n + 1)),
    }[how]()


def _quiet(_: Any) -> None:
    return None


class _Cell:
    def __init__(self) -> None:
        self.n = 0


class GrowsBuffer(nn.Module):
    """Registers a buffer while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "mean"):
            self.register_buffer("mean", x.detach().mean(0))
        return self.layer(x - self.mean)


class GrowsLayer(nn.Module):
    """Adds a layer while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "more"):
            self.more = nn.Linear(4, 4)
        return self.more(self.layer(x))


class Locked(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.lock = nn.Linear(4, 4), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.layer(x)


# --- layers with parametrizations ---------------------------------------------------------------


def symmetric() -> nn.Module:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def new_weight_norm() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.Tanh(),
        parametrizations.weight_norm(nn.Linear(4, 2)),
    )


def new_spectral_norm() -> nn.Module:
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 2)
    )


def orthogonal() -> nn.Module:
    return parametrizations.orthogonal(nn.Linear(4, 4))


def old_spectral_norm() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv1d(4, 4, 3)), nn.Tanh())


def old_weight_norm() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # deprecated in PyTorch, and in many networks that are trained today
        return nn.Sequential(
            nn.utils.weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.utils.weight_norm(nn.Linear(4, 2))
        )


def pruned() -> nn.Module:
    from torch.nn.utils import prune

    layer = nn.Linear(4, 4)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    return layer


def hooked() -> nn.Module:
    """A forward hook that changes the output, a hook on a weight that changes its gradient."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].register_forward_hook(_double)
    network[1].weight.register_hook(_halve)
    return network


def _double(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 2


def _halve(gradient: Tensor) -> Tensor:
    return gradient / 2


def channels_last() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3)).to(
        memory_format=torch.channels_last
    )


def initialised(module: nn.Module) -> nn.Module:
    """Draw weights as many networks do: after building, by apply."""

    def draw(part: nn.Module) -> None:
        if isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight)
            nn.init.zeros_(part.bias)

    return module.apply(draw)


class Experts(nn.Module):
    """What is hard for an optimizer in one network: a tie, a frozen weight, an expert that only some steps reach, one that none does."""

    def __init__(self, bias: bool = True, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        make = functools.partial(nn.Linear, 4, 4, bias=bias, dtype=dtype)
        self.first, self.frozen, self.sometimes, self.never, self.last = (
            make(),
            make().requires_grad_(False),
            make(),
            make(),
            make(),
        )
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.frozen(self.first(x)))
        if float(x.real[0, 0]) > 0:
            y = y + self.sometimes(y)
        return self.last(y)


class NoneBuffer(nn.Module):
    """A buffer that is empty until the first forward pass fills it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mean", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.mean is None:
            self.mean = x.detach().mean(0)
        return self.layer(x - self.mean)


class EmptiesBuffer(nn.Module):
    """A buffer that the forward pass takes away."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x) if self.mean is None else self.layer(x - self.mean)
        self.mean = None
        return y


class Switches(nn.Module):
    """Leaves its dropout in another mode after the first pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(4, 64), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.layer(x))
        self.drop.eval()
        return y


class ReturnsState(nn.Module):
    """Hands out its own tensors: weights, views of them, and buffers, in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Any:
        return {
            "y": x @ self.weight.T,
            "all": (self.weight, self.weight[0], self.weight.detach()),
            "mean": [self.mean],
        }


class LateClip(nn.Module):
    """Writes to its weight, but not on the first pass; draws before it does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(4, 16), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.layer(x))
        if x.sum() > 0:
            with torch.no_grad():
                self.layer.weight.clamp_(-0.2, 0.2)
        return y


class HeldBuffer(nn.Module):
    """A buffer that an attribute and a list hold too: written to under one name, read under another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(4))
        self.same, self.listed = self.seen, [self.seen]

    def forward(self, x: Tensor) -> Tensor:
        self.listed[0].add_(x.detach().mean(0))
        return self.layer(x) + self.same


class ExchangesHeldBuffer(HeldBuffer):
    """Exchanges it under one of its names, so that the other holds what no value carries."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        return self.layer(x) + self.same


class HoldsView(nn.Module):
    """An attribute that is a view of a weight: in place it follows the weight."""

    def __init__(self, view: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.held = view(self.layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + torch.utils._pytree.tree_leaves(self.held)[0].sum()


class PackedReader(nn.Module):
    """Sequences of several lengths in one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3, 1]), batch_first=True)
        return self.rnn(packed)


class CountingParametrization(nn.Module):
    """Computes a weight, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        self.n += 1
        return weight * (1 + 0.01 * self.n)


def counting_parametrization() -> nn.Module:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", CountingParametrization())
    return layer


class Delegating(nn.Module):
    """Looks attributes up in a part of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.bias


def module_hooks() -> nn.Module:
    """Hooks before a forward, before a backward and after it."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].register_forward_pre_hook(_halve_inputs)
    network[1].register_full_backward_pre_hook(lambda module, outer: (outer[0] * 0.5,))
    network[1].register_full_backward_hook(lambda module, inner, outer: tuple(g * 3 for g in inner))
    return network


def _halve_inputs(module: nn.Module, args: Any) -> Any:
    return (args[0] / 2,)
