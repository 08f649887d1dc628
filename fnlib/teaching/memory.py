"""How much memory a call holds, statement by statement, as PyTorch's own allocator reports it.

Counting the tensors that Python can see would miss what lives inside an operation or in the graph. The profiler of
PyTorch is told of each block that is allocated or released, so nothing is missed and nothing is guessed.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fnlib.teaching.pictures import Picture, show
from fnlib.teaching.style import grid, inks, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARK = "fnlib line "


@dataclass(frozen=True)
class Visit:
    """One execution of one line, and the memory meanwhile.

    Attributes:
        line: its number in the file or cell.
        text: the line, as it is written.
        held: bytes at its start, and after each block that was allocated or released.
    """

    line: int
    text: str
    held: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """What the tensors of a call held, line by line; those that were there before it count as nothing.

    Attributes:
        visits: the lines of the function, in the order in which they were executed.
    """

    visits: tuple[Visit, ...]

    @property
    def peak(self) -> int:
        """The greatest number of bytes that were held at one time."""
        return max((max(visit.held) for visit in self.visits), default=0)

    @property
    def rounds(self) -> list[Memory]:
        """The rounds of the function's first loop, each from the loop's own line on; what stands before and after is left out."""
        times = Counter(visit.line for visit in self.visits)
        again = [
            visit for visit in self.visits if times[visit.line] > 1
        ]  # a statement of several lines comes back to its first, too
        header = next(
            (visit.line for visit in again if visit.text.startswith(("for ", "while "))),
            again[0].line if again else None,
        )
        starts = [number for number, visit in enumerate(self.visits) if visit.line == header]
        return [
            Memory(self.visits[start:end]) for start, end in zip(starts, starts[1:], strict=False)
        ]


def record(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Memory:
    """Call a function, and say how much memory its tensors held meanwhile.

    Args:
        function: a function written in Python. Tensors on the CPU are counted, from the first line of it to its last.
        args, kwargs: passed on to it.

    Returns:
        A ``Memory``.

    Raises:
        TypeError: the function has no lines of its own to watch.

    Example:
        >>> import torch
        >>> def twice():
        ...     first = torch.zeros(1000)
        ...     second = first + first
        ...     del first
        ...     second.sum()
        >>> [max(visit.held) for visit in record(twice).visits]
        [4000, 8000, 8000, 4004]
    """
    if not inspect.isfunction(function):
        raise TypeError(
            f"record wants a function written in Python, not {function!r}: record(train, batches)."
        )
    from torch.profiler import ProfilerActivity, profile, record_function

    numbers: list[int] = []  # of the lines, as they are executed

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            with record_function(f"{_MARK}{len(numbers)}"):
                numbers.append(frame.f_lineno)
        return local

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        return local if frame.f_code is function.__code__ else None

    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        before, collecting = sys.gettrace(), gc.isenabled()
        gc.disable()  # or the picture would depend on when it happens to run
        sys.settrace(watch)
        try:
            function(*args, **kwargs)
        finally:
            sys.settrace(before)
            if collecting:
                gc.enable()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return Memory(
        tuple(map(Visit, numbers, _texts(function, numbers), _held(events, len(numbers))))
    )


def _texts(function: Callable[..., Any], numbers: list[int]) -> list[str]:
    """Read the lines of a function; where nothing was stored of its text, their numbers have to do."""
    try:
        source, first = inspect.getsourcelines(function)
    except OSError:
        return [f"line {number}" for number in numbers]
    return [source[number - first].partition("  #")[0].strip() for number in numbers]


def _held(events: list[dict[str, Any]], lines: int) -> list[tuple[int, ...]]:
    """Give each line the blocks that came and went while it was executed."""
    held: list[list[int]] = [[] for _ in range(lines)]
    blocks: dict[int, int] = {}  # address -> bytes, of blocks that were allocated in the call
    now, line = 0, -1
    for event in sorted(events, key=lambda event: float(event.get("ts", 0))):
        name = str(event.get("name"))
        if name.startswith(_MARK):
            line = int(name.removeprefix(_MARK))
            held[line].append(now)
        elif name == "[memory]" and event["args"]["Device Type"] == 0 and line >= 0:
            address, size = event["args"]["Addr"], event["args"]["Bytes"]
            if size < 0 and address not in blocks:
                continue  # allocated before the call
            now += size if size > 0 else -blocks.pop(address)
            if size > 0:
                blocks[address] = size
            held[line].append(now)
    return [tuple(sizes) for sizes in held]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch's profiler from writing "profiler_start" to the process's standard error, past Python."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def curves(runs: Mapping[str, Memory], *, unit: int, ylabel: str, title: str = "") -> Picture:
    """Memory over the statements of a round, one panel beside the other on one scale.

    Args:
        runs: name -> what was recorded, one round of a loop each.
        unit: how many bytes count as 1.
        ylabel: what is counted, in that unit.
        title: the finding, in a few words.

    Returns:
        A ``Picture``.

    Example:
        >>> import torch
        >>> def train():
        ...     for _ in range(2):
        ...         weight = torch.zeros(1000)
        >>> curves({"stock": record(train).rounds[1]}, unit=4000, ylabel="copies")
        [Picture: copies, line by line. stock: at most 2, in `weight = torch.zeros(1000)`.]
    """
    figure, panels = grid((3.3 * len(runs), 4.2), 1, len(runs), title)
    top = max(memory.peak for memory in runs.values()) / unit
    words = [f"{ylabel}, line by line."]
    for (name, memory), ink, axes in zip(runs.items(), inks(list(runs)), panels, strict=True):
        _panel(axes, memory, unit, ink.color)
        axes.set(ylim=(0, 1.15 * top), title=name)
        busiest = max(memory.visits, key=lambda visit: max(visit.held))
        words.append(f"{name}: at most {short(memory.peak / unit)}, in `{busiest.text}`.")
    panels[0].set_ylabel(ylabel)
    return show(figure, " ".join(words))


def _panel(axes: Axes, memory: Memory, unit: int, color: str) -> None:
    """One round: a statement is one unit wide, however many blocks came and went in it."""
    x, y = [0.0], [memory.visits[0].held[0] / unit]
    for number, visit in enumerate(memory.visits):
        for part, held in enumerate(visit.held, 1):
            x.append(number + part / len(visit.held))
            y.append(held / unit)
    axes.fill_between(x, y, step="pre", color=color, alpha=0.2, linewidth=0)
    axes.plot(x, y, drawstyle="steps-pre", color=color, linewidth=1.8)
    axes.axhline(memory.peak / unit, color=color, linewidth=1, linestyle=(0, (2, 2)))
    at_most = f"{memory.peak / unit:.1f}"
    axes.annotate(
        at_most,
        (0, memory.peak / unit),
        xytext=(2, 3),
        textcoords="offset points",
        color=color,
        weight="bold",
    )
    axes.set_xlim(0, len(memory.visits))
    axes.set_xticks([number + 0.5 for number in range(len(memory.visits))])
    axes.set_xticklabels(
        [_brief(visit.text) for visit in memory.visits],
        rotation=90,
        fontsize=11,
        family="monospace",
    )
    axes.grid(axis="x", visible=False)
    for number in range(1, len(memory.visits)):
        axes.axvline(number, color="#e4e4e4", linewidth=1, zorder=0)


def _brief(text: str) -> str:
    """What a line does, in a few letters: ``parameters = model.step(gradient)`` is ``model.step()``."""
    text = "for" if text.startswith("for ") else text.partition(" = ")[2] or text
    name, call, _ = text.partition("(")
    return name[:22] + ("()" if call else "")
