"""train_step under torch.compile: how many graphs it takes, and that they compute the plain step.

The backend counts what it is given and runs it with PyTorch's own operations, so that a step that
the compiler doesn't see is noticed, and so is one that compiles anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager

import fnlib
from fnlib import torch_private

ABSENT_AND_PRESENT = 2  # graphs: before the first step a value has no moments
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler itself


class Counting:
    """A backend that counts graphs."""

    def __init__(self) -> None:
        self.graphs = self.tensors = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        self.tensors = sum(isinstance(given, Tensor) for given in inputs)
        return aot_eager(graph, inputs)


class Reads(nn.Module):
    """A recurrent layer, of which the last output counts."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.layer = kind(8, 3, batch_first=True, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


class Masked(nn.Linear):
    """Holds a tensor that is neither a weight nor a buffer."""

    def __init__(self) -> None:
        super().__init__(8, 3)
        self.mask = torch.tensor([1.0, 0.0, 2.0])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.mask


class Unused(nn.Module):
    """Has a layer that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spare, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


CLASSES = torch.tensor([0.2, 0.3, 0.5])


def of_a_global(output: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, label, weight=CLASSES)


def of_a_closure(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda output, label: nn.functional.cross_entropy(output, label, weight=weight)


def squares(output: Tensor, label: Tensor) -> Tensor:
    return (output - label).square().mean()


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def rows(n: int) -> Tensor:
    return torch.randn(n, 8)


def sequences(n: int) -> Tensor:
    return torch.randn(n, 5, 8)


def indices(n: int) -> Tensor:
    return torch.randint(9, (n, 2))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 3))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def renormed() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 4, max_norm=1.0), nn.Flatten(), nn.Linear(8, 3))


def by_name(name: str, weight: Tensor) -> dict[str, Any]:
    return {"lr": lambda k: 0.1 / (k + 1)} if name.endswith("bias") else {}


def by_shape(name: str, weight: Tensor) -> dict[str, Any]:
    return {"weight_decay": 0.5} if weight.ndim == 1 else {}


@dataclass(frozen=True)
class Case:
    """One line of the table: what is compiled, and the graphs that it takes."""

    graphs: int
    build: Callable[[], nn.Module] = dense
    rule: Callable[[], Any] = lambda: fnlib.SGD(lr=0.1)
    criterion: Callable[[], Any] = nn.CrossEntropyLoss
    feature: Callable[[int], Tensor] = rows
    sizes: tuple[int, ...] = (16, 16, 16)
    seed: int | None = None


LAST = (16, 16, 16, 16, 8, 7)  # batches that end with smaller ones
MOVING = {
    "lr": lambda k: 0.01 * 0.9**k,
    "betas": (lambda k: 0.9 - 0.01 * k, 0.99),
    "weight_decay": lambda k: 0.01 * k,
}
CASES = {
    # --- rules: one graph, and one more for moments
    "SGD": Case(1),
    "momentum": Case(2, rule=lambda: fnlib.SGD(lr=0.1, momentum=0.9, nesterov=True)),
    "Adam": Case(2, rule=lambda: fnlib.Adam(lr=0.01, amsgrad=True)),
    "AdamW fused": Case(2, rule=lambda: fnlib.AdamW(lr=0.01, fused=True)),
    "wrapped": Case(1, rule=lambda: fnlib.wrap(torch.optim.RMSprop, lr=0.01)),
    # --- schedules: no graph more
    "a schedule": Case(1, rule=lambda: fnlib.SGD(lr=lambda k: 0.1 * k), sizes=(16,) * 6),
    "everything scheduled": Case(2, rule=lambda: fnlib.AdamW(**MOVING), sizes=(16,) * 6),
    "groups scheduled": Case(1, rule=lambda: fnlib.SGD(lr=0.1, groups=by_name), sizes=(16,) * 6),
    "a table of rates": Case(1, rule=lambda: fnlib.SGD(lr=[0.1, 0.3, 0.2].__getitem__)),
    "momentum that begins later": Case(
        3, rule=lambda: fnlib.SGD(lr=0.1, momentum=lambda k: 0.9 * (k > 1)), sizes=(16,) * 6
    ),
    # --- batches: one graph more where their size varies
    "a smaller last batch": Case(2, sizes=LAST),
    "the same with moments": Case(3, rule=lambda: fnlib.Adam(lr=0.01), sizes=LAST),
    # --- layers
    "dropout": Case(2, dropping, sizes=LAST),
    "dropout with a seed": Case(2, dropping, sizes=LAST, seed=1),
    "BatchNorm": Case(2, normed, sizes=LAST),
    "LSTM": Case(2, lambda: Reads(nn.LSTM, num_layers=2), feature=sequences, sizes=LAST),
    "GRU": Case(2, lambda: Reads(nn.GRU, bidirectional=True), feature=sequences, sizes=LAST),
    "RNN": Case(2, lambda: Reads(nn.RNN), feature=sequences, sizes=LAST),
    "weights that forward changes": Case(2, renormed, feature=indices, sizes=LAST),
    "a layer without gradient": Case(2, Unused, lambda: fnlib.SGD(lr=0.1, momentum=0.9)),
    # --- tensors that criterion and module hold
    "class weights": Case(1, criterion=lambda: nn.CrossEntropyLoss(weight=CLASSES)),
    "class weights, global": Case(1, criterion=lambda: of_a_global),
    "class weights, closure": Case(1, criterion=lambda: of_a_closure(CLASSES)),
    "an attribute of the module": Case(1, Masked),
}


def both(
    case: Case, fullgraph: bool = False
) -> tuple[Counting, list[fnlib.Parameters], list[fnlib.Parameters]]:
    """Train with the compiled step and with the functional loop, on the same draws."""
    ModelFactory = fnlib.Factory(case.build, optimizer=case.rule())
    criterion, backend = case.criterion(), Counting()
    step: Any = torch.compile(
        fnlib.train_step(ModelFactory, criterion), backend=backend, fullgraph=fullgraph
    )
    compiled = [ModelFactory(fnlib.Parameters(seed=0)).parameters]
    plain = list(compiled)
    for i, size in enumerate(case.sizes):
        torch.manual_seed(100 + i)
        feature, label = case.feature(size), torch.randint(3, (size,))
        torch.manual_seed(i)
        model = ModelFactory(plain[-1], seed=case.seed)
        output, buffers = model.with_buffers(feature)
        loss = criterion(output, label)
        plain.append(model.step(model.backward(loss), buffers=buffers))
        drawn = torch.get_rng_state()
        torch.manual_seed(i)
        after, found = step(compiled[-1], feature, label, seed=case.seed)
        compiled.append(after)
        assert torch.equal(torch.get_rng_state(), drawn), "other draws"
        assert torch.allclose(found, loss, atol=1e-5) and not found.requires_grad
    return backend, compiled, plain


def assert_close(found: Any, expected: Any, what: str) -> None:
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype and found.shape == expected.shape, what
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5), what
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), what
        for key in expected:
            assert_close(found[key], expected[key], f"{what}.{key}")
    elif isinstance(expected, (list, tuple)):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{what}[{i}]")
    else:
        assert found == expected, what


@pytest.mark.parametrize("name", CASES)
def test_compiled_step(name: str) -> None:
    """The values of the functional loop, to a tolerance, from as few graphs as there can be."""
    torch._dynamo.reset()
    case = CASES[name]
    # With a seed, the generator is set and restored outside of the graph.
    backend, compiled, plain = both(case, fullgraph=case.seed is None)
    assert backend.graphs == case.graphs
    for found, expected in zip(compiled, plain, strict=True):
        assert found.step_count == expected.step_count and list(found) == list(expected)
        assert_close(dict(found), dict(expected), "weights")
        assert_close(dict(found.buffers), dict(expected.buffers), "buffers")
        assert_close(found.optimizer_state, expected.optimizer_state, "state")


def test_one_call_is_compiled() -> None:
    torch._dynamo.reset()
    backend, _, _ = both(Case(1, sizes=(16,)))
    assert backend.graphs == 1


ENTERING = {"SGD": 4, "momentum": 4 + 4, "BatchNorm": 6 + 3, "class weights": 4 + 1}


@pytest.mark.parametrize("name", ENTERING)
def test_a_graph_takes_what_the_step_reads(name: str) -> None:
    """Its inputs are the value's tensors, the batch, and what the criterion holds; no old gradient."""
    torch._dynamo.reset()
    backend, _, _ = both(CASES[name])
    assert backend.tensors == ENTERING[name] + len(("feature", "label"))


