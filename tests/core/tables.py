"""The two tables that drive the comparisons with stock PyTorch: a line a network, a line an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from tests.core import networks as nets

Maker = Callable[[Generator], Any]


def reals(*shape: int, dtype: torch.dtype = torch.float32) -> Maker:
    """Normal numbers, other ones at each step."""
    return lambda generator: torch.randn(*shape, generator=generator, dtype=dtype)


def integers(most: int, *shape: int) -> Maker:
    """Whole numbers below `most`."""
    return lambda generator: torch.randint(most, shape, generator=generator)


def images(*shape: int) -> Maker:
    """Normal numbers in channels-last memory."""
    return lambda generator: torch.randn(*shape, generator=generator).contiguous(memory_format=torch.channels_last)


def constant(value: Any) -> Maker:
    return lambda generator: value


@dataclass(frozen=True)
class Network:
    """One line of the table of networks."""

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[Maker, ...] = (reals(5, 4),)
    kwargs: dict[str, Maker] = field(default_factory=dict)
    buffers: bool = False  # the forward pass changes buffers (or weights): the loop has the two lines for it
    training: bool | dict[str, bool] = True

    def batch(self, step: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The input of one step, drawn beside the global generator."""
        generator = Generator().manual_seed(100 + step)
        return tuple(make(generator) for make in self.inputs), {key: make(generator) for key, make in self.kwargs.items()}

    def __str__(self) -> str:
        return self.name


