"""Every promise of the design, broken on purpose: the tests that are named beside each breakage must fail.

    python -m tests.core.sabotage              # all of them
    python -m tests.core.sabotage 5 random     # those of promise 5, and those whose name has "random" in it

A breakage is made in a temporary copy of the package, never in the tree. Each runs in a child of a process that has loaded PyTorch
already, so that it takes a second rather than five. A breakage that no test notices is a hole in the tests.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 120  # of one breakage, after which it counts as unnoticed


@dataclasses.dataclass(frozen=True)
class Sabotage:
    """One breakage.

    Args:
        promise: its number in the design.
        name: what is broken.
        file: in fnlib/.
        edits: text of the file, found exactly once, and what takes its place.
        tests: ids under tests/core/, each of which must fail.
    """

    promise: int
    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def s(promise: int, name: str, file: str, old: str, new: str, *tests: str, more: tuple[tuple[str, str], ...] = ()) -> Sabotage:
    return Sabotage(promise, name, file, ((old, new), *more), tests)


WRITE = "test_protection.py::test_a_write_does_not_reach_the_value"
ERROR = "test_errors.py::test_error"
OWN = "test_optimizers.py::test_own_rule_has_the_bits_of_the_stock_loop"
NETWORK = "test_modules.py::test_network_trains_to_the_same_bits"
IN_PLACE = "test_update.py::test_in_place_or_not_gives_the_same_bits_and_strides"
TABLE = [
    # --- 1: nothing passed in is ever changed
    s(1, "weights handed out unprotected", "parameters.py", "            return share(weights[name])\n", "            return weights[name]\n", f"{WRITE}[parameters-add_]", f"{WRITE}[parameters-numpy]"),
    s(1, "buffers handed out unprotected", "parameters.py", "return Tensors(self._buffers)", "return dict(self._buffers)", f"{WRITE}[parameters.buffers-add_]"),
    s(1, "optimizer state handed out unprotected", "parameters.py", "return map_tree(share, self._state)", "return self._state", f"{WRITE}[optimizer_state-add_]"),
    s(1, "state_dict handed out unprotected", "parameters.py", "{name: tensor.clone() for name, tensor in held.items()}", "dict(held)", f"{WRITE}[state_dict-.data]"),
    s(1, "gradient handed out unprotected", "gradient.py", "return share(self._tensors[name])", "return self._tensors[name]", f"{WRITE}[gradient-fused kernel]"),
    s(1, "model.weights handed out unprotected", "model.py", "return Tensors(dict(zip(self._leaves.structure.weights, self._leaves.all, strict=True)))", "return dict(zip(self._leaves.structure.weights, self._leaves.all, strict=True))", f"{WRITE}[model.weights-add_]"),
    s(1, "with_buffers hands out unprotected", "protect.py", "return share(self._tensors[name])", "return self._tensors[name]", f"{WRITE}[buffers-out=]"),
    s(1, "an output that is a weight, unprotected", "run.py", "if not (type(output) is Tensor", "if False and not (type(output) is Tensor", "test_forward.py::test_an_output_made_of_weights_and_buffers_can_be_written_to"),
    s(1, "tensors that are given are not copied", "state.py", "return tensor.detach().clone()", "return tensor.detach()", "test_protection.py::test_what_was_given_is_taken_over"),
    s(1, "a buffer written in place", "run.py", "share_all(buffers.values()) if buffers else []\n    output", "list(buffers.values())\n    output", "test_parameters.py::test_carry_and_the_modes_are_new_models"),
    s(1, "a rule of one's own is given the originals", "model.py", "    if not donate:\n        weights, state = dict(zip", "    if False:\n        weights, state = dict(zip", "test_optimizers.py::test_own_rule_in_place_harms_nobody"),
    s(1, "a rule of one's own is given the gradient itself", "model.py", "{name: share(gradient[name]) for name in gradient}", "dict(gradient)", "test_optimizers.py::test_own_rule_in_place_harms_nobody"),
    s(1, "a wrapped optimizer is given the originals", "updates/wrap.py", "if not in_place:  # an", "if False:  # an", f"{IN_PLACE}[wrapped-plain]"),
    s(1, "a fused kernel is given the originals", "updates/formula.py", "        if not in_place:\n            places, entries", "        if False:\n            places, entries", f"{IN_PLACE}[fused Adam-plain]"),
    s(1, "a module that a build keeps is taken apart", "blueprint.py", "if _parts(first) & _parts(second):", "if False:", "test_forward.py::test_a_build_may_hand_out_a_module_that_it_keeps", "test_forward.py::test_a_build_may_share_a_backbone"),
    s(1, "an instance is used, not copied: its training flag is switched", "blueprint.py", "self.instance = copy_structure(build)", "self.instance = build", "test_forward.py::test_modules_that_are_given_stay_as_they_are", more=(("Structure(copy_structure(instance), lambda", "Structure(instance, lambda"),)),
    s(1, ".grad is filled", "backward.py", "leaves, True, accumulate_grad=False)", "leaves, True, accumulate_grad=bool(loss.sum().backward(retain_graph=True)))", "test_protection.py::test_a_pass_touches_no_grad_no_flag_no_generator"),
    s(1, "the random state is not restored", "randomness.py", "with one_at_a_time, torch.random.fork_rng(devices=_cuda_devices()):\n        torch.manual_seed(folded)", "with one_at_a_time:\n        torch.manual_seed(folded)", "test_randomness.py::test_with_a_seed_a_pure_function", "test_protection.py::test_a_pass_touches_no_grad_no_flag_no_generator"),
    s(1, "binding puts a value in another order", "factory.py", "        in_order =", "        parameters._weights = {name: weights[name] for name in structure.weights}\n        in_order =", "test_rules.py::test_one_value_under_factories_that_name_its_weights_in_another_order"),
    # --- 2: the bits of the stock loop
    s(2, "SGD: subtracts a product", "optim.py", "return add(w, -rule.lr, g, out=out(w)), kept", "return w - rule.lr * g, kept", f"{OWN}[kept-SGD lr=0.1]"),
    s(2, "SGD: dampens the first step too", "optim.py", "b = g.clone()", "b = g * (1 - rule.dampening)", f"{OWN}[kept-SGD lr=0.1 momentum=0.5 dampening=0.3 weight_decay=0.1]"),
    s(2, "SGD: decays after the momentum", "optim.py", "        if rule.weight_decay:\n            g = add(g, rule.weight_decay, w)\n        if rule.momentum:", "        if rule.momentum:", f"{OWN}[donated-SGD lr=0.1 momentum=0.5 dampening=0.3 weight_decay=0.1]"),
    s(2, "Adam: the mean as a sum of products", "optim.py", "m = lerp(m, g, 1 - b1, out=out(m))", "m = b1 * m + (1 - b1) * g", f"{OWN}[kept-Adam lr=0.01]"),
    s(2, "Adam: no eps", "optim.py", ".add_(rule.eps)", "", f"{OWN}[kept-Adam lr=0.01]"),
    s(2, "AdamW: decay as a difference", "optim.py", "w = torch.mul(w, 1 - rule.lr * rule.weight_decay, out=out(w))", "w = w - rule.lr * rule.weight_decay * w", f"{OWN}[kept-AdamW lr=0.01]"),
    s(2, "an absent gradient counts as zero", "backward.py", "        if tensor is not None:\n", "        tensor = torch.zeros_like(leaf) if tensor is None else tensor\n        if tensor is not None:\n", "test_parameters.py::test_steps_without_a_gradient_leave_weights_alone", f"{NETWORK}[a weight that is not used-Adam]"),
    s(2, "a schedule is one step ahead", "updates/rule.py", "return self.having(_step_count=step_count)", "return self.having(_step_count=step_count + 1)", "test_optimizers.py::test_scheduled_rate[False-SGD]"),
    s(2, "building draws from the generator twice", "blueprint.py", "with preserved(), outside_transforms():\n            second", "with outside_transforms():\n            second", "test_randomness.py::test_without_a_seed_the_stock_draws"),
    s(2, "a second list of weights is forgotten", "skeleton.py", "        for container, key, i in self.aliases[0]:\n            container[key] = weights[i]\n", "", f"{NETWORK}[weights held in lists too-Adam]"),
    s(2, "a buffer under a second name is forgotten", "skeleton.py", "        for container, key, i in self.aliases[1]:\n            container[key] = buffers[i]\n", "", f"{NETWORK}[a buffer held twice-Adam]"),
    s(2, "the mode is not the module's own train()", "skeleton.py", "        part.train(wanted[path])\n", "        nn.Module.train(part, wanted[path])\n", f"{NETWORK}[batchnorm frozen by its network-Adam]"),
    s(2, "what an optimizer changes in its groups is lost", "wrap.py", "if key in moved or key not in group", "if key not in group", "test_rules.py::test_what_an_optimizer_changes_in_its_groups_goes_on"),
    # --- 3: all state in one value
    s(3, "a copy leaves out the optimizer state", "parameters.py", '"state": self._state,', '"state": None,', "test_parameters.py::test_copies_and_pickles_are_values_of_their_own", "test_files.py::test_what_is_loaded_equals_what_was_saved[linear]"),
    s(3, "a tie is stored twice", "layout.py", "dict(module.named_parameters())", "dict(module.named_parameters(remove_duplicate=False))", "test_parameters.py::test_state_dict_is_independent_and_keeps_ties"),
    s(3, "optimizer state is not threaded", "model.py", "state = rule.init(Tensors(weights)) if old._state is None else old._state", "state = rule.init(Tensors(weights))", f"{OWN}[kept-SGD lr=0.1 momentum=0.9]"),
    s(3, "steps are not counted", "model.py", "step_count=old._step_count + 1", "step_count=old._step_count", "test_randomness.py::test_a_constant_seed_draws_afresh_each_step", "test_parameters.py::test_a_mapping_of_weights"),
    s(3, "equality overlooks the state", "parameters.py", "            and same_tree(self._state, other._state)\n", "", "test_parameters.py::test_equality_compares_everything_by_bytes"),
    s(3, "numbers are rounded on saving", "files.py", '{"float": tree.hex()}', '{"float": float(f"{tree:.9g}").hex()}', "test_files.py::test_any_state_survives"),
    s(3, "strides are lost on saving", "files.py", "dense = plain.is_contiguous() or torch.empty_like(plain).stride() == plain.stride()", "dense = plain.is_contiguous()", "test_files.py::test_what_is_loaded_equals_what_was_saved[transposed weight]"),
    s(3, "a failed save leaves half a file", "files.py", "    name = path.parent / f\".fnlib-{uuid.uuid4().hex}\"\n    name.touch(exist_ok=False)\n", "    name = path\n", "test_files.py::test_a_save_that_fails_leaves_the_old_file"),
    # --- 4: re-entrant
    s(4, "one module tree for all passes", "structure.py", "return self._idle[mode].pop()", "return self._idle[mode][0]", "test_threads.py::test_nested_calls_of_one_factory"),
    s(4, "seeded passes without their lock", "randomness.py", "with one_at_a_time, torch.random.fork_rng(devices=_cuda_devices()):\n        torch.manual_seed(folded)", "with torch.random.fork_rng(devices=_cuda_devices()):\n        torch.manual_seed(folded)", "test_threads.py::test_seeded_passes_do_not_draw_from_each_other"),
    s(4, "what belongs to a transform outlives it", "leaves.py", "if not in_transform() and not torch.is_inference_mode_enabled():", "if True:", "test_transforms.py::test_inference_mode_and_no_grad"),
    s(4, "torch.func does not see the weights", "protect.py", "        if _in_transform(tensor):  # the transform owns the tensor, and a copy would hide it\n            return tensor\n        with", "        with", "test_transforms.py::test_grad_is_backward"),
    s(4, "a checkpoint meets the weights of the model that ran last", "structure.py", "        if skeleton.is_held():\n            skeleton.after", "        if False:\n            skeleton.after", "test_forward.py::test_checkpoints_of_several_models_at_once"),
    s(4, "a joint backward deals the gradients out wrongly", "backward.py", "for model in models for leaf in model._leaves.trained)", "for model in reversed(models) for leaf in model._leaves.trained)", "test_threads.py::test_two_models_of_one_factory_in_one_loss"),
    # --- 5: donation is safe
    s(5, "a value is not marked", "donation.py", "        value._donated = line\n", "", "test_donation.py::test_every_use_is_refused[forward]", "test_donation.py::test_every_use_is_refused[step again]"),
    s(5, "a value is marked after the step, not before", "model.py", "given, state_given = give_away(old)\n", "given, state_given = give_away(old)\n            mark, old._donated = old._donated, None\n            old._weights, old._state = dict(given), state_given\n", "test_donation.py::test_a_step_that_fails_half_way_leaves_no_half_written_value", more=(("        return old._next(\n", "        if donate:\n            old._donated = mark\n        return old._next(\n"),)),
    s(5, "a graph that still needs the value is not told", "donation.py", "        leaf._donated = errors.Donated(value._describe(), line)\n", "", "test_donation.py::test_a_backward_that_still_needs_it_is_refused[SGD]"),
    s(5, "a fused kernel's write goes unnoticed by the graph", "donation.py", "        torch.autograd.graph.increment_version(leaf)\n", "", "test_donation.py::test_a_backward_that_still_needs_it_is_refused[fused Adam]"),
    s(5, "what was handed out is overwritten", "donation.py", "dict(zip(weights, share_all(weights.values()), strict=True)), map_tree(share, state)", "dict(weights), state", "test_update.py::test_two_values_hold_no_memory_in_common[Adam]"),
    s(5, "nothing is reused", "model.py", "state, in_place=donate)", "state, in_place=False)", "test_donation.py::test_memory_is_reused[SGD]", "test_donation.py::test_memory_is_reused[fused Adam]"),
    s(5, "the line that gave it away is not named", "donation.py", 'return where(frame.f_code.co_filename, frame.f_lineno)', 'return "an earlier line"', "test_donation.py::test_every_use_is_refused[backward]"),
    # --- 6: nothing leaks
    s(6, "the graph is kept", "model.py", "differentiate(loss, self._leaves.trained, retain_graph)", "differentiate(loss, self._leaves.trained, True)", f"{ERROR}[backward: twice]"),
    s(6, "the gradient carries a graph", "backward.py", "(one,), retain_graph, False, leaves", "(one,), True, True, leaves", "test_leaks.py::test_no_node_outlives_its_step"),
    s(6, "buffers carry a graph", "run.py", "return new.detach() if new.requires_grad else new", "return new", "test_leaks.py::test_buffers_carry_no_graph"),
    s(6, "module trees hold on to the last value", "structure.py", "            skeleton.clear()\n", "", "test_leaks.py::test_an_old_value_is_gone_when_it_is_let_go"),
    s(6, "an RNN's second list holds on to old weights", "survey.py", "                _hold_still(part)\n", "                pass\n", "test_recurrent.py::test_no_old_weights_are_kept_alive"),
    s(6, "each pass makes another module tree", "structure.py", "return self._idle[mode].pop()", "raise KeyError", "test_leaks.py::test_tensors_alive_do_not_grow[SGD]"),
    # --- 7: nothing is dropped in silence
    s(7, "a forward may drop buffers", "run.py", "if changed or written:", "if False:", f"{ERROR}[forward: buffers dropped]", f"{ERROR}[forward: weights dropped]"),
    s(7, "state in attributes is taken for a cache", "run.py", "if not _same_output(*outputs):", "if False:", "test_forward.py::test_state_in_attributes_is_refused"),
    s(7, "what grows in a pass is not noticed", "run.py", "(grown := skeleton.survey.grew())", "(grown := [])", "test_forward.py::test_other_state_is_refused"),
    s(7, "a step may leave its buffers out", "model.py", "if buffers is None and self._changed:", "if False:", f"{ERROR}[step: without its buffers]"),
    s(7, "a gradient of other names is taken", "model.py", "if not isinstance(gradient, Gradient) or gradient._structure is not structure:", "if False:", f"{ERROR}[step: names of another network]"),
    s(7, "a change of kind is taken", "state.py", "_number_kind(tensor) != _number_kind(like)", "False", f"{ERROR}[replace: kind]"),
    s(7, "another rule's state is read", "model.py", "if old._rule is not None and old._rule != factory._rule_name:", "if False:", f"{ERROR}[step: state of another rule]"),
    s(7, "an independent loss gives an empty gradient", "backward.py", "    if not tensors:\n", "    if False:\n", f"{ERROR}[backward: of another model]"),
    s(7, "a checkpoint of the old kind drops gradients", "backward.py", "    if any(type(node)", "    if False and any(type(node)", f"{ERROR}[backward: past an old checkpoint]"),
    s(7, "a loss of several numbers is summed", "backward.py", "if not isinstance(loss, Tensor) or loss.numel() != 1:", "if not isinstance(loss, Tensor):", f"{ERROR}[backward: several numbers]"),
    s(7, "a foreign state is used unread", "model.py", "if isinstance(rule, Rule) and not old._made_here and old._state is not None:", "if False:", "test_files.py::test_an_impossible_state_is_refused_before_it_is_used"),
    s(7, "a layer that is not known to redraw is redrawn", "initial.py", "if own and type(part) not in REDRAWABLE:", "if False:", "test_initial.py::test_anything_else_is_refused"),
    s(7, "a rate that is set on a finished rule", "updates/rule.py", "            raise errors.Immutable.rule(self._call(), name, value, known)\n", "            pass\n", f"{ERROR}[rule: a rate set later]"),
    # --- 8: errors teach
    s(8, "no right line under dropped buffers", "errors.py", '        {3}   # right\n', "", f"{ERROR}[forward: buffers dropped]"),
    s(8, "no right line under wrong parameters", "errors.py", '    {0}: {1}.\n\n        {2}\n', '    {0}: {1}.\n', f"{ERROR}[step: shapes]"),
    s(8, "PyTorch's error instead of a named one", "backward.py", "named = _explained(error, loss)", "named: Exception = error", f"{ERROR}[backward: twice]", f"{ERROR}[backward: overwritten]"),
    s(8, "a damaged file is safetensors' own error", "files.py", "    except SafetensorError as error:\n        raise errors", "    except SafetensorError as error:\n        raise error\n        raise errors", "test_files.py::test_a_file_that_is_cut_short_is_refused"),
    s(8, "an assignment without its cure", "errors.py", '        {right}   # right: makes a new value\n', "", "test_protection.py::test_values_refuse_assignment"),
]  # fmt: skip


def chosen(words: Iterable[str]) -> list[Sabotage]:
    """Return the breakages that a command line names: numbers of promises, and parts of names."""
    words = list(words)
    return [row for row in TABLE if not words or str(row.promise) in words or any(word in row.name for word in words if not word.isdigit())]


def copy_of_the_package(folder: Path) -> None:
    """Copy what the core's tests need."""
    ignore = shutil.ignore_patterns("__pycache__", "teaching")
    shutil.copytree(ROOT / "fnlib", folder / "fnlib", ignore=ignore)
    shutil.copytree(ROOT / "tests" / "core", folder / "tests" / "core", ignore=ignore)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\npythonpath = .\naddopts = --import-mode=importlib\n")


