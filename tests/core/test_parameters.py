"""Parameters: a mapping, a value, all state in one place (promise 3)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fnlib
from tests.core import networks as nets
from tests.core.loops import functional_run
from tests.core.tables import NETWORKS, Network, loss_of

X = torch.linspace(-1, 1, 20).reshape(5, 4)


def trained(steps: int = 2, rule: Any = None) -> tuple[fnlib.Factory, fnlib.Parameters]:
    ModelFactory = fnlib.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2), optimizer=rule or fnlib.Adam(lr=0.1)
    )
    parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    for _ in range(steps):
        model = ModelFactory(parameters)
        output, buffers = model.with_buffers(X)
        parameters = model.step(model.backward(loss_of(output)), buffers=buffers)
    return ModelFactory, parameters


def test_a_mapping_of_weights() -> None:
    _, parameters = trained()
    assert isinstance(parameters, Mapping)
    assert list(parameters) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    assert len(parameters) == 6 and "0.bias" in parameters and "1.running_mean" not in parameters
    assert list(parameters.buffers) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert parameters.get("nope") is None and parameters
    weight = parameters["0.weight"]
    assert type(weight) is torch.Tensor and not weight.requires_grad and weight.grad_fn is None
    assert parameters.step_count == 2
    assert {*parameters.optimizer_state} == {"state", "param_groups"}
    assert hash(parameters) == hash(parameters)


@pytest.mark.parametrize("row", NETWORKS, ids=str)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_from_module_and_back(row: Network) -> None:
    """from_module copies; state_dict goes back into a stock module, strictly, both names of a tie included."""
    module = row.build()
    parameters = fnlib.Parameters.from_module(module)
    other = row.build()
    other.load_state_dict(parameters.state_dict(), strict=True)
    transient = {
        name: dict(module.named_buffers())[name]
        for name in module.state_dict().keys() ^ dict(module.named_buffers()).keys()
        if name in dict(module.named_buffers())
    }
    again = fnlib.Parameters.from_module(other)
    assert again.replace(buffers=transient) == parameters
    assert set(parameters.state_dict()) == set(module.state_dict())
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    assert again.replace(buffers=transient) == parameters, "an independent copy"
    training, args = row.training, row.batch(0)
    output, _ = fnlib.Factory(row.build)(parameters, training=training, seed=0).with_buffers(
        *args[0], **args[1]
    )
    assert output is not None


def test_state_dict_is_independent_and_keeps_ties() -> None:
    parameters = fnlib.Parameters.from_module(nets.Tied())
    given_out = parameters.state_dict()
    assert (
        set(given_out) == {"embed.weight", "mix.weight", "mix.bias", "decode.weight"}
        and len(parameters) == 3
    )
    assert given_out["embed.weight"] is given_out["decode.weight"]
    assert parameters["decode.weight"].equal(parameters["embed.weight"]), (
        "the second name is understood"
    )
    given_out["mix.bias"].fill_(9)
    assert not parameters["mix.bias"].eq(9).any()
    moved = parameters.replace(weights={"decode.weight": torch.zeros(7, 5)})
    assert moved["embed.weight"].eq(0).all() and len(moved) == 3
    module = nets.Tied()
    module.load_state_dict(moved.state_dict())
    assert module.embed.weight.eq(0).all() and module.decode.weight is module.embed.weight


def test_buffers_that_are_not_saved_stay_out_of_state_dict() -> None:
    parameters = fnlib.Parameters.from_module(nets.Counting())
    assert set(parameters.buffers) == {"seen", "mean", "last"}
    assert set(parameters.state_dict()) == {"layer.weight", "layer.bias", "seen", "mean"}


def test_equality_compares_everything_by_bytes() -> None:
    ModelFactory, parameters = trained()
    same = copy.deepcopy(parameters)
    assert parameters == same and not parameters != same and parameters is not same
    state = parameters.optimizer_state
    state["state"]["0.bias"]["exp_avg"] += 1e-9 + state["state"]["0.bias"]["exp_avg"].abs()
    others = [
        parameters.replace(weights={"0.bias": parameters["0.bias"] + 1e-3}),
        parameters.replace(buffers={"1.num_batches_tracked": torch.tensor(7)}),
        parameters.replace(optimizer_state=state),
        parameters.replace(optimizer_state=None),
        parameters.to(torch.float64),
        ModelFactory(parameters).step(fnlib.Gradient({})),
        fnlib.Parameters(),
    ]
    for other in others:
        assert parameters != other and other != parameters
    assert parameters != dict(parameters) and parameters != 3
    nan = parameters.replace(weights={"0.bias": torch.full((3,), float("nan"))})
    assert nan == copy.deepcopy(nan)
    zero, minus = (
        parameters.replace(weights={"0.bias": torch.zeros(3) * sign}) for sign in (1, -1)
    )
    assert zero != minus
    assert fnlib.Parameters(seed=1) == fnlib.Parameters(seed=1) != fnlib.Parameters(seed=2)


def test_copies_and_pickles_are_values_of_their_own() -> None:
    ModelFactory, parameters = trained()
    for copied in (
        copy.deepcopy(parameters),
        pickle.loads(pickle.dumps(parameters)),
        copy.copy(parameters),
    ):
        assert copied == parameters
        model = ModelFactory(copied)
        output, buffers = model.with_buffers(X)
        model.step(model.backward(loss_of(output)), buffers=buffers, donate=True)
        assert (
            parameters["0.weight"].isfinite().all()
            and ModelFactory(parameters).eval()(X).isfinite().all()
        )
        if copied is not parameters:
            with pytest.raises(fnlib.Donated):
                copied["0.weight"]
    empty = fnlib.Parameters(seed=3, dtype=torch.float64)
    assert (
        ModelFactory(pickle.loads(pickle.dumps(empty))).parameters
        == ModelFactory(copy.deepcopy(empty)).parameters
        == ModelFactory(empty).parameters
    )


def test_factories_and_models_go_through_pickle_and_copy() -> None:
    ModelFactory = fnlib.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), optimizer=fnlib.Adam(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0), seed=3)
    gradient = model.backward(loss_of(model(X)))
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert torch.equal(again(X), model(X)) and again.parameters == model.parameters
        assert again.step(again.backward(loss_of(again(X)))) == model.step(gradient)
    for factory in (
        pickle.loads(pickle.dumps(ModelFactory)),
        copy.deepcopy(ModelFactory),
        copy.copy(ModelFactory),
    ):
        assert torch.equal(factory(model.parameters, seed=3)(X), model(X))


def test_replace() -> None:
    ModelFactory, parameters = trained()
    before = copy.deepcopy(parameters)
    other = parameters.replace(
        weights={"0.bias": torch.ones(3)},
        buffers={"1.running_mean": torch.ones(3)},
        optimizer_state={"state": {}, "param_groups": []},
    )
    assert (
        other["0.bias"].eq(1).all()
        and other.buffers["1.running_mean"].eq(1).all()
        and other.optimizer_state["state"] == {}
    )
    assert (
        other.step_count == 2
        and list(other) == list(parameters)
        and other["2.weight"].equal(parameters["2.weight"])
    )
    assert parameters == before and parameters.replace() == parameters
    assert parameters.replace(optimizer_state=parameters.optimizer_state) == parameters
    weight = torch.ones(3, requires_grad=True)
    assert not parameters.replace(weights={"0.bias": weight * 2})["0.bias"].requires_grad
    mean = parameters.replace(
        weights={name: (parameters[name] + other[name]) / 2 for name in parameters}
    )
    assert ModelFactory(mean).eval()(X).isfinite().all()


def test_to_converts_floating_numbers_and_never_counters() -> None:
    for rule in (fnlib.Adam(lr=0.1), fnlib.wrap(torch.optim.ASGD)):
        ModelFactory, parameters = trained(rule=rule)
        wide = parameters.to(torch.float64)
        assert {tensor.dtype for tensor in wide.values()} == {torch.float64}
        assert [tensor.dtype for tensor in wide.buffers.values()] == [
            torch.float64,
            torch.float64,
            torch.int64,
        ]
        for name, entry in wide.optimizer_state["state"].items():
            for key, tensor in entry.items():
                before = parameters.optimizer_state["state"][name][key]
                assert tensor.dtype == (before.dtype if key == "step" else torch.float64)
        assert (
            wide.to(torch.float32) == parameters and parameters["0.weight"].dtype == torch.float32
        )
        assert parameters.to("cpu") == parameters
        model = ModelFactory(wide)
        output, buffers = model.with_buffers(X.double())
        assert (
            model.step(model.backward(loss_of(output)), buffers=buffers)["0.weight"].dtype
            == torch.float64
        )
        meta = parameters.to("meta")
        assert meta["0.weight"].is_meta and meta.step_count == 2
    complex_ones = fnlib.Parameters.from_module(nets.Complex()).to(torch.float64)
    assert (
        complex_ones["rotate"].dtype == torch.complex128
        and complex_ones["scale"].dtype == torch.float64
    )


def test_a_value_that_was_converted_can_be_given_away_alone() -> None:
    """What `to` leaves as it is belongs to two values."""
    ModelFactory, parameters = trained()
    before = copy.deepcopy(parameters)
    same = parameters.to(torch.float32)
    ModelFactory(same).step(
        fnlib.Gradient({name: torch.ones_like(parameters[name]) for name in parameters}),
        donate=True,
    )
    assert parameters == before


def test_a_whole_training_is_in_the_value() -> None:
    """Keep, branch, rewind: each is the run that it would have been."""
    ModelFactory, _ = trained()

    def on(parameters: fnlib.Parameters, steps: int) -> fnlib.Parameters:
        for _ in range(steps):
            model = ModelFactory(parameters)
            output, buffers = model.with_buffers(X * (1 + parameters.step_count))
            parameters = model.step(model.backward(loss_of(output)), buffers=buffers)
        return parameters

    start = ModelFactory(fnlib.Parameters(seed=0)).parameters
    kept = [start]
    for _ in range(6):
        kept.append(on(kept[-1], 1))
    assert on(start, 6) == kept[6] and on(kept[2], 4) == kept[6] and on(kept[2], 2) == kept[4]
    branch = on(kept[3].replace(weights={"0.bias": torch.zeros(3)}), 3)
    assert branch != kept[6] and on(kept[3], 3) == kept[6]


def test_steps_without_a_gradient_leave_weights_alone() -> None:
    row = next(row for row in NETWORKS if row.name == "a weight that is not used")
    parameters, _ = functional_run(row, fnlib.Adam(weight_decay=0.5), steps=2)
    torch.manual_seed(0)
    assert torch.equal(parameters["spare.weight"], row.build().spare.weight)
    assert "spare.weight" not in parameters.optimizer_state["state"]


def test_parameters_loaded_in_another_order_bind_by_name() -> None:
    ModelFactory, parameters = trained()
    held = parameters._held()
    weights, buffers = (dict(reversed(some.items())) for some in (held.weights, held.buffers))
    shuffled = fnlib.Parameters._of(held._replace(weights=weights, buffers=buffers))
    model = ModelFactory(shuffled)
    assert torch.equal(model.eval()(X), ModelFactory(parameters).eval()(X))
    output, buffers = model.with_buffers(X)
    expected, expected_buffers = ModelFactory(parameters).with_buffers(X)
    assert torch.equal(output, expected) and all(
        torch.equal(buffers[name], expected_buffers[name]) for name in expected_buffers
    )


@given(
    st.lists(
        st.sampled_from(["step", "empty", "replace", "to", "copy", "pickle", "branch"]), max_size=6
    )
)
def test_values_never_change_whatever_is_done_with_them(actions: list[str]) -> None:
    ModelFactory, parameters = trained(1)
    met = [(parameters, copy.deepcopy(parameters))]
    for action in actions:
        model = ModelFactory(parameters)
        if action == "step":
            output, buffers = model.with_buffers(X)
            parameters = model.step(model.backward(loss_of(output)), buffers=buffers)
        elif action == "empty":
            parameters = model.step(fnlib.Gradient({}))
        elif action == "replace":
            parameters = parameters.replace(weights={"0.bias": parameters["0.bias"].neg()})
        elif action == "to":
            parameters = parameters.to(torch.float64).to(torch.float32)
        elif action == "copy":
            parameters = copy.deepcopy(parameters)
        elif action == "pickle":
            parameters = pickle.loads(pickle.dumps(parameters))
        else:
            parameters = met[0][0]
        parameters["0.weight"].fill_(7)
        met.append((parameters, copy.deepcopy(parameters)))
    assert all(value == snapshot for value, snapshot in met)


def test_carry_and_the_modes_are_new_models() -> None:
    ModelFactory, parameters = trained()
    model = ModelFactory(parameters)
    assert model.parameters is parameters and model.factory is ModelFactory
    left, buffers = model.with_buffers(X)
    right, buffers = model.carry(buffers).with_buffers(-X)
    assert (
        buffers["1.num_batches_tracked"] == 4 and parameters.buffers["1.num_batches_tracked"] == 2
    )
    gradient = model.backward(loss_of(left) + loss_of(right))
    assert model.step(gradient, buffers=buffers).buffers["1.num_batches_tracked"] == 4
    stock = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    stock.load_state_dict(parameters.state_dict())
    (loss_of(stock(X)) + loss_of(stock(-X))).backward()
    for name, weight in stock.named_parameters():
        assert torch.equal(gradient[name], weight.grad)
    for name, buffer in stock.named_buffers():
        assert torch.equal(buffers[name], buffer)
    evaluated = model.eval()
    assert evaluated is not model and torch.equal(
        evaluated(X), stock.load_state_dict(parameters.state_dict()) and stock.eval()(X)
    )
    with pytest.raises(fnlib.StateDropped):
        evaluated.train()(X)
    with pytest.raises(fnlib.StateDropped):
        model(X)


@pytest.mark.parametrize(
    ("training", "moves"),
    [(True, True), (False, True), ({"1": False}, False), ({"": False}, False)],
)
def test_train_returns_to_the_mode_of_the_bind(training: Any, moves: bool) -> None:
    """A BatchNorm that was bound frozen stays frozen; a model bound for evaluation trains."""
    ModelFactory, parameters = trained()
    bound = ModelFactory(parameters, training=training)
    for model in (bound.train(), bound.eval().train(), bound.eval().eval().train().train()):
        _, buffers = model.with_buffers(X)
        assert (buffers["1.num_batches_tracked"] == 3) == moves
    _, buffers = bound.train().eval().with_buffers(X)
    assert buffers["1.num_batches_tracked"] == 2
    carried = bound.eval().carry(bound.eval().with_buffers(X)[1]).train()
    assert (carried.with_buffers(X)[1]["1.num_batches_tracked"] == 3) == moves


def test_other_methods_of_a_network() -> None:
    ModelFactory = fnlib.Factory(nets.Autoencoder)
    model = ModelFactory(fnlib.Parameters(seed=0))
    code = model.call("encode", X)
    assert torch.equal(model.call("decode", code), model(X))
    assert set(model.backward(model.call("decode", z=X[:, :2]).sum())) == {"up.weight", "up.bias"}


def test_both_names_of_a_tie_are_understood_everywhere() -> None:
    """By replace, step, carry and the mapping of buffers; a state dict has both names."""
    parameters = fnlib.Parameters.from_module(nets.Tied())
    assert parameters.replace(weights=parameters.state_dict()) == parameters
    model = fnlib.Factory(nets.Tied, optimizer=fnlib.SGD(lr=0.1))(parameters)
    slope = torch.ones(7, 5)
    expected = model.step({"embed.weight": slope})
    assert expected != parameters
    assert model.step({"decode.weight": slope}) == expected
    assert model.step({"decode.weight": slope, "embed.weight": slope.clone()}) == expected


def test_both_names_of_a_tied_buffer_are_understood() -> None:
    """Buffers tie like weights do."""

    def build() -> nn.Module:
        network = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
        network[1].running_mean = network[0].running_mean
        return network

    model = fnlib.Factory(build)(fnlib.Parameters(seed=0))
    buffers = dict(model.parameters.buffers)
    assert "1.running_mean" not in buffers
    assert torch.equal(model.parameters.buffers["1.running_mean"], buffers["0.running_mean"])
    moved = {**buffers, "1.running_mean": torch.ones(3), "0.running_mean": torch.ones(3)}
    for later in (
        model.parameters.replace(buffers={"1.running_mean": torch.ones(3)}),
        model.step(fnlib.Gradient({}), buffers=moved),
        model.carry(moved).step(fnlib.Gradient({})),
    ):
        assert later.buffers["0.running_mean"].eq(1).all()


def tied() -> nn.Module:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    network[1].weight, network[1].running_mean = network[0].weight, network[0].running_mean
    return network


def holders(name: str) -> Any:
    """Everything that names weights or buffers, of one network whose parts are tied."""
    model = fnlib.Factory(tied)(fnlib.Parameters(seed=0))
    output, buffers = model.with_buffers(torch.eye(3))
    gradient = model.backward((output * torch.randn(3, 3)).sum())
    later = model.step(gradient, buffers=buffers)
    return {
        "parameters": later,
        "model.weights": model.weights,
        "gradient": gradient,
        "gradient, scaled": gradient * 2,
        "gradient, summed": gradient + gradient,
        "gradient, copied": copy.deepcopy(gradient),
        "gradient, shallow": copy.copy(gradient),
        "gradient, pickled": pickle.loads(pickle.dumps(gradient)) * 2,
        "gradient, again": fnlib.Gradient(gradient),
        "gradient, of two": fnlib.Gradient(gradient) + gradient,
        "diff": later.diff(model.parameters),
        "diff, pickled": pickle.loads(pickle.dumps(later.diff(model.parameters))),
        "buffers, pickled": pickle.loads(pickle.dumps(later.buffers)),
        "with_buffers, copied": copy.deepcopy(buffers),
        "parameters.buffers": later.buffers,
        "with_buffers": buffers,
        "carried": model.carry(dict(buffers)).with_buffers(torch.eye(3))[1],
        "bound": model._buffers,
    }[name]


HOLDERS = {
    **dict.fromkeys(
        ("parameters", "model.weights", "gradient", "gradient, scaled", "gradient, summed"),
        "weight",
    ),
    **dict.fromkeys(("gradient, copied", "gradient, shallow", "gradient, pickled"), "weight"),
    **dict.fromkeys(("gradient, again", "gradient, of two", "diff", "diff, pickled"), "weight"),
    **dict.fromkeys(("parameters.buffers", "with_buffers", "carried", "bound"), "running_mean"),
    **dict.fromkeys(("buffers, pickled", "with_buffers, copied"), "running_mean"),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_both_names_of_a_tie_are_read_everywhere(holder: str) -> None:
    found, kind = holders(holder), HOLDERS[holder]
    first, second = f"0.{kind}", f"1.{kind}"
    assert second in found and second not in list(found)
    assert (torch.as_tensor(found[second]) == torch.as_tensor(found[first])).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_tie_hides_no_entry_of_a_sum(sign: int) -> None:
    """Each entry is read under its own name, whichever of the two gradients it comes from."""
    gradient = holders("gradient")
    other = fnlib.Gradient({f"{i}.weight": torch.full((3,), i + 1.0) for i in range(2)})
    for found, expected in (
        (gradient + sign * other, gradient["0.weight"] + sign),
        (sign * other + gradient, gradient["0.weight"] + sign),
    ):
        assert torch.equal(found["0.weight"], expected)
        assert torch.equal(found["1.weight"], torch.full((3,), sign * 2.0))
        assert torch.equal(pickle.loads(pickle.dumps(found))["1.weight"], found["1.weight"])


def test_buffers_given_on_purpose_are_taken() -> None:
    """What the errors about dropped buffers call right, done."""
    ModelFactory, parameters = trained()
    model = ModelFactory(parameters)
    _, first = model.with_buffers(X)
    _, second = model.with_buffers(-X)
    _, both = model.carry(first).with_buffers(-X)
    assert both["1.num_batches_tracked"] == 4
    nothing = fnlib.Gradient({})
    for chosen in (dict(first), dict(second), parameters.buffers):
        later = model.step(nothing, buffers=chosen)
        assert torch.equal(later.buffers["1.running_mean"], chosen["1.running_mean"])
    fresh = ModelFactory(parameters)
    _, first = fresh.with_buffers(X)
    carried = fresh.carry(first)
    assert carried.eval()(X).isfinite().all()
    for step in (
        lambda: carried.step(nothing),
        lambda: carried.train().eval().step(nothing),
        lambda: fresh.step(nothing, buffers=first),
        lambda: fresh.eval().train().step(nothing, buffers=first),
        lambda: ModelFactory(parameters).step(nothing, buffers=first),
    ):
        assert step().buffers["1.num_batches_tracked"] == 3


MAKERS: dict[str, Any] = {
    "replace": lambda p, a: p.replace(weights={"bias": p["bias"] * a}),
    "lerp": lambda p, a: p.lerp(p.to(torch.float32), a),
    "lerp, buffers too": lambda p, a: p.lerp(p, a, buffers="lerp"),
    "to": lambda p, a: p.lerp(p, a).to(torch.float64),
    "deepcopy": lambda p, a: copy.deepcopy(p.lerp(p, a)),
    "stack": lambda p, a: fnlib.stack([p.lerp(p, a), p]),
    "unstack": lambda p, a: fnlib.unstack(fnlib.stack([p, p.lerp(p, a)]))[1],
    "tree_map": lambda p, a: torch.utils._pytree.tree_map(
        lambda tensor: tensor * a if tensor.is_floating_point() else tensor, p
    ),
}
AFTERWARDS: dict[str, Any] = {
    "to": lambda value: value.to(torch.float64),
    "deepcopy": copy.deepcopy,
    "stack": lambda value: fnlib.unstack(fnlib.stack([value]))[0],
    "lerp": lambda value: value.lerp(value, 0.5),
}


@pytest.mark.parametrize("follows", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_graph_is_known_where_weights_carry_one(maker: str, follows: bool, tmp_path: Any) -> None:
    parameters = fnlib.Parameters.from_module(nn.BatchNorm1d(3))
    alpha = torch.tensor(0.25, requires_grad=True)
    with torch.set_grad_enabled(follows):
        value = MAKERS[maker](parameters, alpha)
    if maker != "tree_map":  # which maps the buffers too
        assert not any(buffer.requires_grad for buffer in value.buffers.values())
    if follows:
        with pytest.raises(fnlib.CarriesGraph):
            value.save(tmp_path / "value")
        if maker not in ("stack", "tree_map"):
            model = fnlib.Factory(lambda: nn.BatchNorm1d(3))(value, training=False)
            output = model(torch.eye(3).to(value["bias"].dtype))
            assert torch.autograd.grad(output.square().sum(), alpha)
    else:
        value.save(tmp_path / "value")


@pytest.mark.parametrize("way", AFTERWARDS)
def test_what_is_made_without_a_graph_has_none(way: str, tmp_path: Any) -> None:
    parameters = fnlib.Parameters.from_module(nn.BatchNorm1d(3))
    value = parameters.lerp(parameters, torch.tensor(0.25, requires_grad=True))
    with torch.no_grad():
        plain = AFTERWARDS[way](value)
    plain.save(tmp_path / "value")


def test_the_hash_is_that_of_the_object() -> None:
    """Equal values are two keys; the docstring says so."""
    _, parameters = trained(1)
    twin = copy.deepcopy(parameters)
    assert parameters == twin and len({parameters, twin}) == 2
    for kind in (fnlib.Parameters, fnlib.Gradient):
        assert "hash" in (kind.__doc__ or "") + (kind.__eq__.__doc__ or "")


def test_seeds_of_numpy_are_integers() -> None:
    """NumPy's integers are whole numbers too, and come out as Python's."""
    ModelFactory, _ = trained(0)
    assert fnlib.Parameters(seed=numpy.int64(3)) == fnlib.Parameters(seed=3)
    drawn = ModelFactory(fnlib.Parameters(seed=numpy.uint8(3))).parameters
    assert drawn == ModelFactory(fnlib.Parameters(seed=3)).parameters
    dropout = fnlib.Sequential(nn.Dropout(0.5))
    start = dropout(fnlib.Parameters()).parameters
    outputs = [dropout(start, seed=seed)(X) for seed in (7, numpy.int32(7))]
    assert torch.equal(*outputs)
