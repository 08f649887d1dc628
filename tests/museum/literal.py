"""Exhibits translated to fnlib line by line, as somebody would who doesn't know better: each returns the exhibit's harm.

A function CODE_by_name has the line more that asks for the harm.

A function is called with what the exhibit's `setup` makes, and with the exhibit's module for its other parts. Its result
has the unit of the exhibit's `harm`; what fnlib refuses raises. A name is the exhibit's code.
"""

from __future__ import annotations

import copy
import itertools
import math
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import fnlib

ce, mse = nn.functional.cross_entropy, nn.functional.mse_loss
Things = SimpleNamespace


def taken(module: nn.Module) -> fnlib.Parameters:
    return fnlib.Parameters.from_module(module)


def bound(module: nn.Module, rule: Any = None, **how: Any) -> Any:
    return fnlib.Factory(module, optimizer=rule)(taken(module), **how)


def train(model: Any, batches: Any, loss: Any = ce) -> Any:
    for feature, label in batches:
        model = model.factory(model.step(model.backward(loss(model(feature), label))))
    return model


def moved(before: Any, after: Any) -> int:
    return sum(not torch.equal(before[name], after[name]) for name in after)


def in_gradients(before: Tensor, after: Tensor, lr: float, gradient: Tensor) -> float:
    """A step's length as a multiple of lr times gradient."""
    return ((before - after).norm() / (lr * gradient).norm()).item()


# --- Gradients that stay


def _last_step(model: Any, batches: Any, loss: Any) -> float:
    for feature, label in batches:
        right = model.backward(loss(model(feature), label))["0.weight"]
        before, model = (
            model,
            model.factory(model.step(model.backward(loss(model(feature), label)))),
        )
    return in_gradients(before.parameters["0.weight"], model.parameters["0.weight"], 0.01, right)


def zero_grad_forgotten(it: Things, _: ModuleType) -> float:
    return _last_step(bound(it.model, fnlib.SGD(lr=0.01)), it.batches, ce)


def zero_grad_once_an_epoch(it: Things, _: ModuleType) -> float:
    return _last_step(bound(it.model, fnlib.SGD(lr=0.01)), it.loader * 2, mse)


def zero_grad_before_step(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.Adam(lr=0.01))
    return moved(model.parameters, train(model, it.batches).parameters)


def closure_adds_gradients(it: Things, _: ModuleType) -> float:
    rule = fnlib.wrap(torch.optim.LBFGS, lr=1e-6, max_iter=4, tolerance_change=0)
    model = bound(it.model, rule)
    gradients = []

    def objective(trial: Any) -> Tensor:
        loss = mse(trial(it.data[0]), it.data[1])
        gradients.append(trial.backward(loss, retain_graph=True))
        return loss

    model.step(objective=objective)
    return float(gradients[-1].norm() / gradients[0].norm())


def _gan(it: Things, steps_at_the_end: bool) -> float:
    bce = nn.BCEWithLogitsLoss()
    g, d = bound(it.generator, fnlib.SGD(lr=0.05)), bound(it.discriminator, fnlib.SGD(lr=0.05))
    for real, noise in it.batches:
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        gradient_g = g.backward(bce(d(g(noise)), ones))
        if not steps_at_the_end:
            g = g.factory(g.step(gradient_g))
        loss_d = bce(d(real), ones) + bce(d(g(noise).detach()), zeros)
        gradient_d, right = d.backward(loss_d, retain_graph=True), d.backward(loss_d)
        before, d = d, d.factory(d.step(gradient_d))
        if steps_at_the_end:
            g = g.factory(g.step(gradient_g))
    name = "0.weight"
    return in_gradients(before.parameters[name], d.parameters[name], 0.05, right[name])


def gan_generator_leaves_gradients(it: Things, _: ModuleType) -> float:
    return _gan(it, steps_at_the_end=False)


def gan_steps_at_the_end(it: Things, _: ModuleType) -> float:
    return _gan(it, steps_at_the_end=True)


# --- Optimizers that look elsewhere


