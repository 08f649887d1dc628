"""`fnlib.doctor`: what it says of objects as they stand, and that it says nothing of sound ones."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable
from string import Formatter
from typing import Any

import pytest
import torch
from torch import nn

import fnlib
from fnlib.ledger.doctor.standing import inspect
from fnlib.ledger.findings.story import finding
from fnlib.ledger.findings.texts import SEVERAL, TEXTS


def codes(*objects: object, **named: object) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in fnlib.doctor(*objects, **named)]


def trained(
    optimizer_class: type = torch.optim.Adam,
) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = optimizer_class(model.parameters(), lr=0.1)
    model(torch.randn(8, 4)).mean().backward()
    optimizer.step()
    return model, optimizer


def test_says_nothing_of_what_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer = trained()
    best = copy.deepcopy(model.state_dict())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    report = fnlib.doctor(model, optimizer, scheduler, best=best)
    assert report == () and repr(report).startswith(
        "<nothing found in model (Sequential, 6 weights), "
    )
    assert capsys.readouterr().out == ""
    model.eval()
    assert fnlib.doctor(model, optimizer, best) == ()


def test_prints_the_fix_as_code(capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer = trained()
    best = model.state_dict()
    report = fnlib.doctor(model, optimizer, best)
    printed = capsys.readouterr().out
    assert (
        "\nQUESTION snapshot-shares-memory, best\n" in printed
        and "        best = copy.deepcopy(best)      # where it is kept\n" in printed
    )
    seen = "model (Sequential, 6 weights), optimizer (Adam) and best (OrderedDict)"
    assert printed.startswith(f"looked at {seen}: 0 certain, 1 question\n")
    assert repr(report) == f"<0 certain, 1 question in {seen}>"
    assert report._ipython_display_() is None


def test_uses_the_names_of_the_caller() -> None:
    net, optimizer = trained()
    (finding,) = fnlib.doctor(net, optimizer, net.state_dict())
    assert finding.place == "ordereddict" and "net.0.weight" in finding.what


@pytest.mark.parametrize("whole", [False, True], ids=["a layer", "all"])
@pytest.mark.parametrize("old", [False, True], ids=["no gradient", "an old gradient"])
def test_a_layer_replaced_before_a_recording(whole: bool, old: bool) -> None:
    """The layer's gradient of an earlier pass, which `model.zero_grad()` misses, hides nothing."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if old:
        model(torch.randn(4, 3)).square().mean().backward()
    model[1] = nn.Linear(3, 1)
    if whole:
        model[0] = nn.Linear(3, 3)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(3):
            loss = model(torch.randn(4, 3)).square().mean()
            model.zero_grad()
            loss.backward()
            optimizer.step()
    found = [(one.code, one.severity) for one in ledger.findings]
    assert found == [("weight-not-in-optimizer", "question" if old else "certain")]


def test_worst_first_and_with_a_recording() -> None:
    model, optimizer = trained(torch.optim.SGD)
    best = model.state_dict()
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for _ in range(2):
            model(torch.randn(8, 4)).mean().backward()
            optimizer.step()
    report = fnlib.doctor(model, optimizer, best, ledger=ledger)
    assert [finding.severity for finding in report] == ["certain", "question"]
    assert report[0].code == "gradient-used-twice" and report[0].line > 0
    assert report.certain == (report[0],)


def test_a_replaced_layer() -> None:
    model, optimizer = trained()
    model[3] = nn.Linear(8, 3)
    assert codes(model, optimizer) == [("weight-not-in-optimizer", "question")]
    optimizer.zero_grad()
    model(torch.randn(8, 4)).mean().backward()
    assert codes(model, optimizer) == [("weight-not-in-optimizer", "certain")]


def test_part_of_the_weights_is_no_finding() -> None:
    model, _ = trained()
    assert codes(model, torch.optim.SGD(model[3].parameters(), lr=0.1)) == []
    head = nn.Linear(2, 1)
    assert codes(model, torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)) == []


def test_one_weight_in_two_optimizers() -> None:
    model, optimizer = trained()
    second = torch.optim.SGD(model[3].parameters(), lr=0.1)
    assert codes(model, optimizer, second) == [("weight-in-two-optimizers", "question")]


def test_a_lost_tie() -> None:
    embed, decode = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    decode.weight = embed.weight
    tied = nn.Sequential(embed, decode)
    assert codes(tied) == [] == codes(copy.deepcopy(tied))
    assert codes(nn.Sequential(copy.deepcopy(embed), copy.deepcopy(decode))) == [
        ("tie-lost", "question")
    ]
    zeros = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for layer in zeros:
        nn.init.zeros_(layer.weight)
    assert codes(zeros) == []
    siblings = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    siblings[1].load_state_dict(siblings[0].state_dict())
    assert codes(siblings) == [("tie-lost", "question")]
    siblings[1].requires_grad_(False)  # it follows by momentum
    assert codes(siblings) == []


