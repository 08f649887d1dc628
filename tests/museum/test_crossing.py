"""A loss that runs through another optimizer's weights before both step: asked about in a GAN, not where losses share a part."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn

import fnlib

CODE = "gradient-of-another-loss"
bce = nn.functional.binary_cross_entropy_with_logits
ones, zeros = torch.ones(8, 1), torch.zeros(8, 1)


class Pair:
    """Two networks of which the second reads what the first gives, each with its optimizer, and what a recording found."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.g = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        self.d = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        self.opt_g, self.opt_d = (
            torch.optim.Adam(network.parameters(), lr=1e-3) for network in (self.g, self.d)
        )

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(8, 2) + 2, torch.randn(8, 3)

    def clear(self) -> None:
        self.opt_d.zero_grad()
        self.opt_g.zero_grad()


def found(loop: Callable[[Pair], None]) -> list[fnlib.ledger.Finding]:
    pair = Pair()
    ledger = fnlib.Ledger(g=pair.g, d=pair.d, opt_g=pair.opt_g, opt_d=pair.opt_d, depth=3)
    ledger._recorder.only = (__file__,)
    with ledger:
        for _ in range(2):
            loop(pair)
    assert sum(event.kind == "step" for event in ledger.events) >= 2, "the loop was not recorded"
    return ledger.findings


# --- asked about -----------------------------------------------------------------------------------


