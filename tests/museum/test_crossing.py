"""A loss that runs through another optimizer's weights before both step: asked about in a GAN, not where losses share a part."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fnlib

CODE = "gradient-of-another-loss"

# Two networks, each with its optimizer: `d` reads x, or what `g` makes of z.
PAIR = """
bce = nn.functional.binary_cross_entropy_with_logits
ones, zeros = torch.ones(8, 1), torch.zeros(8, 1)
g = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
d = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
opt_g, opt_d = (torch.optim.Adam(network.parameters(), lr=1e-3) for network in (g, d))
"""
DRAW = "x, z = torch.randn(8, 2) + 2, torch.randn(8, 3)\n"
CLEAR = "opt_d.zero_grad()\nopt_g.zero_grad()\n"
STEP = "opt_d.step()  # asked about\nopt_g.step()\n"

# A row is what happens in an iteration once x and z are drawn. CLEAR and STEP are added where a row
# has neither of its own. "crosses" marks the backward that fills the other optimizer's gradients.
ASKED = {
    "as in the tutorial, but for the steps": """
        loss_real = bce(d(x), ones)
        loss_real.backward()
        fake = g(z)
        loss_fake = bce(d(fake.detach()), zeros)
        loss_fake.backward()
        loss_g = bce(d(fake), ones)
        loss_g.backward()  # crosses
    """,
    "the generator steps first": """
        loss_d = bce(d(x), ones) + bce(d(g(z).detach()), zeros)
        loss_d.backward()
        bce(d(g(z)), ones).backward()  # crosses
        opt_g.step()
        opt_d.step()  # asked about
    """,
    "the generator's loss comes first": """
        fake = g(z)
        loss_g = bce(d(fake), ones)
        loss_d = bce(d(x), ones) + bce(d(fake.detach()), zeros)
        loss_g.backward()  # crosses
        loss_d.backward()
    """,
    "the generator has a loss of its own, too": """
        fake = g(z)
        loss_d = bce(d(x), ones) + bce(d(fake.detach()), zeros)
        loss_d.backward()
        loss_l1 = (fake - x).abs().mean()
        loss_l1.backward(retain_graph=True)
        loss_g = bce(d(fake), ones)
        loss_g.backward()  # crosses
    """,
    "the fake is not detached and the generator cleared": """
        d.zero_grad()
        fake = g(z)
        loss_d = 1 - d(x).mean() + d(fake).mean()
        loss_d.backward(retain_graph=True)
        g.zero_grad()
        loss_g = 1 - d(fake).mean()
        loss_g.backward()  # crosses
    """,
    "the fake is not detached and nothing cleared": """
        fake = g(z)
        bce(d(x), ones).backward()
        bce(d(fake), zeros).backward(retain_graph=True)
        bce(d(fake), ones).backward()  # crosses
    """,
    "actor and critic": """
        critic_loss = (d(x) - torch.randn(8, 1)).pow(2).mean()
        critic_loss.backward()
        actor_loss = -d(g(z)).mean()
        actor_loss.backward()  # crosses
    """,
    "in small batches": """
        for part in (slice(0, 4), slice(4, 8)):
            fake = g(z[part])
            loss_d = bce(d(x[part]), ones[part]) + bce(d(fake.detach()), zeros[part])
            loss_d.backward()
            loss_g = bce(d(fake), ones[part])
            loss_g.backward()  # crosses
    """,
    "losses made in functions": """
        def loss_of_d(real, fake):
            right = bce(d(real), ones)
            return right + bce(d(fake.detach()), zeros)

        def loss_of_g(noise):
            fake = g(noise)
            return bce(d(fake), ones)

        loss_of_d(x, g(z)).backward()
        loss_of_g(z).backward()  # crosses
    """,
    # a vocoder on recorded and on predicted input looks the same, so this is a question
    "one network is meant to learn on both": """
        on_recorded = (d(x) - 1).pow(2).mean()
        on_recorded.backward()
        on_predicted = (d(g(z)) - 1).pow(2).mean()
        on_predicted.backward()  # crosses
    """,
}

LEFT = {
    "each step after its backward": """
        opt_d.zero_grad()
        fake = g(z)
        (bce(d(x), ones) + bce(d(fake.detach()), zeros)).backward()
        opt_d.step()
        opt_g.zero_grad()
        bce(d(fake), ones).backward()
        opt_g.step()
    """,
    "cleared in between": """
        fake = g(z)
        opt_g.zero_grad()
        bce(d(fake), ones).backward()
        opt_d.zero_grad()
        (bce(d(x), ones) + bce(d(fake.detach()), zeros)).backward()
    """,
    "frozen for the generator's pass": """
        fake = g(z)
        (bce(d(x), ones) + bce(d(fake.detach()), zeros)).backward()
        d.requires_grad_(False)
        bce(d(fake), ones).backward()
        d.requires_grad_(True)
    """,
    "only the generator is an input": """
        fake = g(z)
        (bce(d(x), ones) + bce(d(fake.detach()), zeros)).backward()
        bce(d(fake), ones).backward(inputs=list(g.parameters()))
    """,
    "the generator's gradient comes from autograd.grad": """
        fake = g(z)
        (bce(d(x), ones) + bce(d(fake.detach()), zeros)).backward()
        gradients = torch.autograd.grad(bce(d(fake), ones), list(g.parameters()))
        for weight, gradient in zip(g.parameters(), gradients, strict=True):
            weight.grad = gradient
    """,
    "one sum of both losses": """
        (bce(d(x), ones) + bce(d(g(z)), ones)).backward()
    """,
    "a gradient penalty in its own backward": """
        opt_d.zero_grad()
        fake = g(z)
        (d(fake.detach()).mean() - d(x).mean()).backward()
        between = (x + fake.detach()).div(2).requires_grad_()
        slope = torch.autograd.grad(d(between).sum(), between, create_graph=True)[0]
        (slope.norm(dim=1) - 1).pow(2).mean().backward()
        opt_d.step()
        opt_g.zero_grad()
        (-d(fake).mean()).backward()
        opt_g.step()
    """,
    "the fake is not detached and each steps at once": """
        opt_d.zero_grad()
        bce(d(x), ones).backward()
        bce(d(g(z)), zeros).backward()
        opt_d.step()
        opt_g.zero_grad()
        bce(d(g(z)), ones).backward()
        opt_g.step()
    """,
    "both losses reach everything": """
        output = d(g(z))
        bce(output, ones).backward(retain_graph=True)
        output.pow(2).mean().backward()
    """,
    # as in a variational autoencoder: `g` is the encoder, and both losses reach it
    "an encoder with a penalty of its own": """
        code = g(z)
        code.pow(2).mean().backward(retain_graph=True)
        (d(code) - x[:, :1]).pow(2).mean().backward()
        opt_g.step()
        opt_d.step()
    """,
    "an encoder run again for its own loss": """
        rebuilt = (d(g(z)) - x[:, :1]).pow(2).mean()
        alike = (g(z) - g(z + 0.1)).pow(2).mean()
        rebuilt.backward()
        alike.backward()
        opt_g.step()
        opt_d.step()
    """,
    # two rates for backbone and head, and a weight decay of the head that is written by hand
    "the last layers have a penalty of their own": """
        bce(d(g(z)), ones).backward()
        sum(weight.pow(2).sum() for weight in d.parameters()).backward()
        opt_g.step()
        opt_d.step()
    """,
    # text, which the second network reads as it is, and pictures, which pass the first one
    "one line for batches of two kinds": """
        for value in (x, g(z)):
            bce(d(value), ones).backward()
    """,
    "the critic's value is detached": """
        value = d(x)
        value.pow(2).mean().backward()
        (g(z).log_softmax(1)[:, :1] * value.detach()).mean().backward()
    """,
}

# Parts that two losses share: the parts of each optimizer, and the two losses.
SHARED = {
    "two encoders and one head, an optimizer each": (
        {"head": "nn.Linear(5, 1)"}, {"text": "nn.Linear(4, 5)"}, {"picture": "nn.Linear(3, 5)"},
        "head(text(torch.randn(8, 4)))", "head(picture(torch.randn(8, 3)))",
    ),
    "text through the trunk's own stem, pictures through another": (
        {"stem": "nn.Linear(4, 5)", "trunk": "nn.Linear(5, 1)"}, {"picture": "nn.Linear(3, 5)"},
        "trunk(stem(torch.randn(8, 4)))", "trunk(picture(torch.randn(8, 3)))",
    ),
    "a prompt that is trained beside its model": (
        {"model": "nn.Linear(5, 1)"}, {"prompt": "nn.ParameterList([nn.Parameter(torch.zeros(5))])"},
        "model(words := torch.randn(8, 5))", "model(words + prompt[0])",
    ),
    "one body with two heads, one of them with the body": (
        {"body": "nn.Linear(4, 8)", "head_a": "nn.Linear(8, 1)"}, {"head_b": "nn.Linear(8, 1)"},
        "head_a(body(torch.randn(8, 4)))", "head_b(body(torch.randn(8, 4)))",
    ),
    "one body with two heads, an optimizer each": (
        {"body": "nn.Linear(4, 8)"}, {"head_a": "nn.Linear(8, 1)"}, {"head_b": "nn.Linear(8, 1)"},
        "head_a(body(torch.randn(8, 4)))", "head_b(body(torch.randn(8, 4)))",
    ),
}  # fmt: skip

# Two networks whose forward passes take several statements, which are recorded too.
CLASSES = """
class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, noise):
        bent = torch.tanh(noise)
        return nn.functional.linear(bent, self.layer.weight, self.layer.bias)

