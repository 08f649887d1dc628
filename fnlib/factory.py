"""The functional loop: a factory binds parameters to a structure, and the model it makes returns values."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.gradient import Gradient
from fnlib.initial import redraw
from fnlib.leaves import Leaves
from fnlib.optim import SGD, Rule, UpdateRule, shared_state
from fnlib.parameters import Parameters
from fnlib.protect import Tensors, in_transform, lazy_clone, share, share_all
from fnlib.randomness import preserved, seeded
from fnlib.run import Buffers, run
from fnlib.state import check_match, owned, storable
from fnlib.structure import Mode, Structure, copy_structure


_is_contiguous = Tensor.is_contiguous
_ONE = torch.ones(())
_run_backward = torch.autograd.Variable._execution_engine.run_backward


class Factory:
    """A network's structure and its update rule, without weights: call it with parameters to get a model.

    Args:
        build: something that builds the network when called without arguments (an ``nn.Module`` class too),
            or a module instance. An instance is only read: its structure is copied.
        optimizer: the update rule of ``model.step``: `fnlib.SGD`, `fnlib.Adam`, ``fnlib.wrap(...)`` or your own.

    Raises:
        LazyModule, UnsupportedModule: the network cannot be bound to parameters.

    >>> import fnlib
    >>> square = type("Square", (nn.Module,), {"forward": lambda self, x: x**2})
    >>> ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(2, 1), square()), optimizer=fnlib.SGD(lr=0.1))
    >>> model = ModelFactory(fnlib.Parameters(seed=0))
    >>> loss = model(torch.ones(4, 2)).mean()
    >>> gradient = model.backward(loss)
    >>> later = ModelFactory(model.step(gradient))
    >>> bool(later(torch.ones(4, 2)).mean() < loss)
    True
    """

    def __init__(self, build: Callable[[], nn.Module] | nn.Module, optimizer: UpdateRule | None = None) -> None:
        self.optimizer: UpdateRule = SGD(lr=0.01) if optimizer is None else optimizer
        if isinstance(self.optimizer, torch.optim.Optimizer) or isinstance(self.optimizer, type):
            kind = self.optimizer if isinstance(self.optimizer, type) else type(self.optimizer)
            raise errors.CannotWrap(kind.__name__, "a factory takes an update rule, not an optimizer", f"optimizer=fnlib.wrap(torch.optim.{kind.__name__}, lr=0.01)")
        self._rule_name: str = getattr(self.optimizer, "name", None) or f"{type(self.optimizer).__module__}.{type(self.optimizer).__qualname__}"
        self._structure: Structure | None = None
        self._instance: nn.Module | None = None
        if isinstance(build, nn.Module):
            self._instance = copy_structure(build)
        elif callable(build):
            self._build = build
        else:
            raise errors.UnsupportedModule(f"A factory is made of a module or of something that builds one, not of a {type(build).__name__}.")

    def __call__(self, parameters: Parameters, *, training: bool | Mapping[str, bool] = True, seed: int | None = None) -> Model:
        """Bind parameters: make the model that they describe.

        Args:
            parameters: the values of its weights and buffers. Empty ones are drawn first.
            training: whether layers like dropout and BatchNorm train, or a mapping of submodule names to that
                (a frozen BatchNorm: ``training={"bn": False}``; everything that it does not name trains).
            seed: makes random layers a pure function of (parameters, input, seed). It is folded with
                ``parameters.step_count``, so that a constant seed in a loop draws afresh each step.

        Returns:
            A model. Binding copies nothing.

        Raises:
            WrongParameters: these are the parameters of another network.
            CannotRedraw: empty parameters, and an instance that cannot be drawn afresh.
        """
        if not isinstance(parameters, Parameters):
            raise errors.WrongParameters("A factory binds parameters", f"this is a {type(parameters).__name__}", "model = ModelFactory(fnlib.Parameters(seed=0))")
        if parameters._draw is not None and parameters._weights is None and parameters._donated is None:
            parameters = self._draw(parameters)
        structure = self.structure
        if parameters._structure is not structure:
            right = "model = ModelFactory(parameters)   # parameters of this network: its own steps, or Parameters.from_module(network)"
            check_match("weight", parameters._alive("be bound"), structure.weights, right)
            check_match("buffer", parameters._buffers, structure.buffers, right)
            if parameters._structure is None:
                parameters._structure = structure
        mode: Mode = training if isinstance(training, bool) else tuple(sorted(training.items()))
        return Model(self, parameters, mode, seed, parameters._buffers)

    @property
    def structure(self) -> Structure:
        """Names, shapes and module tree, made when they are first needed."""
        if self._structure is None:
            if self._instance is not None:
                instance = self._instance
                self._structure = Structure(copy_structure(instance), lambda: copy_structure(instance))
            else:
                with preserved():
                    self._structure = Structure(self._built(), self._built)
        return self._structure

    def _built(self) -> nn.Module:
        module = self._build()
        if not isinstance(module, nn.Module):
            raise errors.UnsupportedModule(f"The build of this factory returned a {type(module).__name__}, not an nn.Module.")
        return module

    def _draw(self, empty: Parameters) -> Parameters:
        """Draw initial weights as building the network would."""
        draw = cast(dict[str, Any], empty._draw)

        def build() -> nn.Module:
            if draw["seed"] is not None:
                torch.manual_seed(draw["seed"])
            return self._built() if self._instance is None else redraw(self._instance)

        if draw["seed"] is None:
            module = build()
        else:
            with preserved():
                module = build()
        parameters = Parameters.from_module(module)
        for target in (draw["device"], draw["dtype"]):
            parameters = parameters if target is None else parameters.to(target)
        return parameters

    def __repr__(self) -> str:
        from fnlib.display import factory_text

        return factory_text(self)

    def _repr_html_(self) -> str:
        from fnlib.display import factory_html

        return factory_html(self)


def Sequential(*modules: nn.Module, optimizer: UpdateRule | None = None) -> Factory:  # noqa: N802  (the field's name)
    """Make a factory of layers that are called one after the other.

    Args:
        modules: layers, as for ``nn.Sequential`` (an ``OrderedDict`` of them too).
        optimizer: the update rule; by default ``fnlib.SGD(lr=0.01)``.

    Returns:
        A factory.

    >>> import fnlib
    >>> ModelFactory = fnlib.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))
    >>> model = ModelFactory(fnlib.Parameters(seed=0))
    >>> model(torch.zeros(32, 128)).shape
    torch.Size([32, 10])
    """
    return Factory(nn.Sequential(*modules), optimizer=optimizer)


class Model:
    """A network with parameters bound to it. Nothing about it changes: `step` returns new parameters.

    Made by calling a factory; see `Factory`.
    """

    __slots__ = ("__weakref__", "_buffers", "_changed", "_factory", "_leaves", "_mode", "_parameters", "_seed")

    def __init__(self, factory: Factory, parameters: Parameters, mode: Mode, seed: int | None, buffers: Mapping[str, Tensor], changed: list[str] | None = None) -> None:
        self._factory, self._parameters = factory, parameters
        self._mode, self._seed, self._buffers = mode, seed, buffers
        self._changed: list[str] = [] if changed is None else changed  # names of buffers that forward passes changed
        self._leaves = Leaves.of(parameters, factory.structure)

    @property
    def factory(self) -> Factory:
        """The factory that made this model."""
        return self._factory

    @property
    def parameters(self) -> Parameters:
        """The parameters that are bound. Buffers that were carried here count as theirs."""
        return self._parameters

    # --- forward -----------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's forward.

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

        Returns:
            The output, and the buffers after the pass (with them any weights that the pass itself changed,
            as ``nn.Embedding(max_norm=...)`` does), for ``model.step(gradient, buffers=buffers)``.

        >>> import fnlib
        >>> model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters())
        >>> output, buffers = model.with_buffers(torch.ones(4, 2))
        >>> buffers["0.num_batches_tracked"], model.parameters.buffers["0.num_batches_tracked"]
        (tensor(1), tensor(0))
        """
        output, after = self._forward(None, args, kwargs, keep=True)
        self._changed.extend(name for name in after.changed if name not in self._changed)
        return output, after

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Run another method of the module than forward: ``model.call("decode", z)``."""
        return self._forward(method, args, kwargs, keep=False)[0]

    def _forward(self, method: str | None, args: Any, kwargs: Any, keep: bool) -> tuple[Any, Buffers]:
        raw = self._parameters._alive("run a forward pass")
        if self._seed is None:
            return run(self._factory.structure, self._mode, raw, self._leaves.all, self._buffers, method, args, kwargs, keep)
        with seeded(self._seed, self._parameters._step_count):
            return run(self._factory.structure, self._mode, raw, self._leaves.all, self._buffers, method, args, kwargs, keep)

    # --- backward ----------------------------------------------------------------------------

    @property
    def weights(self) -> Tensors:
        """The weights as tensors that a loss may depend on: a penalty on them reaches the gradient.

        >>> import fnlib
        >>> model = fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters(seed=0))
        >>> penalty = sum(weight.square().sum() for weight in model.weights.values())
        >>> gradient = model.backward(penalty)
        >>> gradient["0.weight"].equal(2 * model.parameters["0.weight"])
        True
        """
        self._parameters._alive()
        return Tensors(dict(zip(self._factory.structure.weights, self._leaves.all, strict=True)))

    def backward(self, loss: Tensor, *, retain_graph: bool = False) -> Gradient:
        """Return the gradient of a loss with respect to the weights of this model.

        Args:
            loss: a tensor with one element, computed from this model's outputs or weights.
            retain_graph: keep the graph behind the loss for another backward; by default it is used up.

        Returns:
            The gradient, a value. No ``.grad`` is touched.

        Raises:
            LossNotScalar, LossIndependent, GraphUsedUp, GraphOverwritten, Donated.
        """
        self._parameters._alive("take a gradient")
        return _gradient(self._leaves, _differentiate(loss, self._leaves.trained, retain_graph))

    # --- step --------------------------------------------------------------------------------

    def step(self, gradient: Gradient | Mapping[str, Tensor], *, buffers: Mapping[str, Tensor] | None = None, donate: bool = False) -> Parameters:
        """Return the parameters after one step of the factory's update rule.

        Args:
            gradient: what `backward` returned, or a value made from it.
            buffers: what `with_buffers` returned, where the forward pass changes state.
            donate: give the memory of the old parameters to the new ones. They cannot be used afterwards.

        Returns:
            New parameters; without donation the old ones still stand.

        Raises:
            MissingBuffers, WrongParameters, WrongRule, Donated, CannotStore.
        """
        factory, old = self._factory, self._parameters
        weights, structure, rule = old._alive("take a step"), self._leaves.structure, factory.optimizer
        tensors = gradient._tensors if isinstance(gradient, Gradient) else gradient
        if not isinstance(gradient, Gradient) or gradient._structure is not structure:
            check_match("gradient entry", tensors, weights, "parameters = model.step(model.backward(loss))   # a gradient of this model", partial=True, exact=True)
        if old._rule is not None and old._rule != factory._rule_name:
            raise errors.WrongRule(old._rule, factory._rule_name)
        new_buffers: Mapping[str, Tensor] = self._buffers
        if buffers is not None:
            changed_weights = buffers.weights if isinstance(buffers, Buffers) else {}
            held = buffers.raw if isinstance(buffers, Buffers) else {key: owned(buffers[key]) for key in buffers}
            check_match("buffer", held, structure.buffers, "parameters = model.step(gradient, buffers=buffers)   # all that with_buffers returned")
            new_buffers, weights = held, {**weights, **changed_weights}
        elif self._changed:
            raise errors.MissingBuffers(self._changed)
        rule = rule.at(old._step_count) if hasattr(rule, "at") else rule
        state = rule.init(Tensors(weights)) if old._state is None else old._state
        if donate:
            _, state_given = old._donate(_caller())
            state = state if state_given is None else state_given
        else:
            weights, state = dict(zip(weights, share_all(weights.values()), strict=True)), shared_state(state)
        if isinstance(rule, Rule):
            new_weights, new_state = rule.update(weights, tensors, state)
        else:  # somebody else's: what it returns is checked and taken over
            with torch.no_grad():
                new_weights, new_state = rule.update(weights, tensors, state)
            check_match("updated weight", new_weights, structure.weights, "return {name: new_weight for name in weights}, state   # in update")
            new_weights = {key: owned(new_weights[key]) for key in structure.weights}
            new_state = storable(new_state, "the state that update returned")
        return Parameters._make(
            cast(dict[str, Tensor], new_weights),
            cast(dict[str, Tensor], new_buffers),
            state=new_state,
            rule=factory._rule_name,
            step_count=old._step_count + 1,
            aliases=old._aliases,
            transient=old._transient,
            structure=structure,
        )

    # --- other models of the same value ------------------------------------------------------

    def carry(self, buffers: Mapping[str, Tensor]) -> Model:
        """Return a model with the same weights and later buffers, for several forward passes before one backward.

        Args:
            buffers: what `with_buffers` returned.

        >>> import fnlib
        >>> model = fnlib.Sequential(nn.BatchNorm1d(2))(fnlib.Parameters())
        >>> left, buffers = model.with_buffers(torch.ones(4, 2))
        >>> right, buffers = model.carry(buffers).with_buffers(torch.zeros(4, 2))
        >>> buffers["0.num_batches_tracked"]
        tensor(2)
        """
        held = buffers.raw if isinstance(buffers, Buffers) else {name: owned(buffers[name]) for name in buffers}
        check_match("buffer", held, self._factory.structure.buffers, "model = model.carry(buffers)   # all that with_buffers returned")
        return Model(self._factory, self._parameters, self._mode, self._seed, held)

    def eval(self) -> Model:
        """Return a new model of the same parameters that evaluates: dropout off, running statistics used. Nothing is switched."""
        return Model(self._factory, self._parameters, False, self._seed, self._buffers)

    def train(self) -> Model:
        """Return a new model of the same parameters that trains. Nothing is switched."""
        return Model(self._factory, self._parameters, True, self._seed, self._buffers)

    def __repr__(self) -> str:
        from fnlib.display import model_text

        return model_text(self)

    def _repr_html_(self) -> str:
        from fnlib.display import model_html

        return model_html(self)


def backward(loss: Tensor, *models: Model, retain_graph: bool = False) -> tuple[Gradient, ...]:
    """Return the gradient of one loss with respect to the weights of several models, in one pass.

    Args:
        loss: a tensor with one element.
        models: the models whose weights it depends on.
        retain_graph: keep the graph behind the loss for another backward.

    Returns:
        One gradient a model, in their order.

    Raises:
        LossNotScalar: the loss has more than one element.
        LossIndependent: it does not depend on the weights of one of the models.
        GraphUsedUp: an earlier backward used the graph up.
        GraphOverwritten: something that it needs was changed in place since.
        Donated: a model's parameters have been given away.

    >>> import fnlib
    >>> encoder, decoder = (fnlib.Sequential(nn.Linear(2, 2))(fnlib.Parameters(seed=s)) for s in (0, 1))
    >>> loss = decoder(encoder(torch.ones(1, 2))).sum()
    >>> for_encoder, for_decoder = fnlib.backward(loss, encoder, decoder)
    """
    for model in models:
        model._parameters._alive("take a gradient")
    found = iter(_differentiate(loss, tuple(leaf for model in models for leaf in model._leaves.trained), retain_graph))
    return tuple(_gradient(model._leaves, list(itertools.islice(found, len(model._leaves.trained)))) for model in models)


def _differentiate(loss: Tensor, leaves: tuple[Tensor, ...], retain_graph: bool) -> Sequence[Tensor | None]:
    """Return what ``torch.autograd.grad(loss, leaves, allow_unused=True)`` does, or say why it cannot.

    It is called past its Python front, which takes 10 of the 95 us of a whole step of the 128-64-10 network.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise errors.LossNotScalar(loss)
    if not loss.requires_grad:
        raise errors.LossIndependent("it was computed without a graph (under no_grad, or from something else than the model's output)")
    if not leaves:
        raise errors.LossIndependent("the model has no weights that are trained")
    try:
        if in_transform():
            return torch.autograd.grad(loss, leaves, retain_graph=retain_graph, allow_unused=True)
        one = lazy_clone(_ONE) if loss.is_cpu and loss.dtype is torch.float32 and not loss.shape else torch.ones_like(loss)
        return cast(Sequence[Tensor | None], _run_backward((loss,), (one,), retain_graph, False, leaves, True, accumulate_grad=False))
    except RuntimeError as error:
        named = _explained(error, loss)
        if named is error:
            raise
        raise named from error


