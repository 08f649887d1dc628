"""Promises 7 and 8: nothing is dropped in silence, and every error is named, says why, and shows the right line.

One table: a situation, the exception, and what its message must say. After each, the value is what it was.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fnlib
from fnlib import errors
from fnlib.show.messages import HABITS, TEXTS
from fnlib.updates.formula import Formula, formula
from tests.core import networks as nets

X = torch.linspace(-1, 1, 20).reshape(5, 4)


class World:
    """What the situations are made of."""

    def __init__(self) -> None:
        self.factory = fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        self.parameters = self.factory(fnlib.Parameters(seed=0)).parameters
        self.model = self.factory(self.parameters)
        self.other = fnlib.Sequential(nn.Linear(4, 7))
        self.normed = fnlib.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.normed_model = self.normed(fnlib.Parameters(seed=0))
        self.loss = self.model(X).square().sum()


def graph_used_up(w: World) -> Any:
    w.model.backward(w.loss)
    return w.model.backward(w.loss)


def inside_of_vmap(w: World) -> Any:
    return torch.func.vmap(lambda x: w.model.backward(w.factory(w.parameters)(x).sum())["0.bias"])(X[:, None])


class OldCheckpoint(nn.Module):
    """A body in a reentrant checkpoint.

    Args:
        before: whether a layer with weights comes before it.
        again: whether the body runs outside of the checkpoint too.
        strided: whether a weight, and so its gradient, has other strides than autograd gives it.
        function: what the checkpoint runs instead of the body.
    """

    def __init__(self, before: bool = False, again: bool = False, strided: bool = False, function: Any = None) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4) if before else nn.Identity()
        self.body, self.head = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 2)
        self.again, self.function = again, function
        if strided:
            self.head.weight = nn.Parameter(self.head.weight.detach().t().contiguous().t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.function or self.body, self.first(x), use_reentrant=True)
        return self.head(self.body(x) if self.again else x)


def past_an_old_checkpoint(**settings: Any) -> Callable[[World], Any]:
    def situation(w: World) -> Any:
        model = fnlib.Factory(lambda: OldCheckpoint(**settings))(fnlib.Parameters(seed=0))
        return model.backward(model(X.clone().requires_grad_()).sum())

    return situation


def overwritten(w: World) -> Any:
    x = X.clone()
    output = w.model(x)
    x.add_(1)
    return w.model.backward(output.sum())


def dropped_buffers(w: World) -> Any:
    output, _ = w.normed_model.with_buffers(X)
    return w.normed_model.step(w.normed_model.backward(output.square().sum()))


def after_a_pass(w: World) -> fnlib.Model:
    w.normed_model.with_buffers(X)
    return w.normed_model


def tied() -> fnlib.Model:
    return fnlib.Factory(nets.Tied)(fnlib.Parameters(seed=0))


def tied_buffers() -> nn.Module:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    network[1].running_mean = network[0].running_mean
    return network


def other_rule(w: World) -> Any:
    later = w.model.step(w.model.backward(w.loss))
    model = fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=fnlib.Adam())(later)
    return model.step(model.backward(model(X).sum()))


class Rule:
    """A student's rule that returns what its test says."""

    def __init__(self, result: Callable[[Any, Any], Any], reads: str | None = None) -> None:
        self.result, self.reads = result, reads

    def init(self, weights: Any) -> Any:
        return {}

    def update(self, weights: Any, gradient: Any, state: Any) -> Any:
        if self.reads is not None:
            gradient[self.reads]
        return self.result(weights, state)


def with_rule(result: Callable[[Any, Any], Any], reads: str | None = None) -> Callable[[World], Any]:
    def situation(w: World) -> Any:
        model = fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=Rule(result, reads))(w.parameters)
        gradient = model.backward(model(X).sum())
        return model.step({name: gradient[name] for name in gradient if name != reads})

    return situation


def written_to(w: World) -> Any:
    w.model.weights["0.bias"].data.add_(1)
    return w.model(X)


def wrapped_in_vmap(w: World) -> Any:
    ModelFactory = fnlib.Factory(lambda: nn.Linear(4, 3), optimizer=fnlib.wrap(torch.optim.Rprop))
    step = fnlib.train_step(ModelFactory, nn.MSELoss())
    stacked = fnlib.stack([ModelFactory(fnlib.Parameters(seed=0)).parameters])
    return torch.vmap(step, (0, None, None))(stacked, X, torch.zeros(len(X), 3))


def given_away(w: World) -> Any:
    w.normed_model.step(fnlib.Gradient({}), donate=True)
    return w.normed_model(X)


@dataclass
class Case:
    name: str
    situation: Callable[[World], Any]
    error: type[Exception]
    says: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


