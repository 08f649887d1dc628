"""Every public name says what it does in one sentence, what goes in and comes out, and shows an example that runs (as a doctest)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import fnlib
from fnlib import distributed, encapsulated, errors

CORE = [
    name
    for name in fnlib.__all__
    if name not in ("Ledger", "compare", "distributed", "doctor", "encapsulated")
]  # those have tests of their own, or are modules
SOURCES = ("SGD", "Adam", "AdamW")  # rules with a formula: where it comes from


def public() -> Iterator[tuple[str, Any]]:
    """The public names of the core, with the public methods of its classes."""
    found = {name: getattr(fnlib, name) for name in CORE} | {
        "encapsulated.Sequential": encapsulated.Sequential,
        "distributed.all_reduce": distributed.all_reduce,
        "distributed.broadcast": distributed.broadcast,
        "distributed.same_everywhere": distributed.same_everywhere,
    }
    for name, thing in found.items():
        yield name, thing
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            for method, value in vars(thing).items():
                if not method.startswith("_") or method == "__call__":
                    value = getattr(value, "__func__", value)
                    if callable(value) or isinstance(value, property):
                        yield f"{name}.{method}", value


PUBLIC = dict(public())
SHOWN_BY_ITS_CLASS = {
    "Model.parameters",
    "Model.factory",
    "Factory.network",
}  # the class's own example uses it


def arguments(thing: Any) -> list[str]:
    """The names of what a caller gives."""
    if isinstance(thing, property):
        return []
    parameters = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing).parameters
    return [name for name in parameters if name not in ("self", "cls")]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, thing in PUBLIC.items()
        if not (inspect.isclass(thing) and issubclass(thing, Exception))
    ],
)
def test_a_public_name_explains_itself(name: str) -> None:
    thing = PUBLIC[name]
    text = inspect.getdoc(thing) or ""
    first = text.split("\n\n")[0].replace("\n", " ")
    assert first and first[0].isupper() or first.startswith("``"), f"{name} has no sentence"
    assert "." in first or ":" in first, f"{name}: {first!r} is no sentence"
    if inspect.isclass(thing) and thing.__init__ is object.__init__:
        return
    missing = [
        argument for argument in arguments(thing) if argument not in text and "Args: as" not in text
    ]
    made_by_a_factory = name == "Model"  # nobody calls it
    assert made_by_a_factory or not missing, f"{name} does not say what {missing} are"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CORE
        if not issubclass(type(PUBLIC[name]), type) or not issubclass(PUBLIC[name], Exception)
    ],
)
def test_a_public_name_shows_an_example_that_runs(name: str) -> None:
    texts = [
        inspect.getdoc(thing) or ""
        for key, thing in PUBLIC.items()
        if key == name or key.startswith(f"{name}.")
    ]
    assert any(">>> " in text for text in texts), (
        f"{name} has no example"
    )  # which pytest runs: --doctest-modules
    if name in SOURCES:
        assert "Source: " in texts[0] and "<-" in texts[0], (
            f"{name} says neither its formula nor where it comes from"
        )


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    ],
)
def test_a_named_error_says_what_it_is(name: str) -> None:
    text = inspect.getdoc(getattr(errors, name)) or ""
    assert text.endswith(".") and getattr(errors, name).__doc__, (
        f"{name} has no sentence of its own"
    )


def test_what_is_raised_is_announced() -> None:
    """The methods whose errors a learner meets name them under Raises."""
    for name in ("Factory", "Factory.__call__", "Model.__call__", "Model.backward", "Model.step", "Parameters.replace", "Parameters.to",
                 "Parameters.diff", "Parameters.load", "wrap", "backward"):  # fmt: skip
        announced = (inspect.getdoc(PUBLIC[name]) or "").partition("Raises:")[2]
        assert any(kind in announced for kind in vars(errors)), (
            f"{name} does not say what it raises"
        )
