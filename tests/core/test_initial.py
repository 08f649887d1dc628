"""Initial weights of an instance: redrawn to the bits of a network built anew, or refused (design: build)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.network.source import REDRAWABLE
from tests.core import networks as nets

# One or more ways to build each layer that REDRAWABLE names.
LAYERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(5, 3),
    lambda: nn.Linear(5, 3, bias=False, dtype=torch.float64),
    lambda: nn.Bilinear(3, 4, 5),
    lambda: nn.Bilinear(3, 4, 5, bias=False),
    lambda: nn.Embedding(7, 3),
    lambda: nn.Embedding(7, 3, padding_idx=2, max_norm=1.0),
    lambda: nn.EmbeddingBag(7, 3, mode="sum"),
    lambda: nn.EmbeddingBag(7, 3, padding_idx=1),
    lambda: nn.Conv1d(4, 6, 3, groups=2),
    lambda: nn.Conv2d(2, 3, (3, 1), bias=False),
    lambda: nn.Conv2d(2, 4, 3, padding="same", padding_mode="reflect"),
    lambda: nn.Conv3d(1, 2, 2),
    lambda: nn.ConvTranspose1d(2, 3, 3),
    lambda: nn.ConvTranspose2d(2, 4, 3, groups=2, output_padding=1, stride=2),
    lambda: nn.ConvTranspose3d(1, 2, 2, bias=False),
    lambda: nn.RNN(3, 4, num_layers=2, nonlinearity="relu"),
    lambda: nn.RNN(3, 4, bidirectional=True, bias=False),
    lambda: nn.LSTM(3, 4, num_layers=2, proj_size=2),
    lambda: nn.LSTM(3, 4, bidirectional=True),
    lambda: nn.GRU(3, 4, bias=False),
    lambda: nn.RNNCell(3, 4),
    lambda: nn.LSTMCell(3, 4, bias=False),
    lambda: nn.GRUCell(3, 4),
    lambda: nn.BatchNorm1d(3),
    lambda: nn.BatchNorm2d(3, affine=False),
    lambda: nn.BatchNorm2d(3, track_running_stats=False),
    lambda: nn.BatchNorm3d(3),
    lambda: nn.InstanceNorm1d(3),
    lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
    lambda: nn.InstanceNorm3d(3, affine=True),
    lambda: nn.LayerNorm(3),
    lambda: nn.LayerNorm((2, 3), elementwise_affine=False),
    lambda: nn.LayerNorm(3, bias=False),
    lambda: nn.GroupNorm(2, 4),
    lambda: nn.RMSNorm(3),
    lambda: nn.PReLU(3, init=0.1),
]


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def spoiled(module: nn.Module) -> nn.Module:
    """As after training: nothing of the first weights is left to copy."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.fill_(7)
    return module


def name(build: Callable[[], nn.Module]) -> str:
    return repr(build())


@pytest.mark.parametrize("build", LAYERS, ids=name)
def test_a_layer_redraws_to_the_bits_of_a_new_one(build: Callable[[], nn.Module]) -> None:
    instance = spoiled(build())
    for seed in (0, 5):
        expected = seeded(build, seed)
        parameters = fnlib.Factory(instance)(fnlib.Parameters(seed=seed)).parameters
        assert parameters == fnlib.Parameters.from_module(expected)
        for key, weight in expected.named_parameters():
            assert parameters[key].stride() == weight.stride()
    assert all(tensor.eq(7).all() for tensor in instance.parameters())


def test_every_redrawable_layer_is_in_the_table() -> None:
    assert {type(build()) for build in LAYERS} == REDRAWABLE


def test_a_network_redraws_in_the_order_of_its_building() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            OrderedDict(
                body=nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()),
                many=nn.ModuleList([nn.Linear(2, 2), nn.LSTM(2, 3)]),
                head=nn.Linear(3, 1),
            )
        )

    parameters = fnlib.Factory(spoiled(build()))(fnlib.Parameters(seed=1)).parameters
    assert parameters == fnlib.Parameters.from_module(seeded(build, 1))
    torch.manual_seed(2)
    unseeded = fnlib.Factory(build())
    torch.manual_seed(3)
    drawn = unseeded(fnlib.Parameters()).parameters
    after = torch.get_rng_state()
    assert drawn == fnlib.Parameters.from_module(seeded(build, 3))
    torch.manual_seed(3)
    build()
    assert torch.equal(torch.get_rng_state(), after), "another number of draws than building"


