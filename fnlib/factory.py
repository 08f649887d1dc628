"""The functional loop: a factory binds parameters, which makes a model: forward, backward, step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.gradient import Gradient
from fnlib.network.backward import Leaves, gradients
from fnlib.network.bound import Bound
from fnlib.network.forward import Buffers, at_first, run, taken
from fnlib.network.pool import Mode, Network, mode_in_words
from fnlib.network.randomness import checked_seed, seeded
from fnlib.network.source import Source
from fnlib.optim import SGD
from fnlib.parameters import Parameters
from fnlib.show import words
from fnlib.show.table import Table, Tabular
from fnlib.updates.check import STEP, check_given, checked_rule, rule_of_step
from fnlib.updates.own import OwnRule, pure
from fnlib.updates.rule import Rule, UpdateRule
from fnlib.values.check import refuse_graph, slopes_of
from fnlib.values.held import Empty, Held, lent
from fnlib.values.protect import Weights

Objective = Callable[["Model"], Tensor | tuple[Tensor, Mapping[str, Tensor]]]


class Factory(Tabular):
    """A network's structure and its update rule, without weights: call it to bind parameters.

    Args:
        build: builds the network when called without arguments (an ``nn.Module`` class too), or a
            module instance, whose structure is copied.
        optimizer: the update rule of ``model.step``: `fnlib.SGD`, `fnlib.Adam`, ``fnlib.wrap(...)``
            or your own; by default ``fnlib.SGD(lr=0.01)``.

    Raises:
        LazyModule, UnsupportedModule: the network cannot be bound to parameters.
        CannotWrap: the optimizer is no update rule.
        Immutable: an attribute is set later.

    >>> import fnlib, torch
    >>> square = type("Square", (nn.Module,), {"forward": lambda self, x: x**2})
    >>> build = lambda: nn.Sequential(nn.Linear(2, 1), square())
    >>> ModelFactory = fnlib.Factory(build, optimizer=fnlib.SGD(lr=0.1))
    >>> model = ModelFactory(fnlib.Parameters(seed=0))
    >>> loss = model(torch.ones(4, 2)).mean()
    >>> gradient = model.backward(loss)
    >>> later = ModelFactory(model.step(gradient))
    >>> bool(later(torch.ones(4, 2)).mean() < loss)
    True
    """

    optimizer: UpdateRule
    _rule: Rule | OwnRule
    _source: Source

    def __init__(
        self, build: Callable[[], nn.Module] | nn.Module, optimizer: UpdateRule | None = None
    ) -> None:
        optimizer = SGD(lr=0.01) if optimizer is None else checked_rule(optimizer)
        vars(self).update(optimizer=optimizer, _rule=pure(optimizer), _source=Source(build))

    def __call__(
        self,
        parameters: Parameters,
        *,
        training: bool | Mapping[str, bool] = True,
        seed: int | None = None,
    ) -> Model:
        """Bind parameters: make the model that they describe. Binding copies nothing.

        Args:
            parameters: its weights and buffers. Empty ones are drawn first.
            training: whether layers like dropout and BatchNorm train, or a mapping of submodule
                names to that (a frozen BatchNorm: ``training={"bn": False}``; all others train).
            seed: makes random layers a pure function of (parameters, input, seed). Each step count
                draws afresh.

        Raises:
            WrongParameters: these are the parameters of another network, `training` names a
                submodule that there isn't, or `seed` is no whole number.
            CannotRedraw: empty parameters, and an instance that cannot be drawn afresh.
        """
        if not isinstance(parameters, Parameters):
            raise errors.WrongParameters(
                "A factory binds parameters",
                f"got {type(parameters).__name__}",
                "model = ModelFactory(fnlib.Parameters(seed=0))",
            )
        if isinstance(parameters._content, Empty):
            parameters = Parameters._of(self._source.initial(parameters._content))
        mode = training if isinstance(training, bool) else self.network.mode_of(training)
        if seed is not None:
            seed = checked_seed(seed, "model = ModelFactory(parameters, seed=0)")
        trains = True if mode is False else mode
        return Model(Binding(self, parameters, mode, trains, seed))

    @property
    def network(self) -> Network:
        """Names, shapes and module trees of the network, without values."""
        return self._source.network

    def __setattr__(self, name: str, value: Any) -> None:
        setting = f"optimizer={words.code(value)}" if name == "optimizer" else "..."
        raise self._finished(f"ModelFactory.{name} = {words.code(value)}", setting)

    def __delattr__(self, name: str) -> None:
        raise self._finished(f"del ModelFactory.{name}", "...")

    def _finished(self, wrong: str, setting: str) -> errors.Immutable:
        return errors.Immutable(
            "A factory can't be changed once it's made, because the models it has bound use its settings.",
            wrong,
            "would change every bound model",
            f"ModelFactory = fnlib.Factory(Network, {setting})   # right: a new factory\n"
            "    model = ModelFactory(parameters.replace(optimizer_state=None))   # a new rule starts afresh",
        )

    def _table(self) -> Table:
        table = self._source.table()
        table.notes = [*table.notes, f"optimizer: {self.optimizer!r}"]
        return table


def Sequential(*modules: nn.Module, optimizer: UpdateRule | None = None) -> Factory:  # noqa: N802  (the field's name)
    """Make a factory of layers that are called one after the other.

    Args:
        modules: layers, as for ``nn.Sequential`` (an ``OrderedDict`` of them too).
        optimizer: the update rule; by default ``fnlib.SGD(lr=0.01)``.

    >>> import fnlib, torch
    >>> ModelFactory = fnlib.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    >>> model = ModelFactory(fnlib.Parameters(seed=0))
    >>> model(torch.zeros(32, 128)).shape
    torch.Size([32, 10])
    """
    return Factory(nn.Sequential(*modules), optimizer=optimizer)


class Binding(NamedTuple):
    """What a factory was called with."""

    factory: Factory
    parameters: Parameters
    mode: Mode
    training: Mode  # what `train()` returns to
    seed: int | None


class Model(Tabular):
    """A network with parameters bound to it by a `Factory`. Nothing about it changes."""

    __slots__ = ("__weakref__", "_binding", "_buffers", "_in_order", "_leaves", "_shows")

    def __init__(self, binding: Binding, buffers: Buffers | None = None) -> None:
        held, self._leaves = binding.parameters._bind(binding.factory.network)
        self._binding = binding
        self._buffers = at_first(held) if buffers is None else buffers
        self._in_order = held is binding.parameters._content
        self._shows = False  # whether somebody has got its leaves

    @property
    def factory(self) -> Factory:
        """The factory that made this model."""
        return self._binding.factory

    @property
    def parameters(self) -> Parameters:
        """The parameters that are bound."""
        return self._binding.parameters

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked by copy, pickle and notebooks
            raise AttributeError(f"'Model' object has no attribute {name!r}", name=name, obj=self)
        raise errors.NotAModule(name)

    # --- forward ----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's forward: the same arguments, the same output.

        Args:
            args, kwargs: passed to the module as they are.

        Returns:
            What the module returns.

        Raises:
            StateDropped: the forward pass changed a buffer or a weight; use `with_buffers`.
            HiddenState: the module keeps state in its attributes.
        """
        return self._forward(None, args, kwargs, keep=False)[0]

    def with_buffers(self, *args: Any, **kwargs: Any) -> tuple[Any, Buffers]:
        """Run the module's forward and return, with its output, the state that it changed.

        Args:
            args, kwargs: as in a call.

        Returns:
            The output, and the buffers after the pass, for `step` and `carry`. With them are any
            weights that the pass itself changed (``nn.Embedding(max_norm=...)`` does).

        Raises:
            HiddenState: the module keeps state in its attributes.

        >>> import fnlib
        >>> model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters())
        >>> output, buffers = model.with_buffers(torch.ones(4, 2))
        >>> buffers["0.num_batches_tracked"], model.parameters.buffers["0.num_batches_tracked"]
        (tensor(1), tensor(0))
        """
        return self._forward(None, args, kwargs, keep=True)

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Run another method with ``args`` and ``kwargs``: ``model.call("decode", z)``.

        Args:
            method: its name. Those of every ``nn.Module`` (``eval``, ``to``) are refused.

        Raises:
            StateDropped: it changed a buffer or a weight; let forward call it.
            UnsupportedModule: it changed the module itself, which all models share.

        >>> import fnlib
        >>> model = fnlib.Factory(lambda: nn.Linear(2, 1))(fnlib.Parameters(seed=0))
        >>> model.call("extra_repr")
        'in_features=2, out_features=1, bias=True'
        """
        return self._forward(method, args, kwargs, keep=False)[0]

    def _forward(
        self, method: str | None, args: Any, kwargs: Any, keep: bool
    ) -> tuple[Any, Buffers]:
        held, leaves, binding = self._held("run a forward pass"), self._leaves, self._binding
        if leaves.shown:
            leaves = self._intact(held)
        call = method, args, kwargs
        given = binding.mode, held.weights, leaves, self._buffers, call, keep
        if binding.seed is None:
            return run(*given)
        with seeded(binding.seed, held.step_count, others=not leaves.network.keeps_nothing):
            return run(*given)

    def _held(self, action: str) -> Held:
        """Return the record of the parameters, in the order of the network."""
        held = self._binding.parameters._held(action)
        return held if self._in_order else self._leaves.network.fit(held)

    # --- backward ---------------------------------------------------------------------------------

    @property
    def weights(self) -> Weights:
        """The weights that this model computes with, as leaves of autograd's graph.

        A loss may depend on them, and ``torch.autograd.grad`` finds them. A write to one reaches
        neither the parameters nor another value's models, and ends this model.

        >>> import fnlib
        >>> model = fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters(seed=0))
        >>> penalty = sum(weight.square().sum() for weight in model.weights.values())
        >>> gradient = model.backward(penalty)
        >>> gradient["0.weight"].equal(2 * model.parameters["0.weight"])
        True
        """
        held, leaves = self._held("show their weights"), self._leaves
        if leaves.shown and not self._shows:
            leaves = self._intact(held)
        if self._buffers.weights:
            placed = leaves.standing_in(self._buffers.weights)
            return Weights(placed, leaves.network.names.ties)
        self._shows = True
        return Weights(leaves.show(), leaves.network.names.ties)

    def _intact(self, held: Held, graph: bool = False) -> Leaves:
        """Return leaves that nobody wrote to; this model takes new ones after another's write.

        Raises:
            WeightsOverwritten: somebody wrote to what this model showed, or to what its graph needs.
        """
        if written := self._leaves.written(held.weights):
            if self._shows or graph:
                raise errors.WeightsOverwritten(written, written[0])
            _, self._leaves = self.parameters._bind(self._leaves.network)
        return self._leaves

    def backward(
        self, loss: Tensor, *, retain_graph: bool = False, create_graph: bool = False
    ) -> Gradient:
        """Return the gradient of a loss with respect to the weights of this model.

        Args:
            loss: a tensor with one element, computed from this model's outputs or weights.
            retain_graph: keep the graph behind the loss for another backward.
            create_graph: give the gradient a graph of its own, for a loss that depends on it
                (a gradient penalty). Implies `retain_graph`.

        Returns:
            The gradient: for each weight that the loss depends on, a tensor of its shape.

        Raises:
            LossNotScalar, LossIndependent, ...: as `fnlib.backward`.

        >>> import fnlib
        >>> model = fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters(seed=0))
        >>> loss = model(torch.ones(1, 2)).square().sum()
        >>> penalty = model.backward(loss, create_graph=True).norm()
        >>> list(model.backward(loss + penalty))
        ['0.weight', '0.bias']
        """
        found = gradients(loss, [_leaves_of(self)], retain_graph, create_graph)[0]
        return Gradient._of(*found)

    @property
    def rates(self) -> Any:
        """The learning rate that the next step will use: a number, or ``{group: number}``.

        Groups are numbered in the order of their first weights.

        Raises:
            WrongParameters: a rule of your own, with no rate that fnlib can read.

        >>> import fnlib
        >>> rule = fnlib.SGD(lr=lambda step: 0.5**step)
        >>> model = fnlib.Sequential(nn.Linear(2, 1), optimizer=rule)(fnlib.Parameters(seed=0))
        >>> model.rates, model.factory(model.step({}, lr=model.rates / 10)).rates
        (1.0, 0.5)
        """
        held = self._held("show their rates")
        rates = self.factory._rule.at(held.step_count).rates(held.weights)
        return rates[0] if len(rates) == 1 else dict(enumerate(rates))

    # --- step -------------------------------------------------------------------------------------

    def step(
        self,
        gradient: Gradient | Mapping[str, Tensor] | None = None,
        *,
        buffers: Mapping[str, Tensor] | None = None,
        donate: bool = False,
        lr: float | Mapping[int, float] | None = None,
        objective: Objective | None = None,
    ) -> Parameters:
        """Return the parameters after one step of the factory's update rule.

        Args:
            gradient: what `backward` returned, or a value made from it.
            buffers: what `with_buffers` returned, where the forward pass changes state.
            donate: give the memory of the old parameters to the new ones, and end the old ones.
            lr: the learning rate of this step only, decided outside (it may depend on the loss),
                or one for each group, as `rates` shows them.
            objective: a function of a model that returns a loss, or (loss, buffers), for rules that
                evaluate it more than once (``fnlib.wrap(torch.optim.LBFGS)``). Each evaluation gets
                a model of its own, with the last one's buffers. Rules like SAM take the gradient too.

        Returns:
            New parameters. Unless they are donated, the old ones stay as they were.

        Raises:
            MissingBuffers: a forward pass changed buffers, and this step would drop the change.
            WrongParameters, WrongRule: the gradient is of another network, or the optimizer state
                of another rule.
            Donated, CarriesGraph: the parameters were given away, or their weights carry a graph.
            MissingObjective, CannotStore: the rule evaluates the loss itself and there is no
                `objective`, or it keeps state that a value cannot carry.

        >>> import fnlib
        >>> rule = fnlib.wrap(torch.optim.LBFGS, lr=1, line_search_fn="strong_wolfe")
        >>> model = fnlib.Sequential(nn.Linear(2, 1), optimizer=rule)(fnlib.Parameters(seed=0))
        >>> objective = lambda model: (model(torch.eye(2)) - 1).square().sum()
        >>> later = model.factory(model.step(objective=objective))
        >>> objective(later).item() < 1e-6
        True
        """
        old, network = self._binding.parameters, self._leaves.network
        held = refuse_graph(self._held("take a step"), "take a step")
        rule = rule_of_step(self.factory._rule, held, lr, old._bound.rule)
        check_given(rule, gradient, objective)
        known = isinstance(gradient, Gradient) and gradient._network is network
        slopes = slopes_of(gradient, held, known, STEP)
        weights, after = self._after(held, buffers)
        state = rule.init(weights) if held.state is None else held.state
        own = {}
        if objective is not None:
            trials = _Trials(self, objective, after)
            if rule.needs_objective or rule.takes_both:
                own["objective"] = trials
            else:  # the rules of torch.optim evaluate once, before they step
                _, slopes, weights = trials(weights)
        in_place = donate and objective is None  # a trial that fails leaves the old value whole
        step_count, names = held.step_count + 1, held.names
        if in_place:
            rule.partition(weights)  # raises what a schedule raises while nothing is given away
            weights, lends = lent(old._give_away(), weights)
            state = state if held.state is None else lends
            del held, lends  # memory is reused where nobody else refers to it
        weights, state = rule.update(weights, slopes, state, in_place=in_place, **own)
        if objective is not None:
            after = trials.buffers
            if donate:
                old._give_away()
        if after.resized != names.resized:
            names = names._replace(resized=after.resized)
        new = Held(weights, dict(after._tensors), state, rule.name, step_count, names)
        return Parameters._of(new, Bound(network, rule.reads, None))

    def _after(
        self, held: Held, buffers: Mapping[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], Buffers]:
        """Return weights and buffers after the forward passes of this step."""
        after = self._buffers
        if buffers is not None:
            right = "parameters = model.step(gradient, buffers=buffers)   # all that with_buffers returned"
            after = taken(buffers, after, self._leaves.network, right)
        if after.behind < len(after.passes):
            lacking = list(dict.fromkeys(name for changed in after.passes for name in changed))
            raise (errors.MissingBuffers if buffers is None else errors.MissingPass)(lacking)
        return {**held.weights, **after.weights} if after.weights else held.weights, after

    # --- other models of the same value -----------------------------------------------------------

    def carry(self, buffers: Mapping[str, Tensor]) -> Model:
        """Return a model with the same weights and later buffers, for another forward pass.

        Args:
            buffers: what `with_buffers` returned.

        Raises:
            WrongParameters: names or shapes aren't those of this network's buffers.

        >>> import fnlib
        >>> model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters())
        >>> left, buffers = model.with_buffers(torch.ones(4, 2))
        >>> right, buffers = model.carry(buffers).with_buffers(torch.zeros(4, 2))
        >>> buffers["0.num_batches_tracked"]
        tensor(2)
        """
        right = "model = model.carry(buffers)   # all that with_buffers returned"
        later = taken(buffers, self._buffers, self._leaves.network, right)
        return Model(self._binding, later)

    def eval(self) -> Model:
        """Return a new model of the same parameters in evaluation; nothing is switched."""
        return Model(self._binding._replace(mode=False), self._buffers)

    def train(self) -> Model:
        """Return a new model of the same parameters that trains, but for what was bound frozen.

        >>> import fnlib
        >>> frozen = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters(), training={"0": False})
        >>> _, buffers = frozen.eval().train().with_buffers(torch.ones(4, 2))
        >>> buffers["0.num_batches_tracked"]
        tensor(0)
        """
        return Model(self._binding._replace(mode=self._binding.training), self._buffers)

    def __reduce__(self) -> Any:
        return Model, (self._binding, self._buffers)

    def _table(self) -> Table:
        binding = self._binding
        table = binding.parameters._table(self._buffers._tensors)
        seed = "" if binding.seed is None else f", seed {binding.seed}"
        title = f"{table.title[0].lower()}{table.title[1:]}"
        table.title = f"Model in {mode_in_words(binding.mode)}{seed}: {title}"
        table.detail = self._leaves.network.describe()
        return table


class _Trials:
    """The models of one step at which its rule evaluates an objective, one after the other."""

    def __init__(self, model: Model, objective: Objective, buffers: Buffers) -> None:
        self.model, self.objective, self.buffers = model, objective, buffers

    def __call__(
        self, weights: dict[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor], dict[str, Tensor]]:
        """Return the loss at some weights, its gradient, and the weights after the forward pass."""
        binding, names = self.model._binding, self.model._leaves.network.names
        names = names._replace(resized=self.buffers.resized)
        step_count = binding.parameters.step_count
        held = Held(weights, dict(self.buffers._tensors), None, None, step_count, names)
        trial = Model(binding._replace(parameters=Parameters._of(held)))
        with torch.enable_grad():
            found = self.objective(trial)
            loss, buffers = found if isinstance(found, tuple) else (found, None)
            gradient = trial.backward(loss)
        after, self.buffers = trial._after(trial._held("be read"), buffers)
        return loss.detach(), gradient._tensors, after


def backward(
    loss: Tensor, *models: Model, retain_graph: bool = False, create_graph: bool = False
) -> tuple[Gradient, ...]:
    """Return the gradients of one loss, one for each model, in one pass.

    Args:
        loss: a tensor with one element.
        models: the models whose weights it depends on.
        retain_graph, create_graph: as in `Model.backward`.

    Returns:
        One gradient for each model, in their order.

    Raises:
        LossNotScalar, LossIndependent: the loss is no single number, or doesn't depend on a model.
        HiddenByCheckpoint: a checkpoint with use_reentrant=True keeps weights out of the graph.
        DifferentiateOutside: a transform of torch.func that is running keeps the graph to itself.
        GraphUsedUp, GraphOverwritten: an earlier backward used the graph up, or something that it
            needs was changed in place since.
        WeightsOverwritten, Donated: so were a model's weights, or they were given away.
        WrongParameters: one of the models is something else, or there is none.

    >>> import fnlib
    >>> layer = fnlib.Sequential(nn.Linear(2, 2))
    >>> encoder, decoder = (layer(fnlib.Parameters(seed=s)) for s in (0, 1))
    >>> loss = decoder(encoder(torch.ones(1, 2))).sum()
    >>> for_encoder, for_decoder = fnlib.backward(loss, encoder, decoder)
    """
    if not models:
        raise _no_models("got a loss alone")
    leaves = [_leaves_of(model) for model in models]
    found = gradients(loss, leaves, retain_graph, create_graph)
    return tuple([Gradient._of(*pair) for pair in found])


def _no_models(got: str) -> errors.WrongParameters:
    what = "A gradient is taken of a loss with respect to models"
    right = "for_encoder, for_decoder = fnlib.backward(loss, encoder, decoder)"
    return errors.WrongParameters(what, got, right)


def _leaves_of(model: Model) -> Leaves:
    if not isinstance(model, Model):
        raise _no_models(f"got {type(model).__name__}")
    held = model._held("take a gradient")
    return model._intact(held, graph=True) if model._leaves.shown else model._leaves
