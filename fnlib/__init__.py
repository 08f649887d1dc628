"""Functional neural networks for PyTorch: a factory, a gradient and parameters that are values."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fnlib import errors
from fnlib.errors import *  # noqa: F403  (every exception)
from fnlib.factory import Factory, Model, Sequential, backward
from fnlib.gradient import Gradient, clip_norm
from fnlib.optim import SGD, Adam, AdamW
from fnlib.parameters import Parameters
from fnlib.transformed import stack, unstack
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
__all__ = [  # noqa: PLE0604  (and every exception)
    "SGD",
    "Adam",
    "AdamW",
    "Factory",
    "Gradient",
    "History",
    "Ledger",
    "Model",
    "Parameters",
    "Sequential",
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
__all__ += errors.__all__


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