BIND = "model = ModelFactory(fnlib.Parameters.from_module(network))"
STEP = "parameters = model.step(model.backward(loss))   # a gradient of this model"
REPLACE = "parameters.replace(weights={name: tensor})   # names and shapes of this network"
CASES = [
    # --- binding
    Case("bind: a state_dict", lambda w: w.factory({"a": 1}), fnlib.WrongParameters, ("A factory binds parameters: got dict.", "model = ModelFactory(fnlib.Parameters(seed=0))")),
    Case("bind: other names", lambda w: w.normed(w.parameters), fnlib.WrongParameters, ("These weights don't match: '2.weight', '2.bias' are unknown and '1.weight', '1.bias' are missing; expected: '0.weight', '0.bias', '1.weight', '1.bias'.", BIND)),
    Case("bind: other shapes", lambda w: w.other(fnlib.Sequential(nn.Linear(4, 3))(fnlib.Parameters()).parameters), fnlib.WrongParameters, ("These weights don't match: '0.weight' has shape (3, 4), expected (7, 4).", BIND)),
    Case("bind: other buffers", lambda w: fnlib.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))(w.normed_model.parameters), fnlib.WrongParameters, ("These buffers don't match", BIND)),
    Case("bind: another kind", lambda w: fnlib.Sequential(nn.Linear(4, 7, dtype=torch.complex64))(w.other(fnlib.Parameters()).parameters), fnlib.WrongParameters, ("'0.weight' has dtype torch.float32, expected torch.complex64 or another complex dtype", BIND)),
    Case("bind: no such submodule", lambda w: w.factory(w.parameters, training={"bn": False}), fnlib.WrongParameters, ("training= names a submodule that this network doesn't have: 'bn'; there is '0', '1', '2'.", 'training={"bn": False}')),
    Case("bind: a number as submodule", lambda w: w.factory(w.parameters, training={0: False}), fnlib.WrongParameters, ("training= names a submodule that this network doesn't have: '0'",)),
    Case("bind: a word as mode", lambda w: w.factory(w.parameters, training="train"), fnlib.WrongParameters, ("training= takes True, False or a mapping of submodule names to them: got 'train'.", 'training={"bn": False}')),
    Case("bind: numbers as modes", lambda w: w.factory(w.parameters, training={"0": 1}), fnlib.WrongParameters, ("training= takes True, False or a mapping",)),
    Case("bind: a word as seed", lambda w: w.factory(w.parameters, seed="7"), fnlib.WrongParameters, ("seed= takes an integer or None: got '7'.", "model = ModelFactory(parameters, seed=0)")),
    Case("bind: a flag as seed", lambda w: w.factory(w.parameters, seed=True), fnlib.WrongParameters, ("seed= takes an integer or None: got True.",)),
    Case("bind: given away", lambda w: given_away(w), fnlib.Donated, ("This value (parameters after step 0) was given away by `model.step(gradient, donate=True)` at", "test_errors.py:")),
    # --- factories
    Case("factory: no module", lambda w: fnlib.Factory(3), fnlib.UnsupportedModule, ("A factory takes a module or a function that builds one, got int.", "fnlib.Factory(lambda: Network(...))",)),
    Case("factory: builds no module", lambda w: fnlib.Factory(lambda: 3)(fnlib.Parameters()), fnlib.UnsupportedModule, ("The function that builds the network returned int, expected an nn.Module.", "fnlib.Factory(lambda: Network(...))",)),
    Case("factory: scripted", lambda w: fnlib.Factory(lambda: torch.jit.trace(nn.Linear(4, 3), X))(fnlib.Parameters()), fnlib.UnsupportedModule, ("This network is a scripted module, which keeps its weights where Python can't replace them.",)),
    Case("factory: a scripted part", lambda w: fnlib.Factory(lambda: nn.Sequential(nn.Linear(4, 4), torch.jit.trace(nn.Linear(4, 3), X)))(fnlib.Parameters()), fnlib.UnsupportedModule, ("'1' of this network is a scripted module", "Use the nn.Module that you scripted.")),
    Case("factory: lazy", lambda w: fnlib.Sequential(nn.LazyLinear(3)), fnlib.LazyModule, ("'0.weight', '0.bias' of this network are lazy: they have no shape before the first forward pass", "network(torch.zeros(1, 128))                  # right: run it once")),
    Case("factory: builds lazy", lambda w: fnlib.Factory(lambda: nn.LazyConv2d(3, 3))(fnlib.Parameters()), fnlib.LazyModule, ("'weight', 'bias' of this network are lazy",)),
    Case("factory: lazy buffers", lambda w: fnlib.Sequential(nn.LazyBatchNorm1d()), fnlib.LazyModule, ("of this network are lazy",)),
    Case("parameters of a lazy module", lambda w: fnlib.Parameters.from_module(nn.LazyLinear(3)), fnlib.LazyModule, ("'weight', 'bias' of this network are lazy",)),
    Case("factory: redraw", lambda w: fnlib.Factory(nn.MultiheadAttention(4, 2))(fnlib.Parameters()), fnlib.CannotRedraw, ("so initial weights can't be drawn from this instance", "fnlib.Factory(lambda: Network(...))    # right: build it when weights are drawn")),
    Case("factory: an optimizer", lambda w: fnlib.Sequential(nn.Linear(4, 2), optimizer=torch.optim.SGD([torch.zeros(1)], lr=0.1)), fnlib.CannotWrap, ("SGD can't be an update rule: a factory takes an update rule, not an optimizer", "optimizer=torch.optim.SGD(...)   # wrong", "fnlib.wrap(torch.optim.SGD, lr=0.01)")),
    Case("factory: an optimizer class", lambda w: fnlib.Sequential(nn.Linear(4, 2), optimizer=torch.optim.Adam), fnlib.CannotWrap, ("fnlib.wrap(torch.optim.Adam, lr=0.01)",)),
    Case("factory: no rule", lambda w: fnlib.Sequential(nn.Linear(4, 2), optimizer="sgd"), fnlib.CannotWrap, ("An object of type str can't be an update rule: a rule has the methods init(weights) and update(weights, gradient, state)", "optimizer='sgd'   # wrong", "optimizer=fnlib.SGD(lr=0.01)   # right",)),
    # --- forward
    Case("forward: buffers dropped", lambda w: w.normed_model(X), fnlib.StateDropped, ("This forward pass changed '1.running_mean', '1.running_var', '1.num_batches_tracked', and `output = model(feature)` drops the change.", "output = model(feature)   # wrong", "output, buffers = model.with_buffers(feature)   # right", "parameters = model.step(gradient, buffers=buffers)", "training=False")),
    Case("forward: weights dropped", lambda w: fnlib.Factory(lambda: nn.Embedding(4, 3, max_norm=0.1))(fnlib.Parameters())(torch.tensor([1])), fnlib.StateDropped, ("This forward pass changed 'weight'",)),
    Case("another method: buffers dropped", lambda w: fnlib.Factory(nets.Counting)(fnlib.Parameters()).call("forward", X), fnlib.StateDropped, ("output = model.call(\"forward\", feature)",)),
    Case("step: weights carry a graph", lambda w: w.model.factory(w.model.parameters.replace(weights={n: t.requires_grad_() for n, t in w.model.parameters.items()})).step({}), fnlib.CarriesGraph, ("The weights of these parameters carry a graph, which `replace(weights=...)` or `lerp` kept, so they can't take a step.", "parameters = parameters.replace(weights=plain)     # right: numbers only")),
    Case("forward: hidden state", lambda w: fnlib.Factory(lambda: nets.remembers("number"))(fnlib.Parameters())(X), fnlib.HiddenState, ("The forward pass of this network changes 'state' of its module and gives a different output when it runs again with the same parameters and input.", "self.state = ...   # wrong", 'self.register_buffer("state", torch.zeros(...))   # right')),
    Case("forward: wrong input", lambda w: w.model(X[:, :2]), RuntimeError, ("mat1 and mat2 shapes cannot be multiplied (5x2 and 4x3)",)),
    Case("forward: labels out of range", lambda w: nn.functional.cross_entropy(w.model(X), torch.full((5,), 9)), IndexError, ("Target 9 is out of bounds.",)),
    Case("another method: not there", lambda w: w.model.call("decode", X), AttributeError, ("'Sequential' object has no attribute 'decode'",)),
    # --- backward
    Case("backward: several numbers", lambda w: w.model.backward(w.model(X)), fnlib.LossNotScalar, ("This loss has shape (5, 2), but only a single real number can be minimised.", "gradient = model.backward(losses)          # wrong", "gradient = model.backward(losses.mean())   # right")),
    Case("backward: no numbers", lambda w: w.model.backward(w.model(X[:0])), fnlib.LossNotScalar, ("This loss has shape (0, 2)",)),
    Case("backward: a float", lambda w: w.model.backward(1.5), fnlib.LossNotScalar, ("This loss is a float",)),
    Case("backward: complex", lambda w: w.model.backward(torch.complex(w.loss, w.loss)), fnlib.LossNotScalar, ("This loss is complex, but only a single real number can be minimised.", "losses.abs().mean()", "losses.real.mean()")),
    Case("backward: of another model", lambda w: w.model.backward(w.other(fnlib.Parameters())(X).sum()), fnlib.LossIndependent, ("This loss doesn't depend on the weights of this model: none of them is in the graph behind it.", "gradient = model.backward(loss)   # wrong: `loss` was not computed by `model`", "loss = criterion(model(feature), label)", "something cut the graph on the way: .item(), .data, .detach(), torch.tensor(...) or no_grad.")),
    Case("backward: of the same weights under another value", lambda w: w.model.backward(w.factory(w.parameters.replace())(X).sum()), fnlib.LossIndependent, ("none of them is in the graph",)),
    Case("backward: detached", lambda w: w.model.backward(w.loss.detach()), fnlib.LossIndependent, ("it has no graph (computed under no_grad, detached, or not from the model's output)",)),
    Case("backward: without models", lambda w: fnlib.backward(w.loss), fnlib.WrongParameters, ("A gradient is taken of a loss with respect to models: got a loss alone.", "fnlib.backward(loss, encoder, decoder)")),
    Case("factory: a deleted rule", lambda w: delattr(w.factory, "optimizer"), fnlib.Immutable, ("del ModelFactory.optimizer   # wrong: would change every bound model", "ModelFactory = fnlib.Factory(Network, ...)   # right")),
    Case("rule: a formula without a class", lambda w: formula(type("Mine", (Formula,), {})), fnlib.CannotWrap, ("Mine can't be an update rule: a Formula needs `like`", "init(weights) and update(weights, gradient, state)")),
    Case("backward: no weights", lambda w: fnlib.Sequential(nn.ReLU())(fnlib.Parameters()).backward(w.loss), fnlib.LossIndependent, ("the model has no trainable weights",)),
    Case("backward: joint, one of them not in it", lambda w: fnlib.backward(w.loss, w.model, w.other(fnlib.Parameters())), fnlib.LossIndependent, ("none of them is in the graph behind it",)),
    Case("model: weights written to", written_to, fnlib.WeightsOverwritten, ("'0.bias' of this model was written to or frozen, through `model.weights`", "model = ModelFactory(parameters.replace(weights=new))   # right")),
    Case("train_step: a wrapped rule in vmap", wrapped_in_vmap, fnlib.CannotTransform, ("The update rule torch.optim.rprop.Rprop changes tensors in place, and a transform", "optimizer=fnlib.Adam(lr=1e-3))            # right")),
    Case("backward: inside of vmap", inside_of_vmap, fnlib.DifferentiateOutside, ("Inside torch.func.vmap and the other transforms a loss has no graph", "vmap(torch.func.grad(loss_of), in_dims=(None, 0))(dict(parameters), X)   # right")),
    Case("backward: past an old checkpoint", past_an_old_checkpoint(), fnlib.HiddenByCheckpoint, ("a gradient of this loss would lack 'body.0.weight', 'body.0.bias'", "x = checkpoint(self.block, x, use_reentrant=False)   # right")),
    Case("backward: past one with strides", past_an_old_checkpoint(strided=True), fnlib.HiddenByCheckpoint, ("a gradient of this loss would lack 'body.0.weight', 'body.0.bias'", "use_reentrant=False)   # right")),
    Case("backward: past one whose weights are used outside too", past_an_old_checkpoint(again=True), fnlib.HiddenByCheckpoint, ("a gradient of this loss would lack 'body.0.weight', 'body.0.bias'", "use_reentrant=False)   # right")),
    Case("backward: past both", past_an_old_checkpoint(again=True, strided=True), fnlib.HiddenByCheckpoint, ("a gradient of this loss would lack 'body.0.weight', 'body.0.bias'", "use_reentrant=False)   # right")),
    Case("backward: through an old checkpoint", past_an_old_checkpoint(before=True), fnlib.HiddenByCheckpoint, ("a gradient of this loss would lack 'first.weight', 'first.bias', 'body.0.weight', 'body.0.bias'", "use_reentrant=False)   # right")),
    Case("backward: through one without weights", past_an_old_checkpoint(before=True, again=True, function=torch.tanh), fnlib.HiddenByCheckpoint, ("a gradient of this loss would lack 'first.weight', 'first.bias'", "use_reentrant=False)   # right")),
    Case("backward: twice", graph_used_up, fnlib.GraphUsedUp, ("An earlier backward used up the graph behind this loss", "gradient = model.backward(loss, retain_graph=True)   # right if you need both passes", "gradient + gradient                                  # right: a gradient is a value")),
    Case("backward: overwritten", overwritten, fnlib.GraphOverwritten, ("A tensor that this backward needs was changed in place after the forward pass. PyTorch says:", "modified by an inplace operation", "feature = feature + 1   # right")),
    Case("backward: of something else than models", lambda w: fnlib.backward(w.loss, w.model, w.parameters), fnlib.WrongParameters, ("got Parameters", "fnlib.backward(loss, encoder, decoder)")),
    # --- step
    Case("step: buffers dropped by train()", lambda w: after_a_pass(w).train().step(fnlib.Gradient({})), fnlib.MissingBuffers, ("A forward pass of this model changed '1.running_mean'",)),
    Case("step: buffers dropped by eval()", lambda w: after_a_pass(w).eval().step(fnlib.Gradient({})), fnlib.MissingBuffers, ("A forward pass of this model changed",)),
    Case("step: buffers dropped by a sibling", lambda w: (w.normed_model.train().with_buffers(X), w.normed_model.step(fnlib.Gradient({}))), fnlib.MissingBuffers, ("A forward pass of this model changed",)),
    Case("step: buffers of one of two passes", lambda w: (after_a_pass(w), w.normed_model.step(fnlib.Gradient({}), buffers=w.normed_model.with_buffers(X)[1])), fnlib.MissingPass, ("More than one forward pass of this model changed '1.running_mean'", "right, buffers = model.carry(first).with_buffers(b)   # right", "buffers=dict(buffers)")),
    Case("step: buffers of the first of two passes", lambda w: (lambda first: (w.normed_model.with_buffers(X), w.normed_model.step(fnlib.Gradient({}), buffers=first)))(w.normed_model.with_buffers(X)[1]), fnlib.MissingPass, ("lack one of the changes",)),
    Case("step: buffers of another pass carried", lambda w: (lambda carried: (w.normed_model.with_buffers(X), carried.step(fnlib.Gradient({}))))(w.normed_model.carry(w.normed_model.with_buffers(X)[1])), fnlib.MissingBuffers, ("A forward pass of this model changed",)),
    Case("step: two values for one tied weight", lambda w: tied().step({"embed.weight": torch.zeros(7, 5), "decode.weight": torch.ones(7, 5)}), fnlib.WrongParameters, ("These gradient entries contradict each other: 'embed.weight', 'decode.weight' are names of one tensor", STEP)),
    Case("step: without its buffers", dropped_buffers, fnlib.MissingBuffers, ("A forward pass of this model changed '1.running_mean', '1.running_var', '1.num_batches_tracked', and this step would keep the old values.", "parameters = model.step(gradient)                    # wrong", "parameters = model.step(gradient, buffers=buffers)   # right", "model.step(gradient, buffers=model.parameters.buffers)")),
    Case("step: names of another network", lambda w: w.model.step(fnlib.Gradient({"9.weight": torch.zeros(1)})), fnlib.WrongParameters, ("These gradient entries don't match: '9.weight' is unknown; expected: '0.weight', '0.bias', '2.weight', '2.bias'.", STEP)),
    Case("step: gradient of another factory", lambda w: w.model.step((lambda m: m.backward(m(X).sum()))(w.other(fnlib.Parameters()))), fnlib.WrongParameters, ("'0.weight' has shape (7, 4), expected (3, 4)", STEP)),
    Case("step: shapes", lambda w: w.model.step({"0.bias": torch.zeros(4)}), fnlib.WrongParameters, ("'0.bias' has shape (4,), expected (3,)", STEP)),
    Case("step: kinds", lambda w: w.model.step({"0.bias": torch.zeros(3, dtype=torch.complex64)}), fnlib.WrongParameters, ("'0.bias' has dtype torch.complex64, expected torch.float32 or another floating dtype",)),
    Case("step: precisions", lambda w: w.model.step({"0.bias": torch.zeros(3, dtype=torch.float64)}), fnlib.WrongParameters, ("'0.bias' has dtype torch.float64, expected torch.float32",)),
    Case("step: devices", lambda w: w.model.step({"0.bias": torch.zeros(3, device="meta")}), fnlib.WrongParameters, ("'0.bias' is on meta, expected cpu",)),
    Case("step: no gradient", lambda w: w.model.step(None), fnlib.WrongParameters, ("A step takes a gradient: got None.", STEP)),
    Case("step: a loss", lambda w: w.model.step(w.loss), fnlib.WrongParameters, ("got Tensor", STEP)),
    Case("step: numbers", lambda w: w.model.step({"0.bias": 1.0}), fnlib.WrongParameters, ("'0.bias' is float, expected a tensor",)),
    Case("step: other buffers", lambda w: w.model.step(fnlib.Gradient({}), buffers={"1.running_mean": torch.zeros(3)}), fnlib.WrongParameters, ("These buffers don't match: '1.running_mean' is unknown; expected: none.", "model.step(gradient, buffers=buffers)   # all that with_buffers returned")),
    Case("step: part of the buffers", lambda w: w.normed_model.step(fnlib.Gradient({}), buffers={"1.running_mean": torch.zeros(3)}), fnlib.WrongParameters, ("'1.running_var', '1.num_batches_tracked' are missing",)),
    Case("step: buffers of another kind", lambda w: w.normed_model.step(fnlib.Gradient({}), buffers={**w.normed_model.parameters.buffers, "1.num_batches_tracked": torch.tensor(1.0)}), fnlib.WrongParameters, ("'1.num_batches_tracked' has dtype torch.float32, expected torch.int64 or another integer dtype",)),
    Case("step: the output as buffers", lambda w: w.normed_model.step(fnlib.Gradient({}), buffers=X), fnlib.WrongParameters, ("Pass buffers as a mapping of names to tensors: got Tensor.",)),
    Case("carry: other buffers", lambda w: w.normed_model.carry({}), fnlib.WrongParameters, ("These buffers don't match", "model = model.carry(buffers)   # all that with_buffers returned")),
    Case("step: state of another rule", other_rule, fnlib.WrongRule, ("These parameters hold the optimizer state of torch.optim.sgd.SGD, but this factory updates with torch.optim.adam.Adam, and", "model = ModelFactory(parameters.replace(optimizer_state=None))   # right: start afresh")),
    # --- rules of one's own
    Case("rule: forgets a weight", with_rule(lambda weights, state: ({}, state)), fnlib.WrongParameters, ("These updated weights don't match: '0.weight', '0.bias', '2.weight', '2.bias' are missing", "return {name: new_weight for name in weights}, state   # in update")),
    Case("rule: changes a shape", with_rule(lambda weights, state: ({name: weight[None] for name, weight in weights.items()}, state)), fnlib.WrongParameters, ("'0.weight' has shape (1, 3, 4), expected (3, 4)",)),
    Case("rule: changes a kind", with_rule(lambda weights, state: ({name: weight.long() for name, weight in weights.items()}, state)), fnlib.WrongParameters, ("'0.weight' has dtype torch.int64, expected torch.float32 or another floating dtype",)),
    Case("rule: keeps an object", with_rule(lambda weights, state: (weights, {"cache": [nn.ReLU()]})), fnlib.CannotStore, ("new_state['cache'][0] is a torch.nn.modules.activation.ReLU. Parameters store nested dicts, lists and tuples of tensors, numbers and strings", "# wrong: an object can change behind the value", "# right: store the tensor itself")),
    Case("rule: keeps odd keys", with_rule(lambda weights, state: (weights, {(1, 2): 3})), fnlib.CannotStore, ("The key (1, 2) in new_state is a builtins.tuple",)),
    Case("rule: reads an absent gradient", with_rule(lambda weights, state: (weights, state), reads="0.bias"), fnlib.AbsentGradient, ("reads the gradient of '0.bias'", "for name in gradient}   # right")),
    Case("rule: returns no pair", with_rule(lambda weights, state: weights), fnlib.WrongParameters, ("An update rule returns new weights and new state: this one returned dict.",)),
    Case("rule: returns nothing", with_rule(lambda weights, state: None), fnlib.WrongParameters, ("this one returned NoneType",)),
    # --- optimizers
    Case("step: LBFGS without an objective", lambda w: (lambda m: m.step(m.backward(m(X).sum())))(fnlib.Factory(lambda: nn.Linear(4, 2), optimizer=fnlib.wrap(torch.optim.LBFGS))(fnlib.Parameters())), fnlib.MissingObjective, ("torch.optim.lbfgs.LBFGS evaluates the loss several times in one step", "parameters = model.step(gradient)               # wrong", "parameters = model.step(objective=objective)    # right")),
    Case("wrap: no class", lambda w: fnlib.wrap(torch.optim.SGD([torch.zeros(1)], lr=1.0)), fnlib.CannotWrap, ("wrap takes a class of torch.optim and then its arguments", "fnlib.wrap(torch.optim.RMSprop, lr=1e-3)   # right")),
    Case("wrap: differentiable", lambda w: fnlib.wrap(torch.optim.Adam, differentiable=True), fnlib.CannotWrap, ("a functional step doesn't support differentiable", "fnlib.wrap(..., differentiable=True)   # wrong")),
    Case("rule: capturable", lambda w: fnlib.Adam(capturable=True), fnlib.CannotWrap, ("a functional step doesn't support capturable",)),
    Case("rule: a negative rate", lambda w: fnlib.SGD(lr=-1), ValueError, ("Invalid learning rate: -1",)),
    Case("rule: odd betas", lambda w: fnlib.Adam(betas=(2.0, 0.9)), ValueError, ("Invalid beta parameter at index 0: 2.0",)),
    Case("rule: nesterov alone", lambda w: fnlib.SGD(nesterov=True), ValueError, ("Nesterov momentum requires a momentum and zero dampening",)),
    Case("rule: unknown setting of a group", lambda w: (lambda m: m.step(m.backward(m(X).sum())))(fnlib.Sequential(nn.Linear(4, 2), optimizer=fnlib.SGD(groups=lambda name, weight: {"rate": 1}))(fnlib.Parameters())), fnlib.WrongParameters, ("groups= gives '0.weight' a setting that SGD doesn't have: 'rate'.", 'groups=lambda name, weight: {"weight_decay": 0.0}')),
    Case("rule: sparse gradients", lambda w: (lambda m: m.step(m.backward(m(torch.tensor([1])).sum())))(fnlib.Factory(lambda: nn.Embedding(4, 3, sparse=True), optimizer=fnlib.Adam())(fnlib.Parameters())), RuntimeError, ("Adam does not support sparse gradients, please consider SparseAdam instead",)),
    Case("rule: dense gradients", lambda w: (lambda m: m.step(m.backward(m(torch.tensor([1])).sum())))(fnlib.Factory(lambda: nn.Embedding(4, 3), optimizer=fnlib.wrap(torch.optim.SparseAdam))(fnlib.Parameters())), RuntimeError, ("SparseAdam does not support dense gradients, please consider Adam instead",)),
    Case("rule: fused on complex weights", lambda w: (lambda m: m.step(m.backward(m(torch.ones(1, 2, dtype=torch.complex64)).abs().sum())))(fnlib.Factory(lambda: nn.Linear(2, 2, dtype=torch.complex64), optimizer=fnlib.Adam(fused=True))(fnlib.Parameters())), RuntimeError, ("`fused=True` requires all the params to be floating point Tensors",)),
    Case("rule: a kernel that is broken", lambda w: (lambda m: m.step(m.backward(m(torch.ones(1, 2, dtype=torch.bfloat16)).sum())))(fnlib.Factory(lambda: nn.Linear(2, 2, dtype=torch.bfloat16), optimizer=fnlib.SGD(momentum=0.9, fused=True))(fnlib.Parameters())), fnlib.CannotWrap, ("its fused CPU kernel reads uninitialised memory", "fused=True)   # wrong")),
    # --- what is finished
    Case("rule: a rate set later", lambda w: setattr(fnlib.SGD(lr=0.1), "lr", 0.01), fnlib.Immutable, ("An update rule can't be changed once it's made", "rule.lr = 0.01   # wrong: models share this rule", "ModelFactory = fnlib.Factory(Network, optimizer=fnlib.SGD(lr=0.01))   # right: a new rule", "optimizer=fnlib.SGD(lr=lambda step: 0.1 * 0.99**step)   # right: a rate that depends on the step")),
    Case("rule: another setting later", lambda w: setattr(fnlib.Adam(), "betas", (0.5, 0.9)), fnlib.Immutable, ("rule.betas = (0.5, 0.9)   # wrong: models share this rule", "optimizer=fnlib.Adam(betas=(0.5, 0.9)))   # right: a new rule")),
    Case("rule: groups set later", lambda w: setattr(fnlib.SGD(), "groups", None), fnlib.Immutable, ("rule.groups = None   # wrong: models share this rule", "optimizer=fnlib.SGD(groups=None))   # right: a new rule")),
    Case("rule: a word that is no setting", lambda w: setattr(w.factory.optimizer, "rate", 0.1), fnlib.Immutable, ("rule.rate = 0.1   # wrong: nothing reads it", "optimizer=fnlib.SGD(...))   # right")),
    Case("rule: a setting removed", lambda w: delattr(fnlib.SGD(), "_settings"), fnlib.Immutable, ("An update rule can't be changed once it's made",)),
    Case("wrap: a rate set later", lambda w: setattr(fnlib.wrap(torch.optim.Rprop), "lr", 0.01), fnlib.Immutable, ("optimizer=fnlib.wrap(torch.optim.rprop.Rprop, lr=0.01))   # right: a new rule",)),
    Case("wrap: a rate set later, which groups have", lambda w: setattr(fnlib.wrap(torch.optim.Rprop, groups=lambda name, weight: {"lr": 0.1}), "lr", 0.01), fnlib.Immutable, ("rule.lr = 0.01   # wrong: models share this rule", "lr=0.01))   # right: a new rule")),
    Case("factory: another rule later", lambda w: setattr(w.factory, "optimizer", fnlib.Adam(lr=0.1)), fnlib.Immutable, ("A factory can't be changed once it's made, because the models it has bound use its settings.", "ModelFactory.optimizer = fnlib.Adam(lr=0.1)   # wrong: would change every bound model", "ModelFactory = fnlib.Factory(Network, optimizer=fnlib.Adam(lr=0.1))   # right: a new factory")),
    Case("factory: a word of one's own", lambda w: setattr(w.factory, "training", False), fnlib.Immutable, ("ModelFactory.training = False   # wrong",)),
    Case("model: a mode set later", lambda w: setattr(w.model, "training", False), AttributeError, ("'Model' object has no attribute 'training'",)),
    # --- habits of stock PyTorch
    Case("model: zero_grad", lambda w: w.model.zero_grad(), fnlib.NotAModule, ("Nothing accumulates: each backward returns a gradient of its own.", "model.zero_grad   # wrong", "gradient = model.backward(loss)   # right")),
    Case("model: state_dict", lambda w: w.model.state_dict(), fnlib.NotAModule, ("best = model.parameters   # right",)),
    Case("model: moved", lambda w: w.model.cuda(), fnlib.NotAModule, ('model = ModelFactory(parameters.to("cuda"))   # right',)),
    Case("model: an attribute of the module", lambda w: w.model.config, fnlib.NotAModule, ("It binds parameters to your module and is not the module itself.", "model.config   # wrong", 'model.call("config", ...)   # right, if it is a method of your module', "network = build_network(); network.config   # right, if it is an attribute")),
    Case("model: parameters called", lambda w: w.model.parameters(), fnlib.NotCallable, ("`parameters` is a value, not a method", "for name, weight in model.parameters.items(): ...   # right")),
    # --- parameters
    Case("parameters: a flag as seed", lambda w: fnlib.Parameters(seed=True), fnlib.WrongParameters, ("seed= takes an integer or None: got True", "fnlib.Parameters(seed=0)")),
    Case("parameters: a fraction as seed", lambda w: fnlib.Parameters(seed=1.5), fnlib.WrongParameters, ("got 1.5",)),
    Case("parameters: whole numbers", lambda w: fnlib.Parameters(dtype=torch.int32), fnlib.WrongParameters, ("dtype= takes a floating dtype: torch.int32 can't represent the weights.", "parameters = fnlib.Parameters(dtype=torch.float64)")),
    Case("parameters: of no module", lambda w: fnlib.Parameters.from_module({}), fnlib.WrongParameters, ("from_module copies a module: got dict",)),
    Case("parameters: of a class", lambda w: fnlib.Parameters.from_module(nn.ReLU), fnlib.WrongParameters, ("from_module copies a module: got type",)),
    Case("replace: two values for one tied weight", lambda w: tied().parameters.replace(weights={"embed.weight": torch.zeros(7, 5), "decode.weight": torch.ones(7, 5)}), fnlib.WrongParameters, ("These weights contradict each other: 'embed.weight', 'decode.weight' are names of one tensor", REPLACE)),
    Case("replace: two values for one tied buffer", lambda w: fnlib.Parameters.from_module(tied_buffers()).replace(buffers={"0.running_mean": torch.zeros(3), "1.running_mean": torch.ones(3)}), fnlib.WrongParameters, ("These buffers contradict each other",)),
    Case("parameters: no such weight", lambda w: w.parameters["nope"], KeyError, ("'nope': no weight has this name. These parameters hold 0.weight, 0.bias, 2.weight, 2.bias",)),
    Case("parameters: empty", lambda w: fnlib.Parameters()["0.weight"], fnlib.EmptyParameters, ("These parameters are empty, so they can't be read: their initial weights are drawn when a factory binds them.", "model = ModelFactory(fnlib.Parameters(seed=0))   # binding draws the initial weights", "parameters = model.parameters")),
    Case("parameters: empty, buffers", lambda w: fnlib.Parameters().buffers, fnlib.EmptyParameters, ("so they can't show their buffers",)),
    Case("parameters: empty, replaced", lambda w: fnlib.Parameters().replace(weights={}), fnlib.EmptyParameters, ("so they can't be replaced in part",)),
    Case("parameters: empty, moved", lambda w: fnlib.Parameters().to("cpu"), fnlib.EmptyParameters, ("so they can't be moved",)),
    Case("replace: unknown", lambda w: w.parameters.replace(weights={"9.bias": torch.zeros(3)}), fnlib.WrongParameters, ("These weights don't match: '9.bias' is unknown", REPLACE)),
    Case("replace: shape", lambda w: w.parameters.replace(weights={"0.bias": torch.zeros(1)}), fnlib.WrongParameters, ("'0.bias' has shape (1,), expected (3,)", REPLACE)),
    Case("replace: kind", lambda w: w.parameters.replace(weights={"0.bias": torch.zeros(3, dtype=torch.int64)}), fnlib.WrongParameters, ("'0.bias' has dtype torch.int64, expected torch.float32 or another floating dtype",)),
    Case("replace: a list", lambda w: w.parameters.replace(weights=[torch.zeros(3)]), fnlib.WrongParameters, ("Pass weights as a mapping of names to tensors: got list.", REPLACE)),
    Case("replace: an array", lambda w: w.parameters.replace(weights={"0.bias": torch.zeros(3).numpy()}), fnlib.WrongParameters, ("'0.bias' is ndarray, expected a tensor",)),
    Case("replace: buffers", lambda w: w.normed_model.parameters.replace(buffers={"1.running_mean": torch.zeros(4)}), fnlib.WrongParameters, ("These buffers don't match: '1.running_mean' has shape (4,), expected (3,).", "parameters.replace(buffers={name: tensor})")),
    Case("replace: state", lambda w: w.parameters.replace(optimizer_state={"net": nn.ReLU()}), fnlib.CannotStore, ("optimizer_state['net'] is a torch.nn.modules.activation.ReLU",)),
    Case("to: whole numbers", lambda w: w.parameters.to(torch.int32), fnlib.WrongParameters, ("to() takes a device or a floating dtype: torch.int32 can't represent the weights.", "parameters = parameters.to(torch.float64)")),
    Case("diff: no parameters", lambda w: w.parameters.diff({}), fnlib.WrongParameters, ("diff compares parameters with parameters: got dict.",)),
    Case("step: weights of another network's pass", lambda w: (lambda m, b: fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters()).step({}, buffers=b))(None, fnlib.Factory(lambda: nn.Embedding(4, 3, max_norm=0.1))(fnlib.Parameters()).with_buffers(torch.tensor([1]))[1]), fnlib.WrongParameters, ("These weights don't match: 'weight' is unknown",)),
    Case("diff: another network", lambda w: w.parameters.diff(w.normed_model.parameters), fnlib.WrongParameters, ("These weights don't match", "parameters.diff(later)   # two values of the same network")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_error(case: Case) -> None:
    world = World()
    before = copy.deepcopy(world.parameters)
    with pytest.raises(case.error) as caught:
        case.situation(world)
    assert type(caught.value) is case.error
    message = str(caught.value.args[0]) if type(caught.value) is KeyError else str(caught.value)
    for part in case.says:
        assert part in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "a worker can send it"
    assert world.parameters == before
    assert torch.equal(world.factory(world.parameters)(X), world.factory(before)(X))


def test_every_named_error_is_in_the_table() -> None:
    named = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, fnlib.FnlibError)}
    elsewhere = {fnlib.FnlibError, fnlib.Immutable, fnlib.NotAParametersFile}  # the base; test_protection.py; test_files.py
    # tests/history
    elsewhere |= {fnlib.WrongHistory, fnlib.HistoryInUse, fnlib.DamagedHistory, fnlib.StateNotWritten, fnlib.NotKept}
    # tests/distributed
    elsewhere |= {fnlib.ReplicasDiffer, fnlib.RanksDisagree, fnlib.RankLost, fnlib.CannotReduce}
    of_core = {kind for kind in named if kind.__module__ == "fnlib.errors"}
    assert of_core - elsewhere - {case.error for case in CASES} == set()
    assert {kind.__name__ for kind in of_core} == set(errors.__all__) <= set(fnlib.__all__)
    assert TEXTS.keys() == set(errors.__all__) - {"FnlibError", "UnsupportedModule"}, "one text each"


