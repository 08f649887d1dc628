"""What the museum's table says of fnlib is what fnlib does: each verdict is held to a function that shows it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.teaching import museum
from fnlib.teaching.content.exhibits import in_fnlib
from fnlib.teaching.museum import EXHIBITS, WAYS
from tests.museum.load import load

# What each function measures: what it is where the bug does no harm, where it does another one than in the stock loop, and
# where it does its own; an exception class where the bug is refused.
MEASURED: dict[str, dict[str, Any]] = {
    "does no harm": {
        "gradient_is_a_value": True,
        "nothing_clears_a_gradient": 4,
        "backward_is_for_one_model": True,
        "rule_holds_no_weights": 4,  # weights that the step moves
        "moments_are_in_the_parameters": 12,
        "moments_go_by_name": True,
        "rule_is_given_copies": (True, True),
        "name_is_a_snapshot": True,
        "model_is_a_snapshot": True,
        "checkpoint_is_a_name": 2,
        "student_starts_from_its_teacher": [3, 6],
        "old_weight_stays": True,
        "target_stays": True,
        "forward_leaves_the_old_statistics": True,
        "rate_follows_the_step_count": (0.001, 0.1),
        "rate_of_the_factory_counts": 100,
        "step_between_backwards": True,
        "autocast_sees_new_weights": 4,
        "objective_starts_without_a_gradient": (4, 1),  # evaluations; the bug's length would be 4
    },
    "does other harm": {
        "weight_norm_comes_too_late": (True, False),  # trained; without weight normalisation
        "parameters_before_a_load": (4, 0),  # weights that are trained, and that are loaded
        "clip_reaches_a_copy": (True, False),  # the gradient is right; the weights aren't clipped
    },
    "refused": {
        "statistics_are_refused": fnlib.StateDropped,
        "model_without_gradient": fnlib.LossIndependent,
        "rate_on_the_object": fnlib.Immutable,
        "hidden_attribute_is_refused": fnlib.HiddenState,
        "loss_without_weights": fnlib.LossIndependent,
    },
    "can still be written": {
        "factory_copies_its_network": 3,  # outputs: the layer with five isn't in the model
        "one_gradient_two_steps": 2,
        "own_rule_is_trusted": 0.1,  # the average is a tenth of the gradient: the mistake is there
        "parts_are_taken_as_they_are": [["embed.weight"], ["embed.weight", "decode.weight"]],
        "tie_is_taken_as_it_is": [["embed.weight"], ["embed.weight", "decode.weight"]],
        "average_under_the_same_name": 4,  # weights that the next step moves from the average
        "load_leaves_out": 0,
        "mode_is_training_unless_said": True,
        "eval_model_trains": (True, 1),
        "mode_holds_for_one_binding": 2,  # batches after the first, whose model was bound with `training=`
        "frozen_part_has_statistics": 3,
        "zeros_are_an_entry": ["stays", "moves"],
        "zero_gradient_decays": True,
        "freeze_comes_too_late": ["0.weight", "0.bias", "2.weight", "2.bias"],
        "freeze_without_effect": ["0.weight", "0.bias", "2.weight", "2.bias"],
        "freeze_undone": ["0.weight", "0.bias", "2.weight", "2.bias"],
        "clip_after_the_step": True,
        "schedule_counts_steps": 4,
        "cosine_counts_steps": 15,
        "new_rule_needs_a_factory": 0.1,
        "schedule_is_part_of_its_rule": 0.01,
        "groups_have_their_own_rates": [0.0125, 0.1],
        "activation_can_be_edited": True,
        "data_can_be_edited": 64,  # 4 * 4 * 4
        "functional_dropout_has_no_mode": True,
        "own_rule_has_an_attribute": 0,
        "total_keeps_graphs": True,
        "draws_are_pytorchs": ["same", "different"],
        "own_draws": 1,
        "seed_is_folded": [1, 5],  # different masks in five steps, without `seed=` and with it
        "layers_in_a_list_stay": ["head.weight", "head.bias"],
        "step_left_out": 1,
        "update_binds_a_name": 0,
        "step_after_the_loop": 3,
        "scaled_gradient_is_yours": 1024,
        "average_keeps_its_own_buffers": True,
        "layer_repeated": 2,
        "validation_takes_the_names": True,
    },
}
REFUSED = {
    "statistics_dropped": fnlib.StateDropped,
    "donated_value_used": fnlib.Donated,
}


ROWS = [(verdict, way) for verdict, ways in MEASURED.items() for way in ways]


@pytest.mark.parametrize(("verdict", "way"), ROWS, ids=[way for _, way in ROWS])
def test_stock_bugs_in_fnlib(verdict: str, way: str) -> None:
    """The table's verdict is that of the dictionary, and the function measures what that means."""
    expected, show = MEASURED[verdict][way], getattr(in_fnlib, way)
    assert WAYS[way].verdict == verdict
    if verdict == "refused":
        with pytest.raises(expected):
            show()
    else:
        assert show() == expected, show.__doc__


