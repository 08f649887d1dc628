"""Every promise of the design, broken on purpose: the tests that are named beside each breakage must fail.

    python -m tests.core.sabotage              # all of them
    python -m tests.core.sabotage 5 random     # those of promise 5, and those whose name has "random" in it
    python -m tests.core.sabotage -v leak      # and why each test failed

A breakage replaces a function (breakages.py), so a redesign of what is inside the functions leaves it as it
is. Each runs in a child of a process that has loaded PyTorch already, so it takes a second rather than
five. A breakage that no test notices is a hole in the tests.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.core.breakages import (
    Breakage,
    result,
    swap,
    together,
    unexplained,
    unrefused,
    within,
)

ROOT = Path(__file__).parents[2]
SECONDS = 120  # of one breakage, after which it counts as unnoticed


@dataclasses.dataclass(frozen=True)
class Sabotage:
    """One breakage.

    Args:
        promise: its number in the design.
        name: what is broken.
        breakage: what breaks it.
        tests: ids under tests/core/, or under tests/ with a folder, each of which must fail.
    """

    promise: int
    name: str
    breakage: Breakage
    tests: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """The tests as pytest names them."""
        return [f"tests/{'' if '/' in test.partition('::')[0] else 'core/'}{test}" for test in self.tests]


def s(promise: int, name: str, breakage: Breakage, *tests: str) -> Sabotage:
    return Sabotage(promise, name, breakage, tests)


# --- where things are -----------------------------------------------------------------------------

PARAMETERS, GRADIENT, FACTORY, MODEL = (f"fnlib.{name}" for name in ("Parameters", "Gradient", "Factory", "Model"))
SHARE, SHARE_ALL = "fnlib.values.protect.share", "fnlib.values.protect.share_all"
FORWARD, NETWORK, TREE = "fnlib.network.forward", "fnlib.network.pool.Network", "fnlib.network.pool.Tree"
ELSEWHERE = "fnlib.network.ownership.held_elsewhere"
HISTORY, VERIFY = (f"history/test_{name}.py" for name in ("history", "verify"))
RANKS, LEDGERS = (f"distributed/test_{name}.py" for name in ("distributed", "ledgers"))
WRAPPED, FORMULA = "fnlib.updates.wrap.Wrapped", "fnlib.updates.formula"

# --- what takes its place -------------------------------------------------------------------------


def returns(value: Any) -> Any:
    """Always return this."""
    return lambda old: lambda *args, **kwargs: value


def first(old: Any) -> Any:
    """Return the first argument as it is."""
    return lambda tensor, *args, **kwargs: tensor


def raw(tensors: Any) -> dict[str, torch.Tensor]:
    """Take the tensors out of a mapping that protects them."""
    return dict(tensors._tensors)


def unprotected(where: str) -> Breakage:
    """Let a function hand out the tensors themselves."""
    return together(within(where, SHARE, first), within(where, SHARE_ALL, lambda old: list))


def doubled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor + tensor for name, tensor in tensors.items()}


def one_by_one(old: Any) -> Any:
    """Look at the states in order."""

    def bisect(run: Any, predicate: Any) -> Any:
        from fnlib.history import Found

        index = next(i for i, parameters in enumerate(run) if not predicate(parameters))
        return Found(index, index + 1)

    return bisect


class Agreeing:
    """A hash that equals every name."""

    def __init__(self, old: Any) -> None:
        pass

    def __call__(self, flat: torch.Tensor) -> Agreeing:
        return self

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def filling_grad(old: Any) -> Any:
    def backward(self: Any, loss: Any, **kwargs: Any) -> Any:
        loss.sum().backward(retain_graph=True)
        return old(self, loss, **kwargs)

    return backward


def with_a_graph(old: Any) -> Any:
    def gradients_of(loss: Any, leaves: Any, retain: bool, create: bool) -> Any:
        return torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)

    return gradients_of


def with_zeros(old: Any) -> Any:
    """Step with a zero where the gradient has no entry."""

    def step(self: Any, gradient: Any, **kwargs: Any) -> Any:
        weights = self.parameters
        full = {name: gradient[name] if name in gradient else torch.zeros_like(weights[name]) for name in weights}
        return old(self, full, **kwargs)

    return step


def by_place(old: Any) -> Any:
    """Bind weights in the order in which they come, whatever their names."""

    def bind(self: Any, parameters: Any, **kwargs: Any) -> Any:
        model = old(self, parameters, **kwargs)
        weights = dict(zip(model.weights, model.parameters.values(), strict=True))
        return old(self, model.parameters.replace(weights=weights), **kwargs)

    return bind


def without_state(old: Any) -> Any:
    """Step as if it were the first."""

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        return old(self.factory(self.parameters.replace(optimizer_state=None)), *args, **kwargs)

    return step


def without_error_text(kind: str) -> Breakage:
    """Cut what an error says after its first line."""

    def make(old: Any) -> Any:
        def text(self: Any) -> str:
            return old(self).splitlines()[0] if type(self).__name__ == kind else old(self)

        return text

    return swap("fnlib.errors.FnlibError.__str__", make)


def always_the_first(old: Any) -> Any:
    """Lend the module tree that was lent first."""
    lent: dict[Any, Any] = {}

    def borrow(self: Any, mode: Any) -> Any:
        if (id(self), mode) not in lent:
            lent[id(self), mode] = old(self, mode)
        return lent[id(self), mode]

    return borrow


def half_a_file(old: Any) -> Any:
    def save(self: Any, path: Any) -> None:
        try:
            old(self, path)
        except Exception:
            Path(path).write_bytes(b"half")
            raise

    return save


def marked_late(old: Any) -> Any:
    """Give a value away after everything that may fail has been done."""

    def step(self: Any, gradient: Any, *, donate: bool = False, **kwargs: Any) -> Any:
        if donate:
            old(self, gradient, **kwargs)
        return old(self, gradient, donate=donate, **kwargs)

    return step


def never_given_back(old: Any) -> Any:
    """Keep the module trees of all passes, and lend none of them again."""
    kept = []

    def give_back(self: Any, tree: Any, buffers: Any) -> None:
        kept.append(tree)

    return give_back


def only_first_places(second: int) -> Any:
    """Leave out weights (0) or buffers (1) that a module holds in a second place."""

    def make(old: Any) -> Any:
        def fill(self: Any, weights: Any, buffers: Any) -> None:
            whole = self.second_places
            self.second_places = tuple([] if i == second else part for i, part in enumerate(whole))
            old(self, weights, buffers)
            self.second_places = whole

        return fill

    return make


def rounded(old: Any) -> Any:
    def flatten(tree: Any, tensors: Any) -> Any:
        return old(float(f"{tree:.9g}") if isinstance(tree, float) else tree, tensors)

    return flatten


class Everything:
    def __contains__(self, _: object) -> bool:
        return True


def of(rule: Any, **settings: Any) -> Any:
    """Copy an update rule with other settings."""
    other = copy.copy(rule)
    for name, value in settings.items():
        object.__setattr__(other, name, value)
    return other


def dampened_at_once(old: Any) -> Any:
    def move(rule: Any, w: Any, g: Any, kept: Any, t: Any, out: Any) -> Any:
        return old(rule, w, g, {"momentum_buffer": torch.zeros_like(w), **kept}, t, out)

    return move


def decayed_late(old: Any) -> Any:
    def move(rule: Any, w: Any, g: Any, kept: Any, t: Any, out: Any) -> Any:
        decay = rule.lr * rule.weight_decay * w
        moved, kept = old(of(rule, weight_decay=0), w, g, kept, t, out)
        return moved.sub_(decay), kept

    return move


def decayed_by_difference(old: Any) -> Any:
    def move(rule: Any, w: Any, g: Any, kept: Any, t: Any, out: Any) -> Any:
        smaller = w - w * (rule.lr * rule.weight_decay)
        return old(of(rule, weight_decay=0), smaller, g, kept, t, out)

    return move


def remembered(old: Any) -> Any:
    """Keep a rate for good."""

    def at_rate(self: Any, rate: Any) -> Any:
        found = old(self, rate)
        _RATES[self.name] = found._rate
        return found

    return at_rate


_RATES: dict[str, Any] = {}


def recalled(old: Any) -> Any:
    def at(self: Any, step_count: int) -> Any:
        rule = old(self, step_count)
        return rule.having(_rate=_RATES[self.name]) if self.name in _RATES else rule

    return at


def at_the_first(old: Any) -> Any:
    def call(self: Any, weights: Any) -> Any:
        self.first = getattr(self, "first", weights)
        return old(self, self.first)

    return call


def from_first_buffers(old: Any) -> Any:
    def call(self: Any, weights: Any) -> Any:
        self.first = getattr(self, "first", self.buffers)
        self.buffers = self.first
        return old(self, weights)

    return call


RATES, OBJECTIVE = "test_rates.py::", "test_objective.py::test_objective_has_the_bits_of_a_closure"
WRITE = "test_protection.py::test_a_write_does_not_reach_the_value"
ERROR = "test_errors.py::test_error"
OWN = "test_optimizers.py::test_own_rule_has_the_bits_of_the_stock_loop"
TRAINED = "test_modules.py::test_network_trains_to_the_same_bits"
IN_PLACE = "test_update.py::test_in_place_or_not_gives_the_same_bits_and_strides"
OWN_RULE = "test_optimizers.py::test_own_rule_in_place_harms_nobody"
COPIED = "test_forward.py::test_modules_that_are_given_stay_as_they_are"
NO_TRACE = "test_protection.py::test_a_pass_touches_no_grad_no_flag_no_generator"

TABLE = [
    # --- 1: nothing passed in is ever changed
    s(1, "weights handed out unprotected", unprotected(f"{PARAMETERS}.__getitem__"), f"{WRITE}[parameters-add_]", f"{WRITE}[parameters-numpy]"),
    s(1, "buffers handed out unprotected", result(f"{PARAMETERS}.buffers", raw), f"{WRITE}[parameters.buffers-add_]"),
    s(1, "optimizer state handed out unprotected", unprotected(f"{PARAMETERS}.optimizer_state"), f"{WRITE}[optimizer_state-add_]"),
    s(1, "state_dict handed out unprotected", within(f"{PARAMETERS}.state_dict", "torch.Tensor.clone", first), f"{WRITE}[state_dict-.data]"),
    s(1, "gradient handed out unprotected", unprotected(f"{GRADIENT}.__getitem__"), f"{WRITE}[gradient-fused kernel]"),
    s(1, "a method may change the network", swap("fnlib.network.hidden_state.anatomy", returns({})), "test_methods.py::test_a_method_that_changes_the_network_is_refused[grow]", "test_methods.py::test_a_method_of_every_module_is_refused[append]"),
    s(1, "a weight that is frozen stays frozen", swap("fnlib.network.backward.Leaves._switched", returns({})), "test_weights.py::test_freezing_model_weights_ends_this_model_only[one]", "test_weights.py::test_a_forward_that_freezes_weights_is_refused[all]", "test_methods.py::test_a_method_that_changes_the_network_is_refused[freeze]"),
    s(1, "a write to model.weights goes unnoticed", swap("fnlib.network.backward.Leaves.written", lambda old: lambda self, origins: []), f"{WRITE}[model.weights-add_]", "test_weights.py::test_a_write_ends_this_model_only[through_data]"),
    s(1, "with_buffers hands out unprotected", result(f"{MODEL}.with_buffers", lambda pair: (pair[0], raw(pair[1]))), f"{WRITE}[buffers-out=]"),
    s(1, "an output that is a weight, unprotected", swap(f"{FORWARD}._apart", first), "test_forward.py::test_an_output_made_of_weights_and_buffers_can_be_written_to"),
    s(1, "tensors that are given are not copied", swap("fnlib.values.protect.owned", lambda old: torch.Tensor.detach), "test_protection.py::test_what_was_given_is_taken_over"),
    s(1, "a buffer written in place", within(f"{FORWARD}.run", SHARE_ALL, lambda old: list), "test_parameters.py::test_carry_and_the_modes_are_new_models"),
    s(1, "a rule of one's own is given the originals", within(f"{MODEL}.step", SHARE_ALL, lambda old: list), OWN_RULE),
    s(1, "a rule of one's own is given the gradient itself", within(f"{MODEL}.step", SHARE, first), OWN_RULE),
    s(1, "a wrapped optimizer is given the originals", swap("fnlib.updates.wrap._copied", first), f"{IN_PLACE}[wrapped-plain]"),
    s(1, "a fused kernel is given the originals", unprotected(f"{FORMULA}.Formula.update"), f"{IN_PLACE}[fused Adam-plain]"),
    s(1, "a module that a build keeps is taken apart", swap("fnlib.network.source._parts", returns(frozenset())), "test_forward.py::test_a_build_may_hand_out_a_module_that_it_keeps", "test_forward.py::test_a_build_may_share_a_backbone"),
    s(1, "nobody is said to hold a new network", swap(ELSEWHERE, returns(False)), "test_building.py::test_a_cached_build_keeps_its_weights", "test_forward.py::test_a_build_may_share_a_backbone"),
    s(1, "an instance is used, not copied", swap("fnlib.network.names.copy_structure", first), COPIED),
    s(1, ".grad is filled", swap(f"{MODEL}.backward", filling_grad), NO_TRACE),
    s(1, "the random state is not restored", swap("torch.random.fork_rng", lambda old: lambda **_: contextlib.nullcontext()), "test_randomness.py::test_with_a_seed_a_pure_function", NO_TRACE),
    s(1, "weights are bound in the order in which they come", swap(f"{FACTORY}.__call__", by_place), "test_rules.py::test_one_value_under_factories_of_another_order"),
    # --- 2: the bits of the stock loop
    s(2, "SGD: subtracts a product", swap("fnlib.SGD.move", lambda old: lambda rule, w, g, kept, t, out: (w - rule.lr * g, kept)), f"{OWN}[kept-SGD lr=0.1]"),
    s(2, "SGD: dampens the first step too", swap("fnlib.SGD.move", dampened_at_once), f"{OWN}[kept-SGD lr=0.1 momentum=0.5 dampening=0.3 weight_decay=0.1]"),
    s(2, "SGD: decays after the momentum", swap("fnlib.SGD.move", decayed_late), f"{OWN}[donated-SGD lr=0.1 momentum=0.5 dampening=0.3 weight_decay=0.1]"),
    s(2, "Adam: the mean as a sum of products", within("fnlib.Adam.move", f"{FORMULA}.lerp", lambda old: lambda m, g, share, out=None: m * (1 - share) + g * share), f"{OWN}[kept-Adam lr=0.01]"),
    s(2, "Adam: no eps", within("fnlib.Adam.move", "torch.Tensor.add_", first), f"{OWN}[kept-Adam lr=0.01]"),
    s(2, "AdamW: decay as a difference", swap("fnlib.AdamW.move", decayed_by_difference), f"{OWN}[kept-AdamW lr=0.01]"),
    s(2, "an absent gradient counts as zero", swap(f"{MODEL}.step", with_zeros), "test_parameters.py::test_steps_without_a_gradient_leave_weights_alone", f"{TRAINED}[a weight that is not used-Adam]"),
    s(2, "a schedule is one step ahead", swap("fnlib.updates.rule.Rule.at", lambda old: lambda self, step_count: old(self, step_count + 1)), "test_optimizers.py::test_scheduled_rate[False-SGD]"),
    s(2, "building draws from the generator twice", together(swap(ELSEWHERE, returns(True)), within("fnlib.network.source.Source._taken_apart", "fnlib.network.randomness.preserved", lambda old: contextlib.nullcontext)), "test_randomness.py::test_without_a_seed_the_stock_draws"),
    s(2, "a second list of weights is forgotten", swap(f"{TREE}.fill", only_first_places(0)), f"{TRAINED}[weights held in lists too-Adam]"),
    s(2, "a buffer under a second name is forgotten", swap(f"{TREE}.fill", only_first_places(1)), f"{TRAINED}[a buffer held twice-Adam]"),
    s(2, "the mode is not the module's own train()", swap("fnlib.network.pool._set_mode", lambda old: lambda module, mode: nn.Module.train(module, bool(mode))), f"{TRAINED}[batchnorm frozen by its network-Adam]"),
    s(2, "what an optimizer changes in its groups is lost", result(f"{WRAPPED}.update", lambda pair: (pair[0], {**pair[1], "moved": []})), "test_rules.py::test_what_an_optimizer_changes_in_its_groups_goes_on"),
    s(2, "a rate for one step is ignored", swap("fnlib.updates.rule.Rule.at_rate", lambda old: lambda self, rate: self), f"{RATES}test_a_rate_for_one_step", f"{RATES}test_rates_of_groups"),
    s(2, "a rate for one step stays", together(swap("fnlib.updates.rule.Rule.at_rate", remembered), swap("fnlib.updates.rule.Rule.at", recalled)), f"{RATES}test_one_rate_is_a_number_and_lasts_a_step"),
    s(2, "joint clipping clips each by itself", swap("fnlib.clip_norm", lambda old: lambda most, *gradients: tuple(g.clip_norm(most) for g in gradients)), f"{RATES}test_joint_clipping_as_stock"),
    s(2, "lerp as a sum of products", within(f"{PARAMETERS}.lerp", "torch.lerp", lambda old: lambda a, b, share: (1 - share) * a + share * b), f"{RATES}test_lerp_as_averaged_model"),
    s(2, "an objective is given the weights of the first trial", swap("fnlib.factory._Trials.__call__", at_the_first), f"{OBJECTIVE}[LBFGS-plain]"),
    s(2, "an objective starts from the first buffers each time", swap("fnlib.factory._Trials.__call__", from_first_buffers), f"{OBJECTIVE}[LBFGS-normed]"),
    s(2, "weights that a trial wrote to are lost", swap("fnlib.factory._Trials.__call__", lambda old: lambda self, weights: (*old(self, weights)[:2], weights)), f"{OBJECTIVE}[Adam, by a closure-Renormed]"),
    # --- 3: all state in one value
    s(3, "a copy leaves out the optimizer state", swap(f"{PARAMETERS}.__reduce__", lambda old: lambda self: old(self.replace(optimizer_state=None))), "test_parameters.py::test_copies_and_pickles_are_values_of_their_own"),
    s(3, "a file leaves out the optimizer state", swap(f"{PARAMETERS}.save", lambda old: lambda self, path: old(self.replace(optimizer_state=None), path)), "test_files.py::test_what_is_loaded_equals_what_was_saved[linear]"),
    s(3, "a tie is stored twice", within("fnlib.network.names.named_tensors", "torch.nn.Module.named_parameters", lambda old: lambda self, **_: old(self, remove_duplicate=False)), "test_parameters.py::test_state_dict_is_independent_and_keeps_ties"),
    s(3, "optimizer state is not threaded", swap(f"{MODEL}.step", without_state), f"{OWN}[kept-SGD lr=0.1 momentum=0.9]"),
    s(3, "steps are not counted", together(swap(f"{PARAMETERS}.step_count", returns(0)), swap("fnlib.network.randomness.seeded", lambda old: lambda seed, step_count: old(seed, 0))), "test_randomness.py::test_a_constant_seed_draws_afresh_each_step", "test_parameters.py::test_a_mapping_of_weights"),
    s(3, "equality overlooks the state", swap(f"{PARAMETERS}.__eq__", lambda old: lambda a, b: old(a.replace(optimizer_state=None), b.replace(optimizer_state=None))), "test_parameters.py::test_equality_compares_everything_by_bytes"),
    s(3, "numbers are rounded on saving", swap("fnlib.values.files._flatten", rounded), "test_files.py::test_any_state_survives"),
    s(3, "strides are lost on saving", within(f"{PARAMETERS}.save", "torch.empty_like", lambda old: lambda tensor: tensor.new_empty(tensor.shape)), "test_files.py::test_what_is_loaded_equals_what_was_saved[transposed weight]"),
    s(3, "a failed save leaves half a file", swap(f"{PARAMETERS}.save", half_a_file), "test_files.py::test_a_save_that_fails_leaves_the_old_file"),
    # --- 4: re-entrant
    s(4, "one module tree for all passes", swap(f"{NETWORK}.borrow", always_the_first), "test_threads.py::test_nested_calls_of_one_factory"),
    s(4, "seeded passes without their lock", swap("fnlib.network.randomness.one_at_a_time", lambda lock: contextlib.nullcontext()), "test_threads.py::test_seeded_passes_do_not_draw_from_each_other"),
    s(4, "what belongs to a transform outlives it", within("fnlib.network.bound.Bound.to", "torch.is_inference_mode_enabled", returns(False)), "test_transforms.py::test_inference_mode_and_no_grad"),
    s(4, "torch.func does not see the weights", swap("fnlib.torch_private.is_wrapped", returns(False)), "test_transforms.py::test_grad_is_backward"),
    s(4, "a checkpoint meets the weights of the model that ran last", swap(f"{TREE}.is_referenced", returns(False)), "test_forward.py::test_checkpoints_of_several_models_at_once"),
    s(4, "a joint backward deals the gradients out wrongly", result("fnlib.backward", lambda gradients: gradients[::-1]), "test_threads.py::test_two_models_of_one_factory_in_one_loss"),
    s(4, "stacked in another order", swap("fnlib.values.apart.stacked", lambda old: lambda records: old(records[::-1])), "test_trees.py::test_a_step_of_many_models"),
    s(4, "values of two kinds are stacked", swap("fnlib.values.apart._check_same", returns(None)), "test_trees.py::test_stack_refuses_values_of_two_kinds"),
    s(4, "the state is no part of the tree", swap("fnlib.values.apart._emptied", lambda old: lambda tree, leaves: tree), "test_trees.py::test_leaves_are_all_tensors"),
    s(4, "bias is corrected in single precision", within("fnlib.compiled.transformed", "torch.Tensor.double", first), "test_trees.py::test_bias_correction_in_double_precision"),
    # --- 5: donation is safe
    s(5, "a value is not marked", swap(f"{MODEL}.step", lambda old: lambda self, gradient, *, donate=False, **kwargs: old(self, gradient, **kwargs)), "test_donation.py::test_every_use_is_refused[forward]", "test_donation.py::test_every_use_is_refused[step again]"),
    s(5, "a value is marked after the step, not before", swap(f"{MODEL}.step", marked_late), "test_donation.py::test_a_step_that_fails_half_way_leaves_no_half_written_value"),
    s(5, "a graph that still needs the value is not told", unexplained(f"{MODEL}.backward"), "test_donation.py::test_a_backward_that_still_needs_it_is_refused[SGD]"),
    s(5, "a fused kernel's write goes unnoticed by the graph", swap("torch.autograd.graph.increment_version", returns(None)), "test_donation.py::test_a_backward_that_still_needs_it_is_refused[fused Adam]"),
    s(5, "what was handed out is overwritten", unprotected(f"{MODEL}.step"), "test_update.py::test_two_values_hold_no_memory_in_common[Adam]"),
    s(5, "nothing is reused", result(f"{MODEL}.step", copy.deepcopy), "test_donation.py::test_memory_is_reused[SGD]", "test_donation.py::test_memory_is_reused[fused Adam]"),
    s(5, "the line that gave it away is not named", swap("fnlib.values.held.caller", returns("an earlier line")), "test_donation.py::test_every_use_is_refused[backward]"),
    # --- 6: nothing leaks
    s(6, "the graph is kept", swap(f"{MODEL}.backward", lambda old: lambda self, loss, retain_graph=False: old(self, loss, retain_graph=True)), f"{ERROR}[backward: twice]"),
    s(6, "the gradient carries a graph", swap("fnlib.torch_private.gradients_of", with_a_graph), "test_leaks.py::test_no_node_outlives_its_step"),
    s(6, "buffers carry a graph", swap(f"{FORWARD}._own", first), "test_leaks.py::test_buffers_carry_no_graph"),
    s(6, "module trees hold on to the last value", within(f"{NETWORK}.give_back", f"{TREE}.clear", returns(None)), "test_leaks.py::test_an_old_value_is_gone_when_it_is_let_go"),
    s(6, "an RNN's second list holds on to old weights", swap("fnlib.torch_private.keep_rnn_lists", returns(None)), "test_recurrent.py::test_no_old_weights_are_kept_alive"),
    s(6, "each pass makes another module tree", swap(f"{NETWORK}.give_back", never_given_back), "test_leaks.py::test_tensors_alive_do_not_grow[SGD]"),
    # --- 7: nothing is dropped in silence
    s(7, "a forward may drop buffers", unrefused(f"{MODEL}.__call__", "StateDropped", lambda self, *args, **kwargs: self.with_buffers(*args, **kwargs)[0]), f"{ERROR}[forward: buffers dropped]", f"{ERROR}[forward: weights dropped]"),
    s(7, "state in attributes is taken for a cache", swap("fnlib.network.judge._same_output", returns(True)), "test_forward.py::test_state_in_attributes_is_refused"),
    s(7, "what grows in a pass is not noticed", swap("fnlib.network.hidden_state.Attributes.grew", returns([])), "test_forward.py::test_other_state_is_refused"),
    s(7, "a step may leave its buffers out", unrefused(f"{MODEL}.step", "MissingBuffers", lambda self, gradient, **_: self.parameters), f"{ERROR}[step: without its buffers]"),
    s(7, "a gradient of other names is taken", unrefused(f"{MODEL}.step", "WrongParameters", lambda self, gradient, **_: self.parameters), f"{ERROR}[step: names of another network]"),
    s(7, "a change of kind is taken", swap("fnlib.values.check._number_kind", returns("floating")), f"{ERROR}[replace: kind]"),
    s(7, "another rule's state is read", unrefused(f"{MODEL}.step", "WrongRule", lambda self, gradient, **_: self.parameters), f"{ERROR}[step: state of another rule]"),
    s(7, "an independent loss gives an empty gradient", unrefused(f"{MODEL}.backward", "LossIndependent", lambda self, loss, **_: {}), f"{ERROR}[backward: of another model]"),
    s(7, "a checkpoint of the old kind drops gradients", unrefused(f"{MODEL}.backward", "HiddenByCheckpoint", lambda self, loss, **_: {}), f"{ERROR}[backward: past an old checkpoint]"),
    s(7, "a loss of several numbers is summed", swap(f"{MODEL}.backward", lambda old: lambda self, loss, **kwargs: old(self, loss.sum(), **kwargs)), f"{ERROR}[backward: several numbers]"),
    s(7, "a foreign state is used unread", swap("fnlib.updates.rule.Rule.check_state", returns(None)), "test_files.py::test_an_impossible_state_is_refused_before_it_is_used"),
    s(7, "train() wakes what was bound frozen", swap(f"{MODEL}.train", lambda old: lambda self: self.factory(self.parameters)), "test_parameters.py::test_train_returns_to_the_mode_of_the_bind[training2-False]"),
    s(7, "a checkpoint of the old kind hides a part of a gradient", swap("fnlib.network.backward._hidden", returns([])), f"{ERROR}[backward: past one whose weights are used outside too]"),
    s(7, "a state that is put in keeps the name of another rule", swap("fnlib.values.trees.same_entries", returns(True)), "test_rules.py::test_a_state_that_is_put_in_belongs_to_its_rule[SGD-Adam]"),
    s(7, "a transform reads a foreign state", within("fnlib.compiled.transformed", "fnlib.updates.check.refuse_foreign", returns(None)), "test_trees.py::test_a_state_that_no_step_made_is_refused_in_a_transform"),
    s(7, "a layer that is not known to redraw is redrawn", swap("fnlib.network.source.REDRAWABLE", lambda known: Everything()), "test_initial.py::test_anything_else_is_refused"),
    s(7, "a rate that is set on a finished rule", together(*(swap(f"{kind}.__setattr__", lambda old: object.__setattr__) for kind in ("fnlib.SGD", FACTORY))), f"{ERROR}[rule: a rate set later]", f"{ERROR}[factory: another rule later]"),
    # --- 8: errors teach
    s(8, "no right line under dropped buffers", without_error_text("StateDropped"), f"{ERROR}[forward: buffers dropped]"),
    s(8, "no right line under wrong parameters", without_error_text("WrongParameters"), f"{ERROR}[step: shapes]"),
    s(8, "PyTorch's error instead of a named one", unexplained(f"{MODEL}.backward"), f"{ERROR}[backward: twice]", f"{ERROR}[backward: overwritten]"),
    s(8, "a damaged file is safetensors' own error", unexplained(f"{PARAMETERS}.load"), "test_files.py::test_a_file_that_is_cut_short_is_refused"),
    s(8, "an assignment without its cure", without_error_text("Immutable"), "test_protection.py::test_values_refuse_assignment"),
    # --- 9: a history keeps every state of a run (section 8 of the design)
    s(9, "a replay that calls everything equal", within("fnlib.History.verify", "fnlib.history.same", returns(True)), f"{VERIFY}::test_the_first_difference_is_named", f"{VERIFY}::test_hidden_randomness_is_found"),
    s(9, "a bisection that looks at every state", swap("fnlib.History.bisect", one_by_one), f"{HISTORY}::test_bisect_looks_at_few_states"),
    s(9, "a branch that is the run itself", swap("fnlib.History.branch", lambda old: lambda run, index, path, step=None: run), f"{HISTORY}::test_a_branch_shares_and_changes_nothing"),
    s(9, "a name before its bytes are on the disk", swap("fnlib.values.store._sync", returns(None)), "history/test_crash.py::test_bytes_are_on_disk_before_their_name"),
    s(9, "a state that is read without its hash", within("fnlib.values.store.Store._tensors", "fnlib.values.store.hash_of", Agreeing), f"{HISTORY}::test_flipped_bytes_are_noticed"),
    s(9, "a second writer", swap("fnlib.values.store.Store.lock", returns(None)), f"{HISTORY}::test_a_second_writer_is_refused_by_name"),
    # --- 10: equal on all ranks, and two ranks have the bits of DDP (section 9 of the design)
    s(10, "a sum instead of a mean", result("fnlib.distributed._mean", doubled), f"{RANKS}::test_ranks_exchange_values[2]"),
    s(10, "a broadcast that leaves each rank its own", swap("fnlib.distributed._broadcast", first), f"{RANKS}::test_ranks_exchange_values[2]"),
    s(10, "replicas that always look equal", swap("fnlib.distributed._hash", returns("equal")), f"{RANKS}::test_ranks_exchange_values[2]"),
    s(10, "a lost rank is gloo's own error", unexplained("fnlib.distributed._run"), f"{RANKS}::test_a_lost_rank_is_a_named_error_in_time[dies]"),
    s(10, "a sparse gradient isn't refused", swap("fnlib.distributed._check", returns(None)), f"{RANKS}::test_alone_they_are_the_identity"),
    s(10, "ledgers that never part", swap("fnlib.ledger.views.ranks._first_difference", returns(None)), f"{LEDGERS}::test_the_statement_that_parts_the_ranks_is_named"),
    s(10, "a broadcast taken for a parting", swap("fnlib.ledger.views.ranks._starts", lambda old: lambda rows: ["?"] * len(rows[0])), f"{LEDGERS}::test_a_wrapper_that_is_made_anew_is_seen_through"),
]  # fmt: skip


def chosen(words: Iterable[str]) -> list[Sabotage]:
    """Return the breakages that a command line names: numbers of promises, and parts of names."""
    words = list(words)
    return [
        row
        for row in TABLE
        if not words
        or str(row.promise) in words
        or any(word in row.name for word in words if not word.isdigit())
    ]


@contextlib.contextmanager
def _in_child(log: Path) -> Iterator[None]:
    """Send what is printed to a file, and end the process whatever happens."""
    try:
        signal.alarm(SECONDS)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        yield
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(70)


def _run(row: Sabotage, log: Path) -> None:
    """Break something in this process and run the tests that should notice. Does not return."""
    import pytest

    class Failures:
        """Writes down which tests failed, and why."""

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                why = getattr(report.longrepr, "reprcrash", None)
                print("\nfailed", report.nodeid, flush=True)
                print("because", str(why.message if why else report.longrepr).splitlines()[0])

    with _in_child(log):
        row.breakage.apply()
        options = ["-q", "--assert=plain", "--tb=line", "-p", "no:cacheprovider"]
        status = pytest.main([*options, *row.ids], plugins=[Failures()])
        sys.stdout.flush()
        os._exit(int(status))


def outcome(row: Sabotage, log: Path) -> tuple[str, list[str]]:
    """Run a breakage; return which tests did not notice (nothing if all did), and why the others failed."""
    child = os.fork()
    if child == 0:
        _run(row, log)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = log.read_text()
    if status < 0 and status != -signal.SIGALRM:  # the promise was to keep it from crashing
        return "", [f"ended by signal {-status}"]
    lines = said.splitlines()
    failed = [line.removeprefix("failed ") for line in lines if line.startswith("failed ")]
    silent = [test for test in row.ids if not any(name.startswith(test) for name in failed)]
    why = [line.removeprefix("because ") for line in lines if line.startswith("because ")]
    if silent or status != 1:
        return f"{', '.join(silent)} (status {status})\n{said[-1500:]}", why
    return "", why


def main(words: list[str]) -> int:
    """Run breakages, print what became of each, return how many nothing noticed."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    # What every child would load for itself.
    import hypothesis  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401

    import fnlib

    assert fnlib.Parameters  # loads the whole core, whose names the breakages look up
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)], lr=0.1)  # loads the compiler, which takes a second
    verbose = "-v" in words
    rows, holes = chosen(word for word in words if word != "-v"), 0
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            begin = time.perf_counter()
            hole, why = outcome(row, Path(folder) / "log")
            holes += bool(hole)
            seconds = f"({time.perf_counter() - begin:.1f} s)"
            print(f"{'UNNOTICED' if hole else 'noticed':9}  {row.promise}  {row.name}  {seconds}", flush=True)
            if hole:
                print("           by", hole, flush=True)
            elif verbose:
                print(*(f"           {line[:150]}" for line in why), sep="\n", flush=True)
    print(f"{len(rows) - holes} of {len(rows)} breakages noticed")
    return holes


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