def test_a_second_run_compiles_nothing() -> None:
    """Another value of the same factory, and one that was loaded, use the graphs that are there."""
    torch._dynamo.reset()
    ModelFactory = fnlib.Factory(dense, optimizer=fnlib.Adam(lr=0.01))
    backend = Counting()
    step: Any = torch.compile(
        fnlib.train_step(ModelFactory, nn.CrossEntropyLoss()), backend=backend
    )
    x, y = rows(16), torch.zeros(16, dtype=torch.long)
    for seed in range(3):
        parameters = ModelFactory(fnlib.Parameters(seed=seed)).parameters
        for _ in range(2):
            parameters, _ = step(parameters, x, y)
    apart = parameters.optimizer_state
    for entry in apart["state"].values():
        entry["step"] = entry["step"].clone()
    step(parameters.replace(optimizer_state=apart), x, y)
    assert backend.graphs == ABSENT_AND_PRESENT


def test_called_as_it_is_it_is_the_loop() -> None:
    """Without torch.compile: bit for bit, with the draws of the loop, on the first call too."""
    ModelFactory = fnlib.Factory(dropping, optimizer=fnlib.AdamW(lr=0.01))
    step, x, y = (
        fnlib.train_step(ModelFactory, nn.CrossEntropyLoss()),
        rows(5),
        torch.zeros(5).long(),
    )
    found = expected = ModelFactory(fnlib.Parameters(seed=0)).parameters
    for i in range(3):
        torch.manual_seed(i)
        found, _ = step(found, x, y)
        drawn = torch.get_rng_state()
        torch.manual_seed(i)
        model = ModelFactory(expected)
        expected = model.step(model.backward(nn.CrossEntropyLoss()(model(x), y)))
        assert found == expected and torch.equal(torch.get_rng_state(), drawn)


