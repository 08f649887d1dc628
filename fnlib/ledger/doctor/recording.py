"""Recording a script that was not written to be recorded: its first steps, at a price that has a limit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import thread_time
from types import CodeType, FrameType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fnlib.ledger.doctor.ending import restored_in_frame, restored_in_module, restores
from fnlib.ledger.doctor.standing import inspect
from fnlib.ledger.entries import UNOWNED, Finding
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.recording.recorder import Recorder, Trace, _Frame
from fnlib.ledger.recording.source import Loop

DULL_STATEMENTS = 300  # a loop in which so many statements changed nothing watched is passed over: tokenising, shuffling
DULL_CALLS = 30  # likewise a function that was called so often


class ScriptRecorder(Recorder):
    """Discovers what a script trains, and stops by itself after some optimizer steps or some seconds of its own work.

    Args:
        keeper: keeps track of what is watched.
        steps: optimizer steps to record.
        seconds: processor time that the recording itself may cost.
    """

    def __init__(self, keeper: Keeper, *, steps: int, seconds: float) -> None:
        super().__init__(keeper, depth=50, discover=True, follow=True)
        self.steps, self.seconds = steps, seconds
        self.standing: list[Finding] = []
        self.stopped_early = False
        self._spent = 0.0  # processor time: on a busy machine the clock would end a recording that has hardly begun
        self._kept: list[
            FrameType
        ] = []  # functions that run on when the recording stops, and restore something
        self._dull: dict[Loop | CodeType, int] = {}
        os.register_at_fork(
            after_in_child=self._let_go
        )  # a worker that was forked off is not ours to watch

    def _let_go(self) -> None:
        if self.on:
            self.on = False
            sys.settrace(None)

    def _guard(self, work: Callable[..., Any], *arguments: Any) -> Any:
        begin = thread_time()
        try:
            return super()._guard(work, *arguments)
        finally:
            self._spent += thread_time() - begin

    def stop(self, error: BaseException | None) -> None:
        if self.on:
            self._guard(self._inspect)
            self._kept = [one.frame for one in self._frames if restores(one.frame)]
        super().stop(error)

    def ended(self, source: str, file: str, world: dict[str, Any]) -> None:
        """The script has ended: look at what it restored, which the first steps cannot show.

        Args:
            source: of the script.
            file: its name.
            world: the variables of its module.
        """
        self._guard(self._look_at_the_end, source, file, world)
        self._kept = []

    def _look_at_the_end(self, source: str, file: str, world: dict[str, Any]) -> None:
        self.standing += restored_in_module(source, file, world)
        for frame in self._kept:
            self.standing += restored_in_frame(frame)

    def stepped(self) -> None:
        super().stepped()
        if self._steps == 2:  # what main() holds is gone when the script has ended
            self._inspect()

    def _inspect(self) -> None:
        """Look at the models and optimizers as they stand; of snapshots the recording itself knows more."""
        given = {
            one.label: value
            for one in self.keeper.watches
            if isinstance(value := one.value(), (nn.Module, Optimizer))
        }
        found = inspect(given)
        # Models that no name stands for are not discovered: that an optimizer holds tensors of none is then no evidence.
        self.standing += [
            one
            for one in found
            if (one.code, one.severity) != ("weight-not-in-optimizer", "question")
        ]

    def _begin(self, frame: FrameType) -> Trace | None:  # type: ignore[override]
        calls = self._dull.get(frame.f_code, 0)
        if calls >= DULL_CALLS:
            return None
        self._dull[frame.f_code] = calls + 1
        return super()._begin(frame)

    def _local(self, frame: FrameType, event: str, argument: Any) -> Trace | None:
        local = super()._local(frame, event, argument)
        if (
            self.on
            and event == "line"
            and (self._steps >= self.steps or self._spent >= self.seconds)
        ):
            self.stopped_early = self._steps == 0
            self.stop(None)
            return None
        return local

    def _line(self, one: _Frame) -> None:
        loops = one.region.at(one.frame).loops
        if (
            loops
            and self._dull.get(loops[-1], 0) >= DULL_STATEMENTS
            and one.running is not None
            and loops[-1] in one.running.statement.loops
        ):
            if not one.running.events and not one.running.inside:
                return
            self._dull.pop(loops[-1])  # something happened in it after all
        super()._line(one)

    def _close(self, one: _Frame) -> None:
        running = one.running
        super()._close(one)
        if running is None:
            return
        entry = running.entry
        dull = (
            not entry.events
            and not entry.inside
            and all(change.state in UNOWNED or change.state == "value" for change in entry.changes)
        )
        loops = running.statement.loops
        if not dull:
            self._dull.update(dict.fromkeys((*loops, one.frame.f_code), -sys.maxsize))
        elif loops:
            self._dull[loops[-1]] = self._dull.get(loops[-1], 0) + 1
