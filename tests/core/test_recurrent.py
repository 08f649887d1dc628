"""RNNs hold a second list of their own weights: what that must not cost."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

import fnlib
from fnlib.network import forward as run


class Reader(nn.Module):
    """Reads a sequence, and keeps a list of some of its weights beside."""

    def __init__(self, kind: type[nn.RNNBase], weight_norm: bool = False) -> None:
        super().__init__()
        self.rnn = kind(3, 5, batch_first=True)
        if weight_norm:
            nn.utils.parametrizations.weight_norm(self.rnn, "weight_hh_l0")
        self.out = nn.Linear(5, 2)
        self.penalized = [self.out.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1]) + self.penalized[0].sum()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("weight_norm", [False, True])
def test_a_forward_pass_runs_once(
    kind: type[nn.RNNBase], weight_norm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of weights is filled by us: that it holds other tensors is no change that the pass made."""
    monkeypatch.setattr(run, "judge", lambda *args: pytest.fail(f"ran again because of {args[-1]}"))
    model = fnlib.Factory(lambda: Reader(kind, weight_norm))(fnlib.Parameters(seed=0))
    for _ in range(3):
        model = model.factory(model.step(model.backward(model(torch.ones(2, 4, 3)).sum())))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_no_old_weights_are_kept_alive(kind: type[nn.RNNBase]) -> None:
    ModelFactory = fnlib.Sequential(kind(7, 11))
    model = ModelFactory(fnlib.Parameters(seed=0))
    held = [weakref.ref(weight) for weight in model._leaves.all]
    loss = model(torch.ones(2, 4, 7))[0].sum()
    model.backward(loss)
    del model, loss
    gc.collect()
    assert held and not any(weight() is not None for weight in held)


def test_a_list_of_weights_that_a_pass_changes_is_noticed() -> None:
    class Forgetful(Reader):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x)
            self.penalized[0] = torch.zeros(1)
            return output

    model = fnlib.Factory(lambda: Forgetful(nn.LSTM))(fnlib.Parameters(seed=0))
    with pytest.raises(fnlib.HiddenState, match="penalized"):
        model(torch.ones(2, 4, 3))