def test_one_step_object_compiled_and_not() -> None:
    torch._dynamo.reset()
    ModelFactory = fnlib.Factory(dense)
    step, backend = fnlib.train_step(ModelFactory, nn.CrossEntropyLoss()), Counting()
    compiled: Any = torch.compile(step, backend=backend)
    start = ModelFactory(fnlib.Parameters(seed=0)).parameters
    x, y = rows(5), torch.zeros(5).long()
    plain = step(start, x, y)[0]
    assert backend.graphs == 0
    found = compiled(start, x, y)[0]
    assert backend.graphs == 1 and step(start, x, y)[0] == plain
    assert_close(dict(found), dict(plain), "weights")


def test_tensors_of_the_criterion_are_read_at_each_step() -> None:
    torch._dynamo.reset()
    weight = torch.ones(3)
    ModelFactory = fnlib.Factory(dense)
    step: Any = torch.compile(
        fnlib.train_step(ModelFactory, nn.CrossEntropyLoss(weight=weight)), backend=Counting()
    )
    start = ModelFactory(fnlib.Parameters(seed=0)).parameters
    x, y = rows(6), torch.tensor([0, 1, 2, 0, 1, 2])
    before = step(start, x, y)[1]
    weight[0] = 5.0
    after = step(start, x, y)[1]
    expected = nn.CrossEntropyLoss(weight=weight)(ModelFactory(start)(x), y)
    assert torch.allclose(after, expected) and not torch.allclose(before, after)


def by_hand(weights: dict[str, Tensor], x: Tensor, y: Tensor, steps: int) -> Tensor:
    """The loss after steps of momentum, as PyTorch's own functions say it."""
    module, kept = dense(), dict.fromkeys(weights, torch.zeros(()))
    for _ in range(steps):
        loss = nn.functional.mse_loss(torch.func.functional_call(module, weights, x), y)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        kept = {name: 0.9 * kept[name] + g for name, g in zip(kept, slopes, strict=True)}
        weights = {name: weight - 0.1 * kept[name] for name, weight in weights.items()}
    return nn.functional.mse_loss(torch.func.functional_call(module, weights, x), y)