class Own(nn.Linear):
    """A subclass may draw in another way."""


def shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def shared_weight() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (
        lambda: nn.MultiheadAttention(4, 2),
        "This MultiheadAttention is not a layer that fnlib can redraw exactly",
    ),
    (
        lambda: nn.Sequential(nets.encoder_layer()),
        "'0.self_attn' (MultiheadAttention) is not a layer that fnlib can redraw exactly",
    ),
    (
        lambda: nn.Transformer(8, 2, 1, 1, 8, batch_first=True),
        "'encoder.layers.0.self_attn' (MultiheadAttention) is not",
    ),
    (nets.Bare, "This Bare is not a layer that fnlib can redraw exactly"),
    (nets.Unused, "This Unused is not a container or layer of torch.nn"),
    (nets.Tied, "This Tied is not a container or layer of torch.nn"),
    (lambda: nn.Sequential(Own(4, 4)), "'0' (Own) is not a layer that fnlib can redraw exactly"),
    (shared, "'2' (Linear) shares weights with another layer"),
    (shared_weight, "'1' (Linear) shares weights with another layer"),
    (nets.new_weight_norm, "'0' (ParametrizedLinear)"),
    (nets.hooked, "'0' (Linear) has hooks that may change its weights"),
    (
        lambda: nn.Embedding.from_pretrained(torch.zeros(3, 2)),
        "This Embedding is frozen, like an embedding made from given weights",
    ),
    (
        lambda: nn.ParameterList([torch.zeros(2)]),
        "This ParameterList is not a layer that fnlib can redraw exactly",
    ),
]


@pytest.mark.parametrize(("build", "text"), REFUSED, ids=[text[:40] for _, text in REFUSED])
def test_anything_else_is_refused(build: Callable[[], nn.Module], text: str) -> None:
    ModelFactory = fnlib.Factory(build())
    with pytest.raises(fnlib.CannotRedraw) as caught:
        ModelFactory(fnlib.Parameters(seed=0))
    message = str(caught.value)
    assert message.startswith(text)
    assert (
        "ModelFactory = fnlib.Factory(network)                 # wrong with empty parameters"
        in message
    )
    assert "ModelFactory = fnlib.Factory(lambda: Network(...))    # right" in message
    assert "fnlib.Parameters.from_module(network)" in message
    network = build()  # the ways that the message names work
    assert len(fnlib.Factory(build())(fnlib.Parameters.from_module(network)).parameters) == len(
        list(network.parameters())
    )
    assert len(fnlib.Factory(build)(fnlib.Parameters(seed=0)).parameters) == len(
        list(network.parameters())
    )


def test_an_instance_that_cannot_be_copied_is_refused_at_once() -> None:
    with pytest.raises(fnlib.UnsupportedModule, match="can't be copied .*weight_norm"):
        fnlib.Factory(nets.old_weight_norm())


def test_a_frozen_layer_of_an_instance_stays_frozen() -> None:
    network: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[0].requires_grad_(False)
    model = fnlib.Factory(network)(fnlib.Parameters(seed=0))
    gradient = model.backward(model(torch.ones(1, 4)).sum())
    assert list(gradient) == ["1.weight", "1.bias"]


def test_an_instance_that_was_edited_redraws_as_it_now_is() -> None:
    """What was done to a layer's weights after building (another init, say) is not redone: that is why from_module is there."""
    network = nn.Sequential(nn.Linear(4, 4))
    nn.init.zeros_(network[0].weight)
    parameters = fnlib.Factory(network)(fnlib.Parameters(seed=0)).parameters
    assert not parameters["0.weight"].eq(0).any()
