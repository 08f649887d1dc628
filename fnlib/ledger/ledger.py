"""`Ledger`: a record of which statement changed which state, in ordinary PyTorch code."""

from __future__ import annotations

import sys
from types import CodeType, FrameType, TracebackType
from typing import Any

from fnlib.ledger.entries import STATES, Alias, Entry
from fnlib.ledger.errors import AlreadyRecording, RecordingFailed, UnknownObject, UnknownWatch
from fnlib.ledger.looks.callers import names_for
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.looks.watches import FOLLOWED
from fnlib.ledger.looks.watches import watch as watches_of
from fnlib.ledger.recording.limits import Limits
from fnlib.ledger.recording.recorder import Recorder
from fnlib.ledger.views.view import Recording
from fnlib.torch_private import never_compiled


class Ledger(Recording):
    """Record which statement changes which state, in ordinary PyTorch code.

    Pass the objects to watch; the table calls them by your variables, or by the keywords that you
    give. Without any, the ledger watches the modules, optimizers and schedulers that the recorded
    statements name. Inside the ``with``, every statement is an entry.

    Args:
        positional: objects to watch, called as the variables that hold them.
        objects: modules, optimizers, schedulers, tensors, dicts of tensors, fnlib values, or lists
            of these.
        depth: how many calls deep the statements of called functions are recorded too; 0 is none.
        keep: whether changes keep copies of the tensors (``change.before.value``) beside norms and
            checksums. The bytes of tensors up to 64 KiB are kept anyway, 32 MiB in all, since
            `save` and `replay` draw them.
        watch: kinds of state to watch, all by default: a set of "weight", "gradient", "buffer",
            "optimizer state" ... What is left out costs nothing.
        follow: whether the tensors, dicts of tensors and fnlib values that the statements' names
            are bound to are watched too.
        only: folders or files; code elsewhere counts as a library's, whose statements are not
            recorded. Without any, all that isn't installed is yours.
        limits: decides which calls and loops are recorded, and when the recording pauses or stops.

    Raises:
        UnknownObject: an object is of a kind that the ledger does not know.
        UnknownWatch: ``watch`` names a kind of state that there is not.

    >>> import torch, fnlib
    >>> from fnlib.ledger import Ledger
    >>> weight = torch.ones(2)
    >>> with Ledger(weight=weight) as ledger:
    ...     total = weight.sum()
    ...     weight.mul_(3)
    tensor([3., 3.])
    >>> [(change.label, change.kind) for entry in ledger.entries for change in entry.changes]
    [('total', 'created'), ('weight', 'changed in place')]
    """

    part = False

    def __init__(
        self,
        *positional: Any,
        depth: int = 0,
        keep: bool = False,
        watch: set[str] | None = None,
        follow: bool = True,
        only: tuple[str, ...] = (),
        limits: Limits | None = None,
        **objects: Any,
    ) -> None:
        if positional:
            objects = {**names_for(positional, sys._getframe(1)), **objects}
        for wrong in set(watch or ()) - set(STATES):
            raise UnknownWatch(wrong, STATES)
        keeper = self._keeper = Keeper(keep, frozenset(STATES if watch is None else watch))
        given = set(map(id, objects.values()))
        for name, value in objects.items():
            try:
                found = watches_of(name, value, keeper.weight_label)
            except UnknownObject:
                raise
            except Exception as error:
                keeper.fault(name, error)
                continue
            own = [one for one in found if one.value() is value or id(one.value()) not in given]
            keeper.add(own)
        self.watched: tuple[str, ...] = tuple(objects)
        self.raised: str | None = None
        follow = follow and watch is None
        self._recorder = Recorder(
            keeper, depth=depth, discover=not objects, follow=follow, only=only, limits=limits
        )
        self._started = False

    # --- recording -----------------------------------------------------------------------------

    def __enter__(self) -> Ledger:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__name__") == "contextlib":
            frame = frame.f_back
        self._begin(frame, inside_with=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def run(self, *code: CodeType, namespace: dict[str, Any]) -> None:
        """Record compiled code as a whole: a script, a notebook cell.

        Args:
            code: what ``compile`` returned, one or several that run one after the other.
            namespace: the variables to run it with.

        >>> import torch
        >>> from fnlib.ledger import Ledger
        >>> ledger = Ledger()
        >>> ledger.run(compile("a = torch.ones(2)\\na += 1", "<example>", "exec"), namespace={"torch": torch})
        >>> [(change.label, change.kind) for entry in ledger.entries for change in entry.changes]
        [('a', 'created'), ('a', 'changed in place')]
        """
        self._begin(None, inside_with=False)
        error: BaseException | None = None
        try:
            for part in code:
                exec(part, namespace)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._end(error)

    def _begin(self, frame: FrameType | None, *, inside_with: bool) -> None:
        if self._started:
            raise AlreadyRecording
        self._started = True
        self._recorder.start(frame, inside_with=inside_with)

    def _end(self, error: BaseException | None) -> None:
        self._recorder.stop(error)
        if error is not None:
            self.raised = f"{type(error).__name__}: {error}"
        if self.failure is not None and error is None:
            raise RecordingFailed(self.failure) from self.failure

    # --- reading -------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:  # type: ignore[override]
        """Whether the recording has ended, so that no entry will be added."""
        return self._started and not (self._recorder.on or self._recorder.paused)

    @property
    def failure(self) -> Exception | None:
        """What kept the ledger from recording a statement, the first time; ``None`` if nothing did."""
        return self._recorder.failure

    @property
    def faults(self) -> dict[str, Exception]:
        """What the ledger could not look at, by label, and why; the rest was recorded."""
        return dict(self._keeper.faults)

    @property
    def overhead(self) -> float:
        """Seconds that the recording itself has taken so far."""
        return self._recorder.overhead

    @property
    def entries(self) -> list[Entry]:  # type: ignore[override]
        """One entry for each time a statement ran, in order."""
        return self._recorder.entries

    def walk(self) -> list[Entry]:
        """Return all entries in the order in which they started, those of called functions too."""
        found: list[Entry] = []
        waiting = list(self.entries)
        while waiting:
            entry = waiting.pop()
            found.append(entry)
            waiting.extend(entry.inside)
        return sorted(found, key=lambda entry: entry.index)

    @property
    def aliases(self) -> tuple[Alias, ...]:
        """Who shared storage with whom at the end."""
        return self.entries[-1].aliases if self.entries else self._keeper.sites().aliases()

    @property
    def title(self) -> str:  # type: ignore[override]
        """What was recorded, for the head of the table."""
        watched = ", ".join(
            self.watched
            or dict.fromkeys(one.label for one in self._keeper.watches if one.order < FOLLOWED)
        )
        loops = self.iterations
        runs = f"; {loops} iterations folded, ledger.iteration(1) opens one" if loops > 1 else ""
        return f"Ledger of {watched or 'nothing'}{runs}"

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """What the recording does not cover, in sentences."""
        faults = [
            f"{label} could not be looked at ({type(error).__name__}: {error}), which is a fault of "
            "fnlib; the rest was recorded"
            for label, error in self._keeper.faults.items()
        ]
        unfollowed = [f"{label} {why}" for label, why in self._keeper.unfollowed.items()]
        return [*self._recorder.notes, *unfollowed, *faults]


never_compiled(Ledger.__init__, Ledger.__enter__, Ledger.__exit__)