def as_in_the_tutorial_but_for_the_steps(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    loss_real = bce(pair.d(real), ones)
    loss_real.backward()
    fake = pair.g(noise)
    loss_fake = bce(pair.d(fake.detach()), zeros)
    loss_fake.backward()
    loss_g = bce(pair.d(fake), ones)
    loss_g.backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def the_generator_steps_first(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    loss_d = bce(pair.d(real), ones) + bce(pair.d(pair.g(noise).detach()), zeros)
    loss_d.backward()
    bce(pair.d(pair.g(noise)), ones).backward()  # crosses
    pair.opt_g.step()
    pair.opt_d.step()  # asked about


def the_generators_loss_comes_first(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    fake = pair.g(noise)
    loss_g = bce(pair.d(fake), ones)
    loss_d = bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)
    loss_g.backward()  # crosses
    loss_d.backward()
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def the_generator_has_a_loss_of_its_own_too(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    fake = pair.g(noise)
    loss_d = bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)
    loss_d.backward()
    loss_l1 = (fake - real).abs().mean()
    loss_l1.backward(retain_graph=True)
    loss_g = bce(pair.d(fake), ones)
    loss_g.backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def the_fake_is_not_detached_and_the_generator_cleared(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.d.zero_grad()
    fake = pair.g(noise)
    loss_d = 1 - pair.d(real).mean() + pair.d(fake).mean()
    loss_d.backward(retain_graph=True)
    pair.g.zero_grad()
    loss_g = 1 - pair.d(fake).mean()
    loss_g.backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def the_fake_is_not_detached_and_nothing_cleared(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    fake = pair.g(noise)
    bce(pair.d(real), ones).backward()
    bce(pair.d(fake), zeros).backward(retain_graph=True)
    bce(pair.d(fake), ones).backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def actor_and_critic(pair: Pair) -> None:
    action, state = pair.batch()
    pair.clear()
    critic_loss = (pair.d(action) - torch.randn(8, 1)).pow(2).mean()
    critic_loss.backward()
    actor_loss = -pair.d(pair.g(state)).mean()
    actor_loss.backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def in_small_batches(pair: Pair) -> None:
    pair.clear()
    for _ in range(2):
        real, noise = pair.batch()
        fake = pair.g(noise)
        loss_d = bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)
        loss_d.backward()
        loss_g = bce(pair.d(fake), ones)
        loss_g.backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def losses_made_in_functions(pair: Pair) -> None:
    def loss_of_d(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        right = bce(pair.d(real), ones)
        return right + bce(pair.d(fake.detach()), zeros)

    def loss_of_g(noise: torch.Tensor) -> torch.Tensor:
        fake = pair.g(noise)
        return bce(pair.d(fake), ones)

    real, noise = pair.batch()
    pair.clear()
    loss_of_d(real, pair.g(noise)).backward()
    loss_of_g(noise).backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


def one_network_learns_on_both_and_it_is_meant(pair: Pair) -> None:
    """A vocoder on recorded and on predicted input looks the same: that is why it is a question."""
    recorded, text = pair.batch()
    pair.clear()
    on_recorded = (pair.d(recorded) - 1).pow(2).mean()
    on_recorded.backward()
    on_predicted = (pair.d(pair.g(text)) - 1).pow(2).mean()
    on_predicted.backward()  # crosses
    pair.opt_d.step()  # asked about
    pair.opt_g.step()


ASKED = [
    as_in_the_tutorial_but_for_the_steps,
    the_generator_steps_first,
    the_generators_loss_comes_first,
    the_generator_has_a_loss_of_its_own_too,
    the_fake_is_not_detached_and_the_generator_cleared,
    the_fake_is_not_detached_and_nothing_cleared,
    actor_and_critic,
    in_small_batches,
    losses_made_in_functions,
    one_network_learns_on_both_and_it_is_meant,
]


def line_with(loop: Callable[[Pair], None], comment: str) -> int:
    lines, first = inspect.getsourcelines(loop)
    return next(first + at for at, line in enumerate(lines) if line.endswith(f"# {comment}\n"))


@pytest.mark.parametrize("loop", ASKED, ids=lambda loop: loop.__name__)
def test_a_step_that_follows_the_other_loss_too_is_asked_about(
    loop: Callable[[Pair], None],
) -> None:
    findings = found(loop)
    assert [(finding.code, finding.severity, finding.line) for finding in findings] == [
        (CODE, "question", line_with(loop, "asked about"))
    ]
    assert findings[0].place == "d.0.weight and 3 more"
    line = line_with(loop, "crosses")
    assert (
        findings[0].what
        == f"opt_d.step() also uses the gradient of the backward at line {line}, which opt_g.step() uses."
    )
    assert findings[0].fix.splitlines()[::2] == [
        "opt_d.zero_grad()      # these three in a row",
        "opt_d.step()",
    ]


# --- left in peace ---------------------------------------------------------------------------------


def each_step_after_its_backward(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.opt_d.zero_grad()
    fake = pair.g(noise)
    (bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)).backward()
    pair.opt_d.step()
    pair.opt_g.zero_grad()
    bce(pair.d(fake), ones).backward()
    pair.opt_g.step()


def cleared_in_between(pair: Pair) -> None:
    real, noise = pair.batch()
    fake = pair.g(noise)
    pair.opt_g.zero_grad()
    bce(pair.d(fake), ones).backward()
    pair.opt_d.zero_grad()
    (bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)).backward()
    pair.opt_d.step()
    pair.opt_g.step()


def frozen_for_the_generators_pass(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    fake = pair.g(noise)
    (bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)).backward()
    pair.d.requires_grad_(False)
    bce(pair.d(fake), ones).backward()
    pair.d.requires_grad_(True)
    pair.opt_d.step()
    pair.opt_g.step()


def only_the_generators_inputs(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    fake = pair.g(noise)
    (bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)).backward()
    bce(pair.d(fake), ones).backward(inputs=list(pair.g.parameters()))
    pair.opt_d.step()
    pair.opt_g.step()


def the_generators_gradient_is_asked_for(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    fake = pair.g(noise)
    (bce(pair.d(real), ones) + bce(pair.d(fake.detach()), zeros)).backward()
    gradients = torch.autograd.grad(bce(pair.d(fake), ones), list(pair.g.parameters()))
    for weight, gradient in zip(pair.g.parameters(), gradients, strict=True):
        weight.grad = gradient
    pair.opt_d.step()
    pair.opt_g.step()


def one_sum_of_both_losses(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    (bce(pair.d(real), ones) + bce(pair.d(pair.g(noise)), ones)).backward()
    pair.opt_d.step()
    pair.opt_g.step()


def a_gradient_penalty_in_its_own_backward(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.opt_d.zero_grad()
    fake = pair.g(noise)
    (pair.d(fake.detach()).mean() - pair.d(real).mean()).backward()
    between = (real + fake.detach()).div(2).requires_grad_()
    slope = torch.autograd.grad(pair.d(between).sum(), between, create_graph=True)[0]
    (slope.norm(dim=1) - 1).pow(2).mean().backward()
    pair.opt_d.step()
    pair.opt_g.zero_grad()
    (-pair.d(fake).mean()).backward()
    pair.opt_g.step()


def the_fake_is_not_detached_and_each_steps_at_once(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.opt_d.zero_grad()
    bce(pair.d(real), ones).backward()
    bce(pair.d(pair.g(noise)), zeros).backward()
    pair.opt_d.step()
    pair.opt_g.zero_grad()
    bce(pair.d(pair.g(noise)), ones).backward()
    pair.opt_g.step()


def both_losses_reach_everything(pair: Pair) -> None:
    real, noise = pair.batch()
    pair.clear()
    output = pair.d(pair.g(noise))
    bce(output, ones).backward(retain_graph=True)
    output.pow(2).mean().backward()
    pair.opt_d.step()
    pair.opt_g.step()


def an_encoder_with_a_penalty_of_its_own(pair: Pair) -> None:
    """As in a variational autoencoder: here `g` is the encoder, and it is `g` that both losses reach."""
    target, feature = pair.batch()
    pair.clear()
    code = pair.g(feature)
    code.pow(2).mean().backward(retain_graph=True)
    (pair.d(code) - target[:, :1]).pow(2).mean().backward()
    pair.opt_g.step()
    pair.opt_d.step()


def an_encoder_run_again_for_its_own_loss(pair: Pair) -> None:
    target, feature = pair.batch()
    pair.clear()
    rebuilt = (pair.d(pair.g(feature)) - target[:, :1]).pow(2).mean()
    alike = (pair.g(feature) - pair.g(feature + 0.1)).pow(2).mean()
    rebuilt.backward()
    alike.backward()
    pair.opt_g.step()
    pair.opt_d.step()


def the_last_layers_have_a_penalty_of_their_own(pair: Pair) -> None:
    """Two rates for backbone and head, and a decay of the head that is written by hand."""
    _, feature = pair.batch()
    pair.clear()
    bce(pair.d(pair.g(feature)), ones).backward()
    sum(weight.pow(2).sum() for weight in pair.d.parameters()).backward()
    pair.opt_g.step()
    pair.opt_d.step()


def one_line_for_batches_of_two_kinds(pair: Pair) -> None:
    """Text that the second network reads as it is, and pictures that come by way of the first."""
    words, picture = pair.batch()
    pair.clear()
    for value in (words, pair.g(picture)):
        bce(pair.d(value), ones).backward()
    pair.opt_d.step()
    pair.opt_g.step()


def the_critic_is_asked_without_a_graph(pair: Pair) -> None:
    action, state = pair.batch()
    pair.clear()
    value = pair.d(action)
    value.pow(2).mean().backward()
    (pair.g(state).log_softmax(1)[:, :1] * value.detach()).mean().backward()
    pair.opt_d.step()
    pair.opt_g.step()


LEFT = [
    each_step_after_its_backward,
    cleared_in_between,
    frozen_for_the_generators_pass,
    only_the_generators_inputs,
    the_generators_gradient_is_asked_for,
    one_sum_of_both_losses,
    a_gradient_penalty_in_its_own_backward,
    the_fake_is_not_detached_and_each_steps_at_once,
    both_losses_reach_everything,
    an_encoder_with_a_penalty_of_its_own,
    an_encoder_run_again_for_its_own_loss,
    the_last_layers_have_a_penalty_of_their_own,
    one_line_for_batches_of_two_kinds,
    the_critic_is_asked_without_a_graph,
]


@pytest.mark.parametrize("loop", LEFT, ids=lambda loop: loop.__name__)
def test_losses_that_are_meant_for_what_they_reach(loop: Callable[[Pair], None]) -> None:
    assert [str(finding) for finding in found(loop)] == []


def test_an_uncleared_gradient_is_reported_at_one_step() -> None:
    """Report a gradient that nobody cleared at the generator's step alone."""
    pair = Pair()
    with fnlib.Ledger(g=pair.g, d=pair.d, opt_g=pair.opt_g, opt_d=pair.opt_d) as ledger:
        real, noise = pair.batch()
        pair.clear()
        bce(pair.d(real), ones).backward()
        bce(pair.d(pair.g(noise)), zeros).backward()
        pair.opt_d.step()
        bce(pair.d(pair.g(noise)), ones).backward()
        pair.opt_g.step()
    assert [(finding.code, finding.place) for finding in ledger.findings] == [
        (CODE, "g.0.weight and 3 more")
    ]


def test_passes_inside_functions_that_are_not_recorded() -> None:
    pair = Pair()
    real, noise = pair.batch()

    def pass_of_d() -> None:
        (bce(pair.d(real), ones) + bce(pair.d(pair.g(noise).detach()), zeros)).backward()

    def pass_of_g() -> torch.Tensor:
        bce(pair.d(pair.g(noise)), ones).backward()
        return pair.g(noise)  # to look at

    with fnlib.Ledger(g=pair.g, d=pair.d, opt_g=pair.opt_g, opt_d=pair.opt_d) as ledger:
        pair.clear()
        pass_of_d()
        pass_of_g()
        pair.opt_d.step()
        pair.opt_g.step()
    assert [finding.code for finding in ledger.findings] == [CODE]


def shared(passes: Callable[..., list[torch.Tensor]], *groups: list[nn.Module]) -> list[str]:
    """Train parts that losses share: all backwards, then all steps."""
    parts = {
        f"part_{at}": part for at, part in enumerate(part for group in groups for part in group)
    }
    optimizers = [torch.optim.SGD(nn.ModuleList(group).parameters(), lr=0.1) for group in groups]
    with fnlib.Ledger(**parts, optimizers=optimizers) as ledger:
        for _ in range(2):
            for optimizer in optimizers:
                optimizer.zero_grad()
            first, second = passes(*parts.values())
            first.backward()
            second.backward()
            for optimizer in optimizers:
                optimizer.step()
    assert sum(event.kind == "step" for event in ledger.events) == 2 * len(groups)
    return [str(finding) for finding in ledger.findings]


def test_two_encoders_and_one_head_with_an_optimizer_each() -> None:
    def passes(head: nn.Module, text: nn.Module, picture: nn.Module) -> list[torch.Tensor]:
        return [head(text(torch.randn(8, 4))).mean(), head(picture(torch.randn(8, 3))).mean()]

    assert shared(passes, [nn.Linear(5, 1)], [nn.Linear(4, 5)], [nn.Linear(3, 5)]) == []


def test_text_and_pictures_through_stems_of_their_own() -> None:
    """Text runs through the trunk's own stem, and pictures through another."""

    def passes(stem: nn.Module, trunk: nn.Module, picture: nn.Module) -> list[torch.Tensor]:
        return [trunk(stem(torch.randn(8, 4))).mean(), trunk(picture(torch.randn(8, 3))).mean()]

    assert shared(passes, [nn.Linear(4, 5), nn.Linear(5, 1)], [nn.Linear(3, 5)]) == []


def test_a_prompt_that_is_trained_beside_its_model() -> None:
    def passes(model: nn.Module, prompt: nn.ParameterList) -> list[torch.Tensor]:
        words = torch.randn(8, 5)
        return [model(words).mean(), model(words + prompt[0]).mean()]

    assert (
        shared(passes, [nn.Linear(5, 1)], [nn.ParameterList([nn.Parameter(torch.zeros(5))])]) == []
    )


@pytest.mark.parametrize("with_the_body", [True, False], ids=["body with a head", "body alone"])
def test_one_body_with_two_heads(with_the_body: bool) -> None:
    def passes(body: nn.Module, head_a: nn.Module, head_b: nn.Module) -> list[torch.Tensor]:
        return [head_a(body(torch.randn(8, 4))).mean(), head_b(body(torch.randn(8, 4))).mean()]

    body, head_a, head_b = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)
    assert (
        shared(
            passes, *([[body, head_a], [head_b]] if with_the_body else [[body], [head_a], [head_b]])
        )
        == []
    )


def test_modules_whose_forward_is_recorded_too() -> None:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, noise: torch.Tensor) -> torch.Tensor:
            bent = torch.tanh(noise)
            return nn.functional.linear(bent, self.layer.weight, self.layer.bias)

    class Judge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            score = self.layer(value)
            return torch.sigmoid(score)

    for both in (
        (Generator(), Judge()),
        (Generator(), nn.Linear(2, 1)),
        (nn.Linear(3, 2), Judge()),
    ):
        first, second = both
        optimizers = [torch.optim.SGD(network.parameters(), lr=0.1) for network in both]
        for last in (first, second):  # the one that has a loss of its own
            ledger = fnlib.Ledger(
                first=first, second=second, one=optimizers[0], two=optimizers[1], depth=4
            )
            ledger._recorder.only = (__file__,)
            with ledger:
                for _ in range(2):
                    for optimizer in optimizers:
                        optimizer.zero_grad()
                    own = last(torch.randn(8, 3 if last is first else 2)).mean()
                    own.backward()
                    loss = second(first(torch.randn(8, 3))).mean()
                    loss.backward()
                    for optimizer in optimizers:
                        optimizer.step()
            assert [finding.code for finding in ledger.findings] == [CODE] * (last is second)
