"""Lesson 11, tried: what its Investigate asks for, and the claims that its text makes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import fnlib
from fnlib import teaching
from tests.lessons.tried import Tried, cell

TRAINED = ("predict", "stock", "functional", "votes")
PULLED = (*TRAINED, "pull")


def fenced(number: int) -> str:
    """The code that a question of Investigate shows."""
    return cell("11", "investigate").split("```python\n")[number].split("```")[0]


def last_line_printed(code: str) -> str:
    *lines, last = code.strip().splitlines()
    return "\n".join([*lines, f"found = {last}"])


def test_11_the_loss_finds_the_flawed_label_too() -> None:
    tried = Tried("11", PULLED, {}, last_line_printed(fenced(1)))
    assert tried.error is None
    names = tried.names
    assert names["flawed"] in names["found"].tolist()
    flawed = names["flawed"]
    assert flawed in names["hardest"].tolist()
    assert names["digits"].train.label[flawed] == 1 and names["labels"][flawed] == 4


def test_11_one_mask_for_all_gives_one_loss() -> None:
    for randomness, count in (("same", 1), ("different", 32)):
        code = fenced(2).replace('"same"', f'"{randomness}"')
        tried = Tried("11", ("predict", "stock"), {}, last_line_printed(code))
        assert tried.error is None
        assert len(tried.names["found"].unique()) == count


def test_11_rates_in_the_middle_learn_best() -> None:
    tried = Tried("11", TRAINED, {}, last_line_printed(fenced(3)))
    assert tried.error is None
    names = tried.names
    good = (names["losses"] < 0.5).nonzero().flatten().tolist()
    assert good == list(range(good[0], good[-1] + 1)), "no gap"
    assert 5 < good[0] and good[-1] < 29


def test_11_a_large_rate_leaves_the_sharp_region() -> None:
    """At a rate of 0.51 the curvature passes 2 / rate, and the run ends where it's flatter."""
    more = """
rate = float(torch.logspace(-3, 1, 32)[21])
Fast = fnlib.Sequential(*layers(), optimizer=fnlib.SGD(lr=rate))
fast, at, sharp = fnlib.train_step(Fast, criterion), starts[0], []
for i, (feature, label) in enumerate(batches):
    if i % 25 == 0:
        sharp.append(float(curvature(dict(at))))
    at, loss = fast(at, feature, label)
"""
    tried = Tried("11", (*PULLED, "valley"), {}, more)
    assert tried.error is None
    names = tried.names
    limit = 2 / names["rate"]
    assert 0.5 < names["rate"] < 0.52 and names["loss"] < 0.5
    assert max(names["sharp"]) > limit > names["sharp"][-1]


def test_11_each_network_is_its_stock_twin() -> None:
    tried = Tried("11", TRAINED, {})
    assert tried.error is None
    assert "32 networks, weights within 0.0001 of stock: True" in tried.said
    assert "32 copies: all agree on 1000 of 1000 images" in tried.said
    assert tried.names["far"] and len(tried.names["starts"]) == 32


def test_11_where_all_agree_they_are_right() -> None:
    """Over five ensembles: other seeds, other orders of the batches."""
    digits, criterion = teaching.twins(), nn.NLLLoss()
    ModelFactory = fnlib.Sequential(
        nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1),
        optimizer=fnlib.SGD(lr=0.1),
    )  # fmt: skip
    step = vmap(fnlib.train_step(ModelFactory, criterion), in_dims=(0, None, None))
    for trial in range(5):
        seeds = range(32 * trial, 32 * trial + 32)
        stacked = fnlib.stack([ModelFactory(fnlib.Parameters(seed=s)).parameters for s in seeds])
        for feature, label in digits.train.batches(32, seed=trial):
            stacked, _ = step(stacked, feature, label)
        named = vmap(lambda p: ModelFactory(p)(digits.test.feature))(stacked).argmax(dim=2)
        majority = named.mode(dim=0).values
        right, agree = majority == digits.test.label, (named == named[0]).all(dim=0)
        assert 30 < (~agree).sum() < 300
        assert right[agree].float().mean() > 0.95 and right[~agree].float().mean() < 0.85


