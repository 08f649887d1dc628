"""The changes that lesson 12 asks for, and what it says of the compiler; see `test_investigate`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from tests.lessons.tried import Tried, cell

pytestmark = pytest.mark.filterwarnings(  # of the compiler itself
    "ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning"
)
STOCK = ("predict", "backend", "stock-step", "stock-run")
PLAIN = ("predict", "backend", "stock-step", "plain")
ALL = (*STOCK, "stock-count", "ask", "plain", "functional", "functional-count")


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Forget what was compiled, and let the compiler write where it wrote before."""
    logger = logging.getLogger("torch._dynamo")
    handlers = logger.handlers[:]
    torch.compiler.reset()
    yield
    torch.compiler.reset()
    logger.handlers[:] = handlers


def test_12_a_printed_loss_breaks_a_graph_once() -> None:
    change = {"stock-step": [("losses.append(loss.detach())", "print(loss.item())")]}
    tried = Tried("12", (*STOCK, "stock-count"), change)
    assert tried.error is None
    assert "graphs after each step: 2 2 2 2 2 2 2 2 2 2 2 2\n" in tried.said
    assert len([line for line in tried.said.splitlines() if line[:2] in ("0.", "1.", "2.")]) == 12


def test_12_a_new_size_compiles_once_for_all() -> None:
    """The guide adds that a batch of one example is a case of its own."""
    more = """
for rows in (20, 10, 7, 31, 1):
    compiled_plain(weights, feature[:rows], label[:rows], 0.1)
    print(rows, len(plain.graphs))
"""
    tried = Tried("12", PLAIN, {}, more)
    assert tried.error is None
    assert tried.said.endswith("20 2\n10 2\n7 2\n31 2\n1 3\n")


@pytest.mark.parametrize(
    ("rate", "graphs"),
    [
        ("0.1", 1),
        ("0.1 / (1 + len(plain.after_step))", 2),
        ("torch.tensor(0.1 / (1 + len(plain.after_step)))", 1),
    ],
)
def test_12_a_rate_is_a_guard_until_it_changes(rate: str, graphs: int) -> None:
    tried = Tried("12", PLAIN, {"plain": [("label, 0.1)", f"label, {rate})")]})
    assert tried.error is None and tried.names["plain"].after_step[-1] == graphs


def test_12_runs_again_from_any_cell() -> None:
    """Every cell once after all that come later, and then the lesson once more."""
    cells = (*ALL, "modify", "decide", "make")
    tried = Tried("12", (*cells, *reversed(cells[2:]), *cells[2:]), {})
    assert tried.error is None
    assert tried.said.count("graphs after each step: 3 4 5 6 7 8 9 10 10 10 10 10\n") == 3
    assert tried.said.count("fnlib:       1 1 1 1 1 1 1 1 1 1 1 1\n") == 3
    assert tried.said.count("the losses of stock and fnlib agree: True") == 3
    assert tried.said.count("12-mend: passed") == tried.said.count("12-momentum: passed") == 3


def test_12_eight_versions_and_a_warning_that_says_why() -> None:
    """The warning is the only sign, and it names the list."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("torch._dynamo")
    logger.addHandler(handler)
    try:
        tried = Tried("12", STOCK, {})
    finally:
        logger.removeHandler(handler)
    assert tried.error is None and not tried.said.count("len(")
    assert tried.said.endswith("torch._dynamo hit config.recompile_limit (8)\n")
    assert tried.names["stock"].graphs.count(["detach"]) == 8
    assert len(tried.names["losses"]) == 12, "Python runs what isn't compiled"
    (warning,) = [text for text in said if "recompile_limit" in text]
    assert "len(" in warning and "losses.append(loss.detach())" in warning


def test_12_the_error_names_the_guard() -> None:
    tried = Tried("12", (*STOCK, "ask"), {})
    assert tried.error is None
    assert "Detected recompile" in tried.said and "len(" in tried.said
    assert "losses.append(loss.detach())" in tried.said


def test_12_without_the_list_no_guard_fails() -> None:
    """The weights change at each step, and nothing is compiled again."""
    change = {"stock-step": [("    losses.append(loss.detach())", "")]}
    tried = Tried("12", STOCK, change)
    assert tried.error is None and tried.names["stock"].after_step == [2] * 12


def test_12_no_guard_checks_what_a_step_changes() -> None:
    """A pure step has guards, on what it reads from outside, and none of them fails."""
    more = """
with torch.compiler.set_stance("fail_on_recompile"):
    weights, loss = compiled_plain(weights, feature, label, 0.1)
    parameters, loss = compiled_values(parameters, feature, label)
"""
    assert Tried("12", (*STOCK, "plain", "functional"), {}, more).error is None
    changed = Tried("12", (*STOCK, "plain", "functional"), {}, more.replace("0.1)", "0.2)"))
    assert isinstance(changed.error, RuntimeError)


def test_12_the_old_versions_stay() -> None:
    graphs, seen = _Graphs(), []  # type: ignore[var-annotated]
    compiled = torch.compile(lambda x: x * len(seen), backend=graphs)
    for length in (0, 1, 2, 0, 1, 2):
        seen[:] = [None] * length
        compiled(torch.ones(3))
    assert len(graphs.made) == 3


class _Graphs:
    """A backend that keeps the graphs."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.made.append(graph)
        return graph.forward