@pytest.mark.parametrize("first", ["inside", "outside"])
def test_a_gradient_through_steps(first: str) -> None:
    """Meta-learning: torch.func differentiates steps, wherever the first call was."""
    ModelFactory = fnlib.Factory(dense, optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    step, x, y = fnlib.train_step(ModelFactory, nn.MSELoss()), rows(6), torch.randn(6, 3)
    start = ModelFactory(fnlib.Parameters(seed=0)).parameters
    if first == "outside":
        step(start, x, y)

    def after(weights: dict[str, Tensor]) -> Tensor:
        parameters = start.replace(weights=weights)
        for _ in range(2):
            parameters, _ = step(parameters, x, y)
        return step(parameters, x, y)[1]

    drawn = torch.get_rng_state()
    found = torch.func.grad(after)(dict(start))
    assert torch.equal(torch.get_rng_state(), drawn)
    leaves = {name: weight.clone().requires_grad_() for name, weight in start.items()}
    expected = torch.autograd.grad(by_hand(leaves, x, y, 2), list(leaves.values()))
    for name, slope in zip(leaves, expected, strict=True):
        assert torch.allclose(found[name], slope, atol=1e-6), name
    later = step(start, x, y)[0]  # and the step is as it was
    model = ModelFactory(start)
    assert later == model.step(model.backward(nn.functional.mse_loss(model(x), y)))


# --- many models: the graph maps, in either order of torch.vmap and torch.compile


MAPPED = {
    "SGD": (dense, lambda: fnlib.SGD(lr=0.1), 2),
    "momentum": (dense, lambda: fnlib.SGD(lr=0.1, momentum=0.9), 3),
    "Adam": (dense, lambda: fnlib.Adam(lr=0.01, amsgrad=True), 3),
    "a schedule": (dense, lambda: fnlib.AdamW(lr=lambda k: 0.01 / (k + 1)), 3),
    "groups scheduled": (dense, lambda: fnlib.SGD(lr=0.1, groups=by_name), 2),
    "groups by shape": (dense, lambda: fnlib.SGD(lr=0.1, groups=by_shape), 2),
    "a layer without gradient": (Unused, lambda: fnlib.SGD(lr=0.1, momentum=0.9), 3),
    "an attribute of the module": (Masked, lambda: fnlib.SGD(lr=0.1), 2),
    "BatchNorm": (normed, lambda: fnlib.SGD(lr=0.1), 2),
}
ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "vmap of compile": lambda step, backend: torch.vmap(
        torch.compile(step, backend=backend), (0, None, None)
    ),
    "compile of vmap": lambda step, backend: torch.compile(
        torch.vmap(step, (0, None, None)), backend=backend
    ),
}
quiet = pytest.mark.filterwarnings("ignore:Dynamo does not know:UserWarning")


def stack(factory: Any) -> fnlib.Parameters:
    return fnlib.stack([factory(fnlib.Parameters(seed=seed)).parameters for seed in range(3)])


def assert_same_models(found: fnlib.Parameters, expected: fnlib.Parameters) -> None:
    for one, other in zip(fnlib.unstack(found), fnlib.unstack(expected), strict=True):
        assert one.step_count == other.step_count
        assert_close(dict(one), dict(other), "weights")
        assert_close(dict(one.buffers), dict(other.buffers), "buffers")
        assert_close(one.optimizer_state, other.optimizer_state, "state")


@quiet
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", MAPPED)
def test_many_models_in_one_graph(name: str, order: str) -> None:
    """The values of the uncompiled mapped step, from as few graphs as one model takes."""
    torch._dynamo.reset()
    build, rule, graphs = MAPPED[name]
    ModelFactory = fnlib.Factory(build, optimizer=rule())
    step, backend = fnlib.train_step(ModelFactory, of_a_closure(CLASSES)), Counting()
    compiled, plain = ORDERS[order](step, backend), torch.vmap(step, (0, None, None))
    found = expected = stack(ModelFactory)
    torch.manual_seed(0)
    for size in (16, 16, 16, 8):  # a smaller last batch is a graph more
        x, y = rows(size), torch.randint(3, (size,))
        found, losses = compiled(found, x, y)
        expected, others = plain(expected, x, y)
        assert torch.allclose(losses, others, atol=1e-5)
        assert_same_models(found, expected)
    assert backend.graphs == graphs