def test_a_hidden_state_keeps_its_graph_without_an_error() -> None:
    assert WAYS["hidden_state_stops_at_the_weights"].verdict == "does other harm"
    equal, (kept, cut) = in_fnlib.hidden_state_stops_at_the_weights()
    assert equal and kept > cut


def test_a_retained_graph_grows() -> None:
    assert WAYS["hidden_state_retained"].verdict == "does other harm"
    first, second, third = in_fnlib.hidden_state_retained()
    assert first < second < third


def test_a_retained_graph_keeps_what_it_saved() -> None:
    """The gradient is the same without `retain_graph=True`, which keeps saved values besides."""
    ModelFactory = fnlib.Factory(lambda: nn.RNN(4, 8, batch_first=True))
    pieces, gradients, saved = torch.randn(3, 2, 5, 4), [], []
    for retain in (False, True):
        model, hidden = ModelFactory(fnlib.Parameters(seed=0)), None
        for piece in pieces:
            output, hidden = model(piece, hidden)
            gradient = model.backward(output.pow(2).mean(), retain_graph=retain)
            model = ModelFactory(model.step(gradient))
        gradients.append(gradient)
        saved.append(saved_by(hidden))
    assert gradients[0] == gradients[1] and saved[0] == 0 < saved[1]


def saved_by(tensor: torch.Tensor) -> int:
    """Count the tensors that the graph behind a tensor has saved and not freed."""
    found, seen, waiting = 0, set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [inner for inner, _ in node.next_functions]
        for name in dir(node):
            if name.startswith("_saved_"):
                with contextlib.suppress(RuntimeError):  # freed
                    found += isinstance(getattr(node, name), torch.Tensor)
    return found


@pytest.mark.parametrize(
    "one", [one for one in EXHIBITS if one.functional], ids=lambda one: one.code
)
def test_the_functional_wing_in_fnlib(one: museum.Exhibit) -> None:
    module = load(one.file)
    if one.fnlib == "refused":
        with pytest.raises(REFUSED[one.code]):
            module.in_fnlib(**module.setup())
    else:
        assert one.harm is not None
        assert module.harm(module.in_fnlib) == pytest.approx(
            one.harm[0 if one.fnlib == "can still be written" else 1], rel=1e-3
        )


def test_every_verdict_is_shown_and_used() -> None:
    graphs = {"hidden_state_retained", "hidden_state_stops_at_the_weights"}
    shown = {*(way for _, way in ROWS), *graphs, *(one.code for one in EXHIBITS if one.functional)}
    assert shown == set(WAYS) == {one.way for one in EXHIBITS}


@pytest.mark.parametrize("one", EXHIBITS, ids=lambda one: one.code)
def test_the_source_can_be_shown(one: museum.Exhibit) -> None:
    lines = museum.source_in_fnlib(one.code).splitlines()
    assert lines[0].startswith("def ") and '"""' in lines[1] and len(lines) <= 25
    assert one.fnlib in (
        "does no harm",
        "does other harm",
        "refused",
        "can still be written",
    ) and one.because.endswith(".")


def test_replace_and_lerp_separate_weights_and_state() -> None:
    """Both calls that 15d and 16c name give weights of one value with the step count of another."""
    ModelFactory = fnlib.Factory(in_fnlib.network, optimizer=fnlib.Adam(lr=0.1))
    model, (feature, label) = ModelFactory(fnlib.Parameters(seed=0)), in_fnlib.batch()
    loss = in_fnlib.criterion(model(feature), label)
    old, new = model.parameters, model.step(model.backward(loss))
    for mixed in (old.replace(weights=dict(new)), old.lerp(new, 1.0)):
        assert mixed["0.weight"].equal(new["0.weight"])
        assert (mixed.step_count, new.step_count) == (0, 1)


def test_a_refused_forward_leaves_the_loaded_scale() -> None:
    module = in_fnlib.Scale()
    module.load_state_dict({"scale": module.scale.detach() + 1})
    model = fnlib.Factory(in_fnlib.Scale)(fnlib.Parameters.from_module(module))
    with pytest.raises(fnlib.HiddenState):
        model(in_fnlib.batch()[0])
    assert model.parameters["scale"].eq(2).all()
