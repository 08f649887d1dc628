"""Each question of "Investigate", done as a learner does it: the change that it asks for can be made, and shows what the guide says.

A question is text, and a lesson's code moves on. Here the change is a replacement in a cell; it fails where the cell no longer has
the line. Only the cells that are needed are run, in one IPython shell a question, since the ledger reads the source of cells.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import fnlib
from course.editions import SOLUTIONS, numbers, read
from fnlib import teaching
from fnlib.teaching.museum import EXHIBITS
from fnlib.teaching.questions import questions
from tests.lessons.tried import Change, Tried, cell, rows

# --- 00 -------------------------------------------------------------------------------------------


STORY = ("train", "best", "ruin", "ledger")


def test_00_best_follows_the_model_and_the_copy_does_not() -> None:
    """The story itself, and question 1: one address for `best` and the model, another for the copy."""
    tried = Tried("00", (*STORY, "functional", "functional-run", "equal", "curves"), {})
    assert tried.error is None
    names = tried.names
    assert names["scores"][-1] > 0.95 and names["wrecked"] < 0.3
    assert names["loaded"] == names["wrecked"] and names["again"] == names["scores"][-1]
    assert names["value_scores"] == names["scores"]
    assert names["score_of"](names["ruined"]) == names["wrecked"]
    assert names["same"] and names["values"].counts.overwritten == 0
    address = names["model"][0].weight.data_ptr()
    assert names["best"]["0.weight"].data_ptr() == address
    assert names["in_time"]["0.weight"].data_ptr() != address
    sizes = [sum(one.nbytes for one in names[kept].values()) for kept in ("in_time", "kept")]
    assert sizes[0] == sizes[1], "keeping costs the same in both styles"


def test_00_a_milder_rate_hides_that_best_is_overwritten() -> None:
    tried = Tried("00", ("train", "best", "ruin"), {"ruin": [("lr=5.0", "lr=0.5")]})
    assert tried.error is None and tried.names["loaded"] > 0.95
    assert not torch.equal(tried.names["best"]["0.weight"], tried.names["in_time"]["0.weight"])


def test_00_loading_a_deep_copy_changes_four_weights() -> None:
    tried = Tried(
        "00",
        STORY,
        {"best": [("best = model.state_dict()", "best = copy.deepcopy(model.state_dict())")]},
    )
    assert tried.names["loaded"] == tried.names["scores"][-1]
    load = tried.names["ledger"].entries[-1]
    assert [(change.state, change.kind) for change in load.changes] == [
        ("weight", "changed in place")
    ] * 4


def test_00_runs_again_from_anycell() -> None:
    """Every cell once after all that come later, and then the lesson once more."""
    cells = (*STORY, "functional", "functional-run", "equal", "curves")
    tried = Tried("00", (*cells, *reversed(cells), *cells), {})
    assert tried.error is None and tried.names["same"]
    assert tried.names["loaded"] == tried.names["wrecked"] < 0.3


# --- 01 -------------------------------------------------------------------------------------------


def test_01_without_zero_grad_backward_adds() -> None:
    """Without `zero_grad`, `backward` adds to the old gradient, and a finding says so."""
    tried = Tried(
        "01", ("data", "stock-run"), {"stock-run": [("        optimizer.zero_grad()\n", "")]}
    )
    assert rows(tried.names["second"])["loss.backward()"] >= {"model gradient changed in place"}
    assert [finding.code for finding in tried.names["ledger"].findings] == ["gradient-used-twice"]


def test_01_adam_has_state_of_its_own() -> None:
    tried = Tried(
        "01",
        ("data", "stock-run"),
        {
            "stock-run": [
                (
                    "torch.optim.SGD(model.parameters(), lr=lr)",
                    "torch.optim.Adam(model.parameters())",
                )
            ]
        },
    )
    step = tried.names["second"].entries[-1]
    own = [change for change in step.changes if change.owner == "optimizer"]
    assert {change.state for change in own} == {"optimizer state"} and len(own) == 12
    assert len(tried.names["optimizer"].state[tried.names["model"][0].weight]) == 3


def test_01_model_zero_grad_names_the_owner() -> None:
    tried = Tried(
        "01", ("data", "stock-run"), {"stock-run": [("optimizer.zero_grad()", "model.zero_grad()")]}
    )
    assert tried.names["second"].counts.at_a_distance == 2


def test_01_both_loops_give_the_same_weights_at_this_rate() -> None:
    tried = Tried("01", ("data", "stock-run", "functional-run", "equal-run"), {})
    assert tried.error is None and tried.names["same"] and tried.names["intact"]
    counts = tried.names["functional"].counts
    assert counts.at_a_distance == counts.overwritten == 0


def test_01_runs_again_from_anycell() -> None:
    cells = ("data", "stock-run", "functional-run", "equal-run", "momentum-run")
    tried = Tried("01", (*cells, *reversed(cells), *cells), {})
    assert tried.error is None and tried.names["same"] and tried.names["intact"]
    assert tried.names["second"].counts.at_a_distance == 3


def test_01_the_loop_of_the_blank_ledger_runs_as_its_answer_says() -> None:
    """The loop is text in the lesson; here it is run, and the ledger gives the ten cells."""
    loop = re.search(
        r"```python\n(optimizer.zero_grad.*?)```",
        "\n".join(cell.source for cell in read(next(SOLUTIONS.glob("01_*.ipynb"))).cells),
        re.DOTALL,
    )
    assert loop is not None
    more = (
        "model = network()\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)\n"
        "with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:\n"
        "    for feature, label in batches:\n"
        + "".join(f"        {line}\n" for line in loop[1].splitlines())
    )
    tried = Tried("01", ("data",), {}, more)
    assert tried.error is None
    found = {}
    for entry in tried.names["ledger"].iteration(2).entries:
        changed = {
            (change.state, change.owner)
            for change in entry.changes
            if change.owner in ("model", "optimizer")
        }
        found[entry.source.strip()] = changed
    gradients = {("gradient", "model")}
    assert found["optimizer.zero_grad()"] == gradients and found["output = model(feature)"] == set()
    assert found["loss_a.backward()"] == found["loss_b.backward()"] == gradients
    assert found["optimizer.step()"] == {("weight", "model"), ("optimizer state", "optimizer")}


# --- 02 -------------------------------------------------------------------------------------------

SHARED = ("valley", "networks", "two-run", "losses-run", "stock-run", "functional-run")


def test_02_the_valley_at_three_rates() -> None:
    """At 1/16 the point nears the bottom, at 1/4 it alternates, at 3/8 it overflows."""
    ends = {}
    for lr in ("1 / 16", "1 / 4", "3 / 8"):
        tried = Tried("02", ("valley",), {"valley": [("lr=1 / 16", f"lr={lr}")]})
        assert tried.error is None
        ends[lr] = torch.tensor(tried.names["path"])
    assert tried.names["valley"](*ends["1 / 16"][-1]) < 0.001
    last = ends["1 / 4"][-4:]
    assert torch.allclose(last[:2], last[2:], atol=0.02) and (last[0] - last[1]).norm() > 0.5
    assert ends["3 / 8"][-1].isnan().all()


def test_02_half_a_network_still_gets_gradients() -> None:
    both = "[*encoder.parameters(), *decoder.parameters()]"
    tried = Tried(
        "02",
        ("valley", "networks", "two-run"),
        {"two-run": [(both, "encoder.parameters()")]},
    )
    told = rows(tried.names["ledger"])
    assert "decoder gradient created" in told["loss.backward()"]
    assert told["optimizer.step()"] == {"encoder weight changed in place"}


def test_02_without_zero_grad_only_the_old_layer_adds() -> None:
    """Without `zero_grad`, the encoder's gradient adds up and the new layer's is the first."""
    line = "decoder[0] = nn.Linear(16, 128)\n"
    more = [
        (line, "reconstruction(encoder, decoder).backward()\n" + line),
        ("    optimizer.zero_grad()\n", ""),
    ]
    tried = Tried("02", ("valley", "networks", "stock-run"), {"stock-run": more})
    told = rows(tried.names["ledger"])["loss.backward()"]
    assert {change for change in told if "gradient" in change} == {
        "encoder gradient changed in place",
        "decoder gradient created",
    }


def test_02_built_after_the_new_layer_both_styles_agree() -> None:
    """The cure of the text: a new optimizer holds the new layer, and steps to the functional bits."""
    more = (
        "optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=1 / 4)\n"
        "with fnlib.Ledger(encoder=encoder, decoder=decoder, optimizer=optimizer) as cured:\n"
        "    reconstruction(encoder, decoder).backward()\n"
        "    optimizer.step()\n"
        "same = all(torch.equal(w, n) for w, n in zip(weights, new))\n"
    )
    tried = Tried("02", ("valley", "networks", "functional-run"), {}, more)
    assert tried.error is None and tried.names["same"] and not tried.names["cured"].findings
    assert rows(tried.names["cured"])["optimizer.step()"] == {
        "encoder weight changed in place",
        "decoder weight changed in place",
    }


def test_02_a_list_notices_a_replaced_layer_and_no_added_one() -> None:
    """What the text says of lists that are out of date, and of `functional_call`."""
    more = (
        "listed = [*encoder.parameters(), *decoder.parameters()]\n"
        "old = {name: w.detach() for name, w in decoder.named_parameters()}\n"
        "code = encoder(feature)\n"
        "same = decoder(code)\n"
        "decoder.append(nn.Linear(128, 128))\n"
        "quiet = torch.autograd.grad(reconstruction(encoder, decoder), listed)\n"
        "del decoder[1]\n"
        "decoder[0] = nn.Linear(16, 128)\n"
        "allowed = torch.autograd.grad(reconstruction(encoder, decoder), listed, allow_unused=True)\n"
        "used = torch.equal(torch.func.functional_call(decoder, old, (code,)), same)\n"
    )
    tried = Tried("02", ("valley", "networks", "functional-run"), {}, more)
    assert tried.error is None and tried.said.count("index 2 appears to not have been used") == 1
    assert all(gradient is not None for gradient in tried.names["quiet"])
    assert tried.names["allowed"][2] is None and tried.names["used"]


def test_02_runs_again_from_anycell() -> None:
    tried = Tried("02", (*SHARED, *reversed(SHARED), *SHARED), {})
    assert tried.error is None
    first, second = tried.names["first"], tried.names["second"]
    assert torch.equal(tried.names["weight"].grad, first + second) and second.any()
    codes = re.findall(r"finding: (.+)", tried.said)
    assert codes == ["weight-not-in-optimizer"] * 3
    assert tried.said.count("index 2 appears to not have been used") == 3


# --- 03 -------------------------------------------------------------------------------------------

TRAINED = ("predict", "stock-run", "box-run", "classifier")
WISHES = (*TRAINED, "wishes", "wishes-stock", "wishes-box")


def test_03_the_box_rebinds_its_parameters() -> None:
    """The box holds another value after a step, and the old one is as it was."""
    more = (
        "old = box.parameters\n"
        "before = {k: w.clone() for k, w in old.items()}\n"
        "box.step(*batches[2])\n"
    )
    tried = Tried("03", TRAINED, {}, more)
    assert tried.error is None
    old, before, box = (tried.names[name] for name in ("old", "before", "box"))
    assert old is not box.parameters
    assert all(torch.equal(old[name], before[name]) for name in before)
    assert not torch.equal(old["0.weight"], box.parameters["0.weight"])


def test_03_the_ledger_says_that_it_cannot_look_in() -> None:
    tried = Tried("03", TRAINED, {}, "fnlib.Ledger(classifier=new_classifier())")
    assert "does not know how to watch classifier, a MLPClassifier" in str(tried.error)


def test_03_a_gradient_read_after_clipping_is_short() -> None:
    """A gradient that is read after clipping is no longer than the limit."""
    lines = cell("03", "wishes-stock").splitlines(keepends=True)
    norm, clipping = (line for line in lines if "# norm" in line or "# clipping" in line)
    swap = {"wishes-stock": [(norm + clipping, clipping + norm)]}
    plain, swapped = Tried("03", WISHES, {}), Tried("03", WISHES, swap)
    assert plain.error is None and max(plain.names["norms"]) > 0.25
    assert swapped.error is None and max(swapped.names["norms"]) <= 0.2501


def test_03_the_counts_and_the_bits_that_the_text_names() -> None:
    """Three lines at a distance against none, the same weights, the same wishes in both styles."""
    tried = Tried("03", WISHES, {})
    assert tried.error is None and tried.names["same"] and tried.names["same_wishes"]
    stock, box = (tried.names[name].iteration(2).counts for name in ("stock_ledger", "box_ledger"))
    assert (stock.at_a_distance, box.at_a_distance) == (3, 0)
    assert all(map(torch.equal, tried.names["seen"], tried.names["norms"]))


def test_03_one_of_each_library_climbs() -> None:
    """`fit` continues in the box and with `warm_start=True`, and starts again in the other two."""
    tried = Tried("03", (*TRAINED, "twice"), {})
    assert tried.error is None
    scores = tried.names["scores"]
    for name in ("box.fit", "MLPClassifier.fit, warm_start=True"):
        assert scores[name][4] > scores[name][0] + 0.1
    for name in ("box.fit, restart=True", "MLPClassifier.fit"):
        assert len(set(scores[name])) == 1
    X, y, box = (tried.names[name] for name in ("X", "y", "new_box"))
    drawn = tried.names["new_classifier"](warm_start=True)
    drawn.set_params(learning_rate_init=1e-12).fit(X, y)  # a rate at which nothing moves
    assert abs(drawn.coefs_[0]).max() > 1.5 * float(box().parameters["0.weight"].abs().max())


def test_03_the_classifier_can_be_reached_inside() -> None:
    """The table says "inside" for clipping, and for the second loss with a gradient by hand."""
    tried = Tried("03", (*WISHES, "inside-run"), {}, BY_HAND)
    assert tried.error is None and tried.names["lengths"][0] > 0.25
    assert tried.names["difference"] < 1e-5


# One step of MLPClassifier with both losses: a subclass changes the label by the parity's gradient.
BY_HAND = """
import numpy as np

