"""Functional neural networks for PyTorch: a factory, a gradient and parameters that are values."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fnlib.errors import (
    AbsentGradient,
    CannotRedraw,
    CannotReduce,
    CannotStore,
    CannotTransform,
    CannotWrap,
    CarriesGraph,
    DamagedHistory,
    DifferentiateOutside,
    Donated,
    EmptyParameters,
    FnlibError,
    GraphOverwritten,
    GraphUsedUp,
    HiddenByCheckpoint,
    HiddenState,
    HistoryInUse,
    Immutable,
    LazyModule,
    LossIndependent,
    LossNotScalar,
    MissingBuffers,
    MissingObjective,
    MissingPass,
    NotAParametersFile,
    NotKept,
    RankLost,
    RanksDisagree,
    ReplicasDiffer,
    StateDropped,
    StateNotWritten,
    UnsupportedModule,
    WeightsOverwritten,
    WrongHistory,
    WrongParameters,
    WrongRule,
)
from fnlib.factory import Factory, Model, Sequential, backward
from fnlib.gradient import Gradient, clip_norm
from fnlib.optim import SGD, Adam, AdamW
from fnlib.parameters import Parameters, stack, unstack
from fnlib.updates.wrap import wrap

if TYPE_CHECKING:
    from fnlib import distributed as distributed
    from fnlib import encapsulated as encapsulated
    from fnlib import teaching as teaching
    from fnlib.compiled import train_step as train_step
    from fnlib.history import History as History
    from fnlib.ledger import Ledger as Ledger
    from fnlib.ledger.doctor import doctor as doctor
    from fnlib.ledger.views.compare import compare as compare

# Found when first used, so that `import fnlib` costs little and the core stands alone.
_LATER = {
    "train_step": "fnlib.compiled",
    "History": "fnlib.history",
    "Ledger": "fnlib.ledger",
    "compare": "fnlib.ledger",
    "doctor": "fnlib.ledger.doctor",
}
_MODULES = ("distributed", "encapsulated", "teaching")

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "AbsentGradient",
    "Adam",
    "AdamW",
    "CannotRedraw",
    "CannotReduce",
    "CannotStore",
    "CannotTransform",
    "CannotWrap",
    "CarriesGraph",
    "DamagedHistory",
    "DifferentiateOutside",
    "Donated",
    "EmptyParameters",
    "Factory",
    "FnlibError",
    "Gradient",
    "GraphOverwritten",
    "GraphUsedUp",
    "HiddenByCheckpoint",
    "HiddenState",
    "History",
    "HistoryInUse",
    "Immutable",
    "LazyModule",
    "Ledger",
    "LossIndependent",
    "LossNotScalar",
    "MissingBuffers",
    "MissingObjective",
    "MissingPass",
    "Model",
    "NotAParametersFile",
    "NotKept",
    "Parameters",
    "RankLost",
    "RanksDisagree",
    "ReplicasDiffer",
    "Sequential",
    "StateDropped",
    "StateNotWritten",
    "UnsupportedModule",
    "WeightsOverwritten",
    "WrongHistory",
    "WrongParameters",
    "WrongRule",
    "backward",
    "clip_norm",
    "compare",
    "distributed",
    "doctor",
    "encapsulated",
    "stack",
    "train_step",
    "unstack",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"fnlib.{name}")
    if name in _LATER:
        found = getattr(import_module(_LATER[name]), name)
        globals()[name] = found  # a module of the same name must not take its place
        return found
    raise AttributeError(f"module 'fnlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_MODULES})