class Agent:
    def __init__(self) -> None:
        self.actor = nn.Linear(4, 2)
        self.actor_target = copy.deepcopy(self.actor)
        self.optimizer = torch.optim.Adam(self.actor.parameters())

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.actor(torch.randn(8, 4)).pow(2).mean().backward()
        self.optimizer.step()
        self.actor_target(torch.randn(8, 4))


def test_two_networks_of_one_object_are_no_tie() -> None:
    """A target network begins as a copy of its network; both are attributes of `self`."""
    agent, tied = Agent(), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    assert codes(**{"self.actor": agent.actor, "self.actor_target": agent.actor_target}) == []
    tied[1].load_state_dict(tied[0].state_dict())
    assert codes(**{"self.tied": tied}) == [("tie-lost", "question")]


class Two:
    """Networks in attributes of one object: two share a layer, and one has two layers tied."""

    def __init__(self) -> None:
        body = nn.Linear(4, 4)
        self.actor = nn.Sequential(body, nn.Linear(4, 2))
        self.critic = nn.Sequential(body, nn.Linear(4, 1))
        self.tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
        self.tied[1].weight = self.tied[0].weight

    def separate(self) -> None:
        self.actor(torch.ones(1, 4))
        self.critic(torch.ones(1, 4))
        self.critic[0] = nn.Linear(4, 4)

    def untie(self) -> None:
        self.actor(torch.ones(1, 4))
        self.tied(torch.ones(1, 4))
        self.tied[1].weight = nn.Parameter(self.tied[1].weight.detach().clone())


def test_ties_are_lost_within_a_network_only() -> None:
    """A layer that two networks of `self` shared is no tie; one weight under two names is."""
    with fnlib.Ledger(depth=1) as ledger:
        Two().separate()
    assert ledger.findings == []
    with fnlib.Ledger(depth=1) as ledger:
        Two().untie()
    assert [(one.code, one.place) for one in ledger.findings] == [
        ("tie-lost", "self.tied.0.weight")
    ]


def test_shared_moments() -> None:
    model, optimizer = trained()
    student = copy.deepcopy(model)
    second = torch.optim.Adam(student.parameters(), lr=0.1)
    second.load_state_dict(optimizer.state_dict())
    assert codes(model, student, optimizer, second) == [("state-shared", "question")]
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert codes(model, student, optimizer, second) == []


def test_state_that_is_the_gradient() -> None:
    model, optimizer = trained(torch.optim.SGD)
    optimizer.state[model[0].weight]["average"] = model[0].weight.grad
    assert codes(model, optimizer) == [("state-is-the-gradient", "certain")]


def test_a_snapshot_of_a_tensor() -> None:
    model, _ = trained()
    before, handle, copied = (
        model[0].weight.detach(),
        model[0].weight,
        model[0].weight.detach().clone(),
    )
    assert codes(model, before) == [("snapshot-shares-memory", "question")]
    assert codes(model, handle) == [] == codes(model, copied)


def test_one_module_under_two_names() -> None:
    policy, _ = trained()
    assert codes(policy=policy, target=policy) == [("one-module-two-names", "question")]
    assert codes(policy=policy, target=copy.deepcopy(policy)) == []


def test_a_frozen_weight_that_will_move() -> None:
    model, optimizer = trained()
    optimizer.zero_grad(set_to_none=False)
    model[0].requires_grad_(False)
    assert codes(model, optimizer) == [("frozen-weight-with-moments", "question")]
    optimizer.zero_grad()
    assert codes(model, optimizer) == []


class Wrapped(torch.optim.Optimizer):
    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner = inner

    def step(self) -> None:
        self.inner.step()


def test_an_optimizer_inside_of_another_is_no_second_one() -> None:
    model, optimizer = trained()
    lookahead = Wrapped(optimizer)
    assert codes(model, optimizer, lookahead) == []
    second = torch.optim.SGD(model.parameters(), lr=0.1)
    assert codes(model, optimizer, lookahead, second) == [("weight-in-two-optimizers", "question")]