@pytest.mark.parametrize(("last", "graphs"), [("return loss", 2), ("return loss.detach()", 3)])
def test_12_the_mended_step_is_two_graphs_or_three(last: str, graphs: int) -> None:
    change = {"stock-step": [("losses.append(loss.detach())", last)]}
    tried = Tried("12", STOCK, change)
    assert tried.error is None and tried.names["stock"].after_step == [graphs] * 12


@pytest.mark.parametrize(
    ("change", "graphs"),
    [
        (lambda x: x * 7, 1),
        (lambda x: x.double(), 2),
        (lambda x: x[:2].clone(), 2),
        (lambda x: x.T.contiguous().T, 2),
        (lambda x: x.clone().requires_grad_(), 2),
    ],
    ids=["numbers", "dtype", "shape", "strides", "requires_grad"],
)
def test_12_what_guards_check_of_a_tensor(change: Callable[[Any], Any], graphs: int) -> None:
    backend, x = _Graphs(), torch.ones(3, 4)
    compiled = torch.compile(lambda x: x.sin() * 2, backend=backend)
    compiled(x)
    compiled(change(x))
    assert len(backend.made) == graphs


def test_12_a_branch_on_a_number_breaks_the_graph() -> None:
    def step(x: Any) -> Any:
        return x / x.norm() if x.norm() > 1 else x + 1

    with pytest.raises(RuntimeError, match="from user code"):
        torch.compile(step, backend=_Graphs(), fullgraph=True)(torch.ones(3))


@pytest.mark.parametrize(
    ("rule", "graphs"), [(fnlib.SGD(lr=0.1), [1, 1, 1]), (fnlib.Adam(lr=0.1), [1, 2, 2])]
)
def test_12_the_step_count_compiles_nothing(rule: Any, graphs: list[int]) -> None:
    """Adam's second step has a state that its first one lacks."""
    factory = fnlib.Sequential(nn.Linear(3, 2), optimizer=rule)
    parameters, backend = factory(fnlib.Parameters(seed=0)).parameters, _Graphs()
    step = torch.compile(fnlib.train_step(factory, nn.MSELoss()), backend=backend)
    counts = []
    for _ in range(3):
        parameters, _ = step(parameters, torch.ones(4, 3), torch.zeros(4, 2))
        counts.append(len(backend.made))
    assert counts == graphs and parameters.step_count == 3


def _lines() -> dict[str, Callable[[], Any]]:
    network = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x = torch.ones(2, 3)
    return {
        "zero_grad()": lambda: optimizer.zero_grad(),
        "backward()": lambda: network(x).sum().backward(),
        "step()": lambda: optimizer.step(),
        "forward": lambda: network(x).sum(),
    }


@pytest.mark.parametrize("line", ["zero_grad()", "backward()", "step()", "forward"])
def test_12_three_lines_break_the_graph(line: str) -> None:
    compiled = torch.compile(_lines()[line], backend=lambda g, _: g.forward, fullgraph=True)
    if line == "forward":
        compiled()
        return
    with pytest.raises(RuntimeError, match="from user code"):
        compiled()


def test_12_the_network_alone_is_one_graph() -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    fast, losses = torch.compile(network, backend=backend), []
    for _ in range(12):
        optimizer.zero_grad()
        loss = fast(torch.ones(4, 3)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    assert len(graphs) == 1 and losses[-1] < losses[0]


def test_12_needs_no_cpp_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    monkeypatch.setenv("PATH", "")
    tried = Tried("12", (*ALL, "modify", "make"), {})
    assert tried.error is None
    assert "12-mend: passed" in tried.said and "12-momentum: passed" in tried.said


def test_12_the_first_call_takes_longest() -> None:
    tried = Tried("12", (*PLAIN, "decide"), {})
    assert tried.error is None
    seconds = tried.names["seconds"]
    assert seconds[0] == max(seconds) and seconds[0] > 5 * min(seconds)


def test_12_the_lines_that_measure_run() -> None:
    """With a backend that needs no C++ compiler; the figure is the reader's own."""
    lines = cell("12", "decide-text").split("```python\n")[1].split("```")[0]
    lines = lines.replace("(plain_step)", "(plain_step, backend='eager')")
    tried = Tried("12", PLAIN, {}, lines.replace("teaching.ratios", "found = teaching.ratios"))
    assert tried.error is None and tried.names["found"]["compiled"] > 0


def test_12_jax_appends_once_and_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Said in the guide, in the further reading and in the question of the bank."""
    jax = pytest.importorskip("jax", reason="JAX is for benchmarks: tests/benchmarks")
    kept = []

    @jax.jit
    def step(x: Any) -> Any:
        kept.append(x)
        print("traced")
        return x * 2

    for _ in range(3):
        step(jax.numpy.ones(3))
    assert len(kept) == 1 and capsys.readouterr().out == "traced\n"
