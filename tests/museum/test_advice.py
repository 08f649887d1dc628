"""The advice of each finding is Python of its loop: it compiles, its names and lines exist, and it is not done already."""

from __future__ import annotations

import ast
import builtins
import re

import pytest

from fnlib.ledger import Finding
from fnlib.teaching.museum import EXHIBITS, Exhibit
from tests.museum.load import load, recorded

STOCK = [one for one in EXHIBITS if not one.functional]
each_stock = pytest.mark.parametrize("one", STOCK, ids=lambda one: one.code)
# What a program has to import or may know beside its own names.
KNOWN = {*dir(builtins), "copy", "torch", "nn", "np"}


def findings(one: Exhibit) -> list[Finding]:
    module = load(one.file)
    return list(recorded(module, module.bug).findings)


def names_in(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The names that a piece of Python reads, and those that it binds."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)} | arguments
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}, bound


def as_written(program: str) -> ast.Module:
    """The program without its cure, the cured classes and what measures it."""
    tree = ast.parse(program)
    names = [getattr(one, "name", "") for one in tree.body]
    cured = [name in ("cure", "harm") or name.startswith("Cured") for name in names]
    tree.body = [one for one, gone in zip(tree.body, cured, strict=True) if not gone]
    return tree


def blocks(tree: ast.Module) -> list[list[str]]:
    """Each block of a program's functions, as the text of its statements."""
    found = []
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    for node in (inner for one in functions for inner in ast.walk(one)):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                found.append([ast.unparse(statement) for statement in block])
    return found


def faults(finding: Finding, program: str) -> list[str]:
    """What is wrong with a finding's advice, as far as it can be told without running it."""
    try:
        advice = ast.parse(finding.fix)
    except SyntaxError as error:
        return [f"it is no Python: {error}"]
    found = []
    tree = as_written(program)
    reads, binds = names_in(advice)
    _, own = names_in(tree)
    own |= {getattr(node, "name", "") for node in ast.walk(tree)}
    if unknown := reads - binds - own - KNOWN:
        found.append(f"the program has no {sorted(unknown)}")
    said = f"{finding.what} {finding.why} {finding.fix}"
    lines = {int(number) for number in re.findall(r"\b[Ll]ine (\d+)", said)} | {finding.line}
    texts = program.splitlines()
    found += [
        f"line {line} is empty"
        for line in lines
        if not 0 < line <= len(texts) or not texts[line - 1].strip()
    ]
    order = [ast.unparse(statement) for statement in advice.body]
    for block in blocks(tree):
        starts = (block[at : at + len(order)] for at in range(len(block)))
        if order and order in starts and not placed(finding.fix):
            found.append("the program has these lines in this order already")
    if re.search(r"#.*#", finding.fix):
        found.append("a line has two comments")
    return found


def placed(fix: str) -> bool:
    """Say whether a single statement is said to belong elsewhere: "once, before the loop"."""
    return len(ast.parse(fix).body) == 1 and "      # " in fix


@each_stock
def test_advice_fits_its_loop(one: Exhibit) -> None:
    program = one.file.read_text(encoding="utf-8")
    wrong = {finding.code: faults(finding, program) for finding in findings(one)}
    assert not any(wrong.values()), wrong


@pytest.mark.parametrize(
    ("fix", "fault"),
    [
        ("loss.backward()\noptimizer.step()", "in this order already"),
        ("loss.backward( # first", "no Python"),
        ("optimizer.load_state_dict(saved)", "has no ['saved']"),
        ("optimizer.step()      # line 9", "line 9 is empty"),
        ("optimizer.step()      # mine      # yours", "two comments"),
        ("optimizer.step()\nloss.backward()", ""),
    ],
)
def test_a_fault_of_advice_is_seen(fix: str, fault: str) -> None:
    program = "def bug(loss, optimizer):\n    loss.backward()\n    optimizer.step()\n"
    finding = Finding("code", "certain", 2, "model", "It happened.", "It matters.", fix)
    found = faults(finding, program)
    assert fault in "; ".join(found) if fault else not found


# --- applied ---------------------------------------------------------------------------------------