class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, value):
        score = self.layer(value)
        return torch.sigmoid(score)
"""
OWN_LOSS = """
for _ in range(2):
    for optimizer in optimizers:
        optimizer.zero_grad()
    own = {last}(torch.randn(8, {width})).mean()
    own.backward()
    loss = second(first(torch.randn(8, 3))).mean()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
"""


def record(tmp_path: Path, setup: str, loop: str, watched: str, depth: int = 3) -> fnlib.Ledger:
    """Run the setup, then record the loop, both from files, as a user's code is."""
    names: dict[str, Any] = {"torch": torch, "nn": nn}
    torch.manual_seed(0)
    code = []
    for name, source in (("setup.py", setup), ("loop.py", loop)):
        (tmp_path / name).write_text(source)
        code.append(compile(source, str(tmp_path / name), "exec"))
    exec(code[0], names)
    ledger = fnlib.Ledger(**{name: names[name] for name in watched.split()}, depth=depth)
    ledger.run(code[1], namespace=names)
    assert any(event.kind == "step" for event in ledger.events), "the loop was not recorded"
    return ledger


def iterations(body: str) -> str:
    """Write the loop of a row, twice around."""
    body = textwrap.dedent(body).strip("\n") + "\n"
    clear, step = (
        part * (call not in body) for part, call in ((CLEAR, "zero_grad"), (STEP, ".step()"))
    )
    return "for _ in range(2):\n" + textwrap.indent(DRAW + clear + body + step, "    ")


