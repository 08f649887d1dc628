"""train_step: the whole training step as one pure function, made for ``torch.compile``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.factory import Factory, bind
from fnlib.gradient import Gradient
from fnlib.network.randomness import preserved, seeded
from fnlib.parameters import Bound, Parameters
from fnlib.torch_private import can_set_compiler, leave_to_python, set_compiler
from fnlib.updates.formula import Formula, new
from fnlib.updates.rule import Rule
from fnlib.values.held import Held


class Step(Protocol):
    """A pure training step."""

    def __call__(
        self, parameters: Parameters, feature: Any, label: Any, seed: int | None = None
    ) -> tuple[Parameters, Tensor]: ...


def train_step(factory: Factory, criterion: Callable[[Any, Any], Tensor]) -> Step:
    """Make one training step a pure function: forward, loss, backward, step, buffers included.

    Called as it is, it does what the five lines of the functional loop do, bit for bit. Under
    ``torch.compile`` the arithmetic becomes one graph, into which the learning rate enters as a tensor (a
    schedule does not compile again); results then agree with the plain step to the tolerance of float32
    arithmetic in another order: 1e-5 relative after a step of a well-scaled network. On a CPU, where the arithmetic of a small
    network is soon done, ``torch.compile(step, options={"cpp_wrapper": True})`` takes a tenth less: PyTorch then calls the kernels
    from C++ and not from Python.

    Args:
        factory: the structure and the update rule.
        criterion: a function of (output, label) that returns a loss with one element.

    Returns:
        A function (parameters, feature, label, seed=None) -> (parameters, loss). `feature` may be a tuple of
        inputs. `seed` as in binding. The loss is detached.

    >>> import fnlib
    >>> ModelFactory = fnlib.Sequential(torch.nn.Linear(4, 2), optimizer=fnlib.SGD(lr=0.1))
    >>> step = fnlib.train_step(ModelFactory, torch.nn.CrossEntropyLoss())
    >>> parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    >>> parameters, loss = step(parameters, torch.ones(8, 4), torch.zeros(8, dtype=torch.long))
    >>> parameters.step_count, loss.requires_grad
    (1, False)
    """
    step = _TrainStep(factory, criterion)
    if can_set_compiler:
        return step.step
    plain = torch.compiler.disable(step.plain)
    # Not `plain` itself, which torch.compile would unwrap and compile after all.
    return lambda parameters, feature, label, seed=None: plain(parameters, feature, label, seed)


_NOTHING: dict[str, Any] = {}
_AS_IT_IS = contextlib.nullcontext()


class _TrainStep:
    """The parts of a training step that do not change from step to step."""

    def __init__(self, factory: Factory, criterion: Callable[[Any, Any], Tensor]) -> None:
        self.factory, self.criterion = factory, criterion
        self.rule = factory.optimizer
        self.traces_rule = isinstance(self.rule, Formula) and self.rule.trusted
        self.module: nn.Module | None = None
        self.moving: list[
            str
        ] = []  # names of the weights that the loss depends on, learnt from the first batch
        self.fixed: list[str] = []
        self.order: list[
            str
        ] = []  # moving before fixed, where that is not the order of the weights
        self.constant: list[dict[str, Any]] | None = (
            None  # settings of each group, where nothing is scheduled
        )
        self.settings: list[dict[str, Any]] = []  # of each group, without the rate
        self.group_of: list[int] = []  # the group of each moving weight
        self.rates: list[float] = []
        self.rate_tensors: list[Tensor] = []
        self.graphs: dict[tuple[tuple[str, ...], ...], Graph] = {}

    def step(
        self, parameters: Parameters, feature: Any, label: Any, seed: int | None = None
    ) -> tuple[Parameters, Tensor]:
        """Take one step. See `train_step`."""
        compiler = set_compiler(None)  # nothing but the graph is for the compiler
        try:
            if compiler is None:
                return self.plain(parameters, feature, label, seed)
            inputs = _inputs(feature)
            graph, tensors = self._open(parameters, inputs, label)
            with _AS_IT_IS if seed is None else seeded(seed, parameters.step_count):
                set_compiler(compiler)
                results = graph.compiled(*tensors, *inputs, label)
                set_compiler(None)
            return self._close(parameters, graph, results)
        finally:
            set_compiler(compiler)

    def plain(
        self, parameters: Parameters, feature: Any, label: Any, seed: int | None = None
    ) -> tuple[Parameters, Tensor]:
        """Take the step as the functional loop writes it."""
        model = self.factory(parameters, seed=seed)
        output, buffers = model.with_buffers(*_inputs(feature))
        loss = self.criterion(output, label)
        return model.step(model.backward(loss), buffers=buffers), loss.detach()

    def _open(
        self, parameters: Parameters, inputs: tuple[Any, ...], label: Any
    ) -> tuple[Graph, list[Tensor]]:
        """Take a value apart: a flat list of its tensors and the rate of each group, and the graph that takes them."""
        parameters._held("take a step")
        if self.module is None:
            self._learn(parameters, inputs, label)
        held, _ = bind(parameters, self.factory.network)
        weights, buffers, state = held.weights, held.buffers, held.state
        if held.rule not in (None, self.factory._rule_name):
            raise errors.WrongRule(str(held.rule), self.factory._rule_name)
        tensors = [weights[name] for name in self.order] if self.order else list(weights.values())
        tensors += buffers.values()
        keys: tuple[tuple[str, ...], ...] = ()
        if self.traces_rule:
            known = state["state"] if state else _NOTHING
            if known:
                moments = [known.get(name, _NOTHING) for name in self.moving]
                keys = tuple(map(tuple, moments))
                tensors += [tensor for entry in moments for tensor in entry.values()]
            rates = [settings["lr"] for settings in self._settings_at(parameters)]
            if rates != self.rates:
                self.rates, self.rate_tensors = rates, [torch.tensor(rate) for rate in rates]
            tensors += self.rate_tensors
        if keys not in self.graphs:
            self.graphs[keys] = Graph(self, keys)
        return self.graphs[keys], tensors

    def _settings_at(self, parameters: Parameters) -> list[dict[str, Any]]:
        """Return the settings of each group at the step that these parameters take."""
        rule = cast(Rule, self.rule)
        at = rule.at(parameters.step_count)
        if at is rule and self.constant is not None:
            return self.constant
        settings = [settings for settings, _ in at.partition(parameters._held().weights)]
        self.constant = settings if at is rule else None
        return settings

    def _learn(self, parameters: Parameters, inputs: tuple[Any, ...], label: Any) -> None:
        """Take one plain forward and backward: it refuses what cannot be a pure step, and shows which weights move."""
        with preserved():
            model = self.factory(parameters)
            output, _ = model.with_buffers(*inputs)
            gradient = model.backward(self.criterion(output, label))
        weights = bind(parameters, self.factory.network)[0].weights
        self.moving = [name for name in weights if name in gradient]
        self.fixed = [name for name in weights if name not in gradient]
        self.order = [*self.moving, *self.fixed] if self.fixed else []
        if self.traces_rule:
            partition = cast(Rule, self.rule).partition(weights)
            self.settings = [
                {key: value for key, value in settings.items() if key != "lr"}
                for settings, _ in partition
            ]
            self.group_of = [
                next(i for i, (_, names) in enumerate(partition) if name in names)
                for name in self.moving
            ]
        self.module = self.factory.network.borrow(True).module

    def _close(
        self, old: Parameters, graph: Graph, found: tuple[Tensor, ...]
    ) -> tuple[Parameters, Tensor]:
        """Put a value together again."""
        network, loss = self.factory.network, found[0]
        first = 1 + len(network.buffers)
        last = first + len(self.moving)
        buffers = dict(zip(network.buffers, found[1:first], strict=True))
        moved = dict(zip(self.moving, found[first:last], strict=True))
        if not self.traces_rule:  # these are gradients, and the rule does as it always does
            return self.factory(old).step(Gradient._of(moved, network), buffers=buffers), loss
        held = old._held()
        moments = dict(held.state["state"]) if held.state else {}
        if last < len(found):
            tensors = iter(found[last:])
            moments |= {
                name: {key: next(tensors) for key in keys}
                for name, keys in zip(moved, graph.keys_after, strict=True)
                if keys
            }
        if self.fixed:
            moved = {
                name: moved[name] if name in moved else held.weights[name]
                for name in network.weights
            }
        state = {"state": moments, "param_groups": self._settings_at(old)}
        rule = self.factory._rule_name
        new = Held(moved, buffers, state, rule, held.step_count + 1, held.names)
        return Parameters._of(new, Bound(network, rule, None)), loss


def _inputs(feature: Any) -> tuple[Any, ...]:
    return feature if isinstance(feature, tuple) else (feature,)


leave_to_python(_TrainStep.step)


class Graph:
    """The arithmetic of a step for one set of moments: before the first step there are none, after it there are.

    The compiler is told to take it as one operation and looks inside when it compiles. Traced line by line, every
    name and layer would be checked again at each step, which takes as long as the arithmetic itself.
    """

    def __init__(self, step: _TrainStep, keys: tuple[tuple[str, ...], ...]) -> None:
        self.step, self.keys = step, keys
        self.keys_after: list[tuple[str, ...]] = []
        whole = torch.compiler.allow_in_graph(lambda *tensors: self.compute(*tensors))

        def compiled(*tensors: Any) -> Any:
            return whole(*tensors)

        compiled.__code__ = (
            compiled.__code__.replace()
        )  # a code object of its own: the compiler keeps its graphs there
        self.compiled = compiled

    def compute(self, *given: Any) -> tuple[Tensor, ...]:
        """Return the loss, the new buffers, and new weights and moments (or the gradient, for a rule that is not traced)."""
        step, network = self.step, self.step.factory.network
        *tensors, label = given
        parts = iter(tensors)
        moving = [next(parts) for _ in step.moving]
        fixed = {name: next(parts) for name in step.fixed}
        buffers = {name: next(parts) for name in network.buffers}
        moments = [{key: next(parts) for key in keys} for keys in self.keys] or [{} for _ in moving]
        rates = [next(parts) for _ in step.settings]
        inputs = tuple(parts)

        def loss_of(weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            after = {name: buffer.clone() for name, buffer in buffers.items()}
            output = torch.func.functional_call(
                cast(nn.Module, step.module),
                {**dict(zip(step.moving, weights, strict=True)), **fixed, **after},
                inputs,
            )
            return step.criterion(output, label), list(after.values())

        gradient, (loss, after) = torch.func.grad_and_value(loss_of, has_aux=True)(moving)
        if not step.traces_rule:
            return loss, *after, *gradient
        rules = [
            cast(Formula, step.rule).having(**settings, lr=rate)
            for settings, rate in zip(step.settings, rates, strict=True)
        ]
        for i, group in enumerate(step.group_of):
            rule = rules[group]
            kept = moments[i] or rule.started(moving[i])
            step_count = kept["step"] + 1 if rule.counts else None
            t = None if step_count is None else step_count.double()
            moving[i], moments[i] = rule.move(moving[i], gradient[i], kept, t, new)
            if step_count is not None:
                moments[i]["step"] = step_count
        self.keys_after = [tuple(entry) for entry in moments]
        return loss, *after, *moving, *(tensor for entry in moments for tensor in entry.values())
