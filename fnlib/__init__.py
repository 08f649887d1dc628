"""Functional neural networks for PyTorch: a factory, a gradient and parameters that are values."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fnlib import errors
from fnlib.errors import *  # noqa: F403  (every exception)
from fnlib.version import __version__ as __version__

if TYPE_CHECKING:
    from fnlib import distributed as distributed
    from fnlib import encapsulated as encapsulated
    from fnlib import teaching as teaching
    from fnlib.compiled import train_step as train_step
    from fnlib.ensemble import stack, unstack
    from fnlib.factory import Factory, Model, Sequential, backward
    from fnlib.gradient import Gradient, clip_norm
    from fnlib.history import History as History
    from fnlib.ledger import Ledger as Ledger
    from fnlib.ledger.doctor import doctor as doctor
    from fnlib.ledger.views.compare import compare as compare
    from fnlib.optim import SGD, Adam, AdamW
    from fnlib.parameters import Parameters
    from fnlib.updates.wrap import wrap

# Found when first used: `import fnlib` is free, so that pytest can load the plugin everywhere.
_CORE = {
    "fnlib.ensemble": ("stack", "unstack"),
    "fnlib.factory": ("Factory", "Model", "Sequential", "backward"),
    "fnlib.gradient": ("Gradient", "clip_norm"),
    "fnlib.optim": ("SGD", "Adam", "AdamW"),
    "fnlib.parameters": ("Parameters",),
    "fnlib.updates.wrap": ("wrap",),
}
_LATER = {
    "train_step": "fnlib.compiled",
    "History": "fnlib.history",
    "Ledger": "fnlib.ledger",
    "compare": "fnlib.ledger.views.compare",
    "doctor": "fnlib.ledger.doctor",
}

__all__ = [  # noqa: PLE0604  (and every exception)
    "SGD", "Adam", "AdamW", "Factory", "Gradient", "History", "Ledger", "Model", "Parameters",
    "Sequential", "backward", "clip_norm", "compare", "distributed", "doctor", "encapsulated",
    "stack", "train_step", "unstack", "wrap",
]  # fmt: skip
__all__ += errors.__all__
_HOME = {name: module for module, names in _CORE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        found = getattr(import_module(_LATER[name]), name)
        globals()[name] = found  # so that it is asked for once
        return found
    if name in _HOME:
        # All of it at once, since torch.compile doesn't trace through a lazy name.
        globals().update({n: getattr(import_module(home), n) for n, home in _HOME.items()})
        return globals()[name]
    if name.isidentifier() and name[0] != "_" and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'fnlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