def line_with(loop: str, comment: str) -> int:
    return next(n for n, line in enumerate(loop.splitlines(), 1) if line.endswith(f"# {comment}"))


@pytest.mark.parametrize("row", ASKED)
def test_a_step_that_follows_the_other_loss_is_asked_about(row: str, tmp_path: Path) -> None:
    loop = iterations(ASKED[row])
    findings = record(tmp_path, PAIR, loop, "g d opt_g opt_d").findings
    assert [(finding.code, finding.severity, finding.line) for finding in findings] == [
        (CODE, "question", line_with(loop, "asked about"))
    ]
    assert findings[0].place == "d.0.weight and 3 more"
    line = line_with(loop, "crosses")
    assert (
        findings[0].what
        == f"opt_d.step() also uses what the backward at line {line} added to its gradients; "
        "that backward is there for opt_g.step()."
    )
    assert findings[0].fix.splitlines()[::2] == [
        "opt_d.zero_grad()      # right before its own backward, and its step right after",
        "opt_d.step()",
    ]


@pytest.mark.parametrize("row", LEFT)
def test_losses_that_are_meant_for_what_they_reach(row: str, tmp_path: Path) -> None:
    found = record(tmp_path, PAIR, iterations(LEFT[row]), "g d opt_g opt_d").findings
    assert [str(finding) for finding in found] == []