def two_optimizers(*, second: bool, clear: bool) -> tuple[dict[str, Any], fnlib.Ledger]:
    """Train a model with two optimizers that hold the same weights; the second may never step."""
    model, first = trained()
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    with fnlib.Ledger(model=model, first=first, other=other) as ledger:
        for _ in range(2):
            first.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            first.step()
            if second and clear:
                other.zero_grad()
                model(torch.randn(8, 4)).mean().backward()
            if second:
                other.step()
    return {"model": model, "first": first, "other": other}, ledger


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"second": False, "clear": False}, []),  # a template, as for higher
        ({"second": True, "clear": True}, []),  # InfoGAN: each after a backward of its own
        ({"second": True, "clear": False}, [("weight-stepped-twice", "certain")]),
    ],
)
def test_a_recording_tells_who_steps_a_weight(how: dict[str, bool], expected: list[Any]) -> None:
    """Two optimizers may hold a weight; only a gradient that both use is a bug."""
    objects, ledger = two_optimizers(**how)
    assert codes(**objects, ledger=ledger) == expected
    assert ("weight-in-two-optimizers", "question") in codes(**objects)


class Shown(torch.optim.Optimizer):
    """A wrapper that shows what the optimizer inside of it has, as Accelerate's does."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner

    state = property(lambda self: self.inner.state)
    param_groups = property(lambda self: self.inner.param_groups)
    defaults = property(lambda self: self.inner.defaults)


class Shared(torch.optim.Optimizer):
    """A wrapper that has taken the state and the groups of the optimizer inside of it, as SAM does."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.base = [inner]
        self.state, self.param_groups = inner.state, inner.param_groups


@pytest.mark.parametrize("wrapper", [Wrapped, Shown, Shared])
def test_a_wrapper_is_one_with_its_optimizer(wrapper: type) -> None:
    """The state that both show is no shared state, and their weights are held once."""
    model, optimizer = trained()
    outer = wrapper(optimizer)
    assert codes(model, optimizer, outer) == [] == codes(model, outer, optimizer)
    second = torch.optim.Adam(model.parameters(), lr=0.1)
    second.load_state_dict(optimizer.state_dict())
    found = [("weight-in-two-optimizers", "question"), ("state-shared", "question")]
    assert codes(model, optimizer, outer, second) == found


def test_modes() -> None:
    model, _ = trained()
    model[2].eval()
    assert codes(model) == [("modes-differ", "question")]
    model.eval()
    model[1].train()
    assert codes(model) == [("modes-differ", "question")]
    model.train()
    model[1].requires_grad_(False)
    assert codes(model) == [("frozen-part-in-training-mode", "question")]
    model[1].eval()
    assert codes(model) == []


class Average(nn.Module):
    """A moving average of a model, never called itself and never trained (timm's ModelEmaV3)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).eval()


def test_a_moving_average_in_evaluation_mode() -> None:
    """The mode of a shell around an average says nothing; around a trained model it does."""
    model, _ = trained()
    average = Average(model)
    assert codes(model, average=average) == []
    average.module(torch.randn(8, 4)).mean().backward()
    assert codes(model, average=average) == [("modes-differ", "question")]


def test_a_frozen_backbone_in_evaluation_mode_is_no_finding() -> None:
    backbone, _ = trained()
    backbone.requires_grad_(False)
    model = nn.Sequential(backbone, nn.Dropout(0.1), nn.Linear(2, 2)).train()
    backbone.eval()
    assert codes(model) == []


def test_rates() -> None:
    model, optimizer = trained()
    optimizer.lr = 0.01
    assert codes(model, optimizer) == [("rate-set-on-the-object", "certain")]
    resumed = torch.optim.Adam(model.parameters(), lr=0.001)
    resumed.load_state_dict(copy.deepcopy(trained()[1].state_dict()))
    assert codes(model, resumed) == [("rate-overwritten", "question")]
    torch.optim.lr_scheduler.StepLR(resumed, 1)
    assert codes(model, resumed) == []


def test_a_rate_that_the_loop_sets_by_hand_is_no_finding(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, optimizer = trained(torch.optim.SGD)
    with fnlib.Ledger(model=model, optimizer=optimizer) as ledger:
        for step in range(2):
            for group in optimizer.param_groups:
                group["lr"] = 0.3 / (step + 2)
            optimizer.zero_grad()
            model(torch.randn(8, 4)).mean().backward()
            optimizer.step()
    assert fnlib.doctor(model, optimizer, ledger=ledger) == () and capsys.readouterr().out == ""
    assert codes(model, optimizer) == [("rate-overwritten", "question")], (
        "without the recording it cannot be told"
    )


class Schedule:
    """A schedule of one's own, called once for each step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.steps = optimizer, 0

    def __call__(self) -> None:
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 0.3 / self.steps


