"""Lesson 15: what its questions ask learners to change, and what it says of JAX, Optax and Flax.

JAX isn't part of the classroom's environment, so what needs it is skipped where it's missing. The
lesson itself has to run both ways.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from course import execute
from course.editions import SOLUTIONS
from fnlib import teaching
from tests.lessons.tried import Change, Tried, cell

PACKAGES = ("jax", "optax", "flax")
ABSENT = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
with_jax = pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")

IN_TORCH = ("predict", "stock", "torch-func", "fnlib", "torch-columns")
WHOLE = (*IN_TORCH[:4], "jax-step", "jax", "nnx-step", "nnx", "torch-columns", "jax-columns")
DROPPED: Change = {
    "torch-func": [
        ("velocity = {name: 0.9", "_ = {name: 0.9"),
        ("0.05 * velocity[name]", "0.05 * _[name]"),
    ]
}


def _without(absent: str) -> Callable[..., Any]:
    find = importlib.util.find_spec
    return lambda name, *more: None if name == absent else find(name, *more)


# --- the versions -----------------------------------------------------------------------------------


@with_jax
def test_15_five_versions_agree() -> None:
    """The cell says so, and the losses themselves: each within 0.0001 of stock."""
    tried = Tried("15", WHOLE, {})
    assert tried.error is None
    for name in ("JAX + Optax", "Flax NNX"):
        assert f"{name} within 0.0001 of stock in each step: True" in tried.said
    losses = tried.names["losses"]
    assert list(losses) == ["stock", "torch.func", "fnlib", "JAX + Optax", "Flax NNX"]
    assert all(len(version) == 125 for version in losses.values())


@pytest.mark.parametrize("absent", PACKAGES)
def test_15_runs_without_jax(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three packages may be missing; the cell names it, and the rest is as with it."""
    monkeypatch.setattr(importlib.util, "find_spec", _without(absent))
    tried = Tried("15", (*WHOLE, "modify", "decide", "make"), {})
    assert tried.error is None
    (line,) = (line for line in tried.said.splitlines() if "left out" in line)
    assert re.search(rf"isn't installed: .*\b{absent}\b", line)
    assert list(tried.names["losses"]) == ["stock", "torch.func", "fnlib"]
    assert "fnlib equals stock bit for bit in each step: True" in tried.said
    assert "15-chain: passed" in tried.said and "15-split: passed" in tried.said


@with_jax
@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_15_one_kernel_would_need_too_much() -> None:
    """Why the JAX versions have a process of their own: apart, the kernel stays far below the limit."""
    (path,) = SOLUTIONS.glob("15_*.ipynb")
    peaks = []
    together = "train({n: w.numpy() for n, w in start.items()}, features.numpy(), labels.numpy())"
    for call in ("teaching.in_subprocess(train, start, features, labels)", together):
        notebook = nbformat.read(path, as_version=4)
        last = next(i for i, each in enumerate(notebook.cells) if each.id == "jax-columns")
        notebook.cells = notebook.cells[: last + 1]
        source = notebook.cells[last].source
        notebook.cells[last].source = source.replace(
            "teaching.in_subprocess(train, start, features, labels)", call
        )
        peaks.append(execute.run(notebook, Path(path).parent).megabytes)
    apart, in_one = peaks
    assert apart < 550 and in_one > execute.MEGABYTES


# --- Investigate ------------------------------------------------------------------------------------


def test_15_a_dropped_velocity_is_plain_sgd() -> None:
    """No error; the losses of SGD without momentum, which fall more slowly."""
    more = """
def plain(start, features, labels):
    network = nn.Sequential(*layers())
    network.load_state_dict(start)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for feature, label in zip(features, labels):
        optimizer.zero_grad()
        loss = criterion(network(feature), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses

losses["plain"] = plain(start, features, labels)
apart = max(abs(a - b) for a, b in zip(losses["plain"], losses["torch.func"]))
"""
    tried = Tried("15", IN_TORCH, DROPPED, more)
    assert tried.error is None and tried.names["apart"] < 1e-4
    assert "torch.func within 0.0001 of stock in each step: False" in tried.said
    assert tried.names["losses"]["torch.func"][-1] > 0.2 > tried.names["losses"]["stock"][-1]


@with_jax
def test_15_a_print_runs_while_tracing() -> None:
    line = "loss, gradient = jax.value_and_grad(loss_of)(params, feature, label)"
    tried = Tried("15", WHOLE, {"jax-step": [(line, f'print("a step")\n        {line}')]})
    assert tried.error is None and tried.said.count("a step\n") == 1


@with_jax
def test_15_another_shape_is_traced_again() -> None:
    """The guide says so."""
    more = """
def two_shapes():
    import jax

    @jax.jit
    def f(x):
        print("traced")
        return x.sum()

    return [f(jax.numpy.ones(size)).item() for size in (3, 3, 4, 3)]

teaching.in_subprocess(two_shapes)
"""
    tried = Tried("15", (), {}, more)
    assert tried.error is None and tried.said.count("traced") == 2