class Parity(MLPClassifier):
    def _backprop(self, X, y, *rest):
        output = self._forward_pass_fast(X)
        odd = np.arange(10) % 2 == 1
        parity = np.where((y @ odd)[:, None] > 0.5, odd, ~odd)
        share = output * parity
        share = share / share.sum(axis=1, keepdims=True)
        return super()._backprop(X, y + share - output, *rest)

settings = dict(solver="sgd", momentum=0, batch_size=32, learning_rate_init=0.5, alpha=0)
hand = Parity((64,), max_iter=1, random_state=0, **settings)
plain = MLPClassifier((64,), max_iter=1, random_state=0, **{**settings, "learning_rate_init": 1e-12})
plain.partial_fit(X[:32], y[:32], classes=range(10))
weights = [torch.tensor(w, requires_grad=True) for w in (*plain.coefs_, *plain.intercepts_)]
hidden = torch.relu(torch.tensor(X[:32]) @ weights[0] + weights[2])
output = (hidden @ weights[1] + weights[3]).log_softmax(dim=1)
gradients = torch.autograd.grad(digit_and_parity(output, torch.tensor(y[:32])), weights)
hand.partial_fit(X[:32], y[:32], classes=range(10))
difference = max(
    float((w.detach() - 0.5 * g - torch.tensor(other)).abs().max())
    for w, g, other in zip(weights, gradients, (*hand.coefs_, *hand.intercepts_))
)
"""


def test_03_runs_again_from_anycell() -> None:
    cells = (*WISHES, "twice", "inside-run")
    tried = Tried("03", (*cells, *reversed(cells), *cells), {})
    assert tried.error is None and tried.names["same"] and tried.names["same_wishes"]


# --- 04 -------------------------------------------------------------------------------------------


LOOPS = ("predict", "stock-run", "functional-run", "equal", "gradient", "rerun")


def test_04_both_loops_agree_and_kept_values_can_be_asked() -> None:
    """The story, and question 1: the parameters after each epoch still have their accuracy."""
    more = "scores = [teaching.accuracy(ModelFactory(each), digits.test) for each in kept]"
    tried = Tried("04", LOOPS[:-1], {}, more)
    assert tried.error is None
    names = tried.names
    assert (
        names["same"] and names["losses"] == names["stock_losses"] and len(names["losses"]) == 625
    )
    assert names["ledger"].counts.at_a_distance == names["ledger"].counts.overwritten == 0
    assert (names["start"].step_count, names["kept"][-1].step_count) == (0, 625)
    scores = names["scores"]
    assert scores[0] < 0.15 and 0.25 < scores[1] < 0.42 and 0.85 < scores[5] < 0.95
    assert names["mean"] == (names["gradients"][0] + names["gradients"][1]) / 2


def test_04_a_write_reaches_a_tuple_and_no_parameters() -> None:
    more = 'start["0.bias"].zero_()\nfrozen = (torch.ones(2),)\nfrozen[0].zero_()'
    tried = Tried("04", ("predict", "functional-run"), {}, more)
    assert tried.error is None
    assert tried.names["start"]["0.bias"].any() and not tried.names["frozen"][0].any()


def test_04_empty_parameters_are_drawn_from_the_generator() -> None:
    """Question 3: with a seed the function repeats itself, without one the generator moves on."""
    more = (
        "seeded, drawn = (\n"
        "    [functional(ModelFactory, make(), few)[1][-1] for run in range(2)]\n"
        "    for make in (lambda: fnlib.Parameters(seed=3), fnlib.Parameters)\n"
        ")"
    )
    tried = Tried("04", LOOPS, {}, more)
    assert tried.error is None
    assert tried.names["seeded"][0] == tried.names["seeded"][1]
    assert tried.names["drawn"][0] != tried.names["drawn"][1]


def test_04_only_the_cell_that_rebinds_nothing_repeats() -> None:
    """Three cells; a stock cell repeats itself if it sets up what it changes."""
    again = (
        "    torch.manual_seed(0)\n"
        "    network = nn.Sequential(*layers())\n"
        "    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)\n"
        "    again = stock("
    )
    for change, different in (({}, 3), ({"rerun": [("    again = stock(", again)]}, 1)):
        tried = Tried("04", LOOPS, change)
        assert tried.error is None
        counts = [len(set(results)) for results in tried.names["ends"].values()]
        assert counts == [different, 3, 1]


def test_04_runs_again_from_anycell() -> None:
    cells = (*LOOPS, "costs")
    tried = Tried("04", (*LOOPS, *reversed(LOOPS), *cells), {})
    assert tried.error is None and tried.names["same"]
    assert tried.names["ledger"].counts.overwritten == 0


# --- 05 -------------------------------------------------------------------------------------------

EQUAL = ("predict", "stock", "boxes", "functional", "equal")
PARTED = (*EQUAL, "part")


def unequal(tried: Tried) -> list[str]:
    """The lines of "All four equal" that say False, as rule and loop."""
    assert tried.error is None
    return [" ".join(line.split()[:2]) for line in tried.said.splitlines() if "False" in line]


def test_05_another_order_of_batches_is_another_trajectory() -> None:
    assert unequal(Tried("05", EQUAL, {})) == []
    tried = Tried("05", EQUAL, {"boxes": [("seed=epoch)", "seed=epoch + 1)")]})
    assert unequal(tried) == ["SGD fit", "momentum fit", "Adam fit"]


def test_05_the_seed_of_the_functional_loop_is_networks() -> None:
    """`network` sets the seed: another seed of `Parameters` changes nothing, one in `network` does."""
    start = 'w = functional(fnlib.SGD, lr=0.0)["0.weight"]\n'
    cells, names = ("predict", "stock", "boxes", "functional"), []
    for change in (
        {},
        {"functional": [("Parameters()", "Parameters(seed=3)")]},
        {"predict": [("manual_seed(0)", "manual_seed(3)")]},
    ):
        tried = Tried("05", cells, change, start)
        assert tried.error is None
        names.append(tried.names["w"])
    assert torch.equal(names[0], names[1]) and not torch.equal(names[0], names[2])


def test_05_dropping_momentum_changes_only_loops_that_had_it() -> None:
    """Plain SGD in the functional loop differs from stock only where stock has moments."""
    rule = [("optimizer=Rule(**settings)", 'optimizer=fnlib.SGD(lr=settings["lr"])')]
    tried = Tried("05", EQUAL, {"functional": rule})
    assert unequal(tried) == ["momentum functional", "Adam functional"]


def test_05_rounding_is_small_and_another_formula_is_not() -> None:
    """What the text says of the variants, and question 3: they differ by this much after one step."""
    more = (
        "far = {name: max((w[k] - v).abs().max().item() for k, v in wanted.items())\n"
        "       for name, w in variants.items()}"
    )
    first = [("in data:", "in data[:1]:")]
    for change, rounding in (({}, 1e-6), ({"stock": first}, 1e-7)):
        tried = Tried("05", PARTED, change, more)
        assert tried.error is None
        far = tried.names["far"]
        assert 0 < far["rows reversed"] < rounding and 0 <= far["fused=True"] < rounding
        assert far["foreach=True"] < rounding
        assert far["weight_decay=0.01"] > max(1e-3, 2000 * far["rows reversed"])
    assert far["rows reversed"] < 2e-8


def test_05_runs_again_from_anycell() -> None:
    cells = (*PARTED, "which", "picture")
    quick = {"predict": [("range(2)", "range(1)")], "boxes": [("range(2)", "range(1)")]}
    tried = Tried("05", (*cells, *reversed(cells), *cells), quick)
    assert unequal(tried) == [] and tried.said.count("05-which: passed") == 3


# --- 06 -------------------------------------------------------------------------------------------

HELD = ("predict", "stock", "functional", "equal")
MEASURED = (*HELD, "bill", "alive", "guard")


def peaks(tried: Tried) -> list[int]:
    assert tried.error is None
    return [round(memory.peak / tried.names["copy"]) for memory in tried.names["runs"].values()]


def test_06_a_gradient_with_a_name_is_a_third_copy() -> None:
    line = "        del gradient\n"
    assert peaks(Tried("06", HELD, {})) == [2, 3, 2]
    named = Tried("06", HELD, {"functional": [(line, "")]})
    assert peaks(named) == [2, 3, 3]
    functional = named.names["runs"]["functional"]
    (forward,) = (
        max(visit.held) / named.names["copy"]
        for visit in functional.visits
        if visit.text.startswith("output =")
    )
    assert 3.1 < forward < 4, "between 3 and 4"
    assert forward == functional.peak / named.names["copy"], "reached in the forward pass"


def test_06_the_graph_keeps_the_old_weights() -> None:
    """At the end of a round two copies are left, and one if output and loss go as well."""
    for names, copies in (("gradient", 2), ("gradient, output, loss", 1)):
        tried = Tried("06", HELD, {"functional": [("del gradient\n", f"del {names}\n")]})
        assert peaks(tried) == [2, 3, 2]
        last = tried.names["runs"]["functional"].visits[-1].held[-1]
        assert round(last / tried.names["copy"]) == copies


def test_06_the_first_step_of_adam_can_leave_its_value_alone() -> None:
    """06-bill: what a loop of Adam holds that keeps no value, the first, a later one, or a copy; `foreach` adds one."""
    loop = """
