"""The functional loop begins here: a factory binds parameters to the structure of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fnlib import errors
from fnlib.model import Model
from fnlib.network.pool import Mode, Structure
from fnlib.network.source import Blueprint
from fnlib.optim import SGD
from fnlib.parameters import Parameters
from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import tensor_table
from fnlib.updates.rule import UpdateRule, checked_rule, name_of
from fnlib.values.checks import check_match

_RIGHT = "model = ModelFactory(fnlib.Parameters.from_module(network))   # or what its step returned"


class Factory(Tabular):
    """A network's structure and its update rule, without weights: call it with parameters to get a model.

    Args:
        build: something that builds the network when called without arguments (an ``nn.Module`` class too),
            or a module instance. An instance is only read: its structure is copied.
        optimizer: the update rule of ``model.step``: `fnlib.SGD`, `fnlib.Adam`, ``fnlib.wrap(...)`` or your own.

    Raises:
        LazyModule, UnsupportedModule: the network cannot be bound to parameters.
        CannotWrap: the optimizer is no update rule.
        Immutable: an attribute is set later; what a factory is made of stays.

    >>> import fnlib, torch
    >>> square = type("Square", (nn.Module,), {"forward": lambda self, x: x**2})
    >>> ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(2, 1), square()), optimizer=fnlib.SGD(lr=0.1))
    >>> model = ModelFactory(fnlib.Parameters(seed=0))
    >>> loss = model(torch.ones(4, 2)).mean()
    >>> gradient = model.backward(loss)
    >>> later = ModelFactory(model.step(gradient))
    >>> bool(later(torch.ones(4, 2)).mean() < loss)
    True
    """

    optimizer: UpdateRule
    _rule_name: str
    _blueprint: Blueprint

    def __init__(
        self, build: Callable[[], nn.Module] | nn.Module, optimizer: UpdateRule | None = None
    ) -> None:
        rule = SGD(lr=0.01) if optimizer is None else checked_rule(optimizer)
        vars(self).update(optimizer=rule, _rule_name=name_of(rule), _blueprint=Blueprint(build))

    def __call__(
        self,
        parameters: Parameters,
        *,
        training: bool | Mapping[str, bool] = True,
        seed: int | None = None,
    ) -> Model:
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
                "A factory binds parameters",
                f"got {type(parameters).__name__}",
                "model = ModelFactory(fnlib.Parameters(seed=0))",
            )
        if parameters._is_empty():
            parameters = self._blueprint.draw(parameters)
        buffers = (
            parameters._buffers
            if parameters._structure is self.structure
            else self._fitting(parameters)
        )
        return Model(self, parameters, _checked_mode(training), _checked_seed(seed), buffers)

    def _fitting(self, parameters: Parameters) -> dict[str, Tensor]:
        """Check that parameters are those of this network; return their buffers in its order."""
        weights, structure = parameters._alive("be bound"), self.structure
        check_match("weight", weights, structure.weights, _RIGHT)
        check_match("buffer", parameters._buffers, structure.buffers, _RIGHT)
        in_order = [*weights, *parameters._buffers] == [*structure.weights, *structure.buffers]
        if parameters._structure is None and in_order:
            parameters._structure = structure  # checked once and for all
        return {name: parameters._buffers[name] for name in structure.buffers}

    @property
    def structure(self) -> Structure:
        """Names, shapes and module tree of the network, without values."""
        return self._blueprint.structure

    def __setattr__(self, name: str, value: Any) -> None:
        raise errors.Immutable.factory(name, value)

    def __delattr__(self, name: str) -> None:
        raise errors.Immutable.factory(name, None)

    def _table(self) -> Table:
        source = self._blueprint
        if source.known is None and source.instance is None:  # do not build it only to print it
            build = getattr(source.build, "__qualname__", type(source.build).__name__)
            title = f"Factory of {build}, built when parameters are first bound"
            return Table(title, notes=[f"optimizer: {self.optimizer!r}"])
        structure = self.structure
        shapes = tensor_table(
            "Factory", {"weights": structure.weights, "buffers": structure.buffers}
        )
        shapes.notes = [*shapes.notes, f"optimizer: {self.optimizer!r}"]
        shapes.detail = self._network()
        return shapes

    def _network(self) -> tuple[str, str]:
        """Return the name of the network and its repr, as PyTorch prints it."""
        skeleton = self.structure.borrow(True)
        try:
            return type(skeleton.module).__name__, repr(skeleton.module)
        finally:
            self.structure.give_back(skeleton, [])


def _checked_mode(training: object) -> Mode:
    if isinstance(training, bool):
        return training
    if isinstance(training, Mapping) and all(isinstance(flag, bool) for flag in training.values()):
        return tuple(sorted(training.items()))
    raise errors.WrongParameters(
        "training= takes True, False or a mapping of submodule names to them",
        f"got {training!r}",
        'model = ModelFactory(parameters, training={"bn": False})',
    )


def _checked_seed(seed: Any) -> int | None:
    if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__")):
        raise errors.WrongParameters(
            "seed= takes an integer or None",
            f"got {seed!r}",
            "model = ModelFactory(parameters, seed=0)",
        )
    return seed


def Sequential(*modules: nn.Module, optimizer: UpdateRule | None = None) -> Factory:  # noqa: N802  (the field's name)
    """Make a factory of layers that are called one after the other.

    Args:
        modules: layers, as for ``nn.Sequential`` (an ``OrderedDict`` of them too).
        optimizer: the update rule; by default ``fnlib.SGD(lr=0.01)``.

    Returns:
        A factory.

    >>> import fnlib, torch
    >>> ModelFactory = fnlib.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))
    >>> model = ModelFactory(fnlib.Parameters(seed=0))
    >>> model(torch.zeros(32, 128)).shape
    torch.Size([32, 10])
    """
    return Factory(nn.Sequential(*modules), optimizer=optimizer)
