"""What a recording may record, and when it pauses or stops: a recorder asks its limits."""

from __future__ import annotations

from types import CodeType, FrameType
from typing import Protocol

from fnlib.ledger.entries import Entry
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.recording.source import Loop
from fnlib.ledger.recording.tracing import Trace


class Paused(Protocol):
    """A recorder that records nothing at the moment."""

    failure: Exception | None

    def resume(self, frame: FrameType, *, at_line: bool) -> Trace: ...
    def stop(self, error: BaseException | None, *, inside: bool = False) -> None: ...


class Limits:
    """Answer what a recorder asks; this class sets no limit, a subclass overrides what it needs.

    A fault in a method is the ledger's, and doesn't reach the recorded program.
    """

    def begin(self, keeper: Keeper) -> None:
        """Take the keeper of what is watched: the recording begins."""

    def enter(self, code: CodeType) -> bool:
        """Say whether to record the statements of a function that is called."""
        return True

    def look(self, loop: Loop, busy: bool) -> bool:
        """Say whether to look after the next statement of a loop.

        Args:
            loop: the innermost loop around the statement that ran and the one that runs next.
            busy: whether the statement that ran made a call of interest, or recorded calls.
        """
        return True

    def closed(self, entry: Entry, loops: tuple[Loop, ...], code: CodeType) -> None:
        """Take note of an entry that was made, with the loops around its statement and its code."""

    def stepped(self, steps: int) -> None:
        """Take note that an optimizer is about to step for this many times now."""

    def spent(self, seconds: float) -> None:
        """Take note of processor time that the ledger's own work took."""

    def over(self) -> bool:
        """Say whether the recording stops now; asked before each statement."""
        return False

    def pauses(self) -> bool:
        """Say whether the recording pauses now; asked before each statement."""
        return False

    def paused(self, frames: list[FrameType], recorder: Paused) -> Trace | None:
        """Return a trace function for the thread, which may have the recorder go on.

        Args:
            frames: that were recorded, outermost first; each needs a trace function of its own.
            recorder: which records nothing until its `resume` is called.
        """
        return None

    def stopping(self, frames: list[FrameType]) -> None:
        """Look at what is watched before the recording stops; ``frames`` still run."""