@quiet
def test_mapped_batches_and_other_transforms() -> None:
    """Each model may have its own batch; under two maps nothing is compiled, and values are right."""
    torch._dynamo.reset()
    ModelFactory = fnlib.Factory(dense, optimizer=fnlib.SGD(lr=0.1))
    step, backend = fnlib.train_step(ModelFactory, squares), Counting()
    compiled: Any = torch.compile(step, backend=backend)
    start, x, y = stack(ModelFactory), torch.randn(6, 3, 8), torch.randn(6, 3)
    found = torch.vmap(compiled, (0, 1, None))(start, x, y)[0]
    assert_same_models(found, torch.vmap(step, (0, 1, None))(start, x, y)[0])
    assert backend.graphs == 1
    batches = torch.randn(2, 6, 8)
    twice = [
        torch.vmap(torch.vmap(one, (None, 0, None)), (0, None, None))(start, batches, y)[1]
        for one in (compiled, step)
    ]
    assert torch.equal(*twice) and backend.graphs == 1


@quiet
@pytest.mark.parametrize("order", ORDERS)
def test_batch_sizes_past_the_limit_take_the_plain_step(order: str) -> None:
    """A graph for each batch size, as many as the compiler keeps, and the values of the plain step."""
    torch._dynamo.reset()
    ModelFactory = fnlib.Factory(dense, optimizer=fnlib.SGD(lr=0.1))
    step, backend = fnlib.train_step(ModelFactory, squares), Counting()
    compiled, plain = ORDERS[order](step, backend), torch.vmap(step, (0, None, None))
    found = expected = stack(ModelFactory)
    with torch._dynamo.config.patch(recompile_limit=2):
        for graphs, size in ((1, 6), (2, 5), (2, 4), (2, 3), (2, 6)):
            x, y = rows(size), torch.randn(size, 3)
            found, expected = compiled(found, x, y)[0], plain(expected, x, y)[0]
            assert_same_models(found, expected)
            assert backend.graphs == graphs


@quiet
def test_what_cannot_be_mapped_says_so_when_compiled() -> None:
    """PyTorch's own errors and fnlib's, as without the compiler, and the step is as it was."""
    x, y = rows(6), torch.zeros(6).long()
    for build, rule, error in (
        (dropping, fnlib.SGD(lr=0.1), RuntimeError),
        (dense, fnlib.wrap(torch.optim.RMSprop), fnlib.CannotTransform),
    ):
        torch._dynamo.reset()
        ModelFactory = fnlib.Factory(build, optimizer=rule)
        step = fnlib.train_step(ModelFactory, nn.CrossEntropyLoss())
        start, caught = stack(ModelFactory), []
        for one in (step, torch.compile(step, backend=Counting())):
            for _ in range(2):
                with pytest.raises(error) as raised:
                    torch.vmap(one, (0, None, None))(start, x, y)
                caught.append(str(raised.value))
        assert len(set(caught)) == 1
        first = fnlib.unstack(start)[0]
        assert step(first, x, y)[0].step_count == 1


@quiet
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_dropout_of_many_models(randomness: str, seed: int | None) -> None:
    """The draws of the uncompiled mapped step."""
    torch._dynamo.reset()
    ModelFactory = fnlib.Factory(dropping)
    step, backend = fnlib.train_step(ModelFactory, nn.CrossEntropyLoss()), Counting()
    x, y, results = rows(6), torch.zeros(6).long(), []
    for one in (step, torch.compile(step, backend=backend)):
        mapped = torch.vmap(one, (0, None, None, None), randomness=randomness)
        value = stack(ModelFactory)
        torch.manual_seed(0)
        for size in (6, 6, 4):
            value, _ = mapped(value, x[:size], y[:size], seed)
        results.append(value)
    assert_same_models(results[1], results[0])
    assert backend.graphs == 2, "one for each batch size"