def keeping(foreach, step_kept, step_copied=None):
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.Adam(lr=0.001, foreach=foreach))
    parameters = fnlib.Parameters(seed=0)
    model = ModelFactory(parameters)
    for step, (feature, label) in enumerate(batches):
        if step == step_kept:
            kept = model.parameters
        if step == step_copied:
            copied = model.parameters.state_dict()
        gradient = model.backward(criterion(model(feature), label))
        parameters = model.step(gradient, donate=step != step_kept)
        model = ModelFactory(parameters)
        del gradient
    return parameters
def peak(*given):
    return max(each.peak for each in teaching.memory.record(keeping, *given).rounds) / copy
peaks = {
    foreach: [peak(foreach, *given) for given in ((None,), (0,), (1,), (None, 1))]
    for foreach in (False, True)
}
whole = {
    foreach: held(functional, batches, fnlib.Adam(lr=0.001, foreach=foreach)).peak / copy
    for foreach in (False, True)
}
"""
    tried = Tried("06", HELD, {}, loop)
    assert tried.error is None
    rounded = {key: list(map(round, peaks)) for key, peaks in tried.names["peaks"].items()}
    assert rounded == {False: [4, 5, 7, 5], True: [5, 6, 8, 6]}
    assert {key: round(peak) for key, peak in tried.names["whole"].items()} == {False: 7, True: 8}


def test_06_a_list_keeps_values_alive() -> None:
    change = {
        "alive": [
            ("    made = []\n", "    made, kept = [], []\n"),
            ("    return", "        kept.append(parameters)\n    return"),
        ]
    }
    tried = Tried("06", ("predict", "stock", "functional", "equal", "alive"), change)
    assert "alive after 10 steps: 10 | after 200 steps: 200" in tried.said


def test_06_what_the_text_says_of_copies_and_activations() -> None:
    """Same bits; `fused=True` saves the copy of `foreach`; a large batch hides the third copy."""
    more = (
        "adam = {name: round(held(stock, batches, torch.optim.Adam, **{name: True}).peak / copy)\n"
        '        for name in ("foreach", "fused")}\n'
        "large = digits.train.batches(2000)\n"
        "other = held(stock, large, torch.optim.SGD).peak / held(functional, large, sgd).peak\n"
        "ends = [functional(batches, sgd, donate=each) for each in (False, True)]\n"
        "same = all(torch.equal(end[k], wanted[k]) for end in ends for k in wanted)"
    )
    tried = Tried("06", HELD, {}, more)
    assert tried.error is None and tried.names["same"] and "the same weights: True" in tried.said
    assert {len(feature) for feature, _ in tried.names["large"]} == {2000}, "as the text says"
    assert tried.names["adam"] == {"foreach": 5, "fused": 4} and 0.99 < tried.names["other"] < 1.01
    linear = [each for each in tried.names["network"]() if isinstance(each, torch.nn.Linear)]
    assert len(linear) == 11 + 1, "eleven hidden layers and the output"


def test_06_runs_again_from_anycell() -> None:
    cells = (*MEASURED, "steps")
    tried = Tried("06", (*cells, *reversed(cells), *cells), {})
    assert peaks(tried) == [2, 3, 2] and tried.said.count("foreach=True          5") == 3
    assert tried.said.count("was given away by `model.step(gradient, donate=True)`") == 3


# --- 07 -------------------------------------------------------------------------------------------

EPOCHS = ("predict", "stock-run", "refused", "equal-run", "equal-functional", "equal-plot")
WHOLE = (*EPOCHS, "random-run", "frozen-run", "func-run")


def states(view: Any, source: str) -> list[set[str]]:
    """What each run of a statement changed, by kind of state."""
    return [
        {change.state for change in entry.changes if change.kind != "bound"}
        for entry in view.entries
        if entry.source.strip().startswith(source)
    ]


def test_07_the_rows_are_as_the_text_says() -> None:
    """`no_grad` stops the graph alone; 20 values are overwritten, and none at a distance."""
    tried = Tried("07", ("predict", "stock-run"), {})
    assert tried.error is None
    seen = states(tried.names["ledger"], "output =")
    assert ["buffer" in each for each in seen] == [True, True, False]
    assert ["random state" in each for each in seen] == [True, True, False]
    assert ["graph" in each for each in seen] == [True, False, True]
    counts = tried.names["ledger"].counts
    assert (counts.at_a_distance, counts.overwritten) == (0, 20)


def test_07_in_evaluation_no_forward_pass_changes_anything() -> None:
    change = [("with fnlib", "network.eval()\nwith fnlib")]
    tried = Tried("07", ("predict", "stock-run"), {"stock-run": change})
    assert tried.error is None
    for seen in states(tried.names["ledger"], "output ="):
        assert not seen & {"buffer", "random state"}
    assert not rows(tried.names["ledger"])["network.eval()"]


def test_07_dropped_buffers_are_refused() -> None:
    tried = Tried("07", EPOCHS, {"equal-functional": [("gradient, buffers=buffers", "gradient")]})
    assert "this step would keep the old values" in str(tried.error)


def test_07_a_bound_seed_draws_masks_of_its_own() -> None:
    """A seed passed to the bind draws other masks than the global generator, from the second on."""
    told = Tried("07", EPOCHS, {}).names
    assert told["same"] and len(told["losses"]) == len(told["digits"].train.batches(32))
    change = {
        "equal-functional": [
            ("model = ModelFactory(parameters)", "model = ModelFactory(parameters, seed=7)")
        ]
    }
    tried = Tried("07", EPOCHS, change)
    assert tried.error is None and not tried.names["same"]
    stock, functional = tried.names["stock_losses"], tried.names["losses"]
    assert stock[0] == functional[0] and stock[1] != functional[1]


def test_07_the_tables_of_torch_func_and_modes() -> None:
    """What the two tables and the frozen BatchNorm say."""
    more = (
        "from torch.func import vmap\n"
        "evaluated = vmap(lambda image: net[:2].eval()(image[None]))(feature).shape\n"
        "group = nn.GroupNorm(2, 8)\n"
        "grouped = vmap(lambda image: group(net[0](image[None])))(feature).shape\n"
        "masks = vmap(nn.Dropout(0.5), randomness='same')(torch.ones(3, 64))\n"
        "others = vmap(nn.Dropout(0.5), randomness='different')(torch.ones(3, 64))\n"
        "net.train()\n"
        "own = net[1].running_mean.clone()\n"
        "functional_call(net, weights, (feature,))\n"
        "written = not torch.equal(own, net[1].running_mean)\n"
        "other = model.eval()\n"
    )
    tried = Tried("07", WHOLE, {}, more)
    assert tried.error is None
    names = tried.names
    assert names["evaluated"] == names["grouped"]
    assert names["written"], "without buffers of yours, into the module's"
    assert names["other"] is not names["model"], "eval() returns another model"
    assert torch.equal(names["masks"][0], names["masks"][1])
    assert not torch.equal(names["others"][0], names["others"][1])
    assert rows(names["call"])[
        "output = functional_call(net, (weights, statistics), (feature,))"
    ] >= {"statistics value changed in place"}
    moved = ["buffer" in seen for seen in states(names["thawing"], "tuned(feature)")]
    assert moved == [False, True]
    flags = [change.label for change in names["thawing"].entries[1].changes]
    assert flags == ["tuned.1.training"]
    assert "Sequential: Batch norm got a batched tensor" in tried.said
    assert "Dropout: vmap: called random operation" in tried.said
    repeats = re.findall(r"^(?:functional|stock).* (True|False)$", tried.said, re.MULTILINE)
    assert repeats == ["True", "False", "False", "True"]


def test_07_runs_again_from_anycell() -> None:
    tried = Tried("07", (*WHOLE, *reversed(WHOLE), *WHOLE), {})
    assert tried.error is None and tried.names["same"]
    assert tried.names["ledger"].counts.overwritten == 20
    repeats = re.findall(r"^(?:functional|stock).* (True|False)$", tried.said, re.MULTILINE)
    assert repeats == ["True", "False", "False", "True"] * 3


# --- 08 -------------------------------------------------------------------------------------------


READ = ("imports", "stock-bug")
TRAINED_08 = (*READ, "functional-bug", "equal-stock", "equal-functional", "equal-run")


def test_08_without_detach_stock_raises_and_the_graph_grows() -> None:
    """The story: an error in stock PyTorch, and in fnlib the same losses with a growing graph."""
    note = "        losses.append(loss.item())\n        sizes.append("
    change = {
        "functional-bug": [
            ("for cut in", "losses = []\nfor cut in"),
            ("        sizes.append(", note),
        ]
    }
    tried = Tried("08", (*READ, "functional-bug"), change)
    assert tried.error is None
    (finding,) = tried.names["ledger"].findings
    assert finding.code == "graph-used-twice"
    changed = [
        change.label
        for entry in tried.names["ledger"].iteration(2).entries
        if entry.source.strip() == "loss.backward()"
        for change in entry.changes
        if change.state == "gradient"
    ]
    assert changed == ["network.head.weight.grad", "network.head.bias.grad"], (
        "both gradients of head"
    )
    losses = tried.names["losses"]
    assert losses[:5] == losses[5:] and len(losses) == 10
    assert "[74, 149, 224, 299, 374]" in tried.said and not any(tried.names["network"].buffers())


def test_08_without_detach_and_without_a_step_both_raise() -> None:
    """The table: one model's second `backward` meets a used graph; one `backward` of both losses passes."""
    more = """
model = ModelFactory(fnlib.Parameters(seed=0))
state = None
losses = []
for feature, label in pieces[:2]:
    output, state = model(feature, state)
    losses.append(criterion(output, label))
"""
    reads = Tried("08", (*READ, "functional-bug"), {}, more + "model.backward(sum(losses))")
    assert reads.error is None
    tried = Tried("08", (*READ, "functional-bug"), {}, more + "    model.backward(losses[-1])")
    assert isinstance(tried.error, fnlib.GraphUsedUp)