@pytest.mark.parametrize("seed", range(5))
def test_11_flawed_labels_pull_hard(seed: int) -> None:
    """Not all of them after one epoch: see the next test."""
    old = "torch.Generator().manual_seed(13)"
    new = f"torch.Generator().manual_seed({seed})"
    tried = Tried("11", ("predict", "stock", "functional", "pull"), {"predict": [(old, new)]})
    assert tried.error is None
    assert tried.names["flawed"] in tried.names["hardest"].tolist()


def test_11_an_eight_called_one_hides() -> None:
    """The guide says so."""
    old, new = "torch.Generator().manual_seed(13)", "torch.Generator().manual_seed(18)"
    tried = Tried("11", ("predict", "stock", "functional", "pull"), {"predict": [(old, new)]})
    assert tried.error is None
    names = tried.names
    flawed = names["flawed"]
    assert names["digits"].train.label[flawed] == 8 and names["labels"][flawed] == 1
    assert flawed not in names["hardest"].tolist()


def test_11_what_a_mapped_step_cannot_do() -> None:
    """No .item(), no branch on a value; a print shows all at once."""
    for function in (lambda x: x.item(), lambda x: x if x > 0 else -x):
        with pytest.raises(RuntimeError, match="vmap"):
            vmap(function)(torch.ones(3))
        shared = vmap(lambda x, y, f=function: x * f(y), in_dims=(0, None))
        assert shared(torch.ones(3), torch.ones(())).sum() == 3
    with pytest.raises(fnlib.DifferentiateOutside):
        model = fnlib.Factory(lambda: nn.Linear(2, 1))(fnlib.Parameters(seed=0))
        vmap(lambda x: model.backward(model(x).sum())["weight"])(torch.ones(3, 2))
    said: list[str] = []
    vmap(lambda x: (said.append(repr(x)), x)[1])(torch.arange(3.0))
    assert "0., 1., 2." in said[0]


def test_11_a_batch_gradient_is_the_mean() -> None:
    more = """
weights = dict(parameters)
feature, label = batches[0]
each = vmap(grad(loss_of), (None, 0, 0))(weights, feature[:, None], label[:, None])
whole = grad(loss_of)(weights, feature, label)
means = {name: part.mean(dim=0) for name, part in each.items()}
"""
    tried = Tried("11", PULLED, {}, more)
    assert tried.error is None
    means, whole = tried.names["means"], tried.names["whole"]
    assert all(torch.allclose(means[name], whole[name], atol=1e-5) for name in whole)


def test_11_only_split_values_cannot_be_written() -> None:
    """A write of something shared into something shared runs once a chunk, or is an error in grad."""
    for chunk_size, wanted in ((None, 1), (2, 2)):
        calls = torch.zeros(())
        vmap(lambda x, n=calls: (n.add_(1), x)[1], chunk_size=chunk_size)(torch.ones(4))
        assert calls == wanted
    with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
        vmap(grad(lambda x: (calls.add_(1), x.square())[1]))(torch.ones(4))
    for write in (torch.Tensor.add_, torch.Tensor.mul_, torch.Tensor.copy_):
        total = torch.full((3,), 5.0)
        with pytest.raises(RuntimeError):
            vmap(lambda x, write=write, total=total: (write(total, x), x)[1])(torch.ones(4, 3))
        assert torch.equal(total, torch.full((3,), 5.0))
    norm = nn.BatchNorm1d(8)
    with pytest.raises(RuntimeError, match="were not batched"):
        vmap(norm)(torch.randn(4, 5, 8))
    assert norm.num_batches_tracked == 1 and not norm.running_mean.any()
    before = torch.get_rng_state()
    vmap(nn.Dropout(0.5), randomness="same")(torch.ones(4, 5))
    assert not torch.equal(before, torch.get_rng_state())