REFUSED: dict[str, tuple[Any, Callable[[Any, Any], Any], Any]] = {
    "another rule's state": (
        fnlib.WrongRule,
        lambda step, p: step(other_rule(p), rows(4), torch.zeros(4).long()),
        dense,
    ),
    "a state that no step made": (
        fnlib.WrongParameters,
        lambda step, p: step(
            p.replace(optimizer_state={"state": {"no weight": {}}, "param_groups": []}),
            rows(4),
            torch.zeros(4).long(),
        ),
        dense,
    ),
    "another network's parameters": (
        fnlib.WrongParameters,
        lambda step, p: step(fnlib.Parameters.from_module(nn.Linear(2, 2)), rows(4), None),
        dense,
    ),
    "a loss for each sample": (
        fnlib.LossNotScalar,
        lambda step, p: step(p, rows(4), torch.zeros(4).long()),
        dense,
    ),
}


def other_rule(parameters: fnlib.Parameters) -> fnlib.Parameters:
    model = fnlib.Factory(dense, optimizer=fnlib.Adam())(parameters)
    return model.step(model.backward(model(rows(4)).sum()))


@pytest.mark.parametrize("name", REFUSED)
def test_compiled_errors(name: str) -> None:
    """The named errors of the functional loop, on the first call and after it."""
    torch._dynamo.reset()
    error, call, build = REFUSED[name]
    ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.1, momentum=0.9))
    reduction = "none" if error is fnlib.LossNotScalar else "mean"
    step: Any = torch.compile(
        fnlib.train_step(ModelFactory, nn.CrossEntropyLoss(reduction=reduction)),
        backend=Counting(),
    )
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    drawn = torch.get_rng_state()
    for _ in range(2):
        with pytest.raises(error):
            call(step, parameters)
        if error is not fnlib.LossNotScalar:
            step(parameters, rows(4), torch.zeros(4).long())
    assert drawn is not None


def test_without_the_private_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public way does the same, slower."""
    torch._dynamo.reset()
    found = torch_private._found
    monkeypatch.setattr(
        torch_private, "_found", lambda path: None if "skip" in path else found(path)
    )
    backend, compiled, plain = both(Case(2, rule=lambda: fnlib.Adam(lr=0.01)), fullgraph=True)
    assert backend.graphs == ABSENT_AND_PRESENT
    assert_close(dict(compiled[-1]), dict(plain[-1]), "weights")


@pytest.mark.parametrize("rule", [lambda: fnlib.SGD(lr=0.1, weight_decay=0.1)], ids=["SGD"])
def test_inductor(rule: Callable[[], Any]) -> None:
    """PyTorch's own backend once: it reorders arithmetic, and its fusions have had faults."""
    torch._dynamo.reset()
    ModelFactory = fnlib.Factory(dense, optimizer=rule())
    step: Any = torch.compile(fnlib.train_step(ModelFactory, nn.CrossEntropyLoss()))
    start = ModelFactory(fnlib.Parameters(seed=0)).parameters
    x, y = rows(16), torch.randint(3, (16,))
    try:
        found = step(start, x, y)[0]
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"no C++ compiler: {str(error).splitlines()[0]}")
    model = ModelFactory(start)
    expected = model.step(model.backward(nn.CrossEntropyLoss()(model(x), y)))
    assert_close(dict(found), dict(expected), "weights")


class DrawsElsewhere(nn.Linear):
    """Draws from a generator that isn't PyTorch's."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__(8, 3)
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.draw()


@pytest.mark.parametrize("draw", [random.random, numpy.random.rand], ids=["Python", "NumPy"])
@pytest.mark.parametrize("seed", [None, 3])
def test_numbers_drawn_elsewhere_are_refused(draw: Callable[[], float], seed: int | None) -> None:
    """The graph would keep the first number; uncompiled, `seed=` covers these generators too."""
    ModelFactory = fnlib.Factory(lambda: DrawsElsewhere(draw))
    step = fnlib.train_step(ModelFactory, nn.CrossEntropyLoss())
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    given = parameters, torch.ones(2, 8), torch.zeros(2, dtype=torch.long)
    losses = [step(*given, seed=seed)[1].item() for _ in range(3)]
    assert len(set(losses)) == (3 if seed is None else 1)
    for _ in range(2):
        with pytest.raises(fnlib.UnsupportedModule, match="draws from Python's or NumPy's"):
            torch.compile(step, backend=Counting())(*given, seed=seed)
