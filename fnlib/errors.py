"""Every exception of the core. What each one says is in `fnlib.show.messages`.

Catch all of them as ``fnlib.FnlibError``. Each one is also the error that Python would raise
(``TypeError``, ``ValueError``, ``RuntimeError``).
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from typing import Any

from fnlib.show import words
from fnlib.show.messages import TEXTS, habit

__all__ = [
    "AbsentGradient", "CannotRedraw", "CannotReduce", "CannotStore", "CannotTransform",
    "CannotWrap", "CarriesGraph", "DamagedHistory", "DifferentiateOutside", "Donated",
    "EmptyParameters", "FnlibError", "GraphOverwritten", "GraphUsedUp", "HiddenByCheckpoint",
    "HiddenState", "HistoryInUse", "Immutable", "LazyModule", "LossIndependent",
    "LossNotScalar", "MissingBuffers", "MissingObjective", "MissingPass",
    "NotAModule", "NotAParametersFile", "NotCallable", "NotKept", "RankLost", "RanksDisagree", "ReplicasDiffer",
    "StateDropped", "StateNotWritten", "UnsupportedModule", "WeightsOverwritten",
    "WrongHistory", "WrongParameters", "WrongRule",
]  # fmt: skip


class FnlibError(Exception):
    """Base of every exception that fnlib raises on purpose; its arguments fill its text."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*(words.names(p) if isinstance(p, list) else p for p in parts))

    def __str__(self) -> str:
        named = [TEXTS[kind.__name__] for kind in type(self).__mro__ if kind.__name__ in TEXTS]
        return (named[0] if named else "{}").format(*self.args)

    def __reduce__(self) -> Any:
        # Without __init__, which has already turned its arguments into `args`.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


# --- values -----------------------------------------------------------------------------------


class Immutable(FnlibError, TypeError):
    """A value, a rule or a factory was asked to change."""


class Donated(FnlibError, RuntimeError):
    """A value was used after a step had taken over its memory."""


class EmptyParameters(FnlibError, ValueError):
    """Empty parameters were asked for their weights."""


class CannotStore(FnlibError, TypeError):
    """A piece of state has a type that parameters can't store."""

    def __init__(self, where: str, value: object, why: str = "") -> None:
        super().__init__(where, f"{type(value).__module__}.{type(value).__qualname__}", why)


class NotAParametersFile(FnlibError, ValueError):
    """A file doesn't hold complete parameters."""


# --- networks ---------------------------------------------------------------------------------


class CannotRedraw(FnlibError, TypeError):
    """The initial weights of this module instance can't be drawn again exactly."""


class UnsupportedModule(FnlibError, TypeError):
    """A network can't be bound to parameters."""


class LazyModule(UnsupportedModule):
    """A network has weights whose shape isn't known yet."""


class WrongParameters(FnlibError, ValueError):
    """Names, shapes, dtypes or devices don't fit the network."""


class StateDropped(FnlibError, RuntimeError):
    """A forward pass changed state, and the call would have dropped the change."""


class HiddenState(FnlibError, RuntimeError):
    """A forward pass keeps state in attributes of its module."""

    def __init__(self, names: Iterable[str], why: str) -> None:
        names = list(names)
        super().__init__(names, why, names[0].rpartition(".")[2])


# --- backward and step ------------------------------------------------------------------------


class LossNotScalar(FnlibError, ValueError):
    """A loss isn't a single real number."""


class LossIndependent(FnlibError, ValueError):
    """A loss doesn't depend on the weights of the model."""


class HiddenByCheckpoint(FnlibError, ValueError):
    """A reentrant checkpoint keeps weights out of the graph."""


class DifferentiateOutside(FnlibError, ValueError):
    """A gradient was asked for inside a transform of torch.func."""


class CannotTransform(FnlibError, TypeError):
    """A transform of torch.func can't follow a training step."""


class GraphUsedUp(FnlibError, RuntimeError):
    """A second backward needs a graph that the first one freed."""


class GraphOverwritten(FnlibError, RuntimeError):
    """A tensor that backward needs was changed in place."""


class WeightsOverwritten(FnlibError, RuntimeError):
    """Somebody wrote to the weights that a model showed."""


class MissingBuffers(FnlibError, ValueError):
    """A step was called without the buffers that the forward pass changed."""


class MissingPass(MissingBuffers):
    """A step was given the buffers of one forward pass, and another one changed them too."""


class CarriesGraph(FnlibError, ValueError):
    """Parameters whose weights carry a graph were asked for what only numbers can do."""


class AbsentGradient(WrongParameters, KeyError):
    """An update rule read the gradient of a weight that the loss doesn't depend on."""


class WrongRule(FnlibError, ValueError):
    """The optimizer state belongs to another update rule."""


class MissingObjective(FnlibError, TypeError):
    """An update rule evaluates the loss itself, and a step gave it only a gradient."""


class CannotWrap(FnlibError, TypeError):
    """An optimizer needs something that a functional step doesn't have."""

    def __init__(self, name: str, why: str, right: str, wrong: str = "") -> None:
        super().__init__(name, why, right, wrong or f"optimizer=fnlib.wrap({name}, ...)")


# --- histories --------------------------------------------------------------------------------


class WrongHistory(FnlibError, ValueError):
    """A history was asked for something that it can't do."""


class HistoryInUse(FnlibError, RuntimeError):
    """A second writer wants to append to a history."""


class DamagedHistory(FnlibError, ValueError):
    """A file of a history isn't as it was written."""


class StateNotWritten(FnlibError, OSError):
    """The system refused to write a state."""


class NotKept(FnlibError, LookupError):
    """A state isn't on disk, and there is no step to replay it."""


# --- many ranks -------------------------------------------------------------------------------


class ReplicasDiffer(FnlibError, RuntimeError):
    """Ranks that should hold the same parameters hold different ones."""


class RanksDisagree(FnlibError, RuntimeError):
    """Ranks meet in different calls, or with tensors of different shapes."""


class RankLost(FnlibError, RuntimeError):
    """A rank died or didn't answer in time."""


class CannotReduce(FnlibError, TypeError):
    """A tensor can't be exchanged between ranks."""


# --- habits of stock PyTorch ---------------------------------------------------------------------


class NotAModule(FnlibError, AttributeError):
    """A functional model was asked for what an ``nn.Module`` has."""

    def __init__(self, name: str) -> None:
        super().__init__(name, *habit(name))
        self.name = name


class NotCallable(FnlibError, TypeError):
    """Parameters were called, as ``model.parameters()`` of stock PyTorch is."""