def test_11_batchnorm_and_dropout_break_it_here_too() -> None:
    """In fnlib as in torch.func; GroupNorm and evaluation mode go through."""
    ok = "fnlib, 32 networks: old tensor([0]) new tensor([1])"
    tried = Tried("11", ("predict", "stock", "breaks"), {})
    assert tried.error is None and ok in tried.said
    quarters = torch.randn(4, 8, 128)
    for layer, said in ((nn.BatchNorm1d(128), "were not batched"), (nn.Dropout(0.5), "randomness")):
        model = fnlib.Sequential(layer)(fnlib.Parameters(seed=0))
        with pytest.raises(RuntimeError, match=said):
            vmap(model.with_buffers)(quarters)  # type: ignore[arg-type]
        assert vmap(model.eval())(quarters).shape == (4, 8, 128)
    grouped = fnlib.Sequential(nn.GroupNorm(4, 128))(fnlib.Parameters(seed=0))
    assert vmap(grouped)(quarters).shape == (4, 8, 128)
    mixed = fnlib.Sequential(nn.BatchNorm1d(128))(fnlib.Parameters(seed=0))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        mixed.with_buffers(quarters[0, :1])
    wrapped = fnlib.Factory(nn.Linear(128, 1), optimizer=fnlib.wrap(torch.optim.RMSprop, lr=0.1))
    stacked = fnlib.stack([wrapped(fnlib.Parameters(seed=0)).parameters])
    with pytest.raises(fnlib.CannotTransform):
        vmap(fnlib.train_step(wrapped, nn.MSELoss()), (0, None, None))(
            stacked, quarters[0], quarters[0, :, :1]
        )


def test_11_the_curvature_grows_then_sinks() -> None:
    """And it is the Hessian's largest eigenvalue: on a bowl with curvatures 1 and 6, it's 6."""
    tried = Tried("11", (*PULLED, "valley"), {}, "sharp = vmap(curvature)(states)")
    assert tried.error is None
    sharp = tried.names["sharp"]
    top = int(sharp.argmax())
    assert 0 < top < len(sharp) - 1
    assert sharp[top] > 3 * sharp[0] and sharp[-1] < sharp[top]
    curvature = tried.names["curvature"]
    weight = {"w": torch.tensor([1.0, 2.0])}
    scope = {"slope": grad(lambda w: (w["w"] ** 2 * torch.tensor([0.5, 3.0])).sum())}
    function = type(curvature)(curvature.__code__, {**tried.names, **scope})
    assert torch.allclose(function(weight), torch.tensor(6.0), atol=1e-3)


def test_11_arithmetic_adds_up_to_all_networks() -> None:
    tried = Tried("11", ("predict", "stock", "functional", "decide"), {})
    assert tried.error is None
    assert tried.said.count("32 times the arithmetic") == 3


def test_11_runs_again_from_any_cell() -> None:
    """Every cell once after all that come later, and then the lesson once more."""
    cells = (*PULLED, "breaks", "valley", "modify", "make")
    tried = Tried("11", (*cells, *reversed(cells[1:]), *cells[1:]), {})
    assert tried.error is None
    assert tried.said.count("weights within 0.0001 of stock: True") == 3
    assert tried.said.count("fnlib, 32 networks: old tensor([0]) new tensor([1])") == 3


def test_11_suspects_in_a_stock_network() -> None:
    """functional_call runs a network with weights that are passed, and leaves its own alone."""
    network = nn.Linear(2, 1)
    kept = network.weight.detach().clone()
    output = functional_call(
        network, {"weight": torch.zeros(1, 2), "bias": torch.ones(1)}, torch.ones(3, 2)
    )
    assert torch.equal(output, torch.ones(3, 1)) and torch.equal(network.weight, kept)