def test_named_errors_are_also_the_errors_that_python_has() -> None:
    """`except ValueError` of ordinary code goes on working."""
    assert issubclass(fnlib.WrongParameters, ValueError) and issubclass(fnlib.GraphUsedUp, RuntimeError)
    assert issubclass(fnlib.CannotStore, TypeError) and issubclass(fnlib.LazyModule, fnlib.UnsupportedModule)
    for name in fnlib.__all__:
        if kind := getattr(errors, name, None):
            assert issubclass(kind, fnlib.FnlibError) and getattr(fnlib, name) is kind


def test_what_a_message_calls_right_is_right() -> None:
    """The cures, done."""
    w = World()
    output, buffers = w.normed_model.with_buffers(X)
    gradient = w.normed_model.backward(output.square().sum())
    assert w.normed_model.step(gradient, buffers=w.normed_model.parameters.buffers).buffers["1.num_batches_tracked"] == 0
    assert w.normed_model.step(gradient, buffers=buffers).buffers["1.num_batches_tracked"] == 1
    assert w.normed_model.eval()(X).shape == (5, 3)
    later = w.model.step(w.model.backward(w.loss))
    adam = fnlib.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), optimizer=fnlib.Adam())
    model = adam(later.replace(optimizer_state=None))
    assert model.step(model.backward(model(X).sum())).step_count == 2

    def build() -> nn.Module:
        network = nn.Sequential(nn.LazyLinear(10))
        network(torch.zeros(1, 128))
        return network

    assert fnlib.Factory(build)(fnlib.Parameters(seed=0)).parameters["0.weight"].shape == (10, 128)
    loss = w.model(X).sum()
    assert w.model.backward(loss, retain_graph=True) == w.model.backward(loss)


