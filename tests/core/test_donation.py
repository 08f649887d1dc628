"""Promise 5: a value that was given away cannot be used, says so, and never crashes the process."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from tests.core import networks as nets
from tests.core.tables import loss_of

X = torch.linspace(-1, 1, 20).reshape(5, 4)
RULES = {
    "SGD": lambda: fnlib.SGD(lr=0.1),
    "momentum": lambda: fnlib.SGD(lr=0.1, momentum=0.9),
    "fused SGD": lambda: fnlib.SGD(lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda: fnlib.Adam(lr=0.1),
    "fused Adam": lambda: fnlib.Adam(lr=0.1, fused=True),
    "wrapped": lambda: fnlib.wrap(torch.optim.RMSprop, lr=0.1),
    "wrapped fused": lambda: fnlib.wrap(torch.optim.AdamW, lr=0.1, fused=True),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))


def given_away(
    rule: str, build: Any = network
) -> tuple[fnlib.Factory, fnlib.Model, fnlib.Parameters, Any]:
    """A model whose parameters were donated, the parameters that came of it, and a loss whose graph is still there."""
    ModelFactory = fnlib.Factory(build, optimizer=RULES[rule]())
    model = ModelFactory(fnlib.Parameters(seed=0))
    loss = loss_of(model(X))
    gradient = model.backward(loss, retain_graph=True)
    return ModelFactory, model, model.step(gradient, donate=True), loss


def check_message(error: fnlib.Donated) -> None:
    text = str(error)
    assert (
        "This value (parameters after step 0) was given away by `model.step(gradient, donate=True)`"
        in text
    )
    assert f"{Path(__file__).name}:" in text
    line = int(text.partition(f"{Path(__file__).name}:")[2].partition(",")[0])
    assert "donate=True" in Path(__file__).read_text().splitlines()[line - 1], (
        "the line that gave it away"
    )
    assert (
        "model = ModelFactory(new)                 # right: continue with what step returned"
        in text
    )


USES = {
    "a weight": lambda f, m: m.parameters["0.weight"],
    "iteration": lambda f, m: list(m.parameters),
    "len": lambda f, m: len(m.parameters),
    "buffers": lambda f, m: m.parameters.buffers,
    "state": lambda f, m: m.parameters.optimizer_state,
    "state_dict": lambda f, m: m.parameters.state_dict(),
    "replace": lambda f, m: m.parameters.replace(weights={}),
    "to": lambda f, m: m.parameters.to(torch.float64),
    "save": lambda f, m: m.parameters.save("never"),
    "pickle": lambda f, m: pickle.dumps(m.parameters),
    "deepcopy": lambda f, m: copy.deepcopy(m.parameters),
    "bind": lambda f, m: f(m.parameters),
    "diff": lambda f, m: m.parameters.diff(f(fnlib.Parameters(seed=0)).parameters),
    "diff of another": lambda f, m: f(fnlib.Parameters(seed=0)).parameters.diff(m.parameters),
    "forward": lambda f, m: m(X),
    "with_buffers": lambda f, m: m.with_buffers(X),
    "weights": lambda f, m: m.weights,
    "eval": lambda f, m: m.eval()(X),
    "carry": lambda f, m: m.carry({})(X),
    "backward": lambda f, m: m.backward(torch.ones((), requires_grad=True)),
    "joint backward": lambda f, m: fnlib.backward(torch.ones((), requires_grad=True), m),
    "step": lambda f, m: m.step(fnlib.Gradient({})),
    "step again": lambda f, m: m.step(fnlib.Gradient({}), donate=True),
}


@pytest.mark.parametrize("use", USES)
def test_every_use_is_refused(use: str) -> None:
    ModelFactory, model, _, _ = given_away("Adam")
    with pytest.raises(fnlib.Donated) as caught:
        USES[use](ModelFactory, model)
    check_message(caught.value)


@every_rule
def test_its_repr_still_works(rule: str) -> None:
    _, model, _, _ = given_away(rule)
    for value in (model.parameters, model):
        assert "given away" in repr(value)
        assert "given away" in value._repr_html_()
    assert model.parameters != copy.copy(fnlib.Parameters())
    assert model.parameters == model.parameters
    assert model.parameters.step_count == 0


@every_rule
def test_a_backward_that_still_needs_it_is_refused(rule: str) -> None:
    """The graph holds the old weights: their memory now holds the new ones."""
    ModelFactory, model, new, loss = given_away(rule)
    with pytest.raises(fnlib.Donated):
        model.backward(loss)
    with pytest.raises(
        fnlib.Donated
    ) as caught:  # on the way to another model, whose parameters are alive
        encoder = fnlib.Sequential(nn.Linear(4, 4))(fnlib.Parameters(seed=2))
        old = ModelFactory(fnlib.Parameters(seed=0))
        joint = loss_of(old(encoder(X)))
        old.step(old.backward(loss_of(old(X))), donate=True)
        encoder.backward(joint)
    check_message(caught.value)
    assert ModelFactory(new)(X).isfinite().all()


@every_rule
def test_the_new_value_is_that_of_a_step_that_donates_nothing(rule: str) -> None:
    ModelFactory = fnlib.Factory(network, optimizer=RULES[rule]())
    kept, donated = ModelFactory(fnlib.Parameters(seed=0)), ModelFactory(fnlib.Parameters(seed=0))
    for _ in range(4):
        kept = ModelFactory(kept.step(kept.backward(loss_of(kept(X)))))
        donated = ModelFactory(donated.step(donated.backward(loss_of(donated(X))), donate=True))
    assert kept.parameters == donated.parameters


@pytest.mark.parametrize("rule", ["SGD", "momentum", "fused SGD", "Adam", "fused Adam"])
def test_memory_is_reused(rule: str) -> None:
    ModelFactory = fnlib.Factory(network, optimizer=RULES[rule]())
    model = ModelFactory(fnlib.Parameters(seed=0))
    model = ModelFactory(model.step(model.backward(loss_of(model(X)))))

    def addresses(parameters: fnlib.Parameters) -> list[int]:
        held = [
            *parameters._held().weights.values(),
            *(
                t
                for entry in parameters._held().state["state"].values()
                for key, t in entry.items()
                if key != "step"
            ),
        ]
        return [tensor.const_data_ptr() for tensor in held]

    old = addresses(model.parameters)
    new = model.step(model.backward(loss_of(model(X))), donate=True)
    assert addresses(new) == old


@pytest.mark.parametrize("build", [nets.Tied, nets.TiedModule], ids=["tied weight", "tied layer"])
@every_rule
def test_tied_weights(build: Any, rule: str) -> None:
    x = torch.tensor([[1, 2], [3, 4]]) if build is nets.Tied else X
    ModelFactory = fnlib.Factory(build, optimizer=RULES[rule]())
    kept, donated = ModelFactory(fnlib.Parameters(seed=0)), ModelFactory(fnlib.Parameters(seed=0))
    for _ in range(3):
        kept = ModelFactory(kept.step(kept.backward(loss_of(kept(x)))))
        old = donated
        donated = ModelFactory(donated.step(donated.backward(loss_of(donated(x))), donate=True))
        with pytest.raises(fnlib.Donated):
            old(x)
    assert kept.parameters == donated.parameters


@every_rule
def test_what_was_handed_out_stays_as_it_was(rule: str) -> None:
    """Tensors, gradients, replaced values, outputs: whatever shares memory with the value that is given away keeps its content."""
    ModelFactory = fnlib.Factory(network, optimizer=RULES[rule]())
    model = ModelFactory(fnlib.Parameters(seed=0))
    model = ModelFactory(model.step(model.backward(loss_of(model(X)))))
    sibling = model.parameters.replace(weights={"0.bias": torch.zeros(64)})
    held = [
        model.parameters["0.weight"],
        model.weights["2.weight"].detach(),
        model.parameters.optimizer_state,
    ]
    gradient = model.backward(loss_of(model(X)))
    snapshot, gradient_snapshot, sibling_snapshot = (
        copy.deepcopy(held),
        copy.deepcopy(gradient),
        copy.deepcopy(sibling),
    )
    model.step(gradient, donate=True)
    assert torch.equal(held[0], snapshot[0]) and torch.equal(held[1], snapshot[1])
    assert repr(held[2]) == repr(snapshot[2])
    assert gradient == gradient_snapshot
    assert sibling == sibling_snapshot
    assert ModelFactory(sibling)(X).isfinite().all()


def test_donation_keeps_buffers_and_gives_written_weights() -> None:
    """Donation leaves buffers alone and covers weights that a forward writes to."""
    ModelFactory = fnlib.Sequential(
        nn.Embedding(9, 4, max_norm=1.0), nn.BatchNorm1d(3), optimizer=fnlib.Adam()
    )
    runs = []
    for donate in (False, True):
        model = ModelFactory(fnlib.Parameters(seed=0))
        for step in range(3):
            output, buffers = model.with_buffers(torch.tensor([[1, 2, 3], [4, 5, 6 + step % 2]]))
            held = {name: buffers[name].clone() for name in buffers}
            model = ModelFactory(
                model.step(model.backward(loss_of(output)), buffers=buffers, donate=donate)
            )
            assert all(torch.equal(buffers[name], held[name]) for name in held)
        runs.append(model.parameters)
    assert runs[0] == runs[1]


def test_two_factories_of_one_value() -> None:
    """Models of other factories that hold the value are refused as well."""
    one, two = (fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1)) for _ in range(2))
    first = one(fnlib.Parameters(seed=0))
    second = two(first.parameters)
    loss = loss_of(second(X))
    first.step(first.backward(loss_of(first(X))), donate=True)
    for use in (
        lambda: second(X),
        lambda: second.backward(loss),
        lambda: second.step(fnlib.Gradient({})),
    ):
        with pytest.raises(fnlib.Donated):
            use()
    stranger = one(fnlib.Parameters(seed=1))
    assert (
        len(stranger.backward(loss + stranger(X).sum())) == 4
    )  # needs nothing of what was given away


def test_an_error_before_the_step_gives_nothing_away() -> None:
    ModelFactory = fnlib.Factory(network)
    model = ModelFactory(fnlib.Parameters(seed=0))
    snapshot = copy.deepcopy(model.parameters)
    for gradient in ({"0.weight": torch.zeros(1)}, {"nope": torch.zeros(1)}, None):
        with pytest.raises(fnlib.WrongParameters):
            model.step(gradient, donate=True)  # type: ignore[arg-type]
    with pytest.raises(fnlib.WrongParameters):
        model.step(fnlib.Gradient({}), buffers={"nope": torch.zeros(1)}, donate=True)
    assert model.parameters == snapshot


def test_of_many_threads_that_give_one_value_away_one_does() -> None:
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.Adam(fused=True))
    for _ in range(20):
        model = ModelFactory(fnlib.Parameters(seed=0))
        gradient, meet = model.backward(loss_of(model(X))), threading.Barrier(4)

        def give(
            model: fnlib.Model = model,
            gradient: fnlib.Gradient = gradient,
            meet: threading.Barrier = meet,
        ) -> bool:
            meet.wait(60)
            try:
                return model.step(gradient, donate=True).step_count == 1
            except fnlib.Donated:
                return False

        with ThreadPoolExecutor(4) as pool:
            assert sum(found.result() for found in [pool.submit(give) for _ in range(4)]) == 1


class Expands:
    """A rule of one's own whose numbers stand in one place of memory."""

    def init(self, weights: Any) -> Any:
        return {}

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:
        return {
            name: torch.zeros(1).expand(weight.shape) for name, weight in weights.items()
        }, state