def test_08_a_kept_graph_meets_weights_that_have_moved() -> None:
    """Question 1: `retain_graph=True` passes, and fails again once a step comes between."""
    kept = ("loss.backward()", "loss.backward(retain_graph=True)")
    assert not Tried("08", READ, {"stock-bug": [kept]}).names["ledger"].raised
    stepping = [
        ("loss.backward()", "loss.backward(retain_graph=True); optimizer.step()"),
        (
            "with suppress",
            "optimizer = torch.optim.SGD(network.parameters(), lr=0.1)\nwith suppress",
        ),
    ]
    raised = Tried("08", READ, {"stock-bug": stepping}).names["ledger"].raised
    assert "modified by an inplace operation" in str(raised)


def test_08_cut_at_each_digit_answers_stay_at_chance() -> None:
    """Question 2: cut after each digit, the hidden units move but the answers stay at chance."""
    shown = [("look(two, epoch)", "look(one, epoch)")]
    cells = (*TRAINED_08, "truncation-run", "hidden-run")
    tried = Tried("08", cells, {"hidden-run": shown})
    assert tried.error is None and tried.names["same"]
    assert tried.names["losses_two"] == tried.names["stock_losses"]
    right, two, one = (tried.names[name] for name in ("right", "two", "one"))
    assert 0.5 < right(two[-1]) and right(one[-1]) < 0.2
    test = tried.names["stream"].test
    hits = (two[-1](test.feature)[0].argmax(1) == test.label).float()
    assert hits[:, 0::2].mean() > 0.6 and hits[:, 1::2].mean() > 0.6, "first and second answers"
    (before, _), (after, answers) = tried.names["shown"].values()
    assert after.std(0).mean() > 3 * before.std(0).mean()
    asked = answers[7::8].gather(1, tried.names["before"][:, None]).mean()
    assert asked < 0.2
    _, sure = tried.names["look"](two, 6)
    assert sure[7::8].gather(1, tried.names["before"][:, None]).mean() > 0.4


