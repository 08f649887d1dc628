"""Following the statements of a frame while they run, with the interpreter's own line events.

`Recorder` sets a trace function for the thread and on the frame. Between two statements it looks at all that is
watched (`fnlib.ledger.keeper`), and makes an `Entry` of the statement that has just ended. A tracer that was there before
(a debugger, coverage) is called first and put back at the end.
"""

from __future__ import annotations

import _thread
import gc
import inspect
import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, thread_time
from types import FrameType
from typing import Any, cast

import torch

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.looks.changes import Untold
from fnlib.ledger.looks.content import quietly
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.looks.randomness import RandomState
from fnlib.ledger.looks.sighting import Delta, merge
from fnlib.ledger.recording.bindings import Bindings
from fnlib.ledger.recording.calls import handlers
from fnlib.ledger.recording.graphs import Graph, age_now, graph_of
from fnlib.ledger.recording.limits import Limits
from fnlib.ledger.recording.names import values_along
from fnlib.ledger.recording.source import Loop, Region, Statement, region
from fnlib.ledger.recording.tracing import Outcome, Users, both, forget_locals, raised_text
from fnlib.ledger.recording.tracing import Trace as Trace

_WAITS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


@dataclass(eq=False, slots=True)
class _Open:
    """A statement that is running."""

    entry: Entry
    statement: Statement
    started: float
    overhead: float
    deltas: list[Delta] = field(default_factory=list)
    random: dict[str, None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    passes: list[tuple[dict[str, Any], frozenset[int]]] = field(default_factory=list)
    inside: list[Entry] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Frame:
    """A frame whose statements are recorded."""

    frame: FrameType
    region: Region
    first: dict[Statement, int]
    depth: int
    bindings: Bindings
    before: Trace | None = None
    statement: Statement | None = None
    running: _Open | None = None
    counts: dict[Loop, int] = field(default_factory=dict)


def _builds(frame: FrameType) -> bool:
    """Whether a frame is the ``__init__`` of a module: what it calls sees parts of what is being built."""
    return frame.f_code.co_name == "__init__" and isinstance(
        frame.f_locals.get("self"), torch.nn.Module
    )


class Recorder:
    """Records the statements of one frame, and of the functions that it calls down to a depth."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        depth: int,
        discover: bool,
        follow: bool,
        only: tuple[str, ...] = (),
        limits: Limits | None = None,
    ) -> None:
        self.keeper, self.limits = keeper, limits
        self.depth, self.discover, self.follow, self.users = depth, discover, follow, Users(only)
        self._entries: list[Entry] = []
        self._untold = Untold(keeper.keep)
        keeper.before_renaming = self._untold.tell
        self.notes: list[str] = []
        self.failure: Exception | None = None
        self.on = self._froze = False
        self._deaf = False  # only the calls of interest are listened to: no frame is to be entered, nobody else traces
        self._frames: list[_Frame] = []
        self._building: list[bool] = []  # whether each of these frames builds a module
        self._handlers = handlers()
        self._previous: Trace | None = None
        self._trace: Trace | None = None
        self._random = RandomState() if "random state" in keeper.kinds else None
        self._overhead = self._paused = 0.0
        self._fresh: _Open | None = None  # opened, and its time does not run yet
        self._index = self._order = self._steps = 0
        self._changed_at = -1
        self._ages: list[int] = []
        self._indexes: list[int] = []
        self._threads = 0

    @property
    def entries(self) -> list[Entry]:
        """What was recorded so far."""
        self._tell()
        return self._entries

    def _tell(self) -> None:
        if self._untold:
            with quietly():
                self._untold.tell()

    @property
    def only(self) -> tuple[str, ...]:
        """Folders or files outside of which code counts as a library's; none: wherever the user's code is."""
        return self.users.only

    @only.setter
    def only(self, roots: tuple[str, ...]) -> None:
        self.users = Users(roots)

    # --- start and stop ------------------------------------------------------------------------

    def start(self, frame: FrameType | None, *, inside_with: bool) -> None:
        """Begin with the next statement of a frame; without one, with the first frame of the user's that is called."""
        self._previous = cast("Trace | None", sys.gettrace())
        self._threads = _thread._count()
        self._froze = gc.isenabled() and gc.get_freeze_count() == 0
        if self._froze:
            gc.freeze()  # the many small objects of a recording would have all of PyTorch's searched for garbage
        self.on = True
        if self.limits is not None:
            self._guard(self.limits.begin, self)
        with quietly():
            self.keeper.look()
        if frame is not None:
            self._enter(frame, inside_with=inside_with, before=frame.f_trace)
            frame.f_trace = self._local
        self._guard(lambda: None)  # the time of the first statement runs from here
        self._trace = self._tracer()
        sys.settrace(self._trace)

    def stop(self, error: BaseException | None) -> None:
        """End the last statement and put back the tracer that was there before."""
        if not self.on:
            return
        if self.limits is not None:
            self._guard(self.limits.stopping, [one.frame for one in self._frames])
        self.on = False
        if self._froze:
            gc.unfreeze()
        if sys.gettrace() is not self._trace and self.failure is None:
            self.notes.append(
                "another tracer (a debugger's breakpoint, or sys.settrace) took over; what ran after it is in the last entry"
            )
        sys.settrace(self._previous)
        self._trace = None
        if error is not None and self._frames and (running := self._frames[-1].running) is not None:
            leaves = (
                self._frames[-1].region.span is not None
                and running.entry.line == self._frames[-1].region.span[0]
            )
            if (
                not leaves
            ):  # the `with` that the error passes through on its way out did not raise it
                running.entry.raised = running.entry.raised or raised_text(error)
        while self._frames:
            one = self._frames[-1]
            if self.failure is None:
                self._guard(self._end, one)
            self._frames.pop()
            if len(self._frames) == 0 or one.depth == 0:
                one.frame.f_trace = one.before
                forget_locals(one.frame)
        self._guard(self._tell)
        self.keeper.close()

    def _enter(self, frame: FrameType, *, inside_with: bool, before: Trace | None) -> _Frame:
        found = region(frame, inside_with=inside_with)
        depth = len(self._frames)
        self._building = [*self._building[:depth], _builds(frame)]
        discover = self.discover and frame.f_code.co_name != "__init__" and not any(self._building)
        # what is being built has no name of its own yet, nor have its parts
        bindings = Bindings(self.keeper, found.names, follow=self.follow, discover=discover)
        one = _Frame(frame, found, found.first_offsets(frame.f_code), depth, bindings, before)
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with quietly():
            bindings.begin(frame.f_locals, frame.f_globals)
            self._frames.append(one)
            self._deaf = self.depth == 0 and self._previous is None
            if inside_with:
                header = found.at(frame)
                if not header.has_source:
                    header.kind = "header"  # the `with` itself, as far as it can be told
                self._open(one, header, modes)
        return one

    # --- the interpreter's events --------------------------------------------------------------

    def _tracer(self) -> Trace:
        """The thread's trace function. It is called for every call in the program, so the common answer comes first."""
        get, users = self._handlers.get, self.users.has

        def call(frame: FrameType, event: str, argument: Any) -> Trace | None:
            code = frame.f_code
            handler = get(id(code))
            if handler is None and self._deaf:
                return None
            local: Trace | None = None
            if self.on and self.failure is None:
                if handler is not None:
                    local = self._note(handler, frame)
                elif (self.depth >= len(self._frames) or not self._frames) and users(code):
                    local = self._guard(self._begin, frame)
            previous = self._previous
            if previous is None:
                return local
            inner = previous(frame, event, argument)
            if sys.gettrace() is not call:
                sys.settrace(call)  # coverage puts itself back with each call that it is told of
            return both(inner, local)

        return call

    def _note(self, handler: Callable[..., Any], frame: FrameType) -> Trace | None:
        data = self._guard(handler, self, frame)
        if data is None:
            return None
        frame.f_trace_lines = self._previous is not None
        return Outcome(data)

    def _begin(self, frame: FrameType) -> Trace | None:
        if self.limits is not None and not self.limits.enter(frame.f_code):
            return None
        self._enter(frame, inside_with=False, before=None)
        return self._local

    def _local(self, frame: FrameType, event: str, argument: Any) -> Trace | None:
        """Something happens in a recorded frame: a statement begins, or raises, or the frame ends."""
        one = self._frames[-1] if self._frames and self._frames[-1].frame is frame else None
        if one is None:
            return None
        if self.on and self.failure is None:
            if event == "line":
                self._guard(self._line, one)
            elif event == "exception" and one.running is not None:
                header = one.running.entry.kind == "header"
                leaves = (
                    header
                    and one.region.span is not None
                    and one.running.entry.line == one.region.span[0]
                )
                waits = (
                    frame.f_code.co_flags & _WAITS
                )  # there it ends an ``await`` or ``yield from``, and cannot leave the frame
                if not leaves and not ((header or waits) and argument[0] is StopIteration):
                    one.running.entry.raised = raised_text(argument[1])
            elif event == "return" and one.depth > 0 or (event == "return" and not one.region.span):
                self._guard(self._end, one)
                self._frames.pop()
                self._deaf = self._deaf and bool(self._frames)
        if one.before is not None:
            one.before = one.before(frame, event, argument)
        if event == "line" and self.on and self.limits is not None and self.limits.over():
            self.stop(None)
            return None
        return self._local

    def _guard(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do the ledger's own work; what fails in it must not reach the program that is watched."""
        self._paused = perf_counter()
        begin = 0.0 if self.limits is None else thread_time()
        try:
            return work(*arguments)
        except Exception as error:
            self.failure = error
        finally:
            now = perf_counter()
            self._overhead += now - self._paused
            if self.limits is not None:
                self.limits.spent(thread_time() - begin)
            if self._fresh is not None:
                self._fresh.started, self._fresh.overhead, self._fresh = now, self._overhead, None

    # --- statements ----------------------------------------------------------------------------

    def _line(self, one: _Frame) -> None:
        statement = one.region.at(one.frame)
        at_first = one.frame.f_lasti == one.first.get(statement, -1)
        if statement is one.statement and not at_first:
            return  # a further line of it
        if self.limits is not None and self._passes_over(one, statement, self.limits):
            return
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with quietly():
            self._close(one)
            self._count_loops(one, statement, at_first)
            self._open(one, statement, modes)

    def _passes_over(self, one: _Frame, statement: Statement, limits: Limits) -> bool:
        """Whether the limits leave a statement of a loop to the entry of the one before it."""
        running = one.running
        if running is None or not statement.loops:
            return False
        loop, busy = statement.loops[-1], bool(running.events or running.inside)
        return loop in running.statement.loops and not limits.look(loop, busy)

    def _end(self, one: _Frame) -> None:
        with quietly():
            self._close(one)
        if self.on:
            one.bindings.end()

    def _count_loops(self, one: _Frame, statement: Statement, at_first: bool) -> None:
        """Number the iterations: one more whenever a loop's header or first body statement follows its body."""
        last = one.statement
        for loop in statement.loops:
            is_header = statement.line == loop.line and statement.kind == "header"
            if last is None or loop not in last.loops:
                one.counts[loop] = 1
            elif last.line != loop.line and (
                is_header or (statement.line == loop.first and at_first)
            ):
                one.counts[loop] += 1

    def _open(self, one: _Frame, statement: Statement, modes: tuple[bool, bool]) -> None:
        """A statement is about to run: see which owners it names, as the names stand now."""
        local, world = one.frame.f_locals, one.frame.f_globals
        named: set[str] = set()
        for path in statement.paths:
            for length, value in enumerate(values_along(path, local, world), 1):
                one.bindings.met(path[:length], value)
                named |= self.keeper.owners(value)
        code = one.frame.f_code
        entry = Entry(
            self._index,
            statement.line,
            statement.end_line,
            statement.source,
            statement.kind,
            tuple([(loop.line, one.counts.get(loop, 1)) for loop in statement.loops]),
            statement.reads,
            statement.binds,
            frozenset(named),
            shares_line=statement.shares_line,
            has_source=statement.has_source,
            grad_enabled=modes[0],
            inference=modes[1],
            depth=one.depth,
            links=self.keeper.links,
            file=code.co_filename,
            function=code.co_qualname,
            indent=statement.indent,
        )
        self._ages.append(age_now())
        self._indexes.append(self._index)
        self._index += 1
        one.statement = statement
        one.running = self._fresh = _Open(entry, statement, 0.0, 0.0)

    def _close(self, one: _Frame) -> None:
        """A statement has ended: look at what is watched, and enter what differs."""
        running, one.running = one.running, None
        if running is None:
            return
        entry = running.entry
        entry.seconds = self._paused - running.started - (self._overhead - running.overhead)
        deltas: list[Delta] = []
        moved: list[str] = []
        if not self._only_counts(one, running.statement):
            deltas = self.keeper.look()
            moved = self._random.moved() if self._random is not None else []
        if any(
            delta.before is not None and delta.after is not None and delta.after.copies
            for delta in deltas
        ):
            self._changed_at = age_now()
        if deltas or moved:
            for other in [
                running,
                *[frame.running for frame in self._frames if frame.running is not None],
            ]:
                other.deltas = (
                    merge(other.deltas, deltas)
                    if other.deltas and deltas
                    else other.deltas or deltas
                )
                other.random.update(dict.fromkeys(moved))
        changes = one.bindings.rebound(one.frame.f_locals, one.frame.f_globals)
        if running.passes:
            changes += one.bindings.used_up(running.passes)
        for name in running.random:
            stands = self._random.stands(name) if self._random else None
            changes.append(Change("random", name, "random state", "changed in place", None, stands))
        entry.events, entry.inside = tuple(running.events), tuple(running.inside)
        self._untold.add(entry, running.deltas, changes)
        entry.links, entry.sites = self.keeper.links, self.keeper.sites()
        if self.limits is not None:
            self.limits.closed(entry, running.statement.loops, one.frame.f_code)
        if (count := _thread._count()) > self._threads:
            self._threads = count
            self.notes.append(
                f"line {entry.line} started a thread; its statements are not recorded, and what it changes is put down to "
                "the statement during which it was seen"
            )
        if entry.kind == "header" and not (
            running.deltas or changes or running.events or running.inside or entry.raised
        ):
            return
        outer = (
            [
                frame.running
                for frame in self._frames
                if frame is not one and frame.running is not None
            ]
            if one.depth
            else []
        )
        (outer[-1].inside if outer else self._entries).append(entry)

    def _only_counts(self, one: _Frame, statement: Statement) -> bool:
        """Whether a statement was the header of a loop over a range, taking the next number: nothing of it can change anything."""
        if statement.kind != "header" or not statement.loops or statement.shares_line > 1:
            return False
        loop = statement.loops[-1]
        if (
            not loop.counts or loop.line != statement.line or one.counts.get(loop, 1) == 1
        ):  # at first, its ends are computed
            return False
        return (
            one.frame.f_globals.get("range", range) is range
            and one.frame.f_locals.get("range", range) is range
        )

    # --- what the calls ask --------------------------------------------------------------------

    def event(self, kind: str, subject: str, **data: Any) -> dict[str, Any]:
        """Enter a call into the statement that is running; returns its data, to which a result may be added."""
        running = self._running()
        if running is not None:
            running.events.append(Event(self._order, running.entry.index, kind, subject, data))
            self._order += 1
        return data

    def passed(self, data: dict[str, Any], ages: frozenset[int]) -> None:
        """A backward pass went through the nodes of these ages."""
        for frame in self._frames:
            if frame.running is not None:
                frame.running.passes.append((data, ages))

    def stepped(self) -> None:
        """An optimizer has stepped."""
        self._steps += 1
        if self.limits is not None:
            self.limits.stepped(self._steps)

    def _running(self) -> _Open | None:
        return next(
            (frame.running for frame in reversed(self._frames) if frame.running is not None), None
        )

    def records(self, frame: FrameType | None) -> bool:
        """Whether the statements of a frame are recorded."""
        for one in self._frames:
            if one.frame is frame:
                return True
        return False

    def is_root(self, module: Any) -> bool:
        """Whether a module is itself an owner, not a part of one."""
        for one in self.keeper.watches:
            if one.order:
                return False  # modules come first
            if one.value() is module:
                return True
        return False

    def entry_of_age(self, age: int) -> int:
        """Index of the innermost entry that was running when a node of this age was built; -1: before all of them."""
        at = bisect_right(self._ages, age) - 1
        return self._indexes[at] if at >= 0 else -1

    def changed_since(self, ages: set[int]) -> bool:
        """Whether a watched tensor has changed since the oldest of some nodes was built."""
        return bool(ages) and self._changed_at > min(ages)

    def graph_behind(self, roots: tuple[Any, ...]) -> Graph:
        """What lies behind the tensors that a backward pass begins with; most often it was read when they got their name."""
        if len(roots) == 1:
            for one in reversed(self._frames):
                if (graph := one.bindings.graph_behind(roots[0])) is not None:
                    return graph
        return graph_of(roots)

    def name_of(self, values: tuple[Any, ...]) -> str:
        """The name, in the innermost recorded frame that has one, of a value."""
        for one in reversed(self._frames):
            for name, value in one.frame.f_locals.items():
                if value is values[0]:
                    return name
        return ""