@with_jax
def test_15_merge_shares_and_copy_copies() -> None:
    """The code of the third question as it stands, and the guide's with `copy=True`."""
    (code,) = re.findall(r"```python\n(.*?)```", cell("15", "investigate"), re.DOTALL)
    for change, wanted in (("tree)", [1.0, 1.0]), ("tree, copy=True)", [0.0, 1.0])):
        changed = code.replace("nnx.merge(structure, tree)", f"nnx.merge(structure, {change}")
        tried = Tried("15", (), {}, changed.replace("teaching.in", "both = teaching.in"))
        assert tried.error is None and tried.names["both"] == wanted


def test_15_runs_again_from_anycell() -> None:
    """Every cell once after all that come later, and then the lesson once more."""
    cells = (*WHOLE[:-1], "modify", "decide", "make")
    tried = Tried("15", (*cells, *reversed(cells[1:]), *cells[1:]), {})
    assert tried.error is None
    assert tried.said.count("fnlib equals stock bit for bit in each step: True") == 3
    assert tried.said.count("15-split: passed") == 3


# --- what the text says ------------------------------------------------------------------------------


def _arrays() -> Any:
    import jax
    import numpy as np

    array = jax.numpy.zeros(3)
    try:
        array[0] = 1
    except TypeError:
        refused = 1
    start = {"0.weight": np.ones((2, 3)), "rest": [np.ones(1), (np.ones(2),)]}
    gradient = jax.grad(lambda tree: sum(leaf.sum() for leaf in jax.tree.leaves(tree)))(start)
    return [refused, len(jax.tree.leaves(gradient)), sorted(gradient) == sorted(start)]


def _rules() -> Any:
    import jax
    import optax

    rule = optax.sgd(0.05, momentum=0.9)
    params = {"w": 1.0}
    state = rule.init(params)
    updates, _ = rule.update({"w": 2.0}, state)
    moved = optax.apply_updates(params, updates)
    clip = optax.clip_by_global_norm(1.0)
    clipped, _ = clip.update({"w": jax.numpy.array(2.0)}, clip.init(params))
    decayed = optax.adamw(0.05)
    try:
        decayed.update({"w": 2.0}, decayed.init(params))
    except ValueError:
        needs_params = 1
    return [
        rule._fields == ("init", "update"),
        abs(updates["w"] + 0.1) < 1e-6,
        abs(moved["w"] - 0.9) < 1e-6,
        optax.chain(clip, rule).init(params)[1] == state,
        abs(clipped["w"].item() - 1.0) < 1e-6,
        needs_params,
    ]


def _objects() -> Any:
    import inspect

    import jax
    from flax import nnx

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    param, array = model.bias, model.bias[...]
    model.bias[...] = array + 1
    same_place, old_array = model.bias is param, array[0].item()
    structure, tree = nnx.split(model)
    leaves = jax.tree.leaves(tree)

    @jax.jit
    def by_hand(tree):
        inside = nnx.merge(structure, tree)
        inside.bias[...] += 1
        return nnx.split(inside)[1]

    @nnx.jit
    def by_nnx(model):
        model.bias[...] += 1

    returned = by_hand(tree)["bias"][...][0].item()
    by_nnx(model)
    tree_mode = "graph" in inspect.signature(nnx.jit).parameters
    return [same_place, old_array, len(leaves), returned, model.bias[0].item(), tree_mode]


def _keys() -> Any:
    import jax

    key = jax.random.key(0)
    drawn = [jax.random.normal(each) for each in (key, key, *jax.random.split(key))]
    return [len({each.item() for each in drawn}), hasattr(jax.random, "seed")]


def _linen() -> Any:
    import jax
    from flax import linen

    network = linen.Dropout(0.5, deterministic=False)
    key, x = jax.random.key(0), jax.numpy.ones(50)
    keys = (key, key, jax.random.fold_in(key, 1))
    masks = [network.apply({}, x, rngs={"dropout": each}).tolist() for each in keys]
    dense = linen.Dense(1)
    params = dense.init(key, x)
    return [masks[0] == masks[1], masks[0] == masks[2], dense.apply(params, x).size]


def _traced() -> Any:
    import jax

    calls = []

    @jax.jit
    def f(tree):
        calls.append(1)
        return jax.tree.map(lambda leaf: 2 * leaf, tree)

    x = jax.numpy.ones(2)
    for tree in (x, x + 1, [x], (x,), jax.numpy.ones(3), x.astype(int)):
        f(tree)
    return [len(calls)]


@with_jax
@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (_arrays, [1, 3, 1]),  # no write; the gradient of a pytree is a pytree
        (_rules, [1, 1, 1, 1, 1, 1]),  # two functions; updates are added; a clip returns a gradient
        (_objects, [1, 0, 2, 2, 2, 1]),  # a place that holds arrays; split, merge and jit by hand
        (_keys, [3, 0]),  # the same key draws the same; JAX has no global seed
        (_linen, [1, 0, 1]),  # one key, one mask; weights are passed to a module
        (_traced, [5]),  # once for each combination of structure, shapes and types
    ],
)
def test_15_what_the_text_says_of_jax(function: Any, wanted: list[float]) -> None:
    assert teaching.in_subprocess(function) == wanted
