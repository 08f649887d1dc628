"""train_step: the whole training step as one pure function, made for ``torch.compile``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fnlib import errors, torch_private
from fnlib.factory import Factory
from fnlib.gradient import Gradient
from fnlib.network.backward import reached
from fnlib.network.bound import Bound
from fnlib.network.randomness import other_generators, preserved, seeded
from fnlib.parameters import Parameters
from fnlib.updates.check import refuse_foreign
from fnlib.updates.formula import Formula, new
from fnlib.updates.fused import Moments
from fnlib.updates.rule import Settings
from fnlib.values.held import Held
from fnlib.values.protect import in_transform
from fnlib.values.trees import map_tree

Criterion = Callable[[Any, Any], Tensor]
Stepped = tuple[Parameters, Tensor]
Given = tuple[Parameters, Any, Any, int | None]  # what a step is called with


class Step(Protocol):
    """A pure training step."""

    def __call__(
        self, parameters: Parameters, feature: Any, label: Any, seed: int | None = None
    ) -> Stepped: ...


def train_step(factory: Factory, criterion: Criterion) -> Step:
    """Make one training step a pure function: forward, loss, backward, step, buffers included.

    Called as it is, it does what the five lines of the functional loop do, bit for bit. Under
    ``torch.compile`` the arithmetic becomes one graph, which scheduled numbers enter as tensors.
    Its results agree with the plain step to 1e-5 relative after a step of a well-scaled network.
    On a CPU ``options={"cpp_wrapper": True}`` takes a tenth less for a small network.

    ``torch.vmap(torch.compile(step), (0, None, None))`` takes the steps of stacked parameters in one
    graph, where feature and label are tensors. It is compiled for each pair of batch size and number
    of models, up to ``torch._dynamo.config.recompile_limit`` pairs (8); others take the plain step.
    Inside another transform nothing is compiled.

    The first compiled call also takes a plain step, to learn which weights the loss depends on and
    which tensors `criterion` holds. A tensor that is put in the place of one later isn't noticed.

    Args:
        factory: the structure and the update rule.
        criterion: a function of (output, label) that returns a loss with one element.

    Returns:
        A function (parameters, feature, label, seed=None) -> (parameters, loss). `feature` may be
        a tuple of inputs. `seed` as in binding. The loss is detached.

    >>> import fnlib
    >>> ModelFactory = fnlib.Sequential(torch.nn.Linear(4, 2), optimizer=fnlib.SGD(lr=0.1))
    >>> step = fnlib.train_step(ModelFactory, torch.nn.CrossEntropyLoss())
    >>> parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    >>> parameters, loss = step(parameters, torch.ones(8, 4), torch.zeros(8, dtype=torch.long))
    >>> parameters.step_count, loss.requires_grad
    (1, False)
    """
    return torch_private.leave_to_python(_TrainStep(factory, criterion).step)


# Numbers that a formula may give to `torch.add` as alpha, which inductor of PyTorch 2.13 drops where
# it fuses a matrix product. So they are tensors in a graph.
_FACTORS = {"lr", "momentum", "dampening", "weight_decay"}


class _Task(NamedTuple):
    """One call of a step: what it was given, taken apart."""

    given: Given
    held: Held
    graph: Graph
    tensors: list[Any]
    settings: list[Settings]  # of each group, for this step
    around: contextlib.ExitStack  # what lasts while the graph runs
    one_map: torch_private.OneMap | None  # the torch.vmap that the step is called in


class _TrainStep:
    """The parts of a training step that do not change from step to step."""

    def __init__(self, factory: Factory, criterion: Criterion) -> None:
        self.factory, self.criterion = factory, criterion
        rule = factory._rule
        self.formula = rule if isinstance(rule, Formula) else None
        self.moving: list[str] | None = None  # the weights that the loss depends on
        self.foreign: list[Tensor] = []  # tensors that module and criterion hold
        self.scheduled: list[str] = []  # settings that enter the graph as tensors
        self.group_of: list[int] = []  # the group of each moving weight
        self.graphs: dict[Any, Graph] = {}
        self.inside = in_transform()  # then factory and criterion may hold tensors of a transform

    def step(
        self, parameters: Parameters, feature: Any, label: Any, seed: int | None = None
    ) -> Stepped:
        """Take one step. See `train_step`."""
        given = parameters, feature, label, seed
        # Asked here: there's no compiler in what is never compiled.
        task = self._open(given) if callable(torch_private.compiler()) else None
        if task is None:
            return self._plain(given)
        try:
            results = task.graph.compiled(*task.tensors)
        except Exception:
            if task.one_map is not None:
                _close(task.around)  # where a layer doesn't map, PyTorch's own error says so
                self._plain(given)
            if task.graph.refused is not None:  # the compiler wraps it in an error of its own
                raise task.graph.refused from None
            raise
        finally:
            _close(task.around)
        return self._plain(task.given) if results is None else self._stepped(task, results)

    def _plain(self, given: Given) -> Stepped:
        """Take the step as the functional loop writes it."""
        if in_transform():
            return transformed(self.factory, self.criterion, *given)
        return self._watched(given, contextlib.nullcontext())[0]

    def _watched(
        self, given: Given, watching: contextlib.AbstractContextManager[Any]
    ) -> tuple[Stepped, Gradient]:
        """Take a step with its forward pass watched."""
        parameters, feature, label, seed = given
        model = self.factory(parameters, seed=seed)
        with watching:
            output, buffers = model.with_buffers(*_inputs(feature))
            loss = self.criterion(output, label)
        gradient = model.backward(loss)
        return (model.step(gradient, buffers=buffers), loss.detach()), gradient

    def _open(self, given: Given) -> _Task | None:
        """Choose the graph that takes a value's tensors; None where a transform runs."""
        if in_transform():
            one_map = None if self.inside else torch_private.only_map()
            return None if one_map is None else self._open_mapped(given, one_map)
        parameters, feature, label, seed = given
        if not len(parameters):
            parameters = self.factory(parameters).parameters
            given = parameters, feature, label, seed
        if self.moving is None:
            self._learn(given)
        held = self._checked(parameters)
        return self._task(given, held, self._settings_at(held), contextlib.ExitStack())

    def _open_mapped(self, given: Given, one_map: torch_private.OneMap) -> _Task | None:
        """Take the tensors of all models out of ``torch.vmap``, for a graph that maps."""
        batch = *_inputs(given[1]), given[2]
        held = self.factory.network.fit(given[0]._held("take a step"))
        refuse_foreign(held, self.factory._rule, None)
        if self.moving is None:
            with torch_private.outside_transforms():
                of_first = lambda tensor: one_map.first(one_map.out(tensor))  # noqa: E731
                first = Parameters._of(map_tree(of_first, held))
                self._learn((first, *torch_private.map_tensors(of_first, given[1:3]), given[3]))
        if self.formula is None or self.factory.network.writes_weights:
            return None
        if not all(isinstance(part, Tensor) for part in batch):
            return None
        settings = self._settings_at(held)  # in the map, where `groups=` sees one model's weights
        with contextlib.ExitStack() as around:
            around.enter_context(torch_private.outside_transforms())
            return self._task(given, held, settings, around, one_map)

    def _task(
        self,
        given: Given,
        held: Held,
        settings: list[Settings],
        around: contextlib.ExitStack,
        one_map: torch_private.OneMap | None = None,
    ) -> _Task | None:
        """Choose the graph that takes the tensors of a value; None if no model has its own."""
        _, feature, label, seed = given
        tensors: list[Any] = [*held.weights.values(), *held.buffers.values()]
        key: Any = ()
        if self.formula is not None:
            kept = held.state["state"] if held.state else {}
            if one_map is not None and kept:
                kept = map_tree(one_map.out, kept)
            entries = [kept.get(name, {}) for name in self.moving or ()]
            steps, index = _counters(entries) if self.formula.counts else ([], ())
            tensors += steps
            if kept:
                tensors += [v for entry in entries for k, v in entry.items() if k != "step"]
            tensors += self._numbers(settings)
            idle = tuple([group.get("momentum") == 0 for group in settings])
            key = index, tuple(map(tuple, entries)), idle
        tensors += [*self.foreign, *_inputs(feature), label]
        if one_map is not None:
            tensors = [one_map.out(tensor) for tensor in tensors]
            if not one_map.mapped:
                return None
            dims = tuple([0 if id(tensor) in one_map.mapped else None for tensor in tensors])
            key = *key, dims, one_map.randomness
        if key not in self.graphs:
            self.graphs[key] = Graph(self, settings, *key)
        if seed is not None:
            around.enter_context(seeded(seed, held.step_count))
        return _Task(given, held, self.graphs[key], tensors, settings, around.pop_all(), one_map)

    def _checked(self, parameters: Parameters) -> Held:
        """Return what a value holds, in the order of the network."""
        network = self.factory.network
        known = parameters._bound.network is network
        held = parameters._held("take a step") if known else parameters._bind(network)[0]
        refuse_foreign(held, self.factory._rule, parameters._bound.rule)
        return held

    def _learn(self, given: Given) -> None:
        """Take a plain step: it refuses what cannot be pure, and shows what the graph is made of."""
        held, leaves = given[0]._bind(self.factory.network)
        tensors = [*held.weights.values(), *leaves.all, *held.buffers.values()]
        recording = _Recording([*tensors, *torch_private.flat(given[1:3])[0]])
        with preserved():
            _, gradient = self._watched(given, recording)
        self.moving = [name for name in held.weights if name in gradient]
        self.foreign = recording.foreign()
        weights = [held.weights[name] for name in self.moving]
        if self.formula is not None and any(map(Tensor.is_complex, weights)):
            self.formula = None  # torch.optim takes those steps
        if self.formula is not None:
            self.scheduled = sorted(self.formula.scheduled(held.weights))
            groups = [names for _, names in self.formula.partition(held.weights)]
            group = {name: i for i, names in enumerate(groups) for name in names}
            self.group_of = [group[name] for name in self.moving]

    def _settings_at(self, held: Held) -> list[Settings]:
        """Return the settings of each group at the step that these parameters take."""
        if self.formula is None:
            return []
        rule = self.formula.at(held.step_count)
        return [settings for settings, _ in rule.partition(held.weights)]

    def _numbers(self, settings: list[Settings]) -> list[Tensor]:
        """Return what is scheduled as one tensor: a 0-dim one would be compiled for its value."""
        if not self.scheduled:
            return []
        numbers = [n for group in settings for key in self.scheduled for n in _pair(group[key])]
        return [torch.tensor(numbers, dtype=torch.float64)]

    def _stepped(self, task: _Task, found: tuple[Tensor, ...]) -> Stepped:
        """Put a value together again."""
        if task.one_map is not None:
            found = tuple([task.one_map.into(tensor) for tensor in found])
        network, moving = self.factory.network, cast(list[str], self.moving)
        held, graph = task.held, task.graph
        tensors = iter(found)
        loss = next(tensors)
        buffers = {name: next(tensors) for name in network.buffers}
        if self.formula is None:  # these are gradients, and the rule does as it always does
            gradient = Gradient._of({name: next(tensors) for name in moving}, network)
            return self.factory(task.given[0]).step(gradient, buffers=buffers), loss
        weights = {**held.weights, **{name: next(tensors) for name in moving}}
        kept = dict(held.state["state"]) if held.state else {}
        steps = [next(tensors) for _ in range(graph.counters)]
        for i, (name, keys) in enumerate(zip(moving, graph.kept, strict=True)):
            entry = {"step": steps[graph.counter_of[i]]} if steps else {}
            if steps or keys:  # in the order of a plain step, for `fnlib.stack`
                kept[name] = {key: next(tensors) for key in keys} | entry
        rule, settings = self.factory._rule.name, [dict(group) for group in task.settings]
        state = {"state": kept, "param_groups": settings}
        after = Held(weights, buffers, state, rule, held.step_count + 1, held.names)
        return Parameters._of(after, Bound(network, self.factory._rule.reads, None)), loss