def test_weights_that_a_rule_made_by_expanding_can_be_given_away() -> None:
    start = fnlib.Factory(network, optimizer=Expands())(fnlib.Parameters(seed=0))
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=1.0))
    model = ModelFactory(
        start.step(start.backward(loss_of(start(X)))).replace(optimizer_state=None)
    )
    gradient = model.backward(loss_of(model(X)))
    assert model.step(gradient) == model.step(gradient, donate=True)


class Refuses:
    """A rule of one's own that fails."""

    def init(self, weights: Any) -> Any:
        return None

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:
        raise ArithmeticError("no")


class WritesAndFails(Refuses):
    """A rule of one's own that fails half-way through its work in place."""

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:
        weights["0.weight"].zero_()
        raise ArithmeticError("no")


def test_a_step_that_fails_half_way_leaves_no_half_written_value() -> None:
    """The mark comes before the first byte: what a failed step has written to cannot be used by mistake."""
    ModelFactory = fnlib.Factory(network, optimizer=WritesAndFails())
    model = ModelFactory(fnlib.Parameters(seed=0))
    with pytest.raises(ArithmeticError):
        model.step(fnlib.Gradient({}), donate=True)
    for use in (
        lambda: model(X),
        lambda: model.parameters["0.weight"],
        lambda: ModelFactory(model.parameters),
    ):
        with pytest.raises(fnlib.Donated):
            use()