@pytest.mark.parametrize("wrapper", [None, Shown])
def test_a_rate_set_through_a_wrapper(wrapper: type | None) -> None:
    """A schedule sets the rate of the optimizer inside, by way of the one around it."""
    model, optimizer = trained()
    outer = optimizer if wrapper is None else wrapper(optimizer)
    schedule = Schedule(outer)
    objects = {"model": model, "optimizer": outer}
    with fnlib.Ledger(**objects, depth=1) as ledger:
        for _ in range(2):
            schedule()
            optimizer.zero_grad()
            model(torch.randn(8, 4)).mean().backward()
            optimizer.step()
    if wrapper is not None:  # the doctor of a script also looks at the one inside
        objects["optimizer.inner"] = optimizer
    assert codes(**objects, ledger=ledger) == []
    rates = [one for one in inspect(objects) if one.code == "rate-overwritten"]
    assert len(rates) == 1


def test_what_it_does_not_know_and_what_has_no_memory() -> None:
    lazy = nn.Sequential(nn.LazyLinear(3))
    with torch.device("meta"):
        described = nn.Linear(2, 2)
    assert codes(lazy, described, 3, "a text", None, [1, 2]) == []
    assert codes() == []


def test_inspecting_changes_nothing() -> None:
    model, optimizer = trained()
    before, noise = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    fnlib.doctor(model, optimizer)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(noise, torch.random.get_rng_state())


def nested() -> nn.Sequential:
    """Three BatchNorm layers, two of them inside parts that Python reaches by number."""
    inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    return nn.Sequential(inner, nn.BatchNorm1d(4), nn.Linear(4, 2))


def frozen(layers: int) -> dict[str, Any]:
    model = nested()
    for layer in [part for part in model.modules() if isinstance(part, nn.BatchNorm1d)][:layers]:
        layer.requires_grad_(False)
    return {"model": model}


def replaced_layer() -> dict[str, Any]:
    model, optimizer = trained()
    model[3] = nn.Linear(8, 3)
    return {"model": model, "optimizer": optimizer}


def replaced_layer_of_two() -> dict[str, Any]:
    encoder, decoder = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 4))
    optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.1)
    decoder[0] = nn.Linear(2, 4)
    return {"decoder": decoder, "encoder": encoder, "optimizer": optimizer}


def replaced_head_on_a_shared_trunk() -> dict[str, Any]:
    trunk = nn.Linear(4, 2)
    actor, critic = (nn.Sequential(trunk, nn.Linear(2, out)) for out in (3, 1))
    optimizer = torch.optim.SGD(nn.ModuleList([actor, critic]).parameters(), lr=0.1)
    actor[1] = nn.Linear(2, 3)
    return {"actor": actor, "critic": critic, "optimizer": optimizer}


def one_weight_twice() -> dict[str, Any]:
    model, optimizer = trained()
    return {
        "model": model,
        "optimizer": optimizer,
        "other": torch.optim.SGD(model[3].parameters(), lr=0.1),
    }


def lost_tie() -> dict[str, Any]:
    embed, decode = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    decode.weight = nn.Parameter(embed.weight.detach().clone())
    return {"model": nn.Sequential(embed, decode)}


def shared_state() -> dict[str, Any]:
    model, optimizer = trained()
    student = copy.deepcopy(model)
    second = torch.optim.Adam(student.parameters(), lr=0.1)
    second.load_state_dict(optimizer.state_dict())
    return {"model": model, "student": student, "optimizer": optimizer, "second": second}


def aliased() -> dict[str, Any]:
    model, _ = trained()
    return {"model": model, "best": model.state_dict()}


def same_module() -> dict[str, Any]:
    policy, _ = trained()
    return {"policy": policy, "target": policy}


def frozen_with_moments() -> dict[str, Any]:
    model, optimizer = trained()
    optimizer.zero_grad(set_to_none=False)
    model[0].requires_grad_(False)
    return {"model": model, "optimizer": optimizer}


def part_asleep() -> dict[str, Any]:
    model, _ = trained()
    model[2].eval()
    return {"model": model}


def rate_on_the_object() -> dict[str, Any]:
    model, optimizer = trained()
    optimizer.lr = 0.01
    return {"model": model, "optimizer": optimizer}


def rate_of_a_checkpoint() -> dict[str, Any]:
    model, optimizer = trained()
    optimizer.param_groups[0]["lr"] = 0.5
    return {"model": model, "optimizer": optimizer}