def test_08_a_fresh_start_a_piece_leaves_half_the_labels() -> None:
    """Question 3: the first answer of a piece has to be guessed, at a cost of log(10)."""
    fresh = [("            output", "            hidden = None\n            output")]
    more = "mean = sum(functional(ModelFactory, digits=2, epochs=6)[1][-60:]) / 60"
    cells = (*READ, "functional-bug", "equal-functional")
    mean = Tried("08", cells, {"equal-functional": fresh}, more).names["mean"]
    assert torch.log(torch.tensor(10.0)) / 2 < mean < 1.8


def test_08_random_units_keep_a_digit_by_themselves() -> None:
    """512 units that were never trained: a last layer fitted to them names nine of ten digits."""
    data = teaching.stream()
    torch.manual_seed(0)
    rnn = torch.nn.RNN(8, 512, batch_first=True)
    with torch.no_grad():
        torch.nn.init.orthogonal_(rnn.weight_hh_l0).mul_(0.98)
        seen, new = (
            torch.nn.functional.pad(rnn(part.feature)[0][:, 7::8].flatten(0, 1), (0, 1), value=1.0)
            for part in data
        )
    wanted = torch.nn.functional.one_hot(data.train.label.flatten(), 10).float()
    head = torch.linalg.solve(seen.T @ seen + torch.eye(513), seen.T @ wanted)
    right = ((new @ head).argmax(1) == data.test.label.flatten()).float().mean()
    assert 0.85 < right < 0.95