_DRAWS = """This step draws from Python's or NumPy's generator, and torch.compile would repeat the first
number at every step. Draw from PyTorch's, or leave the step uncompiled:

    x = x * numpy.random.rand()     # wrong: a constant of the graph
    x = x * torch.rand(())          # right
"""


class Graph:
    """The arithmetic of a step for one set of moments: before the first step there are none.

    The compiler takes it as one operation. Traced line by line, every name and layer would be
    checked at each step, which takes half as long again.
    """

    def __init__(
        self,
        step: _TrainStep,
        settings: list[Settings],
        index: tuple[int, ...] = (),
        keys: tuple[tuple[str, ...], ...] = (),
        idle: tuple[bool, ...] = (),
        dims: tuple[int | None, ...] | None = None,
        randomness: str = "error",
    ) -> None:
        self.step, self.settings, self.keys, self.idle = step, settings, keys, idle
        starts = -1 in index
        self.given_counters = max(index, default=-1) + 1
        self.counters, self.counter_of = self.given_counters + starts, index
        self.kept: list[tuple[str, ...]] = []  # what is kept of each weight afterwards
        self.refused: errors.UnsupportedModule | None = None
        self.tree = step.factory.network.borrow(True)
        self.dims = dims  # of a step that torch.vmap maps: which inputs each model has a part of
        compute = self.compute
        if dims is not None:
            mapped = torch.vmap(self.compute, dims, randomness=randomness)
            # A counter that all models share would come out with other strides than it goes in.
            compute = lambda *tensors: tuple([t.contiguous() for t in mapped(*tensors)])  # noqa: E731
        fix_shape = torch_private.shape_fixer()
        whole = torch.compiler.allow_in_graph(lambda *tensors: compute(*tensors))

        def compiled(*tensors: Any) -> Any:
            if not torch.compiler.is_dynamo_compiling():
                return None
            for tensor in tensors if dims is not None else ():
                fix_shape(tensor)  # torch.vmap can't take dropout of a size that varies
            return whole(*tensors)

        # A code object of its own, where the compiler keeps its graphs.
        compiled.__code__ = compiled.__code__.replace()
        self.compiled = compiled

    def compute(self, *given: Any) -> tuple[Tensor, ...]:
        """Return the loss, then new buffers, weights, counters and moments.

        For a rule that isn't a formula: the loss, new buffers, the gradient.
        """
        step, network = self.step, self.step.factory.network
        *tensors, label = given
        parts = iter(tensors)
        weights = {name: next(parts) for name in network.weights}
        held_buffers = [next(parts) for _ in network.buffers]
        steps = [next(parts) for _ in range(self.given_counters)]
        moments = [{k: next(parts) for k in keys if k != "step"} for keys in self.keys]
        rules = self._rules(iter(next(parts)) if step.scheduled else iter(()))
        foreign = [(tensor, next(parts)) for tensor in step.foreign]
        moving = cast(list[str], step.moving)

        inputs = tuple(parts)

        def loss_of(leaves: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
            placed = list({**weights, **leaves}.values())
            if network.writes_weights:
                placed = [weight.clone() for weight in placed]
            buffers = [buffer.clone() for buffer in held_buffers]
            before = other_generators()
            with _traceable(self.tree.module), _Replacing(foreign):
                output = self.tree.call(placed, buffers, (None, inputs, {}))
                loss = step.criterion(output, label)
            if other_generators() != before:
                self.refused = errors.UnsupportedModule(_DRAWS)
                raise self.refused
            return loss, (loss, *self.tree.found)

        if self.dims is None:
            leaves = {name: weights[name].detach().requires_grad_() for name in moving}
            with torch.enable_grad():
                loss, (_, found, after) = loss_of(leaves)
                gradient: Iterable[Tensor] = torch.autograd.grad(loss, list(leaves.values()))
        else:  # under a map, where no tensor may ask for a gradient
            trained = {name: weights[name] for name in moving}
            slopes, (loss, found, after) = torch.func.grad(loss_of, has_aux=True)(trained)
            gradient = slopes.values()
        self.tree.clear()
        results = [tensor.detach() for tensor in (loss, *after)]
        if not rules:
            return *results, *gradient
        if network.writes_weights:
            weights = dict(zip(weights, (weight.detach() for weight in found), strict=True))
        return *results, *self._moved(rules, weights, gradient, steps, moments)

    def _rules(self, numbers: Any) -> list[Formula]:
        """Return the rule of each group, with tensors where a number is scheduled."""
        rules = []
        for settings, idle in zip(self.settings, self.idle, strict=False):
            own: Settings = {}
            for key in self.step.scheduled:
                pair = tuple(next(numbers) for _ in _pair(settings[key]))
                own[key] = pair if isinstance(settings[key], (list, tuple)) else pair[0]
            if idle:
                own["momentum"] = 0  # a formula has no momentum then, rather than one of 0
            for key in _FACTORS & settings.keys() - own.keys():
                if settings[key]:
                    own[key] = torch.full((), settings[key], dtype=torch.float64)
            rules.append(cast(Formula, self.step.formula).having(**{**settings, **own}))
        return rules

    def _moved(
        self,
        rules: list[Formula],
        weights: Mapping[str, Tensor],
        gradient: Iterable[Tensor],
        steps: list[Tensor],
        moments: list[Moments],
    ) -> list[Tensor]:
        """Move each weight by the formula of its group."""
        moving = cast(list[str], self.step.moving)
        if self.counters > len(steps):
            steps.append(rules[0].started(weights[moving[0]])["step"])
        steps = [before + 1 for before in steps]
        counted = [after.double() for after in steps]  # float32 would drift
        new_weights: list[Tensor] = []
        new_moments: list[Tensor] = []
        self.kept = []
        for i, (name, slope) in enumerate(zip(moving, gradient, strict=True)):
            rule, w = rules[self.step.group_of[i]], weights[name]
            t = counted[self.counter_of[i]] if steps else None
            w, after = rule.move(w, slope, moments[i] or rule.start(w), t, new)
            new_weights.append(w)
            new_moments += after.values()
            self.kept.append(tuple(after))
        return [*new_weights, *steps, *new_moments]


def transformed(
    factory: Factory,
    criterion: Criterion,
    parameters: Parameters,
    feature: Any,
    label: Any,
    seed: int | None,
) -> Stepped:
    """Take one step with ``torch.func.grad``: a transform keeps the graph of a loss to itself."""
    network, name, reads = factory.network, factory._rule.name, factory._rule.reads
    held = network.fit(parameters._held("take a step"))
    if not isinstance(factory._rule, Formula):
        raise errors.CannotTransform(f"The update rule {name}", "changes tensors in place")
    if network.writes_weights:
        raise errors.CannotTransform("A forward pass of this network", "writes to its weights")
    refuse_foreign(held, factory._rule, parameters._bound.rule)
    moving: list[str] = []

    def loss_of(trained: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        # Copies of the buffers, because a forward pass writes to what a transform follows.
        copies = {name: buffer.clone() for name, buffer in held.buffers.items()}
        now = held._replace(weights={**held.weights, **trained}, buffers=copies)
        model = factory(Parameters._of(now, Bound(network, reads, None)), seed=seed)
        output, buffers = model.with_buffers(*_inputs(feature))
        loss = criterion(output, label)
        moving[:] = reached(loss, trained)
        return loss, [loss, *buffers._tensors.values()]

    trained = {name: held.weights[name] for name in network.trained_names}
    slopes, (loss, *after_pass) = torch.func.grad(loss_of, has_aux=True)(trained)
    buffers = dict(zip(held.buffers, after_pass, strict=True))
    gradient = {name: slopes[name] for name in moving}
    rule = factory._rule.at(held.step_count)
    state = rule.init(held.weights) if held.state is None else held.state
    weights, state = rule.update(held.weights, gradient, state)
    after = Held(weights, buffers, state, name, held.step_count + 1, held.names)
    return Parameters._of(after, Bound(network, reads, None)), loss


@contextlib.contextmanager
def _traceable(module: nn.Module) -> Iterator[None]:
    """Leave oneDNN's LSTM out: the compiler cannot trace its backward pass."""
    if not any(isinstance(part, nn.RNNBase) for part in module.modules()):
        yield
        return
    settings: Any = torch.backends.mkldnn
    before, settings.enabled = settings.enabled, False
    try:
        yield
    finally:
        settings.enabled = before


def _inputs(feature: Any) -> tuple[Any, ...]:
    return feature if isinstance(feature, tuple) else (feature,)


def _pair(setting: Any) -> tuple[Any, ...]:
    """Return the numbers of a setting: one, or two for betas."""
    return tuple(setting) if isinstance(setting, (list, tuple)) else (setting,)


def _counters(entries: list[Mapping[str, Tensor]]) -> tuple[list[Tensor], tuple[int, ...]]:
    """Return the counters of weights, and the index of each weight's: -1 if it hasn't moved.

    Weights that moved equally often share a counter, so that one graph serves most values.
    """
    counters = [entry.get("step") for entry in entries]
    if len(set(map(id, counters))) > 1:  # of a file, say
        known: dict[Any, Tensor | None] = {}
        counters = [known.setdefault(None if c is None else str(c.tolist()), c) for c in counters]
    steps = list({id(counter): counter for counter in counters if counter is not None}.values())
    places = {id(counter): i for i, counter in enumerate(steps)}
    return steps, tuple(places.get(id(counter), -1) for counter in counters)


def _close(stack: contextlib.ExitStack) -> None:
    stack.close()


# What runs around a graph, and what a transform follows.
torch_private.never_compiled(
    _TrainStep._open, _TrainStep._stepped, _TrainStep._plain, _close, transformed
)


class _Recording(TorchFunctionMode):
    """Finds the tensors that enter a computation by another way than its arguments."""

    def __init__(self, known: Iterable[Any]) -> None:
        super().__init__()
        self.known = {id(value): value for value in known}
        self.found: dict[int, Tensor] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in torch_private.flat((args, kwargs))[0]:
            if isinstance(value, Tensor) and id(value) not in self.known:
                self.known[id(value)] = self.found[id(value)] = value
        result = function(*args, **(kwargs or {}))
        self.known.update((id(value), value) for value in torch_private.flat(result)[0])
        return result

    def foreign(self) -> list[Tensor]:
        """Return them, without those that a computation made unseen."""
        return [t for t in self.found.values() if t.is_leaf and not t.is_meta]


class _Replacing(TorchFunctionMode):
    """Puts the inputs of a graph in the place of the tensors that they stand for."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.inputs = {id(tensor): place for tensor, place in pairs}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        place = lambda tensor: self.inputs.get(id(tensor), tensor)  # noqa: E731
        args, kwargs = torch_private.map_tensors(place, (args, kwargs or {}))
        return function(*args, **kwargs)
