"""After the first steps, a lookout waits for what the recording has not seen yet, and has it go on.

Most steps of a run repeat the first ones, so recording them again shows nothing. What is new shows
itself by a line that has not run, a load, an optimizer that is built, a new round of a loop around
the training loop, or a flag or rate that is another one at a step. Then a few steps are recorded.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fnlib.ledger.recording.calls import Handler, handlers, load, optimizer_built, step
from fnlib.ledger.recording.limits import Paused
from fnlib.ledger.recording.tracing import Trace, Users
from fnlib.torch_private import never_compiled

ROUNDS = 3  # of a loop, and calls from one line, that are recorded; later the 4th, 8th, 16th ...
EVENT = 1.5e-6  # seconds that an event of the interpreter costs: 1 to 2 ms a step of a small CNN
MANY = 1 << 16  # events after which their cost is added up


class Lookout:
    """A trace function that does nothing until something new happens.

    Args:
        seen: lines that were recorded, by the identity of their code.
        rounds: how often the loops around the training loop have begun, by header and code.
        dull: says whether a function has changed nothing in many calls.
        spent: takes the seconds that the lookout has cost; says whether to go on.
    """

    def __init__(
        self,
        seen: dict[int, set[int]],
        rounds: dict[int, dict[int, int]],
        *,
        dull: Callable[[CodeType], bool],
        spent: Callable[[float], bool],
    ) -> None:
        self.seen, self.rounds, self.dull = seen, rounds, dull
        self.spent = spent
        self.steps = 0  # that were not recorded
        self._users = Users()
        self._events = 0
        self._times: dict[Any, int] = {}
        self._states: dict[int, set[Any]] = {}
        self._recorder: Paused  # given by begin
        self._known: dict[int, Trace | None] = {}
        self._codes: list[CodeType] = []  # an identity tells an object only while it lives
        new = (load, optimizer_built, step)
        self._calls = {key: one for key, one in handlers().items() if one in new}
        self._parts: list[weakref.ref[nn.Module]] = []

    def begin(
        self,
        frames: list[FrameType],
        recorder: Paused,
        modules: Iterable[nn.Module],
        stepped: Iterable[Optimizer],
    ) -> Trace:
        """Wait from now on.

        Args:
            frames: that were recorded.
            recorder: which records nothing until something is new.
            modules: that are watched.
            stepped: optimizers, if the flags, modes and rates are still those of their last step.

        Returns:
            The trace function of the thread.
        """
        self._recorder = recorder
        self._known, self._codes = {}, []
        self._parts = [weakref.ref(part) for one in modules for part in one.modules()]
        for optimizer in stepped:
            self._states.setdefault(id(optimizer), set()).add(self._state(optimizer))
        for frame in frames:
            frame.f_trace = self._meet(frame.f_code)
        return self._tracer()

    def _tracer(self) -> Trace:
        known, calls = self._known, self._calls

        def call(frame: FrameType, event: str, argument: Any) -> Trace | None:
            key = id(frame.f_code)
            self._events += 1
            if key in calls:
                return self._guard(self._called, calls[key], frame, argument)
            if key in known:
                return known[key]
            return self._guard(self._meet, frame.f_code)

        never_compiled(call)
        return call

    def _guard(self, work: Callable[..., Any], *given: Any) -> Any:
        """Do the lookout's own work, and keep what fails in it from the program."""
        try:
            return work(*given)
        except Exception as error:
            self._recorder.failure = self._recorder.failure or error
            return None

    def _meet(self, code: CodeType) -> Trace | None:
        """Return what follows the lines of a function; ``None`` if it has no new ones to come."""
        key = id(code)
        local: Trace | None = None
        if self._users.has(code) and not self.dull(code):
            lines = {line for *_, line in code.co_lines() if line} - {code.co_firstlineno}
            if code.co_name == "<module>":
                lines.add(code.co_firstlineno)
            new = (lines - self.seen.get(key, set())) | self.rounds.get(key, {}).keys()
            local = self._follow(key, new) if new else None
        self._known[key] = local
        self._codes.append(code)
        return local

    def _follow(self, key: int, new: set[int]) -> Trace:
        def line(frame: FrameType, event: str, argument: Any) -> Trace | None:
            self._events += 1
            if event == "line" and frame.f_lineno in new:
                rounds = self.rounds.get(key, {})
                again = frame.f_lineno in rounds
                if not again:
                    new.discard(frame.f_lineno)
                    self.seen.setdefault(key, set()).add(frame.f_lineno)
                if not again or self._is_rare(rounds, frame.f_lineno):
                    return self._guard(self._go_on, frame)
            elif self._events > MANY and not self._guard(self._add_up):
                return None
            return line

        never_compiled(line)
        return line

    @staticmethod
    def _is_rare(times_of: dict[Any, int], key: Any) -> bool:
        """Say whether to record this time: the first three, and then ever more seldom."""
        times = times_of[key] = times_of.get(key, 0) + 1
        return times <= ROUNDS or times & (times - 1) == 0

    def _go_on(self, frame: FrameType) -> Trace | None:
        """Record the line that a frame is about to run, and what follows."""
        if not self._add_up():
            return None
        self._recorder.resume(frame, at_line=True)
        return frame.f_trace and frame.f_trace(frame, "line", None)

    def _called(self, kind: Handler, frame: FrameType, argument: Any) -> Trace | None:
        """Judge a call of interest; record it if it is something new."""
        caller = frame.f_back
        while caller is not None and not self._users.has(caller.f_code):
            caller = caller.f_back
        if caller is None:
            return None
        if kind is step:
            self.steps += 1
            rare = self._has_changed(frame)
        else:
            rare = self._is_rare(self._times, (kind, id(caller.f_code), caller.f_lineno))
        if rare and self._add_up():
            self.steps -= kind is step  # it is recorded
            trace = self._recorder.resume(caller, at_line=False)
            return trace(frame, "call", argument)
        return None

    def _has_changed(self, frame: FrameType) -> bool:
        """Say whether flags, modes or rates are others than at any step of this optimizer."""
        here = frame.f_locals
        given = here.get("args") or (here.get("self"),)
        optimizer = given[0]
        if not isinstance(optimizer, Optimizer):
            return False
        state = self._state(optimizer)
        states = self._states.setdefault(id(optimizer), {state})
        new = state not in states
        states.add(state)
        return new and self._is_rare(self._times, id(optimizer))

    def _state(self, optimizer: Optimizer) -> tuple[Any, ...]:
        parts = [part for one in self._parts if (part := one()) is not None]
        rates = [group.get("lr") for group in optimizer.param_groups]
        return (
            tuple([part.training for part in parts]),
            tuple([_trained(part) for part in parts]),
            tuple([isinstance(one, int | float) and one == 0 for one in rates]),
        )

    def _add_up(self) -> bool:
        """Count what the events have cost; says whether to go on."""
        events, self._events = self._events, 0
        if self.spent(events * EVENT):
            return True
        self._recorder.stop(None, inside=True)
        return False


def _trained(part: nn.Module) -> tuple[bool, ...]:
    """Return which of a part's own weights take a gradient."""
    weights = part.__dict__.get("_parameters", {}).values()
    return tuple([one.requires_grad for one in weights if one is not None])