def test_an_error_inside_the_rule_is_its_own() -> None:
    ModelFactory = fnlib.Factory(network, optimizer=Refuses())
    model = ModelFactory(fnlib.Parameters(seed=0))
    snapshot = copy.deepcopy(model.parameters)
    with pytest.raises(ArithmeticError, match="no"):
        model.step(fnlib.Gradient({}))
    assert model.parameters == snapshot


def test_giving_away_needs_no_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fnlib.Sequential(nn.Linear(2, 2))(fnlib.Parameters(seed=0))
    gradient = model.backward(model(torch.ones(1, 2)).sum())
    model.step(
        gradient
    )  # PyTorch itself asks for the working folder when its optimizers are first used
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    model.step(gradient, donate=True)
    with pytest.raises(fnlib.Donated, match=Path(__file__).name):
        model(torch.ones(1, 2))


USER_FILES = ["fnlib_train.py", "fnlibrary.py", "train.py"]


@pytest.mark.parametrize("file", USER_FILES)
def test_the_line_is_the_users_whatever_his_file_is_called(file: str, tmp_path: Path) -> None:
    """A module whose name begins with `fnlib` is not a part of fnlib."""
    code = "def give(model, gradient):\n    return model.step(gradient, donate=True)\n"
    (tmp_path / file).write_text(code)
    spec = importlib.util.spec_from_file_location(file.removesuffix(".py"), tmp_path / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = fnlib.Sequential(nn.Linear(2, 2))(fnlib.Parameters(seed=0))
    module.give(model, fnlib.Gradient({}))
    with pytest.raises(fnlib.Donated, match=f"{file}:2"):
        model(torch.ones(1, 2))
