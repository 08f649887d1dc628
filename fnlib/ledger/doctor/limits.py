"""How much of a script is recorded: its first optimizer steps, at a price that has a limit."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fnlib.ledger.doctor.ending import restored_in_frame, restored_in_module, restores
from fnlib.ledger.doctor.report import Seen
from fnlib.ledger.doctor.standing import inspect, seen_in
from fnlib.ledger.entries import UNOWNED, Entry, Finding
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.recording.limits import Limits
from fnlib.ledger.recording.source import Loop

DULL_STATEMENTS = 300  # a loop whose statements changed nothing so often is passed over: tokenising
DULL_CALLS = 30  # likewise a function that was called so often
PATIENCE = 2000  # more calls of a function that changes values in place: data of the next epoch
FIRST = "before the first optimizer.step()"


class ScriptLimits(Limits):
    """Stops after some optimizer steps, or some seconds of the recording's own work.

    Looks at models and optimizers as they are after the first steps and when the recording stops.

    Args:
        steps: optimizer steps to record.
        seconds: processor time that the recording may cost.
    """

    def __init__(self, *, steps: int, seconds: float) -> None:
        self.most_steps, self.most_seconds = steps, seconds
        self.steps = 0
        self.seconds = 0.0  # processor time: on a busy machine the clock would stop it too early
        self.stopped = ""  # why the recording stopped before the script ended
        self.standing: list[Finding] = []
        self.frames: list[FrameType] = []  # of functions that run on, and restore something
        self.objects = Seen()
        self._dull: dict[Loop | CodeType, int] = {}
        self._patient: set[CodeType] = set()  # functions that change values in place

    def begin(self, keeper: Keeper) -> None:
        """Remember the keeper, which knows what is watched."""
        self._keeper = keeper

    def enter(self, code: CodeType) -> bool:
        """Pass over a function that changed nothing in many calls."""
        calls = self._dull.get(code, 0)
        self._dull[code] = calls + 1
        return calls < DULL_CALLS

    def look(self, loop: Loop, busy: bool) -> bool:
        """Pass over a loop that changed nothing in many statements."""
        if self._dull.get(loop, 0) < DULL_STATEMENTS:
            return True
        if busy:  # something happens in it after all
            del self._dull[loop]
        return busy

    def closed(self, entry: Entry, loops: tuple[Loop, ...], code: CodeType) -> None:
        """Count the statements that change nothing of interest."""
        dull = all(change.state in UNOWNED or change.state == "value" for change in entry.changes)
        if not self.objects.models and any(one.kind == "backward" for one in entry.events):
            self.objects = seen_in(self._objects())  # a loop without optimizer ends unseen
        if not (dull and not entry.events and not entry.inside):
            self._dull.update(dict.fromkeys((*loops, code), -sys.maxsize))
        elif code not in self._patient and any(
            change.state == "value" and change.overwritten for change in entry.changes
        ):
            self._patient.add(code)
            self._dull[code] = -PATIENCE
        elif loops:
            self._dull[loops[-1]] = self._dull.get(loops[-1], 0) + 1

    def stepped(self, steps: int) -> None:
        """Count steps; what main() holds can only be looked at while it runs."""
        self.steps = steps
        if steps == 2:
            self._inspect()

    def spent(self, seconds: float) -> None:
        """Add up the processor time of the recording."""
        self.seconds += seconds

    def over(self) -> bool:
        """Stop after enough steps or seconds."""
        if self.steps >= self.most_steps:
            rest = f"what ran after {self.steps} optimizer steps (--steps records more)"
            self.stopped = f"{rest}, except aliases loaded at the end"
        elif self.seconds >= self.most_seconds:
            when = f"after {self.steps} optimizer steps" if self.steps else FIRST
            cost = f"{self.most_seconds:g} s of processor time"
            self.stopped = f"stopped recording {when}: it had cost {cost} (--seconds gives more)"
        return bool(self.stopped)

    def stopping(self, frames: list[FrameType]) -> None:
        """Look at the objects once more, and keep the frames that restore something."""
        trace = sys.gettrace()
        sys.settrace(None)  # the recording is still on, and this is no code of the script
        try:
            self._inspect()
        finally:
            sys.settrace(trace)
        self.frames = [frame for frame in frames if restores(frame)]

    def ended(self, source: str, file: str, world: dict[str, Any]) -> None:
        """Look at what the script restored at its end, which the first steps don't show.

        Args:
            source: of the script.
            file: its name.
            world: the variables of its module.
        """
        self.standing += restored_in_module(source, file, world)
        for frame in self.frames:
            self.standing += restored_in_frame(frame)
        self.frames = []

    def _inspect(self) -> None:
        given = self._objects()
        if given:
            self.objects = seen_in(given)
        # A model that no name is bound to is not found, so that nobody's tensors are no evidence.
        doubtful = ("weight-not-in-optimizer", "question")
        found = inspect(given)
        self.standing += [one for one in found if (one.code, one.severity) != doubtful]

    def _objects(self) -> dict[str, Any]:
        """Return the models and optimizers that are watched and still exist."""
        values = {one.label: one.value() for one in self._keeper.watches}
        kinds = nn.Module | Optimizer
        return {label: value for label, value in values.items() if isinstance(value, kinds)}