def _gradient(leaves: Leaves, found: Sequence[Tensor | None]) -> Gradient:
    """Name the tensors that autograd found, and lay them out as ``.grad`` would: strides of the weight, memory of its own."""
    try:
        if leaves.contiguous and all(map(_is_contiguous, found)):  # nearly always
            return Gradient._make(dict(zip(leaves.structure.trained_names, share_all(found), strict=True)), leaves.structure)  # type: ignore[arg-type]
    except TypeError:  # a None among them: a weight that the loss does not depend on
        pass
    tensors = {}
    for name, tensor, leaf in zip(leaves.structure.trained_names, found, leaves.trained, strict=True):
        if tensor is not None:
            if tensor.layout is torch.strided and tensor.stride() != leaf.stride():
                tensor = torch.empty_like(leaf, requires_grad=False).copy_(tensor)
            tensors[name] = share(tensor)
    if not tensors:
        raise errors.LossIndependent("none of them appears in the graph behind it")
    return Gradient._make(tensors, leaves.structure)


def _explained(error: RuntimeError, loss: Tensor) -> Exception:
    """Find the named error for what autograd raised; PyTorch's own where there is none."""
    text = str(error)
    todo, seen = [loss.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        donated = getattr(getattr(node, "variable", None), "_donated", None)
        if donated is not None:
            return cast(Exception, donated)
        todo += [following for following, _ in node.next_functions]
    if "second time" in text:
        return errors.GraphUsedUp()
    if "modified by an inplace operation" in text:
        return errors.GraphOverwritten(text)
    return error


def _caller() -> str:
    """Say which line outside this package is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fnlib"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"
