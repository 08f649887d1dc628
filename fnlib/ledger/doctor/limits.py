"""How much of a script is recorded, at a price that has a limit: its first steps, then what is new."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fnlib.ledger.doctor.ending import restored_in_frame, restored_in_module, restores
from fnlib.ledger.doctor.lookout import Lookout
from fnlib.ledger.doctor.report import Seen
from fnlib.ledger.doctor.standing import inspect, seen_in
from fnlib.ledger.entries import UNOWNED, Entry, Finding
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.recording.limits import Limits, Paused
from fnlib.ledger.recording.source import Loop
from fnlib.ledger.recording.tracing import Trace

DULL_STATEMENTS = 300  # a loop whose statements changed nothing so often is passed over: tokenising
DULL_CALLS = 30  # likewise a function that was called so often
PATIENCE = 2000  # more calls of a function that changes values in place: data of the next epoch
FIRST = "before the first optimizer.step()"
ENOUGH = 20  # steps that are recorded in a row, though they take most of the seconds
NEW = 6  # steps that are recorded after something new
PART = 0.6  # of the seconds, for the first steps; then a quarter of the rest at a time
MOST = 0.85  # of the seconds, for the first steps if these are not enough yet

_SET_BY_CODE = ("rate-overwritten", "frozen-weight-with-moments", "frozen-part-in-training-mode")


class ScriptLimits(Limits):
    """Records the first optimizer steps, then a few more after each thing that is new.

    Stops after some seconds of its own work. Looks at models and optimizers as they are after the
    first steps and whenever the recording pauses or stops.

    Args:
        steps: optimizer steps to record in a row.
        seconds: processor time that the recording may cost.
    """

    def __init__(self, *, steps: int, seconds: float) -> None:
        self.most_steps, self.most_seconds = steps, seconds
        self.steps = 0
        self.first = 0  # steps that were recorded in a row, before the first pause
        self.seconds = 0.0  # processor time: on a busy machine the clock would stop it too early
        self.stopped = ""  # why the recording stopped before the script ended
        self.standing: list[Finding] = []
        self.frames: list[FrameType] = []  # of functions that run on, and restore something
        self.objects = Seen()
        self._until, self._dear = steps, PART * seconds  # when the recording pauses
        self._alone = True  # no debugger traces, too
        self._dull: dict[Loop | CodeType, int] = {}
        self._patient: set[CodeType] = set()  # functions that change values in place
        self._lines: dict[int, set[int]] = {}  # that were recorded, by the identity of their code
        self._codes: dict[int, CodeType] = {}  # an identity tells an object only while it lives
        self._rounds: dict[int, dict[int, int]] = {}  # of the loops around the training loop
        self._looped: dict[int, bool] = {}  # entries with a step: whether a loop is around it
        self.lookout = Lookout(
            self._lines, self._rounds, spent=self._pay,
            dull=lambda code: self._dull.get(code, 0) >= DULL_CALLS,
        )  # fmt: skip

    @property
    def left_out(self) -> list[str]:
        """What was not recorded, and why, in sentences."""
        steps = self.lookout.steps
        if self.first and steps:
            option = "--steps" if self.first >= self.most_steps else "--seconds"
            later = self.steps - self.first
            said = (
                f"what ran after {self.first} optimizer steps ({option} records more), except where "
                f"a line, load, round, rate or flag was new: {later} of {later + steps} steps"
            )
            return [f"{said}; {self.stopped}"] if self.stopped else [said]
        return [self.stopped] if self.stopped else []

    def begin(self, keeper: Keeper) -> None:
        """Remember the keeper, which knows what is watched."""
        self._keeper = keeper
        self._alone = sys.gettrace() is None

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
        """Count the statements that change nothing of interest; remember which lines ran."""
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
            if self._dull[loops[-1]] == DULL_STATEMENTS:
                self._ran(code, range(loops[-1].line, loops[-1].last + 1))
        self._ran(code, range(entry.line, entry.end_line + 1))
        self._count_rounds(entry, loops, code)

    def _ran(self, code: CodeType, lines: range) -> None:
        known = self._lines.get(id(code))
        if known is None:
            self._codes[id(code)] = code
            known = self._lines[id(code)] = set()
        if not known.issuperset(lines):
            known.update(lines)
            if self.first:
                self._until = self.steps + NEW

    def _count_rounds(self, entry: Entry, loops: tuple[Loop, ...], code: CodeType) -> None:
        """Remember the loops around the training loop, which is the innermost around a step."""
        inner = [one.index for one in entry.inside if one.index in self._looped]
        looped = any(self._looped[index] for index in inner)
        if not inner and not any(event.kind == "step" for event in entry.events):
            return
        counts = dict(entry.iterations)
        rounds = self._rounds.setdefault(id(code), {})
        for loop in loops if looped else loops[:-1]:
            rounds[loop.line] = max(counts.get(loop.line, 1), rounds.get(loop.line, 0))
        self._looped[entry.index] = looped or bool(loops)

    def stepped(self, steps: int) -> None:
        """Count steps; what main() holds can only be looked at while it runs."""
        self.steps = steps
        if steps == 2:
            self._inspect()

    def spent(self, seconds: float) -> None:
        """Add up the processor time of the recording."""
        self.seconds += seconds

    def over(self) -> bool:
        """Stop after enough seconds; beside another tracer also after enough steps."""
        if self.seconds >= self.most_seconds:
            steps = self.steps + self.lookout.steps
            when = f"after {steps} optimizer steps" if steps else FIRST
            cost = f"{self.most_seconds:g} s of processor time"
            self.stopped = f"stopped recording {when}: it had cost {cost} (--seconds gives more)"
        elif self.steps >= self.most_steps and not self._alone:
            self.stopped = f"what ran after {self.steps} optimizer steps (--steps records more)"
        return bool(self.stopped)

    def pauses(self) -> bool:
        """Pause after the first steps, and after those that follow something new."""
        if not self._alone or not self.steps:
            return False
        least = min(ENOUGH, self.most_steps)
        enough = self.steps >= least or self.seconds >= MOST * self.most_seconds
        return self.steps >= self._until or (enough and self.seconds >= self._dear)

    def paused(self, frames: list[FrameType], recorder: Paused) -> Trace:
        """Look at the objects as they are, and wait for something new."""
        self.stopping(frames)
        self.first = self.first or self.steps
        given = self._objects().values()
        modules = [one for one in given if isinstance(one, nn.Module)]
        stepped = [one for one in given if isinstance(one, Optimizer)]
        if self.steps < self._until:  # the seconds end anywhere, in an evaluation too
            stepped = []
        return self.lookout.begin(frames, recorder, modules, stepped)

    def _pay(self, seconds: float) -> bool:
        """Add up what waiting has cost; says whether something new may be recorded."""
        self.seconds += seconds
        self._until = self.steps + NEW
        self._dear = self.seconds + (self.most_seconds - self.seconds) / 4
        return not self.over()

    def stopping(self, frames: list[FrameType]) -> None:
        """Look at the objects once more, and keep the frames that restore something."""
        trace = sys.gettrace()
        sys.settrace(None)  # the recording is still on, and this is no code of the script
        try:
            self._inspect()
        finally:
            sys.settrace(trace)
        self.frames += [one for one in frames if restores(one) and one not in self.frames]

    def ended(self, source: str, file: str, world: dict[str, Any]) -> None:
        """Look at what the script restored at its end, which no recorded line may show.

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
        doubtful = {("weight-not-in-optimizer", "question")}
        if self.first:  # whether the loop itself has set a rate or thawed a weight is not known
            doubtful |= {(code, "question") for code in _SET_BY_CODE}
        found = inspect(given)
        self.standing += [one for one in found if (one.code, one.severity) not in doubtful]

    def _objects(self) -> dict[str, Any]:
        """Return the models and optimizers that are watched and still exist."""
        values = {one.label: one.value() for one in self._keeper.watches}
        kinds = nn.Module | Optimizer
        return {label: value for label, value in values.items() if isinstance(value, kinds)}