def test_right_lines_for_habits_of_stock_pytorch() -> None:
    """Each line that is called right is Python, and runs where it needs no other device."""
    world = World()
    names = {"ModelFactory": world.factory, "parameters": world.parameters, "model": world.model}
    names |= {"best": world.parameters, "device": "cpu", "torch": torch}
    for name in HABITS:
        lines = str(fnlib.NotAModule(name)).splitlines()
        right = [line.partition("   # right")[0].strip() for line in lines if "# right" in line]
        assert right, name
        for line in right:
            compile(line, name, "exec")
            if "cuda" not in line and "float16" not in line:
                exec(line, {**names, "loss": world.model(X).sum()})


def test_what_a_model_lacks_is_an_attribute_error() -> None:
    """`hasattr`, copies and `getattr` with a default go on working."""
    model = World().model
    assert not hasattr(model, "zero_grad") and getattr(model, "config", None) is None
    assert copy.copy(model).parameters == model.parameters


def test_a_loss_that_is_nan_passes_through() -> None:
    w = World()
    gradient = w.model.backward(w.model(X * float("nan")).sum())
    later = w.model.step(gradient)
    assert all(tensor.isnan().all() for name, tensor in later.items() if name != "2.bias")
    assert later == copy.deepcopy(later), "NaN equals NaN"
    assert "nan" in repr(later).lower()
    assert "nan" in repr(gradient).lower()


def test_an_empty_network() -> None:
    ModelFactory = fnlib.Sequential()
    model = ModelFactory(fnlib.Parameters())
    assert torch.equal(model(X), X) and len(model.parameters) == 0 and model.parameters
    later = model.step(fnlib.Gradient({}))
    assert later.step_count == 1 and ModelFactory(later).parameters is later


def test_a_forward_that_returns_nothing_or_its_input() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> None:
            return None

    assert fnlib.Factory(Nothing)(fnlib.Parameters())(X) is None
    assert fnlib.Factory(nn.Identity)(fnlib.Parameters())(X) is X