# Where the advice goes: the statement that it replaces, follows ("+") or precedes ("-"). After each
# "!": the beginning of statements that move or go away.
APPLIED = {
    "zero_grad_forgotten": "-loss.backward()",
    "zero_grad_once_an_epoch": "-loss.backward()",
    "best_state_dict": "best = model.state_dict()",
    "optimizer_state_dict": "checkpoint = optimizer.state_dict()",
    "detach_is_not_a_copy": "before = model.weight.detach()",
    "target_network_is_the_network": "target_net = policy_net",
    "best_model_is_the_model": "best_model = model",
    "optimizer_state_shared": "optimizer_student.load_state_dict(optimizer.state_dict())",
    "tie_lost_in_deepcopy": "+student = ",
    "tie_lost_in_assign": "+model.load_state_dict",
    "train_forgotten": "-for feature, label in",
    "frozen_weight_keeps_momentum": "optimizer.zero_grad(",
    "load_brings_back_old_rate": "+optimizer.load_state_dict(",
    "rate_set_on_the_object": "optimizer.lr =",
    "gan_step_between_backwards": "loss_g.backward()",
    "gan_step_between_backwards_fused": "loss_g.backward()",
    "data_edits_saved_activation": "code.data.clamp_",
    "total_loss_keeps_graphs": "total_loss += loss",
    "hidden_state_not_detached": "loss.backward()",
    "hidden_state_retain_graph": "loss.backward(",
    "loss_made_of_numbers": "loss = loss - ",
    "features_detached": "output = ",
    "step_forgotten": "loss.backward()",
    "clipped_while_scaled": "nn.utils.clip_grad_norm_",
    "autocast_around_the_loop": "optimizer.step()",
    "requires_grad_on_a_module": "model[0].requires_grad",
    "nothing_loaded": "model.load_state_dict(",
    "freeze_undone": "+model.requires_grad_(True)",
    "one_layer_many_times": "layers = ",
    "moments_of_another_weight": "optimizer.load_state_dict(",
    "average_without_statistics": "+mine.lerp_",
    "weight_clipped_before_backward": "loss.backward()!for weight in!optimizer.step",
    "layer_replaced_after_optimizer": "+model[2] = ",
    "assign_after_optimizer": "+model.load_state_dict",
    "optimizer_before_conversion": "+initialise(model)",
    "weight_norm_after_optimizer": "+weight_norm(",
    "weight_in_two_optimizers": "+optimizer_b = ",
    "optimizer_made_each_epoch": "-for epoch!optimizer = ",
    "optimizer_aliases_its_buffer": "update = ",
    "optimizer_keeps_the_gradient": "state['average'] = ",
    "zero_grad_before_step": "loss.backward()!optimizer.",
    "gan_generator_leaves_gradients": "loss_d.backward()!optimizer_d.",
    "gan_steps_at_the_end": "loss_d.backward()!optimizer_d.",
    "closure_adds_gradients": "-loss = ",
    "eval_forgotten": "-with torch.no_grad",
    "batchnorm_without_version": "-model.train()!loss.backward",
    "frozen_batchnorm_moves": "+model.train()",
    "train_wakes_frozen_batchnorm": "+model.train()",
    "zero_gradient_still_decays": "-optimizer.step()",
    "scheduler_before_optimizer": "optimizer.step()!scheduler.step()",
    "rate_set_on_a_copy": "for group in optimizer.state_dict",
    "clipped_after_step": "optimizer.step()!nn.utils",
    "step_after_the_loop": "loss.backward()!optimizer.step()",
    "rate_of_one_group": "optimizer.param_groups[0]",
    "scheduler_of_the_old_optimizer": "+optimizer = torch.optim.Adam!scheduler = ",
    "trained_on_a_validation_batch": "feature, target = next(valid)!nn.functional.mse_loss(",
    "data_normalised_in_place": "feature -= 5",
    "noise_from_the_same_state": "-for feature, label!torch.set_rng_state",
    "update_binds_a_name": "weight = weight - ",
    "layers_in_a_list": "+self.layers = layers",
    "functional_dropout": "x = nn.functional.dropout(self.first(x), 0.5)",
    "scheduler_changes_restored_rate": "scheduler = !optimizer.load_state_dict",
}
# The generator's loss is computed again after the step, and the exhibit's cure comes before the step.
OTHER_REPAIR = {"gan_step_between_backwards_fused"}


def applied(program: str, fix: str, where: str) -> str:
    """Paste advice into the loop as written, at the statement that ``where`` begins."""
    where, *gone = where.split("!")
    start = where.lstrip("+-")
    advice = ast.parse(fix).body
    tree = as_written(program)
    pasted = 0

    def paste(block: list[ast.stmt]) -> list[ast.stmt]:
        nonlocal pasted
        found: list[ast.stmt] = []
        for statement in block:
            text = ast.unparse(statement)
            if text.startswith(tuple(gone)):
                continue
            for field in ("body", "orelse"):
                if getattr(statement, field, None):
                    setattr(statement, field, paste(getattr(statement, field)))
            if not text.startswith(start):
                found.append(statement)
                continue
            pasted += 1
            before, after = ([statement] if where[0] == sign else [] for sign in "+-")
            found += [*before, *advice, *after]
        return found

    tree.body = paste(tree.body)
    assert pasted == 1, f"{start!r} is there {pasted} times"
    tree.body.insert(0, ast.parse("import copy").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.parametrize("code", APPLIED)
def test_pasted_advice_cures(code: str, tmp_path: object) -> None:
    """The loop with its advice runs to the end, the ledger finds nothing, and the harm is gone."""
    one = next(one for one in STOCK if one.code == code)
    finding = next(found for found in findings(one) if found.code == one.finding)
    fix, program = finding.fix, one.file.read_text(encoding="utf-8")
    if placed_at := re.search(r"in place of line (\d+)", fix):
        replaced = program.splitlines()[int(placed_at[1]) - 1].strip()
        assert APPLIED[code] == replaced, "the advice says that it belongs elsewhere"
    path = tmp_path / f"{code}.py"  # type: ignore[operator]
    path.write_text(applied(program, fix, APPLIED[code]))
    module = load(path)
    module.bug(**module.setup())
    assert [str(found) for found in recorded(module, module.bug).findings] == []
    if one.harm is not None and code not in OTHER_REPAIR:
        assert load(one.file).harm(module.bug) == pytest.approx(one.harm[1], rel=1e-3)