def test_08_a_cache_on_the_module_mixes_two_conversations() -> None:
    """The review: see the proof of the question, which runs the layer for two conversations."""
    asked = questions()["08-cache"]
    layer: dict[str, Any] = {}
    exec(f"import torch\nfrom torch import nn\n{asked.code}", layer)
    torch.manual_seed(0)
    served = layer["Attention"]()
    first, other, second = torch.randn(3, 1, 16)
    served(first)
    alone = served(second)
    served.cache = None
    served(first)
    served(other)
    assert not torch.allclose(served(second), alone)


def test_08_runs_again_from_anycell() -> None:
    cells = (*TRAINED_08, "truncation-run", "hidden-run")
    tried = Tried("08", (*cells, *reversed(cells), *cells), {})
    assert tried.error is None and tried.names["same"]


# --- 09 -------------------------------------------------------------------------------------------

MUSEUM = ("one-predict", "one-row", "two-row", "three-row", "four-row", "four-curve", "six-row")


def test_09_each_exhibit_is_worse_than_its_cure() -> None:
    """The curves that the complaints are about, as written and cured."""
    cells = (*MUSEUM, "one-curve", "three-curve", "six-curve")
    tried = Tried("09", cells, {})
    assert tried.error is None
    wild, calm = tried.names["both_1"].values()
    assert min(wild[:25]) < 1 < max(wild[40:]) and wild[15] < calm[15] and calm[-1] == min(calm)
    slow, quick = (sum(losses[-20:]) for losses in tried.names["both_3"].values())
    assert quick < 0.9 * slow
    written, cured = tried.names["both_4"].values()
    assert written[0] > written[-1] + 0.08 and min(cured) > max(written) - 0.01
    stuck, falling = (losses[-1] for losses in tried.names["both_6"].values())
    assert stuck > 3 * falling
    assert tried.said.count("CERTAIN") == 3 and tried.said.count("QUESTION") == 2