def layer_replaced_after_optimizer(it: Things, _: ModuleType) -> float:
    parameters = taken(it.model)
    factory = fnlib.Factory(it.model, optimizer=fnlib.Adam(lr=0.01))
    it.model[2] = nn.Linear(16, 3)
    trained = train(factory(parameters), it.batches).parameters
    fresh = {f"2.{name}": weight for name, weight in it.model[2].named_parameters()}
    return sum(name in trained and trained[name].shape == fresh[name].shape for name in fresh)


def assign_after_optimizer(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    it.model.load_state_dict(it.pretrained, assign=True)
    return moved(model.parameters, train(model, it.batches).parameters)


def optimizer_before_conversion(it: Things, module: ModuleType) -> float:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    factory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    network.to_empty(device="cpu")
    module.initialise(network)
    model = factory(taken(network))
    return moved(model.parameters, train(model, it.batches).parameters)


def weight_norm_after_optimizer(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    weight_norm(it.model[0])
    before, after = model.parameters, train(model, it.batches).parameters
    return float(not torch.equal(before["0.weight"], after["0.weight"]))


def weight_in_two_optimizers(it: Things, _: ModuleType) -> float:
    rule_a, rule_b = fnlib.SGD(lr=0.1), fnlib.SGD(lr=0.1)
    encoder, a, b = (bound(one) for one in (it.encoder, it.head_a, it.head_b))
    start, (feature, target_a, target_b) = encoder.parameters["weight"], it.batches[0]
    hidden = torch.relu(encoder(feature))
    loss = (a(hidden) - target_a).pow(2).mean() + (b(hidden) - target_b).pow(2).mean()
    gradient, *_ = fnlib.backward(loss, encoder, a, b)
    for rule in (rule_a, rule_b):
        factory = fnlib.Factory(it.encoder, optimizer=rule)
        encoder = factory(factory(encoder.parameters).step(gradient))
    return in_gradients(start, encoder.parameters["weight"], 0.1, gradient["weight"])


def optimizer_made_each_epoch(it: Things, _: ModuleType) -> float:
    parameters = taken(it.model)
    for _epoch in range(4):
        factory = fnlib.Factory(it.model, optimizer=fnlib.Adam(lr=0.01))
        parameters = train(factory(parameters), it.batches).parameters
    return float(parameters.optimizer_state["state"]["0.weight"]["step"])


def optimizer_made_each_epoch_by_name(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.Adam(lr=0.01))
    for _epoch in range(4):
        model = train(model.factory(model.parameters.replace(optimizer_state=None)), it.batches)
    return float(model.parameters.optimizer_state["state"]["0.weight"]["step"])


def moments_of_another_weight(it: Things, _: ModuleType, swap: bool = False) -> float:
    class Heads(nn.Module):
        def __init__(self, names: list[str]) -> None:
            super().__init__()
            self.of = nn.ModuleDict({name: nn.Linear(8, 1, bias=False) for name in names})

        def forward(self, x: Tensor) -> Tensor:
            return self.of["small"](x).mean() + 1000 * self.of["large"](x).mean()

    model = bound(Heads(["small", "large"]), fnlib.Adam(lr=0.1))
    saved = model.step(model.backward(model(it.feature)))
    if swap:
        state = saved.optimizer_state
        small, large = (f"of.{name}.weight" for name in ("small", "large"))
        moments = {small: state["state"][large], large: state["state"][small]}
        saved = saved.replace(optimizer_state={**state, "state": moments})
    model = fnlib.Factory(Heads(["large", "small"]), optimizer=fnlib.Adam(lr=0.1))(saved)
    state = model.parameters.optimizer_state["state"]
    small, large = (state[f"of.{name}.weight"]["exp_avg"].norm() for name in ("small", "large"))
    return 2 * int(small > large)


def moments_of_another_weight_by_name(it: Things, module: ModuleType) -> float:
    return moments_of_another_weight(it, module, swap=True)


class Momentum:
    """The exhibit's optimizer as a rule: the averages are in an attribute."""

    def __init__(self) -> None:
        self.averages: dict[str, Tensor] = {}

    def init(self, weights: Any) -> Any:
        return {}

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:
        for name, part in gradient.items():
            old = self.averages.setdefault(name, torch.zeros_like(part))
            self.averages[name] = old.mul(0.9).add(part)
        return {name: weight - 0.1 * self.averages[name] for name, weight in weights.items()}, {}


def moments_in_an_attribute(it: Things, _: ModuleType) -> float:
    whole = train(bound(it.model, Momentum()), 2 * it.batches, mse).parameters
    saved = train(bound(it.model, Momentum()), it.batches, mse).parameters
    resumed = fnlib.Factory(nn.Linear(8, 1), optimizer=Momentum())
    after = train(resumed(saved), it.batches, mse).parameters
    return sum(torch.equal(whole[name], after[name]) for name in whole)


# --- Sharing, lost and unwanted


def optimizer_keeps_the_gradient(it: Things, module: ModuleType) -> float:
    model = bound(it.model, fnlib.wrap(module.Momentum, lr=1e-6))
    feature, target = it.batches[0]
    model = train(model, [(feature, target)] * 3, mse)
    right = model.backward(mse(model(feature), target))["weight"]
    state = model.parameters.optimizer_state["state"]["weight"]
    return (state["average"].norm() / right.norm()).item()


def tie_lost_in_deepcopy(it: Things, module: ModuleType) -> float:
    student = module.Tied(copy.deepcopy(it.teacher.embed), copy.deepcopy(it.teacher.decode))
    return len(train(bound(student), it.batches).parameters)


def tie_lost_in_assign(it: Things, _: ModuleType) -> float:
    it.model.load_state_dict(it.checkpoint, assign=True)
    return len(train(bound(it.model), it.batches).parameters)


# --- Snapshots that move


def best_state_dict(it: Things, _: ModuleType) -> float:
    model, (feature, target), best_loss = (
        bound(it.model, fnlib.Adam(lr=0.01)),
        it.data,
        float("inf"),
    )
    for _epoch in range(4):
        loss = mse(model(feature), target)
        if loss.item() < best_loss:
            best_loss, best = loss.item(), model.parameters
        model = model.factory(model.step(model.backward(loss)))
    return float(mse(model.factory(best)(feature), target).item() == best_loss)


def optimizer_state_dict(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.Adam(lr=0.01))
    for index, batch in enumerate(it.batches):
        model = train(model, [batch], mse)
        if index == 1:
            checkpoint = model.parameters.optimizer_state
    return float(checkpoint["state"]["weight"]["step"])


def optimizer_state_shared(it: Things, _: ModuleType) -> float:
    teacher = train(bound(it.teacher, fnlib.Adam(lr=0.01)), it.batches, mse)
    train(teacher.factory(teacher.parameters), it.batches, mse)
    return float(teacher.parameters.optimizer_state["state"]["weight"]["step"])


def detach_is_not_a_copy(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    before = model.parameters["weight"].detach()
    model = train(model, it.batches, mse)
    return float((model.parameters["weight"] - before).norm() > 0)


def target_network_is_the_network(it: Things, _: ModuleType) -> float:
    policy = bound(it.policy_net, fnlib.Adam(lr=0.01))
    before = {name: weight.clone() for name, weight in policy.parameters.items()}
    target_net = policy
    for state, action, reward, next_state in it.batches:
        value = policy(state).gather(1, action).squeeze(1)
        with torch.no_grad():
            target = reward + 0.9 * target_net(next_state).max(1).values
        loss = nn.functional.smooth_l1_loss(value, target)
        policy = policy.factory(policy.step(policy.backward(loss)))
    return 4 - moved(before, target_net.parameters)


def best_model_is_the_model(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    for epoch in range(4):
        model = train(model, [it.data], mse)
        if epoch == 1:
            best_model = model
    return 2 - moved(best_model.parameters, model.parameters)


def average_not_taken_back(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    average, (feature, target) = model.parameters, it.data
    for _epoch in range(3):
        for _batch in range(2):
            model = train(model, [it.data], mse)
            average = average.lerp(model.parameters, 0.5)
        model = model.factory(average)
        mse(model(feature), target)
    return 2 - moved(model.parameters, average)


# --- Modes, statistics, randomness


def train_forgotten(it: Things, _: ModuleType) -> float:
    model, seen = bound(it.model, fnlib.Adam(lr=0.01)), 0
    for _epoch in range(3):
        for feature, label in it.train_data:
            seen += not torch.equal(model(feature), model(feature))
            model = train(model, [(feature, label)])
        model = model.eval()
        model(it.test_data[0])
    return seen


def batchnorm_moves_under_no_grad(it: Things, _: ModuleType, quiet: Any = torch.no_grad) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    for feature, label in it.train_data:
        output, buffers = model.with_buffers(feature)
        gradient = model.backward(ce(output, label))
        model = model.factory(model.step(gradient, buffers=buffers))
        with quiet():
            model(it.test_feature)
    return float(model.parameters.buffers["1.num_batches_tracked"])


def batchnorm_moves_under_inference_mode(it: Things, module: ModuleType) -> float:
    return batchnorm_moves_under_no_grad(it, module, torch.inference_mode)


def batchnorm_without_version(it: Things, _: ModuleType) -> float:
    noisy = bound(it.model)
    model = noisy.eval()
    right = model.backward(model(it.clean).pow(2).mean())["0.weight"]
    loss = model(it.clean).pow(2).mean()
    noisy.with_buffers(it.noisy)
    return float(torch.allclose(model.backward(loss)["0.weight"], right, rtol=1e-4))


def seed_set_in_the_loop(it: Things, _: ModuleType) -> float:
    model, (feature, label), outputs = bound(it.model, fnlib.SGD(lr=0.0)), it.data, set()
    for _epoch in range(5):
        torch.manual_seed(42)
        model.eval()(torch.randn(64, 8))
        output = model(feature)
        outputs.add(output.sum().item())
        model = model.factory(model.step(model.backward(ce(output, label))))
    return len(outputs)


def noise_from_the_same_state(it: Things, _: ModuleType) -> float:
    model, state, noises = bound(it.model), torch.get_rng_state(), set()
    for feature, label in it.batches:
        torch.set_rng_state(state)
        noise = torch.randn(32, 8)
        noises.add(noise.sum().item())
        model = train(model, [(feature + noise, label)])
    return len(noises)


# --- Frozen parts that thaw


def frozen_batchnorm_moves(it: Things, _: ModuleType) -> float:
    it.backbone.requires_grad_(False)
    model = bound(nn.Sequential(it.backbone, it.head))
    before = {**model.parameters, **model.parameters.buffers}
    for feature, label in it.batches:
        output, buffers = model.with_buffers(feature)
        gradient = model.backward(ce(output, label))
        model = model.factory(model.step(gradient, buffers=buffers))
    after = {**model.parameters, **model.parameters.buffers}
    return sum(torch.equal(before[name], after[name]) for name in before if name[0] == "0")


def train_wakes_frozen_batchnorm(it: Things, _: ModuleType) -> float:
    it.model[:3].requires_grad_(False)
    model = bound(it.model, training={"1": False})
    for _epoch in range(2):
        model = model.factory(model.parameters)
        for feature, label in it.batches:
            output, buffers = model.with_buffers(feature)
            gradient = model.backward(ce(output, label))
            model = model.factory(model.step(gradient, buffers=buffers))
    return float(model.parameters.buffers["1.num_batches_tracked"])


def frozen_weight_keeps_momentum(it: Things, _: ModuleType) -> float:
    model, steps = bound(it.model, fnlib.SGD(lr=0.1, momentum=0.9)), 0
    for index, (feature, label) in enumerate(it.batches):
        gradient = model.backward(ce(model(feature), label))
        if index >= 2:
            gradient = {n: g if n[0] == "2" else torch.zeros_like(g) for n, g in gradient.items()}
        before, model = model, model.factory(model.step(gradient))
        kept = torch.equal(before.parameters["0.weight"], model.parameters["0.weight"])
        steps += index >= 2 and not kept
    return steps


def frozen_after_backward(it: Things, _: ModuleType) -> float:
    model, steps = bound(it.model, fnlib.SGD(lr=0.1)), 0
    factory = model.factory
    for index, (feature, label) in enumerate(it.batches):
        gradient = model.backward(ce(model(feature), label))
        if index == 1:
            it.model[0].requires_grad_(False)
            factory = fnlib.Factory(it.model, optimizer=fnlib.SGD(lr=0.1))
        before, model = model, factory(model.step(gradient))
        steps += not torch.equal(before.parameters["0.weight"], model.parameters["0.weight"])
    return steps


def _moved_of_first(it: Things) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    after = train(model, [it.data] * 3, mse).parameters
    return moved(model.parameters, {name: after[name] for name in after if name[0] == "0"})


def requires_grad_on_a_module(it: Things, _: ModuleType) -> float:
    it.model[0].requires_grad = False
    return _moved_of_first(it)


def freeze_undone(it: Things, _: ModuleType) -> float:
    it.model[0].requires_grad_(False)
    it.model.requires_grad_(True)
    return _moved_of_first(it)


# --- Rates and schedulers, and the rhythm of training


def scheduler_before_optimizer(it: Things, _: ModuleType) -> float:
    return bound(it.model, fnlib.SGD(lr=lambda step: 0.1 * 0.1**step)).rates


def scheduler_changes_restored_rate(it: Things, _: ModuleType) -> float:
    def warm_up(step: int) -> float:
        return 0.1 * min(1, 0.01 + 0.99 * step / 5)

    kept = train(bound(it.model, fnlib.SGD(lr=warm_up)), [it.data] * 5, mse).parameters
    return fnlib.Factory(it.model, optimizer=fnlib.SGD(lr=warm_up))(kept).rates


def load_brings_back_old_rate(it: Things, _: ModuleType) -> float:
    checkpoint = train(bound(it.model, fnlib.Adam(lr=0.1)), [it.data], mse).parameters
    return fnlib.Factory(it.model, optimizer=fnlib.Adam(lr=0.001))(checkpoint).rates


def rate_set_on_a_copy(it: Things, _: ModuleType) -> float:
    model = bound(it.model, fnlib.SGD(lr=0.1))
    for epoch in range(3):
        fnlib.SGD(lr=0.1 * 0.5**epoch)
        model = train(model, [it.data], mse)
    return model.rates


def rate_set_on_the_object(it: Things, _: ModuleType) -> float:
    rule = fnlib.SGD(lr=0.1)
    rule.lr = 0.01
    return bound(it.model, rule).rates


def scheduler_in_the_batch_loop(it: Things, _: ModuleType) -> float:
    model, moved = bound(it.model, fnlib.SGD(lr=lambda epoch: 0.1 * 0.1 ** (epoch // 2))), 0
    for batch in it.batches * 4:
        new = train(model, [batch])
        pairs = zip(new.parameters.values(), model.parameters.values(), strict=True)
        moved += any(not torch.equal(a, b) for a, b in pairs)
        model = new
    return moved


def cosine_in_the_batch_loop(it: Things, _: ModuleType) -> float:
    def cosine(epoch: int) -> float:
        return 0.05 * (1 + math.cos(math.pi * epoch / 4))

    model, rates = bound(it.model, fnlib.SGD(lr=cosine)), []
    for batch in it.batches * 4:
        rates.append(model.rates)
        model = train(model, [batch])
    return sum(new > old for old, new in itertools.pairwise(rates))


def rate_of_one_group(it: Things, _: ModuleType) -> float:
    halved = {"lr": lambda step: 0.1 * 0.5**step}
    rule = fnlib.SGD(lr=0.1, groups=lambda name, _: halved if name[0] == "0" else {})
    return max(train(bound(it.model, rule), it.batches).rates.values())


def scheduler_of_the_old_optimizer(it: Things, _: ModuleType) -> float:
    rule = fnlib.SGD(lr=lambda step: 0.1 * 0.5 ** (step // 4))
    rule = fnlib.Adam(lr=0.01)
    return train(bound(it.model, rule), it.batches * 3).rates


# --- Graphs whose values have moved


def _gan_step_first(it: Things, rule: Any) -> float:
    ((real, noise),) = it.batches[:1]
    g, d = bound(it.generator, rule), bound(it.discriminator, rule)
    right = g.backward(-d(g(noise)).mean())["0.weight"]
    score_real, score_fake = d(real), d(g(noise))
    gradient = d.backward(score_fake.mean() - score_real.mean(), retain_graph=True)
    d = d.factory(d.step(gradient))
    return float(torch.allclose(g.backward(-score_fake.mean())["0.weight"], right, rtol=1e-4))


def gan_step_between_backwards(it: Things, _: ModuleType) -> float:
    return _gan_step_first(it, fnlib.Adam(lr=0.1))


def gan_step_between_backwards_fused(it: Things, _: ModuleType) -> float:
    return _gan_step_first(it, fnlib.wrap(torch.optim.Adam, lr=0.1, fused=True))


def weight_clipped_before_backward(it: Things, _: ModuleType) -> float:
    model, (real, fake) = bound(it.critic), it.batches[0]
    right = model.backward(model(fake).mean() - model(real).mean())["0.weight"]
    loss = model(fake).mean() - model(real).mean()
    for weight in model.parameters.values():
        weight.data.clamp_(-0.1, 0.1)
    return float(torch.allclose(model.backward(loss)["0.weight"], right, rtol=1e-4))


# --- Graphs that are kept


def hidden_state_not_detached(it: Things, _: ModuleType, **kept: bool) -> float:
    """1 if the loop runs to its end: PyTorch raises an error, so the table has no harm."""
    rnn, head = bound(it.rnn, fnlib.SGD(lr=0.1)), bound(it.head, fnlib.SGD(lr=0.1))
    hidden = None
    for feature, target in it.stream:
        output, hidden = rnn(feature, hidden)
        loss = mse(head(output), target)
        gradients = fnlib.backward(loss, rnn, head, **kept)
        rnn, head = (
            model.factory(model.step(gradient))
            for model, gradient in zip((rnn, head), gradients, strict=True)
        )
    return 1.0


def hidden_state_retain_graph(it: Things, module: ModuleType) -> float:
    return hidden_state_not_detached(it, module, retain_graph=True)


def autocast_around_the_loop(it: Things, _: ModuleType) -> float:
    model, losses = bound(it.model, fnlib.SGD(lr=0.1)), set()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for feature, label in it.batches:
            loss = ce(model(feature), label)
            losses.add(loss.item())
            model = model.factory(model.step(model.backward(loss)))
    return len(losses)


# --- Weights that nobody trains, gradients that miss their step


def loss_made_of_numbers(it: Things, _: ModuleType) -> float:
    model, (states, gains) = bound(it.model, fnlib.Adam(lr=0.01)), it.data
    loss = torch.zeros(1, requires_grad=True)
    for state, gain in zip(states.split(8), gains.split(8), strict=True):
        loss = loss - (model(state).log_softmax(1)[:, 0] * gain).sum().item()
    return moved(model.parameters, model.step(model.backward(loss)))


def features_detached(it: Things, _: ModuleType) -> float:
    encoder, head = bound(it.encoder, fnlib.SGD(lr=0.1)), bound(it.head, fnlib.SGD(lr=0.1))
    feature, label = it.batches[0]
    loss = ce(head(torch.relu(encoder(feature).data)), label)
    gradient, _head = fnlib.backward(loss, encoder, head)
    return moved(encoder.parameters, encoder.step(gradient))


def clipped_after_step(it: Things, _: ModuleType) -> float:
    model, long = bound(it.model, fnlib.SGD(lr=0.1)), 0
    for feature, label in it.batches:
        gradient = model.backward(ce(model(feature), label))
        long += bool(gradient.norm() > 1.001)
        model = model.factory(model.step(gradient))
        gradient = gradient.clip_norm(1.0)
    return long


# --- Without effect


def nothing_loaded(it: Things, _: ModuleType) -> float:
    it.model.load_state_dict(it.pretrained.state_dict(), strict=False)
    parameters = taken(it.model)
    pairs = it.pretrained.named_parameters()
    return sum(torch.equal(parameters[f"encoder.{name}"], weight) for name, weight in pairs)


def flag_not_in_the_checkpoint(it: Things, module: ModuleType) -> float:
    network = module.Scale()
    network.load_state_dict({"scale": it.saved["scale"]})
    return int((bound(network)(it.feature) != it.feature * 2).any(0).sum())


# --- The functional wing


def old_state_returned(it: Things, _: ModuleType) -> float:
    model = bound(it.network)
    for feature, target in it.batches:
        output, _new_buffers = model.with_buffers(feature)
        gradient = model.backward(mse(output, target))
        model = model.factory(model.step(gradient, buffers=model.parameters.buffers))
    return float(model.parameters.buffers["1.num_batches_tracked"])


def optimizer_state_not_threaded(it: Things, module: ModuleType) -> float:
    model = bound(it.network, fnlib.SGD(lr=module.schedule))
    for feature, target in it.batches:
        gradient = model.backward(mse(model(feature), target))
        new = model.step(gradient)
        model = model.factory(new)
    return model.rates


def optimizer_state_not_threaded_by_name(it: Things, module: ModuleType) -> float:
    model = bound(it.network, fnlib.SGD(lr=module.schedule))
    parameters = model.parameters
    for feature, target in it.batches:
        new = model.step(model.backward(mse(model(feature), target)))
        model = model.factory(parameters.replace(weights=dict(new)))
    return model.rates


def statistics_dropped(it: Things, _: ModuleType) -> float:
    model = bound(it.network)
    for feature, target in it.batches:
        output = model.with_buffers(feature)[0]
        model = model.factory(model.step(model.backward(mse(output, target))))
    return model.parameters.buffers["0.running_mean"].mean().item()


def donated_value_used(it: Things, _: ModuleType) -> float:
    model = bound(it.network, fnlib.SGD(lr=0.1))
    start = parameters = model.parameters
    for feature, target in it.batches:
        model = model.factory(parameters)
        gradient = model.backward(mse(model(feature), target))
        parameters = model.step(gradient, donate=True)
    return float(sum((parameters[name] - start[name]).norm() for name in parameters) > 0)


def graph_kept_across_steps(it: Things, _: ModuleType) -> float:
    model = bound(it.network, fnlib.SGD(lr=0.1))
    model = train(model, it.batches, mse)
    return float(model.parameters["weight"].grad_fn is not None) * 5


def graph_kept_across_steps_by_name(it: Things, _: ModuleType) -> float:
    factory, parameters = fnlib.Factory(it.network), taken(it.network)
    weights = {name: weight.clone().requires_grad_() for name, weight in parameters.items()}
    for feature, target in it.batches:
        loss = mse(factory(parameters.replace(weights=weights))(feature), target)
        gradient = torch.autograd.grad(loss, list(weights.values()))
        pairs = zip(weights.items(), gradient, strict=True)
        weights = {name: weight - 0.1 * part for (name, weight), part in pairs}
    node, steps = weights["weight"].grad_fn, 0
    while node is not None:
        steps += node.name().startswith("Sub")
        node = node.next_functions[0][0] if node.next_functions else None
    return steps


def same_seed_every_step(it: Things, _: ModuleType) -> float:
    factory, parameters = fnlib.Factory(it.network), taken(it.network)
    return len({factory(parameters, seed=42)(it.feature).item() for _step in range(5)})


def functional_call_between_threads(it: Things, module: ModuleType) -> float:
    network, answers = module.Scale(), {}
    factory, start = fnlib.Factory(network), taken(network)

    def work(weight: float, request: Any) -> None:
        model = factory(start.replace(weights={"weight": torch.tensor(weight)}))
        answers[weight] = model(request).item()

    module.at_once(work, it.asked)
    return sum(weight == answer for weight, answer in answers.items())


def functional_call_writes_buffers(it: Things, _: ModuleType) -> float:
    model = bound(it.network)
    start = model.parameters.state_dict()
    before = {name: value.clone() for name, value in start.items()}
    model.with_buffers(it.feature)
    return 7 - moved(before, start)
