"""The functional loop begins here: a factory binds parameters to the structure of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn

from fnlib import errors
from fnlib.initial import redraw
from fnlib.model import Model
from fnlib.optim import SGD, UpdateRule
from fnlib.parameters import Parameters
from fnlib.protect import outside_transforms
from fnlib.randomness import one_at_a_time, preserved
from fnlib.state import check_match
from fnlib.structure import Mode, Structure, copy_structure


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
            raise errors.CannotWrap(
                kind.__name__,
                "a factory takes an update rule, not an optimizer",
                f"optimizer=fnlib.wrap(torch.optim.{kind.__name__}, lr=0.01)",
            )
        if not all(callable(getattr(self.optimizer, method, None)) for method in ("init", "update")):
            raise errors.CannotWrap(
                repr(self.optimizer),
                "an update rule is an object with init(weights) and update(weights, gradient, state)",
                "optimizer=fnlib.SGD(lr=0.01)",
            )
        self._rule_name: str = (
            getattr(self.optimizer, "name", None) or f"{type(self.optimizer).__module__}.{type(self.optimizer).__qualname__}"
        )
        self._structure: Structure | None = None
        self._instance: nn.Module | None = None
        if isinstance(build, nn.Module):
            self._instance = copy_structure(build)
        elif callable(build):
            self._build = build
        else:
            raise errors.UnsupportedModule(
                f"A factory is made of a module or of something that builds one, not of a {type(build).__name__}."
            )

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
            raise errors.WrongParameters(
                "A factory binds parameters", f"this is a {type(parameters).__name__}", "model = ModelFactory(fnlib.Parameters(seed=0))"
            )
        if parameters._draw is not None and parameters._weights is None and parameters._donated is None:
            parameters = self._draw(parameters)
        structure = self.structure
        if parameters._structure is not structure:
            right = "model = ModelFactory(parameters)   # parameters of this network: its own steps, or Parameters.from_module(network)"
            check_match("weight", parameters._alive("be bound"), structure.weights, right)
            check_match("buffer", parameters._buffers, structure.buffers, right)
            parameters._weights = {name: parameters._alive()[name] for name in structure.weights}  # in the order of the network
            parameters._buffers = {name: parameters._buffers[name] for name in structure.buffers}
            if parameters._structure is None:
                parameters._structure = structure
        mode: Mode = training if isinstance(training, bool) else _mode(training)
        if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__")):
            raise errors.WrongParameters("A seed is a whole number", f"this is {seed!r}", "model = ModelFactory(parameters, seed=0)")
        return Model(self, parameters, mode, seed, parameters._buffers)

    @property
    def structure(self) -> Structure:
        """Names, shapes and module tree, made when they are first needed."""
        if self._structure is not None:
            return self._structure
        if self._instance is not None:
            instance = self._instance
            return self._publish(Structure(copy_structure(instance), lambda: copy_structure(instance)))
        with preserved(), outside_transforms():
            structure = self._taken_apart(self._built())
        return self._publish(structure)

    def _publish(self, structure: Structure) -> Structure:
        """Keep a structure, unless another thread was first: all threads share one."""
        with one_at_a_time:
            if self._structure is None:
                self._structure = structure
            return self._structure

    def _taken_apart(self, first: nn.Module) -> Structure:
        """Make the structure of a module that was built; of copies where the build hands out modules that it keeps."""
        with preserved(), outside_transforms():
            second = self._built()
        if _parts(first) & _parts(second):
            return Structure(copy_structure(first), lambda: copy_structure(self._built()))
        return Structure(first, self._built)

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
        if self._structure is None and self._instance is None:
            structure = self._taken_apart(module)
            del module  # a structure counts references to its modules from when others can see it
            self._publish(structure)
        for target in (draw["device"], draw["dtype"]):
            parameters = parameters if target is None else parameters.to(target)
        return parameters

    def __repr__(self) -> str:
        from fnlib.display import factory_text

        return factory_text(self)

    def _repr_html_(self) -> str:
        from fnlib.display import factory_html

        return factory_html(self)


def _mode(training: object) -> Mode:
    if isinstance(training, Mapping) and all(isinstance(flag, bool) for flag in training.values()):
        return tuple(sorted(training.items()))
    raise errors.WrongParameters(
        "training is True, False or a mapping of submodule names to them",
        f"this is {training!r}",
        'model = ModelFactory(parameters, training={"bn": False})',
    )


def _parts(module: nn.Module) -> set[int]:
    return {id(part) for parts in (module.modules(), module.parameters(), module.buffers()) for part in parts}


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