def test_09_at_a_small_rate_the_bug_looks_like_luck() -> None:
    """Question 1: at a rate of 0.01 the loop without `zero_grad` learns faster."""
    more = "slow, lucky = train_1(cured=True, lr=0.01), train_1(lr=0.01)"
    names = Tried("09", ("one-predict", "one-row"), {}, more).names
    assert sum(names["lucky"]) < 0.9 * sum(names["slow"])


def test_09_inference_mode_moves_statistics_too() -> None:
    """Question 2: the finding is the same under `inference_mode`."""
    change = {"four-row": [("torch.no_grad()", "torch.inference_mode()")]}
    tried = Tried("09", ("one-predict", "four-row"), change)
    assert tried.error is None and "statistics-moved-without-gradient" in tried.said


def test_09_half_a_cure_trains_in_evaluation_mode() -> None:
    """Question 3: `eval()` without `train()` is another bug, and the ledger names it."""
    line = next(line for line in cell("09", "four-row").splitlines() if "# cured" in line)
    change: Change = {
        "four-row": [
            (line, " " * 12 + "network.eval()"),
            ("            network.train()\n", ""),
            ("accuracy_4 = ", "# "),
        ]
    }
    more = "codes = {finding.code for finding in visit.watch(train_4)[0].findings}"
    assert Tried("09", ("one-predict", "four-row"), change, more).names["codes"] == {
        "trained-in-eval-mode"
    }