def sequential(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Build the layers anew at each call."""
    return lambda: nn.Sequential(*(layer() for layer in layers))


def layer(kind: type[nn.Module], *args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    return partial(kind, *args, **kwargs)


def frozen_at_start(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: build().requires_grad_(False)


R5 = (reals(5, 4),)
L = layer

NETWORKS = [
    # --- dense
    Network("linear", L(nn.Linear, 4, 2)),
    Network("the essay's network", sequential(L(nn.Linear, 128, 64), L(nn.ReLU), L(nn.Linear, 64, 10), L(nn.LogSoftmax, dim=1)), (reals(32, 128),)),
    Network("no bias", sequential(L(nn.Linear, 4, 3, bias=False), L(nn.GELU), L(nn.Linear, 3, 2))),
    Network("bilinear", L(nn.Bilinear, 4, 3, 2), (reals(5, 4), reals(5, 3))),
    Network("PReLU", sequential(L(nn.Linear, 4, 4), L(nn.PReLU, 4), L(nn.Linear, 4, 2))),
    Network("a function among layers", sequential(L(nn.Linear, 4, 4), nets.Square, L(nn.Linear, 4, 2))),
    Network("initialised by apply", lambda: nets.initialised(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)))),
    Network("float64", L(nn.Linear, 4, 2, dtype=torch.float64), (reals(5, 4, dtype=torch.float64),)),
    Network("bfloat16", L(nn.Linear, 4, 2, dtype=torch.bfloat16), (reals(5, 4, dtype=torch.bfloat16),)),
    Network("kinds mixed", nets.MixedKinds),
    Network("complex", nets.Complex),
    Network("a batch of one", L(nn.Linear, 4, 2), (reals(1, 4),)),
    Network("a batch of none", sequential(L(nn.Linear, 4, 4), L(nn.ReLU), L(nn.Linear, 4, 2)), (reals(0, 4),)),
    # --- convolutions
    Network("conv1d", sequential(L(nn.Conv1d, 2, 3, 3), L(nn.ReLU), L(nn.Conv1d, 3, 2, 3)), (reals(4, 2, 9),)),
    Network("conv2d", sequential(L(nn.Conv2d, 1, 4, 3), L(nn.MaxPool2d, 2), L(nn.Flatten), L(nn.Linear, 36, 3)), (reals(4, 1, 8, 8),)),
    Network("conv2d grouped", L(nn.Conv2d, 4, 4, 3, groups=2, padding=1, padding_mode="circular"), (reals(2, 4, 6, 6),)),
    Network("conv3d", L(nn.Conv3d, 1, 2, 2), (reals(2, 1, 4, 4, 4),)),
    Network("conv transposed", L(nn.ConvTranspose2d, 2, 3, 3, stride=2), (reals(2, 2, 4, 4),)),
    Network("channels last", nets.channels_last, (images(2, 3, 8, 8),)),
    Network("channels last, other input", nets.channels_last, (reals(2, 3, 8, 8),)),
    # --- norms
    Network("batchnorm1d", sequential(L(nn.Linear, 4, 4), L(nn.BatchNorm1d, 4), L(nn.Linear, 4, 2)), R5, buffers=True),
    Network("batchnorm2d", sequential(L(nn.Conv2d, 1, 3, 3), L(nn.BatchNorm2d, 3), L(nn.ReLU)), (reals(4, 1, 6, 6),), buffers=True),
    Network("batchnorm, cumulative", sequential(L(nn.Linear, 4, 4), L(nn.BatchNorm1d, 4, momentum=None)), R5, buffers=True),
    Network("batchnorm without statistics", sequential(L(nn.Linear, 4, 4), L(nn.BatchNorm1d, 4, track_running_stats=False))),
    Network("batchnorm, evaluated", sequential(L(nn.Linear, 4, 4), L(nn.BatchNorm1d, 4)), R5, training=False),
    Network("batchnorm, one frozen", sequential(L(nn.BatchNorm1d, 4), L(nn.Linear, 4, 4), L(nn.BatchNorm1d, 4)), R5, buffers=True, training={"0": False}),
    Network("batchnorm frozen by its network", nets.FrozenNorm, R5, buffers=True),
    Network("batchnorm twice in a forward", nets.Siamese, (reals(5, 4), reals(5, 4)), buffers=True),
    Network("instance norm with statistics", L(nn.InstanceNorm1d, 4, affine=True, track_running_stats=True), (reals(2, 4, 6),), buffers=True),
    Network("layer and group norm", sequential(L(nn.LayerNorm, 4), L(nn.Linear, 4, 4), L(nn.GroupNorm, 2, 4), L(nn.RMSNorm, 4))),
    Network("buffers replaced, counted, unsaved", nets.Counting, R5, buffers=True),
    # --- chance
    Network("dropout", sequential(L(nn.Linear, 4, 16), L(nn.Dropout, 0.5), L(nn.Linear, 16, 2))),
    Network("dropout and batchnorm", sequential(L(nn.Linear, 4, 8), L(nn.BatchNorm1d, 8), L(nn.Dropout, 0.5), L(nn.Linear, 8, 2)), R5, buffers=True),
    Network("dropout2d", sequential(L(nn.Conv2d, 1, 4, 3), L(nn.Dropout2d, 0.5), L(nn.Conv2d, 4, 2, 3)), (reals(2, 1, 6, 6),)),
    Network("alpha dropout, random relu", sequential(L(nn.Linear, 4, 8), L(nn.AlphaDropout, 0.3), L(nn.RReLU), L(nn.Linear, 8, 2))),
    Network("dropout, kept in an attribute", nets.DropoutCache),
    # --- recurrence
    Network("rnn", L(nn.RNN, 3, 4, batch_first=True), (reals(2, 5, 3),)),
    Network("rnn, relu, two ways", L(nn.RNN, 3, 4, nonlinearity="relu", bidirectional=True), (reals(5, 2, 3),)),
    Network("lstm", L(nn.LSTM, 3, 4, num_layers=2), (reals(5, 2, 3),)),
    Network("lstm, projected", L(nn.LSTM, 3, 4, proj_size=2, bidirectional=True), (reals(5, 2, 3),)),
    Network("lstm, hidden state given", nets.Recurrent, (reals(2, 5, 3), lambda g: (torch.randn(2, 2, 5, generator=g), torch.randn(2, 2, 5, generator=g)))),
    Network("gru", L(nn.GRU, 3, 4, num_layers=2, dropout=0.3), (reals(5, 2, 3),)),
    Network("cells", sequential(L(nn.GRUCell, 4, 4), L(nn.RNNCell, 4, 3))),
    Network("lstm cell", L(nn.LSTMCell, 4, 3)),
    # --- attention
    Network("multihead attention", L(nn.MultiheadAttention, 8, 2, batch_first=True), (reals(2, 3, 8),) * 3),
    Network("multihead attention, keywords", L(nn.MultiheadAttention, 8, 2, kdim=4, vdim=4, dropout=0.1), (reals(3, 2, 8), reals(3, 2, 4), reals(3, 2, 4)), {"need_weights": constant(False)}),
    Network("transformer encoder", lambda: nn.TransformerEncoder(nets.encoder_layer(), 2, enable_nested_tensor=False), (reals(2, 3, 8),)),
    Network("transformer", L(nn.Transformer, 8, 2, 1, 1, 16, batch_first=True), (reals(2, 3, 8), reals(2, 4, 8))),
    # --- embeddings
    Network("embedding", sequential(L(nn.Embedding, 9, 4), L(nn.Linear, 4, 2)), (integers(9, 5, 3),)),
    Network("embedding, padded, by frequency", L(nn.Embedding, 9, 4, padding_idx=0, scale_grad_by_freq=True), (integers(9, 5, 3),)),
    Network("embedding, greatest norm", sequential(L(nn.Embedding, 9, 4, max_norm=1.0), L(nn.Linear, 4, 2)), (integers(9, 5, 3),), buffers=True),
    Network("embedding bag", L(nn.EmbeddingBag, 9, 4, mode="mean"), (integers(9, 5, 3),)),
    # --- weights in unusual places
    Network("bare parameters", nets.Bare),
    Network("no dimensions, no elements", nets.Scalar),
    Network("lists and dicts of parameters", nets.Listed),
    Network("weights held in lists too", nets.HeldTwice),
    Network("tied weights", nets.Tied, (integers(7, 5, 3),)),
    Network("tied layers", nets.TiedModule),
    Network("a weight that is not used", nets.Unused),
    Network("a weight that is sometimes used", nets.SometimesUsed),
    Network("frozen weights", nets.Frozen),
    Network("transposed weight", nets.Shaped),
    Network("a weight as output", nets.ReturnsWeight, ()),
    # --- weights that are computed
    Network("weight norm", nets.new_weight_norm),
    Network("weight norm, old", nets.old_weight_norm),
    Network("spectral norm", nets.new_spectral_norm, R5, buffers=True),
    Network("spectral norm, old", nets.old_spectral_norm, (reals(2, 4, 6),), buffers=True),
    Network("orthogonal", nets.orthogonal),
    Network("symmetric", nets.symmetric),
    Network("pruned", nets.pruned),
    # --- shapes of forward
    Network("two inputs, keywords", nets.TwoInputs, (reals(5, 4), reals(5, 2)), {"scale": constant(0.5), "shift": reals(3)}),
    Network("outputs in dicts and tuples", nets.ManyOutputs),
    Network("a gradient inside", nets.GradientPenalty),
    Network("checkpointed", nets.Checkpointed),
    Network("weights clipped in forward, on some passes", nets.LateClip, R5, buffers=True),
    Network("hooks", nets.hooked),
    Network("an attribute kept", nets.Caching),
    # --- what a second look found
    Network("a buffer held twice", nets.HeldBuffer, R5, buffers=True),
    Network("buffers that are tied", nets.TiedBuffers, R5, buffers=True),
    Network("a parametrization that counts", nets.counting_parametrization, R5, buffers=True),
    Network("packed sequences", nets.PackedReader, (reals(3, 5, 3),)),
    Network("embedding bag, greatest norm", L(nn.EmbeddingBag, 9, 4, max_norm=0.5), (integers(9, 5, 3),), buffers=True),
    Network("attributes looked up elsewhere", nets.Delegating),
    Network("functional_call inside", nets.CallsFunctionally),
    Network("hooks of modules", nets.module_hooks),
    Network("sync batchnorm, evaluated", sequential(L(nn.Linear, 4, 4), L(nn.SyncBatchNorm, 4)), training=False),
    Network("data parallel", lambda: nn.DataParallel(nn.Linear(4, 2))),
    Network("attention, evaluated", lambda: nn.TransformerEncoder(nets.encoder_layer(), 2), (reals(2, 3, 8),), training=False),
    Network("a table computed once", nets.RotaryCache),
]


def loss_of(output: Any) -> Tensor:
    """A loss that every number of an output takes part in, each with another weight."""
    total = torch.zeros((), dtype=torch.float64)
    for leaf in torch.utils._pytree.tree_leaves(output):
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            flat = (torch.view_as_real(leaf) if leaf.is_complex() else leaf).reshape(-1).double()
            total = total + (flat * torch.linspace(0.5, 1.5, len(flat), dtype=torch.float64) - 0.3).square().sum() / max(1, len(flat))
    return total


# --- optimizers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimizer:
    """One line of the table of optimizers."""

    kind: type[torch.optim.Optimizer]
    arguments: dict[str, Any]
    network: Network

    def __str__(self) -> str:
        said = " ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.kind.__name__} {said}" + ("" if self.network is EXPERTS else f" [{self.network.name}]")


EXPERTS = Network("experts", nets.Experts)
MATRICES = Network("matrices", partial(nets.Experts, bias=False))
WIDE = Network("float64", partial(nets.Experts, dtype=torch.float64), (reals(5, 4, dtype=torch.float64),))
HALF = Network("float16", partial(nets.Experts, dtype=torch.float16), (reals(5, 4, dtype=torch.float16),))
BRAIN = Network("bfloat16", partial(nets.Experts, dtype=torch.bfloat16), (reals(5, 4, dtype=torch.bfloat16),))
KINDS = Network("kinds mixed", nets.MixedKinds)
SPARSE = Network("sparse gradients", lambda: nn.Embedding(9, 4, sparse=True), (integers(9, 5, 3),))
SPARSE_PART = Network("some gradients sparse", lambda: nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 2)), (integers(9, 5, 3),))
COMPLEX = Network("complex", nets.Complex)
CONVOLUTIONS = Network("convolutions", sequential(L(nn.Conv2d, 1, 4, 3), L(nn.BatchNorm2d, 4), L(nn.Flatten), L(nn.Linear, 64, 8)), (reals(4, 1, 6, 6),), buffers=True)

_O = torch.optim
_BASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (_O.SGD, {"lr": 0.1}),
    (_O.SGD, {"lr": 0.1, "momentum": 0.9}),
    (_O.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (_O.SGD, {"lr": 0.1, "momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1}),
    (_O.SGD, {"lr": 0.001, "maximize": True, "weight_decay": 0.01}),
    (_O.SGD, {"lr": 0.001, "maximize": True, "momentum": 0.9}),
    (_O.Adam, {"lr": 0.01}),
    (_O.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    (_O.Adam, {"lr": 0.01, "amsgrad": True, "betas": (0.8, 0.9)}),
    (_O.Adam, {"lr": 0.01, "maximize": True, "amsgrad": True, "weight_decay": 0.1}),
    (_O.Adam, {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.1, "eps": 1e-3}),
    (_O.Adam, {"lr": 0.01, "betas": (0.0, 0.9)}),
    (_O.AdamW, {"lr": 0.01}),
    (_O.AdamW, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.2}),
    (_O.AdamW, {"lr": 0.01, "maximize": True}),
    (_O.AdamW, {"lr": 0.01, "weight_decay": 0.0}),
    (_O.Adafactor, {"lr": 0.01, "weight_decay": 0.1}),
    (_O.Adadelta, {"lr": 1.0, "weight_decay": 0.1}),
    (_O.Adagrad, {"lr": 0.01, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    (_O.Adamax, {"lr": 0.01, "weight_decay": 0.1}),
    (_O.ASGD, {"lr": 0.01, "t0": 5, "weight_decay": 0.1}),
    (_O.NAdam, {"lr": 0.01, "weight_decay": 0.1}),
    (_O.NAdam, {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (_O.RAdam, {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (_O.RMSprop, {"lr": 0.01}),
    (_O.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1, "maximize": True}),
    (_O.Rprop, {"lr": 0.01, "etas": (0.4, 1.3)}),
]


def _optimizers() -> list[Optimizer]:
    """Each base with each implementation that it has, and some of them on other kinds of numbers."""
    import inspect

    rows = [Optimizer(_O.Muon, {"lr": 0.01}, MATRICES), Optimizer(_O.Muon, {"lr": 0.01, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, MATRICES)]
    for kind, arguments in _BASES:
        rows.append(Optimizer(kind, arguments, EXPERTS))
        flags = inspect.signature(kind.__init__).parameters
        rows += [Optimizer(kind, {**arguments, "foreach": value}, EXPERTS) for value in (True, False) if "foreach" in flags]
        rows += [Optimizer(kind, {**arguments, "fused": True}, EXPERTS) for _ in (0,) if "fused" in flags]
    for kind in (_O.SGD, _O.Adam, _O.AdamW, _O.RMSprop, _O.Adagrad):
        rows += [Optimizer(kind, {"lr": 0.01}, network) for network in (WIDE, COMPLEX, CONVOLUTIONS)]
    rows.append(Optimizer(_O.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}, COMPLEX))
    rows.append(Optimizer(_O.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}, COMPLEX))
    for kind, arguments in _BASES:
        if kind in (_O.SGD, _O.Adam, _O.AdamW):
            few = {"lr": 0.01, **{key: value for key, value in arguments.items() if key != "lr"}}
            rows += [Optimizer(kind, {**few, "foreach": value}, network) for network in (HALF, BRAIN, KINDS) for value in (None, True)]
            half = () if "momentum" in few else (HALF, BRAIN, KINDS)  # a kernel that is refused: see test_errors.py
            rows += [Optimizer(kind, {**few, "fused": True}, network) for network in (*half, CONVOLUTIONS)]
    rows += [Optimizer(_O.SGD, {"lr": 0.1, **more}, network) for network in (SPARSE, SPARSE_PART) for more in ({}, {"momentum": 0.9}, {"maximize": True})]
    rows += [Optimizer(_O.SparseAdam, {"lr": 0.01}, SPARSE), Optimizer(_O.SparseAdam, {"lr": 0.01, "maximize": True}, SPARSE)]
    for kind in (_O.SGD, _O.Adam, _O.AdamW):
        rows += [Optimizer(kind, {"lr": torch.tensor(0.01), **more}, network) for network in (EXPERTS, WIDE) for more in ({}, {"fused": True})]
    rows.append(Optimizer(_O.SGD, {"lr": 0.1, "weight_decay": torch.tensor(0.1)}, EXPERTS))
    for kind in (_O.Adadelta, _O.Adamax, _O.ASGD, _O.NAdam, _O.RAdam, _O.Rprop):
        rows.append(Optimizer(kind, {"lr": 0.01, "capturable": False}, COMPLEX))
    return rows


OPTIMIZERS = _optimizers()
