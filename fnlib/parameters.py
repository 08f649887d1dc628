"""Parameters: one immutable value that holds everything that training changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.backward import Leaves
from fnlib.network.bound import Bound
from fnlib.network.names import held_by
from fnlib.network.pool import Network
from fnlib.network.randomness import checked_seed
from fnlib.show.table import Table
from fnlib.torch_private import register_as_tree
from fnlib.values import files
from fnlib.values.apart import Apart, apart, rebuilt, together
from fnlib.values.check import KEEP, check_match, refuse_graph, replaced
from fnlib.values.diff import Difference
from fnlib.values.held import (
    Content,
    Empty,
    GivenAway,
    Held,
    Target,
    caller,
    check_dtype,
    converted,
    held_in,
    same,
    state_dict,
)
from fnlib.values.protect import Tensors, Unassignable, has_graph, share
from fnlib.values.table import table_of
from fnlib.values.trees import map_tree
from fnlib.values.vectors import interpolated

_NOT_BOUND = Bound()
_one_at_a_time = threading.Lock()


class Parameters(Unassignable, Mapping[str, Tensor]):
    """All that training changes, in one value: weights, buffers, optimizer state, step count.

    Parameters map weight names, as in ``named_parameters()``, to copy-on-write tensors, so no write
    reaches them. ``Parameters()`` is empty: a factory that binds it draws the initial weights.

    Args:
        seed: draw the weights that ``torch.manual_seed(seed)`` and building the network would give;
            without it, those of building the network now.
        device: where the weights are moved once they are drawn (on the CPU).
        dtype: what floating weights and buffers are converted to once they are drawn.

    Raises:
        WrongParameters: the seed is no whole number, or the dtype is not of floating numbers.

    >>> import fnlib
    >>> ModelFactory = fnlib.Sequential(nn.Linear(3, 2))
    >>> parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    >>> list(parameters), parameters["0.weight"].shape, parameters.step_count
    (['0.weight', '0.bias'], torch.Size([2, 3]), 0)
    >>> _ = parameters["0.bias"].zero_()            # a write to what was handed out ...
    >>> bool(parameters["0.bias"].eq(0).all())      # ... does not reach the value
    False
    """

    __slots__ = ("__weakref__", "_bound", "_content")
    _content: Content | Apart  # what is held, or how it is to be drawn, or where it went
    _bound: Bound  # what binding found out, a cache
    _instead = "parameters.replace(weights={{'{}': tensor}})"

    def __init__(
        self,
        *,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        right = "parameters = fnlib.Parameters(dtype=torch.float64)"
        check_dtype(dtype, "dtype= takes a floating dtype", right)
        seed = checked_seed(seed, "parameters = fnlib.Parameters(seed=0)")
        self._content, self._bound = Empty(seed, device, dtype), _NOT_BOUND

    @classmethod
    def _of(cls, content: Content | Apart, bound: Bound = _NOT_BOUND) -> Parameters:
        """Take a record whose tensors nobody else will write to."""
        self = cls.__new__(cls)
        self._content, self._bound = content, bound
        return self

    @classmethod
    def from_module(cls, module: nn.Module) -> Parameters:
        """Copy the weights and buffers of a stock module.

        Args:
            module: any module. Tied weights become one entry, under the first name.

        Raises:
            WrongParameters: this is no module.
            LazyModule, UnsupportedModule: its weights have no shape, or share memory in part.

        >>> import fnlib
        >>> network = nn.Linear(3, 2)
        >>> fnlib.Parameters.from_module(network)["weight"].equal(network.weight)
        True
        """
        return cls._of(held_by(module))

    # --- reading ----------------------------------------------------------------------------------

    def _held(self, action: str = "be read") -> Held:
        """Return the record, or say why there is none."""
        content = self._content
        return content if type(content) is Held else held_in(self._open(), action)

    def _open(self) -> Content:
        """Return what is held, under its names from now on."""
        if isinstance(self._content, Apart):
            with _one_at_a_time:
                if isinstance(self._content, Apart):
                    self._content = together(self._content)
        return self._content

    def _bind(self, network: Network) -> tuple[Held, Leaves]:
        """Return the record, in the order of a network, and the leaves of all models of this value."""
        held, leaves, self._bound = self._bound.to(network, self._held("be bound"))
        return held, leaves

    def __getitem__(self, name: str) -> Tensor:
        held = self._held()
        try:
            found = share(held.weights[held.names.ties.get(name, name)])
        except KeyError:
            known = ", ".join(held.weights)
            raise KeyError(
                f"{name!r}: no weight has this name. These parameters hold {known}"
            ) from None
        return found.detach() if has_graph([found]) else found

    def __iter__(self) -> Iterator[str]:
        return iter(() if isinstance(self._content, Empty) else self._held().weights)

    def __len__(self) -> int:
        return 0 if isinstance(self._content, Empty) else len(self._held().weights)

    def __bool__(self) -> bool:
        return True  # a network without weights has parameters too

    @property
    def buffers(self) -> Tensors:
        """The buffers (BatchNorm's running statistics), a mapping of names to tensors."""
        held = self._held("show their buffers")
        return Tensors(held.buffers, held.names.ties)

    @property
    def optimizer_state(self) -> Any:
        """What the update rule keeps, as nested dicts; ``None`` before the first step.

        A copy, yours to change. For fnlib's rules and wrapped ones, ``["state"][weight name]`` holds
        the moments, ``["param_groups"]`` the rates and other settings of each group.
        """
        return map_tree(share, self._held("show their optimizer state").state)

    @property
    def step_count(self) -> int:
        """How many steps led to these parameters."""
        return 0 if isinstance(self._content, Empty) else self._content.step_count

    # --- new values -------------------------------------------------------------------------------

    def replace(
        self,
        *,
        weights: Mapping[str, Tensor] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
        optimizer_state: Any = KEEP,
    ) -> Parameters:
        """Make a value with some of its parts replaced.

        Args:
            weights: new weights for all or some of the names; shapes and kinds must stay. Those
                that carry a graph keep it: a loss can be differentiated through them.
            buffers: new buffers, likewise.
            optimizer_state: new state of the update rule, which the next step checks; ``None``
                starts the rule afresh.

        Returns:
            New parameters; these stay as they are.

        Raises:
            WrongParameters: a name is unknown, a shape, kind or device differs, or two names of one
                tied tensor are given different values.

        >>> import fnlib
        >>> ModelFactory = fnlib.Sequential(nn.Linear(2, 1))
        >>> a, b = (ModelFactory(fnlib.Parameters(seed=s)).parameters for s in (0, 1))
        >>> mean = a.replace(weights={name: (a[name] + b[name]) / 2 for name in a})
        >>> mean["0.weight"].equal((a["0.weight"] + b["0.weight"]) / 2)
        True
        """
        held = self._held("be replaced in part")
        return Parameters._of(replaced(held, weights, buffers, optimizer_state))

    def lerp(
        self,
        other: Parameters,
        weight: float,
        *,
        buffers: Literal["other", "own", "lerp"] = "other",
    ) -> Parameters:
        """Return parameters on the way to others: moving averages, momentum encoders.

        ``w + weight * (other - w)``, with the bits of ``torch.lerp``. An average with decay 0.99 is
        ``average.lerp(parameters, 1 - 0.99)``. Optimizer state and step count stay this value's.

        Args:
            other: parameters of the same names and shapes.
            weight: 0 is this value, 1 the other.
            buffers: those of the `other` (as ``AveragedModel`` does), its `own`, or both interpolated
                with ``"lerp"`` (counters are the other's).

        Raises:
            WrongParameters: the other value isn't of this network, or `buffers` is something else.

        >>> import fnlib
        >>> start = fnlib.Parameters.from_module(nn.Linear(2, 1))
        >>> end = start.replace(weights={"bias": start["bias"] + 8})
        >>> round(float(start.lerp(end, 0.25)["bias"] - start["bias"]), 4)
        2.0
        """
        right = "average = average.lerp(parameters, 0.01)   # two values of the same network"
        if buffers not in ("other", "own", "lerp"):
            what = "lerp takes buffers= 'other', 'own' or 'lerp'"
            raise errors.WrongParameters(what, f"got buffers={buffers!r}", right)
        pair = self._pair(other, "lerp moves towards parameters", right, exact=True)
        return Parameters._of(interpolated(*pair, weight, buffers))

    def to(self, target: Target) -> Parameters:
        """Return parameters on another device or of another dtype.

        Args:
            target: a device or a floating dtype. Counters (integers, and the ``step`` entries of
                optimizers) keep their dtype; ``step`` stays on its device, as in ``torch.optim``.

        Raises:
            WrongParameters: a dtype that is not of floating numbers.

        >>> import fnlib
        >>> parameters = fnlib.Parameters.from_module(nn.BatchNorm1d(2)).to(torch.float64)
        >>> parameters["weight"].dtype, parameters.buffers["num_batches_tracked"].dtype
        (torch.float64, torch.int64)
        """
        return Parameters._of(converted(self._held("be moved"), target))

    def _give_away(self) -> Held:
        """Hand over the record for good; whoever uses this value from now on gets an error."""
        where = caller()
        self._open()
        with _one_at_a_time:  # of two threads, the second gets the error
            held = self._held("be given away")
            left = GivenAway(where, held.step_count)
            self._content = left
        if self._bound.leaves is not None:
            self._bound.leaves.give_away(left.error())
        self._bound = _NOT_BOUND
        return held

    # --- comparing --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Compare all state, byte for byte (NaN equals NaN). The hash is the object's."""
        if not isinstance(other, Parameters):
            return NotImplemented
        return self is other or same(self._open(), other._open())

    __hash__ = object.__hash__  # by identity: hashing the bytes of a network would be slow

    def diff(self, other: Parameters) -> Difference:
        """Measure how far each weight and buffer is from that of another value.

        Args:
            other: parameters of the same names and shapes.

        Returns:
            A mapping of names to Euclidean distances, which prints as a table.

        Raises:
            WrongParameters: the other value is not of this network.

        >>> import fnlib
        >>> parameters = fnlib.Parameters.from_module(nn.Linear(2, 1))
        >>> moved = parameters.replace(weights={"bias": parameters["bias"] + 3})
        >>> round(moved.diff(parameters)["bias"], 4), moved.diff(parameters)["weight"]
        (3.0, 0.0)
        """
        right = "parameters.diff(later)   # two values of the same network"
        mine, theirs = self._pair(other, "diff compares parameters with parameters", right)
        mine_all, theirs_all = ({**held.weights, **held.buffers} for held in (mine, theirs))
        return Difference(mine_all, theirs_all, mine.names.ties)

    def _pair(self, other: object, what: str, right: str, exact: bool = False) -> tuple[Held, Held]:
        """Return the records of two values of one network."""
        if not isinstance(other, Parameters):
            raise errors.WrongParameters(what, f"got {type(other).__name__}", right)
        mine, theirs = self._held("be compared"), other._held("be compared")
        check_match("weights", theirs.weights, mine.weights, right, exact=exact)
        check_match("buffers", theirs.buffers, mine.buffers, right, exact=exact)
        return mine, theirs

    # --- leaving ----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse ``model.parameters()``, and say what to write instead.

        Args:
            args, kwargs: anything.

        Raises:
            NotCallable: always.
        """
        raise errors.NotCallable

    def state_dict(self) -> dict[str, Tensor]:
        """Copy weights and persistent buffers for ``module.load_state_dict(..., strict=True)``.

        A tied weight is there under each of its names.

        >>> import fnlib
        >>> network = nn.Linear(2, 1)
        >>> network.load_state_dict(fnlib.Parameters.from_module(nn.Linear(2, 1)).state_dict())
        <All keys matched successfully>
        """
        return state_dict(self._held("give a state_dict"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one safetensors file; loading it back gives an equal value.

        Args:
            path: the file. An older one stays until the new one is complete.

        Raises:
            EmptyParameters, Donated, CarriesGraph: there is nothing to save, or not only numbers.
            CannotStore: a tensor is sparse or sharded.
            OSError: the file cannot be written.
        """
        files.save(refuse_graph(self._held("be saved"), "be saved"), path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Parameters:
        """Read what `save` wrote, to the CPU. Nothing in the file is executed (no pickle).

        Args:
            path: the file.

        Raises:
            NotAParametersFile: the file is cut short, or something else.
            OSError: there is no such file, or it cannot be read.

        >>> import fnlib, tempfile
        >>> parameters = fnlib.Parameters.from_module(nn.Linear(2, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parameters.save(f"{folder}/start.safetensors")
        ...     fnlib.Parameters.load(f"{folder}/start.safetensors") == parameters
        True
        """
        return Parameters._of(files.load(path))

    def _to_copy(self) -> Content:
        return self._content if isinstance(self._content, Empty) else self._held()

    def _apart(self) -> tuple[list[Any], Any]:
        content = self._content
        return apart(content if isinstance(content, Apart) else self._to_copy())

    def __reduce__(self) -> Any:
        content = self._to_copy()
        if isinstance(content, Held):
            refuse_graph(content, "be pickled")
        return Parameters._of, (content,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameters:
        return Parameters._of(map_tree(Tensor.clone, self._to_copy()))

    def _table(self, buffers: Mapping[str, Tensor] | None = None) -> Table:
        return table_of(self._open(), buffers)


register_as_tree(
    Parameters,
    lambda parameters: parameters._apart(),
    lambda tensors, static: Parameters._of(rebuilt(tensors, static)),
)