def test_09_a_loop_has_a_harm_unless_it_raises() -> None:
    """What the lesson says of the rooms."""
    assert all((one.harm is None) == (one.today == "raises") for one in EXHIBITS)


def test_09_a_second_unscale_needs_an_update() -> None:
    """What the comment beside `scaler.update()` says."""
    change = {"state-run": [("    scaler.update()", "    # scaler.update()")]}
    tried = Tried("09", ("one-predict", "state-run"), change)
    assert "unscale_() has already been called" in str(tried.error)


def test_09_runs_again_from_anycell() -> None:
    cells = (*MUSEUM, "state-run", "doctor-run")
    tried = Tried("09", (*cells, *reversed(cells)), {})
    assert tried.error is None


# --- 10 -------------------------------------------------------------------------------------------

RESUMED = ("predict", "stock-run", "stock-resume", "functional", "resumed")


def test_10_the_harm_is_in_the_column_of_the_flawed_pixel() -> None:
    tried = Tried("10", ("predict", "functional", "night", "bisect"), {})
    assert tried.error is None
    broken, first = tried.names["broken"], tried.names["first_bad"]
    assert tried.names["first_nan"] == first + 1 == tried.names["flawed"] + 2
    before, after = broken[first - 1]["0.weight"], broken[first]["0.weight"]
    assert before[:, 60].abs().max() < 1 and 3e28 < after[:, 60].abs().max() < 3.5e28
    assert broken[first]["2.weight"].abs().max() > 1e27
    assert 0.005 < (after[:, 61] - before[:, 61]).abs().max() < 0.02, "about a hundredth"


def test_10_states_that_are_not_kept_are_replayed() -> None:
    more = """
few = fnlib.History(tempfile.mkdtemp(dir=room.name), every=20, step=adam_step)
few.append(start)
run(few, adam_step, 60)
print(few)
"""
    tried = Tried("10", RESUMED, {}, more)
    assert tried.error is None and "61 states, 4 of them on disk" in tried.said
    assert tried.names["few"][33] == tried.names["history"][33]


def test_10_a_load_leaves_the_optimizer_alone() -> None:
    more = """
with fnlib.Ledger(network=network, optimizer=optimizer) as ledger:
    network.load_state_dict(saved["network"])
"""
    tried = Tried("10", RESUMED[:3], {}, more)
    assert tried.error is None
    (load,) = tried.names["ledger"].entries
    changes = [(change.owner, change.state, change.kind) for change in load.changes]
    assert changes == [("network", "weight", "changed in place")] * 4


def test_10_clipping_makes_this_gradient_zero() -> None:
    """The guide says so: its norm overflows, and the step adds only what momentum has kept."""
    more = """
feature, label = weekend[flawed]
model = SGDFactory(broken[flawed])
gradient = model.backward(criterion(model(feature), label))
clipped = model.step(gradient.clip_norm(1.0))
"""
    tried = Tried("10", ("predict", "functional", "night"), {}, more)
    assert tried.error is None
    gradient = tried.names["gradient"]
    assert gradient.norm() == float("inf") and gradient.clip_norm(1.0).norm() == 0
    before, after = tried.names["broken"][tried.names["flawed"]], tried.names["clipped"]
    moves = [float((after[name] - before[name]).abs().max()) for name in before]
    assert 0 < max(moves) < 0.1


def test_10_runs_again_from_anycell() -> None:
    """Every cell once after all that come later, and then the lesson once more; the folders go."""
    cells = (*RESUMED, "night", "bisect", "branch", "modify", "decide", "make")
    tried = Tried("10", (*cells, *reversed(cells[1:]), *cells[1:]), {})
    assert tried.error is None
    assert tried.said.count("loaded network and optimizer, the same bits: True") == 3
    assert tried.said.count("the same bits as the unbroken stock run: True") == 3
    assert tried.said.count("without the batch, all weights below 100 at step 200: True") == 3
    room = Path(tried.names["room"].name)
    assert room.is_dir()
    tried.names["room"].cleanup()
    assert not room.exists()


def test_every_question_is_tried() -> None:
    """Three questions a lesson, and the lesson run again from any cell."""
    tried = Counter(
        lesson
        for path in Path(__file__).parent.glob("test_investigate*.py")
        for lesson in re.findall(r"^def test_(\d\d)_", path.read_text(encoding="utf-8"), re.M)
    )
    assert set(tried) == set(numbers())
    assert not {lesson: count for lesson, count in tried.items() if count < 4}