def test_an_uncleared_gradient_is_reported_at_one_step(tmp_path: Path) -> None:
    """Report a gradient that nobody cleared at the generator's step alone."""
    body = """
        bce(d(x), ones).backward()
        bce(d(g(z)), zeros).backward()
        opt_d.step()
        bce(d(g(z)), ones).backward()
        opt_g.step()
    """
    loop = DRAW + CLEAR + textwrap.dedent(body)
    found = record(tmp_path, PAIR, loop, "g d opt_g opt_d").findings
    assert [(finding.code, finding.place) for finding in found] == [(CODE, "g.0.weight and 3 more")]


def test_passes_inside_functions_that_are_not_recorded(tmp_path: Path) -> None:
    functions = """
def pass_of_d():
    (bce(d(x), ones) + bce(d(g(z).detach()), zeros)).backward()

def pass_of_g():
    bce(d(g(z)), ones).backward()
    return g(z)  # to look at
"""
    loop = CLEAR + "pass_of_d()\npass_of_g()\n" + STEP
    found = record(tmp_path, PAIR + DRAW + functions, loop, "g d opt_g opt_d", depth=1).findings
    assert [finding.code for finding in found] == [CODE]


@pytest.mark.parametrize("row", SHARED)
def test_losses_that_share_a_part(row: str, tmp_path: Path) -> None:
    *groups, first, second = SHARED[row]
    made = {name: how for group in groups for name, how in group.items()}
    setup = "".join(f"{name} = {how}\n" for name, how in made.items())
    groups_of_parts = ", ".join(f"nn.ModuleList([{', '.join(group)}])" for group in groups)
    setup += f"optimizers = [torch.optim.SGD(parts.parameters(), lr=0.1) for parts in [{groups_of_parts}]]\n"
    loop = f"""
for _ in range(2):
    for optimizer in optimizers:
        optimizer.zero_grad()
    first, second = {first}.mean(), {second}.mean()
    first.backward()
    second.backward()
    for optimizer in optimizers:
        optimizer.step()
"""
    ledger = record(tmp_path, setup, loop, " ".join([*made, "optimizers"]))
    assert sum(event.kind == "step" for event in ledger.events) == 2 * len(groups)
    assert [str(finding) for finding in ledger.findings] == []


@pytest.mark.parametrize("last, width, found", [("first", 3, []), ("second", 2, [CODE])])
@pytest.mark.parametrize(
    "pair",
    ["Generator(), Judge()", "Generator(), nn.Linear(2, 1)", "nn.Linear(3, 2), Judge()"],
)
def test_modules_whose_forward_is_recorded_too(
    pair: str, last: str, width: int, found: list[str], tmp_path: Path
) -> None:
    """The part with a loss of its own decides, also where its forward is several statements."""
    setup = CLASSES + (
        f"first, second = {pair}\n"
        "one, two = optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (first, second)]\n"
    )
    loop = OWN_LOSS.format(last=last, width=width)
    ledger = record(tmp_path, setup, loop, "first second one two", depth=4)
    assert [finding.code for finding in ledger.findings] == found
