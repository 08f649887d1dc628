"""Every exception of the ledger, each with its text."""

from __future__ import annotations

import re

from torch import nn

from fnlib.errors import FnlibError


class LedgerError(FnlibError):
    """Base of every exception that the ledger raises on purpose."""


class UnknownObject(LedgerError, TypeError):
    """The ledger was asked to watch an object of a kind that it does not know."""

    def __init__(self, name: str, value: object) -> None:
        kind = type(value).__qualname__
        article = "an" if kind[0] in "aeiou" else "a"
        key = re.sub(r"\W+", "_", name).strip("_")  # of `models[0]`, which is no keyword
        if isinstance(value, nn.Module):
            why = "It is made by torch.jit, or has a part that is: the state lies where Python cannot look."
            right = f"with fnlib.Ledger({key}={name}.state_dict()) as ledger:   # right: pass the state itself"
        elif callable(value) and not isinstance(value, type):
            why = "A function keeps no state that could change."
            right = f"with fnlib.Ledger(model=model) as ledger:   # right: leave {name} out"
        elif not callable(getattr(value, "state_dict", None)):
            why = "It watches modules, optimizers, schedulers, tensors, dicts of tensors and fnlib values."
            right = f"with fnlib.Ledger() as ledger:   # right: leave {name} out; tensors that it holds can be given by name"
        else:
            why = "It watches modules, optimizers, schedulers, tensors, dicts of tensors and fnlib values."
            right = f"with fnlib.Ledger({key}={name}.state_dict()) as ledger:   # right: pass the state itself"
        super().__init__(
            f"the ledger does not know how to watch {name}, {article} {kind}. {why}\n\n"
            f"    with fnlib.Ledger({key}={name}) as ledger:   # wrong\n"
            f"    {right}\n"
        )


class AlreadyRecording(LedgerError, RuntimeError):
    """A ledger was started a second time."""

    def __init__(self) -> None:
        super().__init__(
            "this ledger has been started before, and one ledger keeps one recording.\n\n"
            "    with ledger:                                   # wrong: the same ledger again\n"
            "    with fnlib.Ledger(model=model) as second:      # right: a ledger of its own\n"
        )


class RecordingFailed(LedgerError, RuntimeError):
    """The ledger itself failed at a statement; the code that it watched ran on."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"the ledger itself failed, with {type(error).__name__}: {error}. The recorded code ran to "
            "its end, and at least one of its statements has no entry. This is a fault of fnlib, not "
            "of your code; what was recorded is in the ledger."
        )


class UnknownWatch(LedgerError, ValueError):
    """``watch=`` names a kind of state that there is not."""

    def __init__(self, wrong: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"watch= was given {wrong!r}, which is no kind of state.\n\n"
            f'    fnlib.Ledger(model=model, watch={{"{wrong}"}})     # wrong\n'
            f'    fnlib.Ledger(model=model, watch={{"weight"}})     # right; the kinds are {", ".join(known)}\n'
        )


class NoSuchIteration(LedgerError, IndexError):
    """An iteration was asked for that was not recorded."""

    def __init__(self, number: int, recorded: int) -> None:
        last = (
            f"the last one is ledger.iteration({recorded})" if recorded else "no loop was recorded"
        )
        super().__init__(
            f"iteration {number} was not recorded; {last}. The first is ledger.iteration(1)."
        )


class NothingToCompare(LedgerError, TypeError):
    """``compare`` was given something that is not a ledger."""

    def __init__(self, value: object) -> None:
        super().__init__(
            f"compare takes two ledgers, not a {type(value).__qualname__}.\n\n"
            "    fnlib.compare(model_a, model_b)      # wrong: the networks\n"
            "    fnlib.compare(ledger_a, ledger_b)    # right: what was recorded of them\n"
        )


class UnknownCode(LedgerError, KeyError):
    """``fnlib explain`` was asked for a code that no finding has."""

    def __init__(self, code: str, near: list[str]) -> None:
        super().__init__(
            f"no finding has the code {code!r}.\n\n"
            f"    fnlib explain {code}     # wrong\n"
            f"    fnlib explain {near[0]}     # right; also {', '.join(near[1:])}\n"
        )

    def __str__(self) -> str:  # a KeyError prints its message in quotes
        return str(self.args[0])


class NothingRecorded(LedgerError, RuntimeError):
    """A test asked the fixture ``ledger`` about a recording that it didn't make."""

    def __init__(self) -> None:
        super().__init__(
            "nothing has been recorded in this test.\n\n"
            "    ledger.assert_no_findings()       # wrong: there is no recording\n"
            "    with ledger(model, optimizer):    # right: record first\n"
            "        train(model, optimizer)\n"
        )