CURED = [
    (lambda: frozen(1), "frozen-part-in-training-mode"),
    (lambda: frozen(3), "frozen-part-in-training-mode"),
    (replaced_layer, "weight-not-in-optimizer"),
    (replaced_layer_of_two, "weight-not-in-optimizer"),
    (replaced_head_on_a_shared_trunk, "weight-not-in-optimizer"),
    (one_weight_twice, "weight-in-two-optimizers"),
    (lost_tie, "tie-lost"),
    (shared_state, "state-shared"),
    (aliased, "snapshot-shares-memory"),
    (same_module, "one-module-two-names"),
    (frozen_with_moments, "frozen-weight-with-moments"),
    (part_asleep, "modes-differ"),
    (rate_of_a_checkpoint, "rate-overwritten"),
]


@pytest.mark.parametrize(("make", "code"), CURED)
def test_a_pasted_fix_cures(make: Callable[[], dict[str, Any]], code: str) -> None:
    """The fix is Python that runs as it is, and covers every place of the finding."""
    objects = make()
    (found,) = inspect(objects)
    assert found.code == code
    world = {"copy": copy, "torch": torch, **objects}
    exec(found.fix, world)
    assert inspect({name: world[name] for name in objects}) == []


@pytest.mark.parametrize("make", [replaced_layer_of_two, replaced_head_on_a_shared_trunk])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_new_optimizer_holds_all_networks(
    make: Callable[[], dict[str, Any]], recorded: bool
) -> None:
    """The optimizer of the fix holds every weight of both networks once, not only the new layer's."""
    world = make()
    networks = [one for one in world.values() if isinstance(one, nn.Module)]
    found = inspect(world)
    if recorded:
        with fnlib.Ledger(**world) as ledger:
            sum(weight.sum() for one in networks for weight in one.parameters()).backward()
            world["optimizer"].step()
        found = ledger.findings
    (one,) = found
    exec(one.fix, {"torch": torch}, world)
    held = [id(w) for group in world["optimizer"].param_groups for w in group["params"]]
    wanted = {id(w) for network in networks for w in network.parameters()}
    assert set(held) == wanted and len(held) == len(wanted)


@pytest.mark.parametrize("order", [("model", "other"), ("other", "model")])
@pytest.mark.parametrize("part", ["the model", "its new layer", "its first layer"])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_fix_names_each_module_once(order: tuple[str, str], part: str, recorded: bool) -> None:
    """Neither a second name of the module nor a module inside it, in whatever order they come."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[1] = nn.Linear(8, 2)
    other = {"the model": model, "its new layer": model[1], "its first layer": model[0]}[part]
    named = {"model": model, "other": other}
    objects = {**{name: named[name] for name in order}, "optimizer": optimizer}
    found = inspect(objects)
    if recorded:
        with fnlib.Ledger(**objects) as ledger:
            sum(weight.sum() for weight in model.parameters()).backward()
            optimizer.step()
        found = ledger.findings
    (fix,) = (one.fix for one in found if one.code == "weight-not-in-optimizer")
    name = order[0] if part == "the model" else "model"
    assert f"({name}.parameters(), lr=" in fix


def test_the_fix_of_a_rate_on_the_object_sets_the_rate() -> None:
    objects = rate_on_the_object()
    (found,) = inspect(objects)
    exec(found.fix, objects)
    assert objects["optimizer"].param_groups[0]["lr"] == 0.01


class Dummy(dict[str, str]):
    """A value for every field of a text."""

    def __missing__(self, name: str) -> str:
        return {"assigned": "= 1", "rate": ", lr=0.1", "lr": "0.1"}.get(name, "x")


@pytest.mark.parametrize("code", TEXTS)
def test_every_text_has_sentences_and_a_fix_in_python(code: str) -> None:
    text = TEXTS[code]
    for fix in filter(None, (text.fix, text.many)):
        ast.parse(fix.format_map(Dummy()))
        assert "..." not in fix
    for sentence in filter(None, (text.what, text.standing, text.why)):
        assert sentence.format_map(Dummy()).endswith((".", "x", "?")), sentence
    assert text.what or text.standing


@pytest.mark.parametrize("code", TEXTS)
def test_a_sentence_about_several_places_is_plural(code: str) -> None:
    """No verb after "and 1 more" is one of a single place."""
    text = TEXTS[code]
    for standing in {not text.what, bool(text.standing)}:
        sentences = (text.what, text.standing, text.why, text.fix, text.many)
        fields = {field for one in sentences for _, field, _, _ in Formatter().parse(one) if field}
        own = dict.fromkeys(fields - {"place", *SEVERAL}, "x")
        said = finding(code, "question", ["m.a", "m.b"], standing=standing, **own).what
        assert not re.search(
            r"(?<!of )m.a and 1 more(, which| \(x\))? (has|is|was|[a-z]+s)\b", said
        ), said
