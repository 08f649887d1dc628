"""History: every state of a run in a folder, to rewind, branch, bisect and verify."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from fnlib import errors
from fnlib.parameters import Parameters
from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import counted
from fnlib.values.check import refuse_graph
from fnlib.values.held import Held, same
from fnlib.values.replay import Replay, Unequal
from fnlib.values.store import Store, environment, move, new_folder

Step = Callable[[Parameters, int], Parameters]
_MAKE = 'history = fnlib.History("run", every=50, step=step)'
_BISECT = "history.bisect(lambda parameters: loss_of(parameters) < 1)"


class Found(int):
    """The index that a bisection found, with the number of states that it looked at.

    >>> Found(317, 11)
    state 317 (looked at 11 states)
    >>> Found(317, 11) - 1
    316
    """

    looked_at: int

    def __new__(cls, index: int, looked_at: int) -> Found:
        self = super().__new__(cls, index)
        self.looked_at = looked_at
        return self

    def __repr__(self) -> str:
        return f"state {int(self)} (looked at {counted(self.looked_at, 'state')})"

    __str__ = int.__repr__

    def __reduce__(self) -> tuple[type[Found], tuple[int, int]]:
        return Found, (int(self), self.looked_at)


class History(Tabular, Sequence[Parameters]):
    """Keep every state of a run in a folder, as a list of parameters.

    A tensor is stored once, however many states have it. A crash, even of the machine, loses at
    most the state that is being written. The first `append` makes you the one writer.

    Args:
        path: the folder. The first `append` makes it; opened again, the run goes on.
        every: keep the states 0, `every`, ``2 * every`` ... on disk. The ones between are replayed.
            A crash then loses the states since the last one kept; `close` keeps the latest.
        step: a function of (parameters, i) that returns state i + 1 from state i. It takes its data
            and its seed from i, so that it does the same whenever it is called.

    Raises:
        WrongHistory: `every` is no positive integer, or `step` no function.
        HistoryInUse: a second writer appends.
        DamagedHistory: a state is read whose file was damaged; other states are still readable.
        StateNotWritten: the disk is full.
        NotKept: a state isn't on disk, and there is no `step` to replay it.

    >>> import fnlib, tempfile, torch
    >>> ModelFactory = fnlib.Sequential(torch.nn.Linear(2, 1), optimizer=fnlib.SGD(lr=0.1))
    >>> def step(parameters, i):
    ...     model = ModelFactory(parameters)
    ...     return model.step(model.backward(model(torch.full((1, 2), float(i))).square().sum()))
    >>> parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    >>> folder = tempfile.TemporaryDirectory()
    >>> with fnlib.History(f"{folder.name}/run", step=step) as history:
    ...     history.append(parameters)
    ...     for i in range(5):
    ...         parameters = step(parameters, i)
    ...         history.append(parameters)
    >>> len(history), history[-1] == parameters, history[2].step_count
    (6, True, 2)
    >>> history.verify()
    Bit for bit: 5 steps replayed
    >>> folder.cleanup()
    """

    def __init__(
        self, path: str | os.PathLike[str], every: int = 1, step: Step | None = None
    ) -> None:
        if type(every) is not int or every < 1:
            raise errors.WrongHistory("every= takes a positive integer", f"got {every!r}", _MAKE)
        if step is not None and not callable(step):
            raise errors.WrongHistory(
                "step= takes a function of (parameters, i)", f"got {type(step).__name__}", _MAKE
            )
        self._store = Store(Path(os.path.abspath(os.fsdecode(path))))
        self._every, self._step = every, step
        indices = self._store.indices
        self._length = indices[-1] + 1 if indices else 0
        self._latest: Held | None = None  # the last state, if it isn't on disk
        self._writing = threading.RLock()

    # --- writing ----------------------------------------------------------------------------------

    def append(self, parameters: Parameters) -> None:
        """Store the next state of the run.

        Args:
            parameters: of any network; only tensors that no earlier state had are written.

        Raises:
            HistoryInUse, StateNotWritten: see `History`.
            EmptyParameters, Donated, CarriesGraph, CannotStore: there is nothing to store.
        """
        held = _held(parameters, "be appended")
        with self._writing:
            if self._length % self._every == 0:
                self._store.write(self._length, held)
                self._latest = None
            else:
                self._store.lock()
                self._latest = held
            self._length += 1

    def cost(self, parameters: Parameters) -> int:
        """Return how many bytes storing these parameters as the next state would take.

        Args:
            parameters: what `append` would get.

        >>> import fnlib, tempfile, torch
        >>> parameters = fnlib.Parameters.from_module(torch.nn.Linear(1000, 10))
        >>> with tempfile.TemporaryDirectory() as folder, fnlib.History(folder) as history:
        ...     first = history.cost(parameters)
        ...     history.append(parameters)
        ...     second = history.cost(parameters)     # nothing is new: only names are written
        >>> first > 40_000, second < 4_000
        (True, True)
        """
        with self._writing:
            return self._store.cost(self._length, _held(parameters, "be appended"))

    def close(self) -> None:
        """Write the latest state, if `every` left it out, and let others append."""
        with self._writing:
            if self._latest is not None:
                self._store.write(self._length - 1, self._latest)
                self._latest = None
            self._store.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- reading ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Parameters: ...
    @overload
    def __getitem__(self, index: slice) -> list[Parameters]: ...
    def __getitem__(self, index: int | slice) -> Parameters | list[Parameters]:
        if isinstance(index, slice):
            return list(self._states(range(*index.indices(len(self)))))
        return self._state(self._place(index))

    def __iter__(self) -> Iterator[Parameters]:
        return self._states(range(len(self)))

    def _place(self, index: int) -> int:
        """Return an index counted from the start."""
        try:
            return range(self._length)[index]
        except IndexError:
            states = counted(len(self), "state")
            raise IndexError(f"state {index}: this history has {states}") from None

    def _states(self, indices: range) -> Iterator[Parameters]:
        near = None
        for index in indices:
            parameters = self._state(index, near)
            near = index, parameters
            yield parameters

    def _state(self, index: int, near: tuple[int, Parameters] | None = None) -> Parameters:
        """Read a state, or replay it from the last one before it, or from one that is known."""
        stored, latest = self._store.indices, self._latest
        if latest is not None and index == self._length - 1:
            return Parameters._of(latest)
        after = bisect_right(stored, index)
        start = stored[after - 1] if after else -1
        if start == index:
            return Parameters._of(self._store.read(index))
        if near is not None and start < near[0] <= index:
            start, parameters = near
        elif start < 0:
            raise errors.NotKept(index, "no earlier state is")
        else:
            parameters = Parameters._of(self._store.read(start))
        return self._replayed(parameters, start, index)

    def _replayed(self, parameters: Parameters, start: int, end: int) -> Parameters:
        for i in range(start, end):
            if self._step is None:
                raise errors.NotKept(end, f"the last one before it is {start}")
            # A value of its own, in case the step gives it away.
            parameters = self._step(Parameters._of(parameters._held("be replayed")), i)
            if not isinstance(parameters, Parameters):
                got = f"step(parameters, {i}) returned {type(parameters).__name__}"
                what = "A step returns the next parameters"
                raise errors.WrongHistory(what, got, "return model.step(gradient)")
        return parameters

    # --- going back -------------------------------------------------------------------------------

    def branch(
        self, index: int, path: str | os.PathLike[str], *, step: Step | None = None
    ) -> History:
        """Start another run from a state of this one.

        Args:
            index: the state to start from.
            path: a new folder, which shares this run's files up to `index`. Neither run can change
                what the other has.
            step: the step of the branch, by default that of this run. It replays shared states too.

        Raises:
            WrongHistory: there is something at `path`.

        >>> import fnlib, tempfile, torch
        >>> start = fnlib.Parameters.from_module(torch.nn.Linear(2, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with fnlib.History(f"{folder}/run") as history:
        ...         for i in range(3):
        ...             history.append(start.replace(weights={"bias": torch.tensor([float(i)])}))
        ...     with history.branch(1, f"{folder}/run-b") as other:
        ...         other.append(start)
        ...     len(other), other[1] == history[1], other[2] == history[2]
        (3, True, False)
        """
        index, to = self._place(index), Path(os.path.abspath(os.fsdecode(path)))
        if to.exists():
            raise errors.WrongHistory(
                "A branch needs a new folder",
                f"there is something at {to}",
                'other = history.branch(300, "run-b")',
            )
        stored = [i for i in self._store.indices if i <= index]
        last = None if index in stored else self._state(index)
        folder = new_folder(to)  # renamed when it's complete, so a crash leaves all of it or none
        self._store.link(stored, folder)
        if last is not None:
            store = Store(folder)
            store.write(index, last._held("be appended"))
            store.close()
        move(folder, to)
        return History(to, self._every, self._step if step is None else step)

    def bisect(self, predicate: Callable[[Parameters], object]) -> Found:
        """Find the first state for which a predicate is no longer true, by halving.

        Args:
            predicate: a function of parameters, true up to some state and false from there on; a
                loss that comes back down misleads it.

        Raises:
            WrongHistory: the predicate is true of the last state too, or there is no state.

        >>> import fnlib, tempfile, torch
        >>> start = fnlib.Parameters.from_module(torch.nn.Linear(1, 1))
        >>> with tempfile.TemporaryDirectory() as folder, fnlib.History(folder) as history:
        ...     for i in range(100):
        ...         history.append(start.replace(weights={"bias": torch.tensor([2.0**i])}))
        ...     history.bisect(lambda parameters: parameters["bias"] < 1000)
        state 10 (looked at 8 states)
        """
        low, high, looked_at = -1, len(self) - 1, 1
        if high < 0 or predicate(self._state(high)):
            why = "there is no state" if high < 0 else f"it is true of the last one, {high}, too"
            raise errors.WrongHistory(
                "No state is the first for which this predicate is false", why, _BISECT
            )
        near = None
        while high - low > 1:
            middle = (low + high) // 2
            # A stored state near the middle needs no replay.
            cheap = [i for i in self._store.indices if low < i < high]
            if cheap:
                middle = min(cheap, key=lambda i: abs(i - middle))
            parameters, looked_at = self._state(middle, near), looked_at + 1
            if predicate(parameters):
                low, near = middle, (middle, parameters)
            else:
                high = middle
        return Found(high, looked_at)

    def prune(self, indices: Iterable[int]) -> int:
        """Remove states from the disk, and with them the tensors that no other state needs.

        The other states keep their indices. A removed state can be replayed, as those between
        `every`. A branch keeps all that it shares.

        Args:
            indices: which states, for instance ``range(1, 900)``. The last one stays.

        Returns:
            The bytes that became free, where no branch shares them.

        Raises:
            WrongHistory: the last state is among them.
            DamagedHistory: it can't be read what another state needs; nothing is removed.

        >>> import fnlib, tempfile, torch
        >>> start = fnlib.Parameters.from_module(torch.nn.Linear(100, 10))
        >>> with tempfile.TemporaryDirectory() as folder, fnlib.History(folder) as history:
        ...     for i in range(10):
        ...         history.append(start.replace(weights={"bias": torch.full((10,), float(i))}))
        ...     freed = history.prune(range(9))
        ...     history[9]["weight"].equal(start["weight"])     # state 0 stored this tensor
        True
        """
        with self._writing:
            places = {self._place(index) for index in indices}
            if self._length - 1 in places:
                raise errors.WrongHistory(
                    "The last state stays, because the run goes on from it",
                    f"got state {self._length - 1}",
                    "history.prune(range(len(history) - 1))",
                )
            return self._store.remove(places & set(self._store.indices))

    def verify(self) -> Replay:
        """Replay the run and compare every stored state, bit for bit.

        Returns:
            What was found, true if nothing differs. It names the first state, tensor and element
            that differ, and what differs in the environment.

        Raises:
            WrongHistory: the history was opened without `step`.
            DamagedHistory: a file was changed.
        """
        if self._step is None:
            raise errors.WrongHistory(
                "verify replays the run, so it needs the function that takes a step",
                "this history was opened without one",
                "fnlib.History(path, step=step).verify()",
            )
        stored, steps = list(self._store.indices), 0
        parameters = None
        for before, index in zip(stored, stored[1:], strict=False):
            if parameters is None:
                parameters = Parameters._of(self._store.read(before))
            parameters = self._replayed(parameters, before, index)
            there, here = self._store.read(index), parameters._held("be compared")
            steps += index - before
            if not same(there, here):
                then, now = self._store.header(index).environment, environment()
                both = {name: (then.get(name, ""), now.get(name, "")) for name in {**then, **now}}
                changed = {name: pair for name, pair in both.items() if pair[0] != pair[1]}
                return Replay(steps, index, Unequal(there, here), changed)
        return Replay(steps)

    def _table(self) -> Table:
        states, stored = counted(len(self), "state"), len(self._store.indices)
        rest = "" if stored == len(self) else f", {stored:,} of them on disk"
        return Table(f"History in {self._store.folder}: {states}{rest}")


def _held(parameters: Parameters, action: str) -> Held:
    if not isinstance(parameters, Parameters):
        got = type(parameters).__name__
        raise errors.WrongHistory(
            "A history keeps parameters", f"got {got}", "history.append(model.parameters)"
        )
    return refuse_graph(parameters._held(action), action)


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m fnlib verify RUN --step module:function``.

    Returns:
        The exit status: 0 for the same bits, 1 for a difference, 2 where nothing was compared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m fnlib verify",
        description="Replay a run and compare it with its history, bit for bit.",
    )
    parser.add_argument("run", help="the folder of the history")
    parser.add_argument(
        "--step",
        required=True,
        metavar="MODULE:FUNCTION",
        help="a function of (parameters, i) that returns state i + 1 from state i",
    )
    options = parser.parse_args(arguments)
    module, _, function = options.step.partition(":")
    sys.path.insert(0, os.getcwd())
    history = History(options.run)
    if not history:
        print(f"{options.run} is no history: it has no states.", file=sys.stderr)
        return 2
    try:
        step = getattr(importlib.import_module(module), function)
        found = History(options.run, step=step).verify()
    except errors.FnlibError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception:  # the step's own
        traceback.print_exc()
        return 2
    print(found)
    return 0 if found else 1