def unnoticed(row: Sabotage, folder: Path) -> str:
    """Break the copy, run the tests that should notice, mend it; say what did not notice, or nothing if all did."""
    path = folder / "fnlib" / row.file
    whole = broken = path.read_text()
    for old, new in row.edits:
        if broken.count(old) != 1:
            return f"fnlib/{row.file} has this text {broken.count(old)} times: {old!r}"
        broken = broken.replace(old, new)
    path.write_text(broken)
    log = folder / "log"
    try:
        child = os.fork()
        if child == 0:
            _run(row, folder, log)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        path.write_text(whole)
    said = log.read_text()
    if status < 0 and status != -14:  # crashed: what it was to be kept from
        return ""
    failed = {line.partition(" ")[2] for line in said.splitlines() if line.startswith("failed ")}
    silent = [test for test in row.tests if not any(name.removeprefix("tests/core/").startswith(test) for name in failed)]
    return f"{', '.join(silent)} (status {status})\n{said[-1500:]}" if silent or status != 1 else ""


def _run(row: Sabotage, folder: Path, log: Path) -> None:
    """In the child: run the tests on the broken copy. Does not return."""
    import signal

    import pytest

    class Failures:
        """Writes down which tests failed."""

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                print("\nfailed", report.nodeid, flush=True)

    status = 70
    try:
        signal.alarm(SECONDS)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("fnlib", "tests")]:
            del sys.modules[name]
        options = ["-q", "--assert=plain", "--tb=line", "-p", "no:cacheprovider"]
        status = pytest.main([*options, "--rootdir", str(folder), *(f"tests/core/{test}" for test in row.tests)], plugins=[Failures()])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))


def main(words: list[str]) -> int:
    """Run breakages, print what became of each, return how many nothing noticed."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True  # a copy that is broken and mended within a second must be read anew
    import hypothesis  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import torch

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)], lr=0.1)  # loads the compiler, which takes a second
    rows, holes = chosen(words), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_the_package(folder)
        for row in rows:
            begin = time.perf_counter()
            hole = unnoticed(row, folder)
            holes += bool(hole)
            print(f"{'UNNOTICED' if hole else 'noticed':9}  {row.promise}  {row.name}  ({time.perf_counter() - begin:.1f} s)", flush=True)
            if hole:
                print("           by", hole, flush=True)
    print(f"{len(rows) - holes} of {len(rows)} breakages noticed")
    return holes


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
