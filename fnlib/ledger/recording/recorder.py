"""Recording the statements of a frame while they run, with the interpreter's own line events.

`Recorder` sets a trace function for the thread and on the frame. Between two statements it looks at
all that is watched, and makes an `Entry` of the statement that has just ended. A tracer that was
there before (a debugger, coverage) is called first and put back at the end.

Nothing that fails here reaches the program. A fault in looking at one object is noted under its
label (``keeper.faults``), and one that costs a statement's entry in ``failure``; recording goes on.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, thread_time
from types import FrameType
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.looks.randomness import RandomState
from fnlib.ledger.looks.sighting import Delta, Pending, merge
from fnlib.ledger.looks.watches import SCALAR
from fnlib.ledger.recording.calls import handlers
from fnlib.ledger.recording.graphs import Graph, graph_of
from fnlib.ledger.recording.hidden import NOWHERE, hidden_in
from fnlib.ledger.recording.limits import Limits
from fnlib.ledger.recording.names import Names, Scope
from fnlib.ledger.recording.source import Loop, Region, Statement, region
from fnlib.ledger.recording.tracing import Outcome, Trace, Users, both, forget_locals, raised_text
from fnlib.torch_private import never_compiled, next_age, quietly, thread_count, users_threads

LOOSE = 100  # weights of no module whose place is looked for
_WAITS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


@dataclass(eq=False, slots=True)
class _Open:
    """A statement that is running."""

    entry: Entry
    statement: Statement
    started: float = 0.0
    overhead: float = 0.0
    deltas: list[Delta] = field(default_factory=list)
    random: dict[str, None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    passes: list[tuple[dict[str, Any], frozenset[int]]] = field(default_factory=list)
    inside: list[Entry] = field(default_factory=list)
    ends: list[weakref.ref[Any]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Frame:
    """A frame whose statements are recorded."""

    frame: FrameType
    region: Region
    first: dict[Statement, int]
    depth: int
    scope: Scope
    names: Names
    before: Trace | None = None
    statement: Statement | None = None
    running: _Open | None = None
    counts: dict[Loop, int] = field(default_factory=dict)

    def leaves(self) -> bool:
        """Say whether the statement that runs is the ``with`` that is being left."""
        span, running = self.region.span, self.running
        return span is not None and running is not None and running.entry.line == span[0]


class Recorder:
    """Records the statements of one frame, and of the functions that it calls down to a depth.

    Args:
        keeper: of what is watched.
        depth: how many calls deep statements are recorded.
        discover: whether modules, optimizers and schedulers that statements name are watched.
        follow: whether the tensors and values that names are bound to are watched.
        only: folders or files outside of which code counts as a library's.
        limits: asked what to record and when to stop.
    """

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
        self._pending = Pending(keeper.keep)
        self.notes: list[str] = []
        self.failure: Exception | None = None
        self.overhead = 0.0  # seconds that the recording itself has taken
        self.on = self.paused = self._froze = False
        self._gap: Entry | None = None
        self._root: FrameType | None = None
        self._deaf = False  # only calls of interest matter: no frame is to be entered
        self._frames: list[_Frame] = []
        self._building: list[bool] = []  # whether each of these frames builds a module
        self._handlers = handlers()
        self._previous: Trace | None = None
        self._trace: Trace | None = None
        self._random = RandomState() if "random state" in keeper.kinds else None
        self._paused = 0.0
        self._fresh: _Open | None = None  # opened, and its time does not run yet
        self._index = self._order = self._steps = 0
        self._changed_at = -1
        self._ages: list[int] = []
        self._indexes: list[int] = []
        self._threads = 0
        self._loose: dict[int | None, str] = {}

    @property
    def entries(self) -> list[Entry]:
        """What was recorded so far."""
        self._settle()
        return self._entries

    def _settle(self) -> None:
        with quietly():
            self._pending.settle()

    def _release(self) -> None:
        with quietly():
            self._pending.close()

    # --- start and stop ------------------------------------------------------------------------

    def start(self, frame: FrameType | None, *, inside_with: bool) -> None:
        """Begin with the next statement of a frame; without one, with the user's first call."""
        self._previous = cast("Trace | None", sys.gettrace())
        self._threads = users_threads()
        self._froze = gc.isenabled() and gc.get_freeze_count() == 0
        if self._froze:
            gc.freeze()  # the many small objects would have all of PyTorch searched for garbage
        self.on = True
        _running.add(self)
        if self.limits is not None:
            self._guard(self.limits.begin, self.keeper)
        self._guard(self._look_at_first)
        if frame is not None:
            self._guard(self._enter, frame, inside_with, frame.f_trace)
            frame.f_trace = self._local
        self._guard(lambda: None)  # the time of the first statement runs from here
        self._trace = self._tracer()
        sys.settrace(self._trace)

    def _look_at_first(self) -> None:
        with quietly():
            self.keeper.look()

    def stop(self, error: BaseException | None, *, inside: bool = False) -> None:
        """End the last statement and put back the tracer that was there before.

        Args:
            error: with which the recorded code ends.
            inside: whether a trace function asks; Python then writes its copy of the frame's
                variables back, so the copy must not be emptied.
        """
        if not (self.on or self.paused):
            return
        if self.limits is not None:
            self._guard(self.limits.stopping, [one.frame for one in self._frames])
        self.on, self.paused, self._root = False, False, None
        _running.discard(self)
        if self._froze:
            gc.unfreeze()
        if sys.gettrace() is not self._trace:
            self.notes.append(
                "another tracer (a debugger's breakpoint, or sys.settrace) took over; "
                "what ran after it is in the last entry"
            )
        sys.settrace(self._previous)
        self._trace = None
        if error is not None and self._frames and (running := self._frames[-1].running) is not None:
            if not self._frames[-1].leaves():  # the `with` that an error passes did not raise it
                running.entry.raised = running.entry.raised or raised_text(error)
        while self._frames:
            one = self._frames[-1]
            self._guard(self._end, one)
            self._frames.pop()
            if len(self._frames) == 0 or one.depth == 0:
                one.frame.f_trace = one.before
                if not inside:
                    forget_locals(one.frame)
        self._guard(self._release)
        self.keeper.close()

    # --- pause and go on -----------------------------------------------------------------------

    def pause(self) -> None:
        """Record nothing until `resume`; an entry of the kind "gap" marks what is left out."""
        frames = [one.frame for one in self._frames]
        self._frames[-1].running = None  # it is about to run, and belongs to the gap
        while self._frames:
            self._guard(self._end, self._frames[-1])
            self._frames.pop()
        self.on, self.paused = False, True
        self._root = self._root or frames[0]
        self._guard(self._release)
        self._guard(self.keeper.rest)
        self._gap = Entry(self._index, 0, 0, "<not recorded>", "gap", has_source=False)
        self._gap.links = self.keeper.links
        self._entries.append(self._gap)
        self._ages.append(next_age())
        self._indexes.append(self._index)
        self._index += 1
        assert self.limits is not None
        self._trace = self._guard(self.limits.paused, frames, self)
        sys.settrace(self._trace)

    def resume(self, frame: FrameType, *, at_line: bool) -> Trace:
        """Go on recording in a frame and in those that called it.

        Args:
            frame: the innermost of the program's frames.
            at_line: whether it is about to run a statement; else it runs one.

        Returns:
            The trace function of the thread.
        """
        self.on, self.paused = True, False
        self._guard(self._go_on, frame, at_line)
        self._trace = self._tracer()
        sys.settrace(self._trace)
        return self._trace

    def _go_on(self, frame: FrameType, at_line: bool) -> None:
        with quietly():
            self.keeper.wake()
        if self._random is not None:
            self._random.moved()
        if self._gap is not None:
            self._gap.links = self.keeper.links
        chain: list[FrameType] = []
        back: FrameType | None = frame
        while back is not None:
            if back is self._root or self.users.has(back.f_code):
                chain.append(back)
            back = None if back is self._root else back.f_back
        for here in chain[: -self.depth - 2 : -1]:
            one = self._enter(here, False, None)
            here.f_trace = self._local
            if here is not frame or not at_line:
                statement = one.region.at(here)
                modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
                with quietly():
                    self._count_loops(one, statement, False)
                    self._open(one, statement, modes)
                if one.running is not None:  # how long it has run is not known
                    one.running.started, one.running.overhead = self._paused, self.overhead

    def abandon(self) -> None:
        """Stop without another look: this process was forked off from the recorded one."""
        self.on = self.paused = False
        if sys.gettrace() is self._trace:
            sys.settrace(None)

    def _enter(self, frame: FrameType, inside_with: bool, before: Trace | None) -> _Frame:
        found = region(frame, inside_with=inside_with)
        depth, scope = len(self._frames), Scope(frame)
        self._building = [*self._building[:depth], _builds(frame, nn.Module)]
        # What is being built has no name of its own yet, nor have its parts.
        in_init = _builds(frame, nn.Module, Optimizer) or any(self._building)
        discover = self.discover and not in_init
        names = Names(self.keeper, scope, found.names, follow=self.follow, discover=discover)
        first = found.first_offsets(frame.f_code)
        one = _Frame(frame, found, first, depth, scope, names, before)
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with quietly():
            names.begin()
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
        """Make the thread's trace function; every call in the program calls it."""
        get, users = self._handlers.get, self.users.has

        def call(frame: FrameType, event: str, argument: Any) -> Trace | None:
            code = frame.f_code
            handler = get(id(code))
            if handler is None and self._deaf:
                return None
            local: Trace | None = None
            if self.on:
                if handler is not None:
                    local = self._note(handler, frame)
                elif (self.depth >= len(self._frames) or not self._frames) and users(code):
                    local = self._guard(self._begin, frame)
            previous = self._previous
            if previous is None:
                return local
            inner = previous(frame, event, argument)
            if sys.gettrace() is not call:
                sys.settrace(call)  # coverage puts itself back with each call that it sees
            return both(inner, local)

        never_compiled(call)
        return call

    def _note(self, handler: Callable[..., Any], frame: FrameType) -> Trace | None:
        data = self._guard(self._ask, handler, frame)
        if data is None:
            return None
        frame.f_trace_lines = self._previous is not None
        return data if isinstance(data, Outcome) else Outcome(data)

    def _ask(self, handler: Callable[..., Any], frame: FrameType) -> Any:
        try:
            return handler(self, frame)
        except Exception as error:
            self.keeper.fault(f"a call of {frame.f_code.co_name}", error)
            return None

    def _begin(self, frame: FrameType) -> Trace | None:
        if self.limits is not None and not self.limits.enter(frame.f_code):
            return None
        self._draws_before()
        self._enter(frame, False, None)
        return self._local

    def _draws_before(self) -> None:
        """Put what was drawn before a call down to the statement that runs, not to the function's."""
        if self._random is None or not self._frames:
            return
        with quietly():
            for name in self._random.moved():
                for one in self._frames:
                    if one.running is not None:
                        one.running.random[name] = None

    def _local(self, frame: FrameType, event: str, argument: Any) -> Trace | None:
        """Handle an event of a recorded frame: a line, an exception, its end."""
        one = self._frames[-1] if self._frames and self._frames[-1].frame is frame else None
        if one is None:
            return None
        if self.on:
            if event == "line":
                self._guard(self._line, one)
            elif event == "exception" and one.running is not None:
                header = one.running.entry.kind == "header"
                # There it ends an `await` or `yield from`, and cannot leave the frame.
                waits = frame.f_code.co_flags & _WAITS
                stops = (header or waits) and argument[0] is StopIteration
                if not (header and one.leaves()) and not stops:
                    one.running.entry.raised = raised_text(argument[1])
            elif event == "return" and (one.depth > 0 or not one.region.span):
                self._guard(self._end, one)
                self._frames.pop()
                self._deaf = self._deaf and bool(self._frames)
        if one.before is not None:
            one.before = one.before(frame, event, argument)
        if event == "line" and self.on and self.limits is not None:
            if self._guard(self.limits.over):
                self.stop(None, inside=True)
                return None
            if self._guard(self.limits.pauses):
                self.pause()
                local = frame.f_trace
                return None if local is None else local(frame, event, argument)
        return self._local

    def _guard(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do the ledger's own work: time it, and keep what fails in it from the program."""
        self._paused = perf_counter()
        begin = 0.0 if self.limits is None else thread_time()
        try:
            return work(*arguments)
        except Exception as error:
            self.failure = self.failure or error
        finally:
            now = perf_counter()
            self.overhead += now - self._paused
            if self.limits is not None:
                self.limits.spent(thread_time() - begin)
            if self._fresh is not None:
                self._fresh.started, self._fresh.overhead, self._fresh = now, self.overhead, None

    def _try(self, label: str, otherwise: Callable[[], Any], work: Any, *given: Any) -> Any:
        """Do one part of the work on a statement; what fails in it is noted under a label."""
        try:
            return work(*given)
        except Exception as error:
            self.keeper.fault(label, error)
            return otherwise()

    # --- statements ----------------------------------------------------------------------------

    def _line(self, one: _Frame) -> None:
        statement = one.region.at(one.frame)
        at_first = one.frame.f_lasti == one.first.get(statement, -1)
        if statement is one.statement and not at_first:
            return  # a further line of it
        if self.limits is not None and self._passes_over(one, statement, self.limits):
            return
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        one.scope.renew()
        with quietly():
            self._close(one)
            self._count_loops(one, statement, at_first)
            self._open(one, statement, modes)

    def _passes_over(self, one: _Frame, statement: Statement, limits: Limits) -> bool:
        """Say whether the limits leave a loop's statement to the entry of the one before it."""
        running = one.running
        if running is None or not statement.loops:
            return False
        loop, busy = statement.loops[-1], bool(running.events or running.inside)
        return loop in running.statement.loops and not limits.look(loop, busy)

    def _end(self, one: _Frame) -> None:
        one.scope.renew()
        with quietly():
            self._close(one)
        if self.on:
            one.names.end()

    def _count_loops(self, one: _Frame, statement: Statement, at_first: bool) -> None:
        """Number the iterations: one more when a header or first statement follows the body."""
        last = one.statement
        for loop in statement.loops:
            is_header = statement.line == loop.line and statement.kind == "header"
            again = is_header or (statement.line == loop.first and at_first)
            if last is None or loop not in last.loops:
                one.counts[loop] = 1
            elif last.line != loop.line and again:
                one.counts[loop] += 1

    def _open(self, one: _Frame, statement: Statement, modes: tuple[bool, bool]) -> None:
        """Open a statement that is about to run, and see which owners it names now."""
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
            self._named(one, statement),
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
        self._ages.append(next_age())
        self._indexes.append(self._index)
        self._index += 1
        one.statement = statement
        one.running = self._fresh = _Open(entry, statement)

    def _named(self, one: _Frame, statement: Statement) -> frozenset[str]:
        named: set[str] = set()
        names, owners = one.names, self.keeper.owners
        for path in statement.paths:
            try:
                for length, value in enumerate(one.scope.along(path), 1):
                    if type(value) in SCALAR:
                        continue  # nobody's
                    if names.discover:
                        names.met(path[:length], value)
                    named |= owners(value)
            except Exception as error:
                self.keeper.fault(str(path[0]), error)
        return frozenset(named)

    def _close(self, one: _Frame) -> None:
        """End a statement: look at what is watched, and enter what differs."""
        running, one.running = one.running, None
        if running is None:
            return
        entry, keeper = running.entry, self.keeper
        entry.seconds = self._paused - running.started - (self.overhead - running.overhead)
        if not self._only_counts(one, running.statement):
            self._look(running)
        changes: list[Change] = self._try("names", list, one.names.rebound)
        if "torch" in running.random:
            self._try("contents", type(None), one.names.drawn, changes)
        if running.passes:
            begun = self._ages[bisect_left(self._indexes, entry.index)]
            changes += self._try("graphs", list, one.names.used_up, running.passes, begun)
        for name in running.random:
            stands = None if self._random is None else self._random.stands(name)
            changes.append(Change("random", name, "random state", "changed in place", None, stands))
        entry.events, entry.inside = tuple(running.events), tuple(running.inside)
        self._pending.add(entry, running.deltas, changes)
        entry.links = keeper.links
        if (sites := self._try("aliases", type(None), keeper.sites)) is not None:
            entry.sites = sites.aliases
        self._watch_threads(entry)
        if self.limits is not None:
            loops = running.statement.loops
            self._try("limits", type(None), self.limits.closed, entry, loops, one.frame.f_code)
        happened = running.deltas or changes or running.events or running.inside or entry.raised
        if entry.kind == "header" and not happened:
            return
        others = [frame.running for frame in self._frames if frame is not one] if one.depth else []
        outer = [other for other in others if other is not None]
        (outer[-1].inside if outer else self._entries).append(entry)

    def _look(self, running: _Open) -> None:
        """Look for differences; they belong to the statements around this one too."""
        deltas: list[Delta] = self._try("what is watched", list, self.keeper.look)
        moved: list[str] = []
        if self._random is not None:
            moved = self._try("the random state", list, self._random.moved)
        if any(
            one.before is not None and one.after is not None and one.after.is_copied
            for one in deltas
        ):
            self._changed_at = next_age()
        if not (deltas or moved):
            return
        around = [frame.running for frame in self._frames if frame.running is not None]
        for other in (running, *around):
            if other.deltas and deltas:
                other.deltas = merge(other.deltas, deltas)
            else:
                other.deltas = other.deltas or deltas
            other.random.update(dict.fromkeys(moved))

    def _watch_threads(self, entry: Entry) -> None:
        if thread_count() > self._threads and (count := users_threads()) > self._threads:
            self._threads = count
            self.notes.append(
                f"line {entry.line} started a thread; its statements are not recorded, and what it "
                "changes is put down to the statement during which it was seen"
            )

    def _only_counts(self, one: _Frame, statement: Statement) -> bool:
        """Say whether a statement was a loop's header that took the next number of a range.

        It changes nothing but its name; a look would add 2 to 4 % to a recorded step.
        """
        if statement.kind != "header" or not statement.loops or statement.shares_line > 1:
            return False
        loop = statement.loops[-1]
        first = one.counts.get(loop, 1) == 1  # then the ends of the range are computed
        if not loop.counts or loop.line != statement.line or first:
            return False
        local, world = one.scope.local, one.frame.f_globals
        return world.get("range", range) is range and local.get("range", range) is range

    # --- what the calls ask --------------------------------------------------------------------

    def event(self, kind: str, subject: str, **data: Any) -> dict[str, Any]:
        """Enter a call into the running statement; returns its data, to which a result is added."""
        running = self._running()
        if running is not None:
            running.events.append(Event(self._order, running.entry.index, kind, subject, data))
            self._order += 1
        return data

    def dies(self, value: Any, data: dict[str, Any]) -> None:
        """Have a call's data say, as ``gone``, whether an object ends with the statement that runs."""
        running, data["gone"] = self._running(), False
        if running is None:
            return
        entry = running.entry

        def gone(_: Any) -> None:
            now = self._running()
            data["gone"] = now is not None and now.entry is entry

        running.ends.append(weakref.ref(value, gone))

    def passed(self, data: dict[str, Any], ages: frozenset[int]) -> None:
        """Note that a backward pass went through the nodes of these ages."""
        for frame in self._frames:
            if frame.running is not None:
                frame.running.passes.append((data, ages))

    def stepped(self) -> None:
        """Note that an optimizer steps."""
        self._steps += 1
        if self.limits is not None:
            self.limits.stepped(self._steps)

    def _running(self) -> _Open | None:
        for frame in reversed(self._frames):
            if frame.running is not None:
                return frame.running
        return None

    def records(self, frame: FrameType | None) -> bool:
        """Say whether the statements of a frame are recorded."""
        for one in self._frames:
            if one.frame is frame:
                return True
        return False

    def is_root(self, module: Any) -> bool:
        """Say whether a module is itself watched, not as a part of another one."""
        for one in self.keeper.watches:
            if one.order:
                return False  # modules come first
            if one.value() is module:
                return True
        return False

    def entry_of_age(self, age: int) -> int:
        """Return the index of the entry during which a node was built; -1 before all of them."""
        at = bisect_right(self._ages, age) - 1
        return self._indexes[at] if at >= 0 else -1

    def changed_since(self, ages: set[int]) -> bool:
        """Say whether a watched tensor has changed since the oldest of some nodes was built."""
        return bool(ages) and self._changed_at > min(ages)

    def graph_behind(self, roots: tuple[Any, ...]) -> Graph:
        """Return what is behind the tensors that a backward pass begins with."""
        if len(roots) == 1:  # it was most often read when they got their name
            for one in reversed(self._frames):
                if (graph := one.names.graph_behind(roots[0])) is not None:
                    return graph
        return graph_of(roots)

    def name_of_loose(self, weight: Any) -> str:
        """Return a label for a weight that no watched module registers: ``model.layers[0].weight``."""
        token = self.keeper.token(weight)
        if token not in self._loose:
            many = len(self._loose) > LOOSE  # made anew in every pass: don't look for each of them
            self._loose[token] = "" if many else hidden_in(self.keeper.watches, weight)
        return self._loose[token] or NOWHERE

    def name_of(self, values: tuple[Any, ...]) -> str:
        """Return a value's name in the innermost recorded frame that has one."""
        for one in reversed(self._frames):
            for name, value in one.frame.f_locals.items():
                if value is values[0]:
                    return name
        return ""


def _builds(frame: FrameType, *kinds: type) -> bool:
    """Say whether a frame is the ``__init__`` of an object of one of some kinds."""
    if frame.f_code.co_name != "__init__":
        return False
    return isinstance(frame.f_locals.get("self"), kinds)


_running: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _abandon_all() -> None:
    for one in list(_running):
        one.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
never_compiled(Recorder._local, Recorder.start, Recorder.stop, Outcome.__call__, _abandon_all)
