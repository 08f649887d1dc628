"""Parameters: one immutable value that holds everything that training changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.show.table import Table, Tabular
from fnlib.show.tensors import bytes_of, counted, tensor_table
from fnlib.values.checks import check_mapping, check_match, owned, storable
from fnlib.values.conversion import Target, check_target, converted, converted_state
from fnlib.values.protect import Tensors, map_tree, register_as_tree, same_tree, share

if TYPE_CHECKING:
    from fnlib.values.diff import Difference

_KEEP: Any = object()  # stands for "as it is" where None has a meaning of its own


class Parameters(Tabular, Mapping[str, Tensor]):
    """All that training changes, in one value: weights, buffers, optimizer state, step count.

    Parameters are a mapping of weight names, as in ``named_parameters()``, to tensors. Nothing changes
    them: a tensor that they hand out is copy-on-write, so that a write to it does not reach them.
    ``Parameters()`` is empty: a factory that binds it draws the initial weights.

    Args:
        seed: draw the weights that ``torch.manual_seed(seed)`` and building the network would give;
            without it they come from PyTorch's generator, as building the network would.
        device: where the weights are moved once they are drawn (on the CPU).
        dtype: what floating weights and buffers are converted to once they are drawn.

    >>> import fnlib
    >>> ModelFactory = fnlib.Sequential(nn.Linear(3, 2))
    >>> parameters = ModelFactory(fnlib.Parameters(seed=0)).parameters
    >>> list(parameters), parameters["0.weight"].shape, parameters.step_count
    (['0.weight', '0.bias'], torch.Size([2, 3]), 0)
    >>> _ = parameters["0.bias"].zero_()            # a write to what was handed out ...
    >>> bool(parameters["0.bias"].eq(0).all())      # ... does not reach the value
    False
    """

    _weights: dict[str, Tensor] | None
    _buffers: dict[str, Tensor]
    _state: Any  # the optimizer's
    _rule: str | None  # the name of the rule that made the state
    _made_here: bool  # whether a step made the state: what replace, load and pickle bring is checked before it is used
    _step_count: int
    _aliases: Mapping[str, str]  # second name of a tied weight -> its first
    _transient: frozenset[str]  # buffers that are left out of a state_dict
    _structure: Any  # what these were checked against: binding checks once
    _leaves: Any  # where gradients of this value are taken: see leaves.py
    _donated: str | None  # where the value was given away
    _draw: dict[str, Any] | None  # how empty parameters are to be drawn
    __slots__ = (
        "__weakref__", "_aliases", "_buffers", "_donated", "_draw", "_leaves", "_made_here", "_rule", "_state", "_step_count", "_structure",
        "_transient", "_weights",
    )  # fmt: skip

    def __init__(
        self,
        *,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._fill(None, {}, draw={"seed": seed, "device": device, "dtype": dtype})

    # --- making ------------------------------------------------------------------------------

    @classmethod
    def from_module(cls, module: nn.Module) -> Parameters:
        """Copy the weights and buffers of a stock module into a value of their own.

        Args:
            module: any module; it is only read.

        Returns:
            Parameters that share no memory with the module. Tied weights are one entry, under the first name.

        >>> import fnlib
        >>> network = nn.Linear(3, 2)
        >>> parameters = fnlib.Parameters.from_module(network)
        >>> parameters["weight"].equal(network.weight)
        True
        """
        from fnlib.network.names import Layout, refuse_hidden_ties

        layout = Layout.of(module)
        refuse_hidden_ties(layout)
        with torch.inference_mode(False):
            return cls._make(
                {name: tensor.detach().clone() for name, tensor in layout.weights.items()},
                {name: tensor.detach().clone() for name, tensor in layout.buffers.items()},
                aliases=layout.aliases,
                transient=layout.transient,
            )

    # --- reading -----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Tensor:
        weights = self._alive()
        try:
            return share(weights[name])
        except KeyError:
            if name in self._aliases:
                return share(weights[self._aliases[name]])
            raise KeyError(
                f"{name!r}: no weight has this name. These parameters hold {', '.join(weights)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._alive() if self._donated or self._weights is not None else ())

    def __len__(self) -> int:
        return len(self._alive()) if self._donated or self._weights is not None else 0

    def __bool__(self) -> bool:
        return True  # a network without weights has parameters too

    @property
    def buffers(self) -> Tensors:
        """The buffers (BatchNorm's running statistics), a mapping of names to tensors."""
        self._alive("show their buffers")
        return Tensors(self._buffers)

    @property
    def optimizer_state(self) -> Any:
        """What the update rule keeps, as nested dicts; ``None`` before the first step. A copy, yours to change.

        For fnlib's rules and wrapped ones: ``["state"][weight name]`` holds the moments,
        ``["param_groups"]`` the rates and other settings of each group.
        """
        self._alive("show their optimizer state")
        return map_tree(share, self._state)

    @property
    def step_count(self) -> int:
        """How many steps led to these parameters."""
        return self._step_count

    # --- new values --------------------------------------------------------------------------

    def replace(
        self,
        *,
        weights: Mapping[str, Tensor] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
        optimizer_state: Any = _KEEP,
    ) -> Parameters:
        """Make a value with some of its parts replaced.

        Args:
            weights: new weights for all or some of the names; shapes and kinds must stay.
            buffers: new buffers, likewise.
            optimizer_state: new state of the update rule; ``None`` starts the rule afresh.

        Returns:
            New parameters; these stay as they are.

        Raises:
            WrongParameters: a name is unknown, or a shape, kind or device differs.

        >>> import fnlib
        >>> a, b = (fnlib.Sequential(nn.Linear(2, 1))(fnlib.Parameters(seed=s)).parameters for s in (0, 1))
        >>> mean = a.replace(weights={name: (a[name] + b[name]) / 2 for name in a})
        >>> mean["0.weight"].equal((a["0.weight"] + b["0.weight"]) / 2)
        True
        """
        mine = self._alive("be replaced in part")
        state, rule = (self._state, self._rule)
        if optimizer_state is not _KEEP:
            state = storable(optimizer_state, "optimizer_state", owned)
            rule = None if optimizer_state is None else rule
        return self._next(
            _merge("weight", mine, weights, self._aliases),
            _merge("buffer", self._buffers, buffers, {}),
            state,
            rule=rule,
            made_here=self._made_here and optimizer_state is _KEEP,
            step_count=self._step_count,
            structure=self._structure,
        )

    def to(self, target: Target) -> Parameters:
        """Make a value on another device or of another dtype.

        Args:
            target: a device or a dtype. A dtype converts floating weights, buffers and moments, and never
                counters (integers, and the ``step`` entries of optimizers, which also stay on their device,
                as in ``torch.optim``).

        Returns:
            New parameters.

        Raises:
            WrongParameters: a dtype that is not of floating numbers.

        >>> import fnlib
        >>> parameters = fnlib.Parameters.from_module(nn.BatchNorm1d(2)).to(torch.float64)
        >>> parameters["weight"].dtype, parameters.buffers["num_batches_tracked"].dtype
        (torch.float64, torch.int64)
        """
        weights = self._alive("be moved")
        check_target(target)
        return self._next(
            {name: converted(tensor, target) for name, tensor in weights.items()},
            {name: converted(tensor, target) for name, tensor in self._buffers.items()},
            converted_state(self._state, target),
            rule=self._rule,
            made_here=self._made_here,
            step_count=self._step_count,
            structure=self._structure,
        )

    # --- comparing ---------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        """Compare all state, byte for byte (NaN equals NaN)."""
        if not isinstance(other, Parameters):
            return NotImplemented
        if self is other:
            return True
        if self._weights is None or other._weights is None:
            both_empty = (
                self._weights is None
                and other._weights is None
                and not (self._donated or other._donated)
            )
            return both_empty and self._draw == other._draw
        return (
            self._step_count == other._step_count
            and self._rule == other._rule
            and same_tree(self._weights, other._weights)
            and same_tree(self._buffers, other._buffers)
            and same_tree(self._state, other._state)
        )

    __hash__ = (
        object.__hash__
    )  # by identity: hashing the bytes of a network would be slow and surprise nobody pleasantly

    def diff(self, other: Parameters) -> Difference:
        """Say how far each weight and buffer lies from that of another value.

        Args:
            other: parameters of the same names and shapes.

        Returns:
            A mapping of names to Euclidean distances (in the units of the weights) that prints as a table.

        Raises:
            WrongParameters: the other value is not of this network.

        >>> import fnlib
        >>> parameters = fnlib.Parameters.from_module(nn.Linear(2, 1))
        >>> moved = parameters.replace(weights={"bias": parameters["bias"] + 3})
        >>> round(moved.diff(parameters)["bias"], 4), moved.diff(parameters)["weight"]
        (3.0, 0.0)
        """
        from fnlib.values.diff import Difference

        if not isinstance(other, Parameters):
            raise errors.WrongParameters(
                "diff compares parameters with parameters",
                f"got {type(other).__name__}",
                "parameters.diff(model.parameters)",
            )
        mine, theirs = self._alive("be compared"), other._alive("be compared")
        check_match(
            "weight", theirs, mine, "parameters.diff(later)   # two values of the same network"
        )
        check_match(
            "buffer",
            other._buffers,
            self._buffers,
            "parameters.diff(later)   # two values of the same network",
        )
        return Difference({**mine, **self._buffers}, {**theirs, **other._buffers})

    # --- leaving -----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Copy weights and persistent buffers for ``module.load_state_dict(..., strict=True)``.

        Returns:
            Independent copies; a tied weight under each of its names.

        >>> import fnlib
        >>> network = nn.Linear(2, 1)
        >>> network.load_state_dict(fnlib.Parameters.from_module(nn.Linear(2, 1)).state_dict())
        <All keys matched successfully>
        """
        held = {
            **self._alive("give a state_dict"),
            **{
                name: tensor
                for name, tensor in self._buffers.items()
                if name not in self._transient
            },
        }
        copies = {name: tensor.clone() for name, tensor in held.items()}
        return copies | {
            name: copies[first]
            for name, first in self._aliases.items()
            if first in copies and name not in self._transient
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one safetensors file; loading it back gives an equal value. See `Parameters.load`.

        Args:
            path: the file. An older one is replaced when the new one is complete, and keeps its rights.

        Raises:
            EmptyParameters, Donated: there is nothing to save.
            CannotStore: a tensor of a sparse layout.
            OSError: the file cannot be written.
        """
        from fnlib.values.files import save

        save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Parameters:
        """Read parameters that `save` wrote. Nothing in the file is executed (no pickle).

        Args:
            path: the file.

        Returns:
            Parameters equal to those that were saved, on the CPU.

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
        from fnlib.values.files import load

        return load(path)

    def __reduce__(self) -> Any:
        return _restore, (self._export(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameters:
        return _restore(map_tree(Tensor.clone, self._export()))

    # --- refusing ----------------------------------------------------------------------------

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        raise errors.Immutable("Parameters", name)

    def __delitem__(self, name: str) -> None:
        raise errors.Immutable("Parameters", name)

    def _table(self, buffers: Mapping[str, Tensor] | None = None) -> Table:
        title = f"Parameters after step {self._step_count}"
        if self._donated is not None:
            return Table(
                f"{title}, given away by step(gradient, donate=True) at {self._donated}: "
                "their memory now belongs to the parameters that this step returned"
            )
        if self._weights is None:
            given = {key: value for key, value in (self._draw or {}).items() if value is not None}
            call = ", ".join(f"{key}={value!r}" for key, value in given.items())
            return Table(f"Parameters({call}), empty: binding them draws the initial weights")
        buffers = self._buffers if buffers is None else buffers
        table = tensor_table(title, {"weights": self._weights, "buffers": buffers})
        held: list[Tensor] = []
        map_tree(held.append, self._state)
        notes = [f"'{name}' is tied to '{first}'" for name, first in self._aliases.items()]
        if self._state is not None:
            state = f"{counted(len(held), 'tensor')}, {bytes_of(held)}"
            notes.insert(0, f"optimizer state: {state}, of {self._rule or 'no rule yet'}")
        table.notes = [*table.notes, *notes]
        return table

    # --- underneath --------------------------------------------------------------------------

    def _alive(self, action: str = "be read") -> dict[str, Tensor]:
        """Return the weights, or say why there are none."""
        if self._donated is not None:
            raise errors.Donated(self._describe(), self._donated)
        if self._weights is None:
            raise errors.EmptyParameters(action)
        return self._weights

    def _is_empty(self) -> bool:
        """Say whether no weights have been drawn yet."""
        return self._draw is not None and self._weights is None and self._donated is None

    def _describe(self) -> str:
        return f"This value (parameters after step {self._step_count})"

    def _fill(
        self,
        weights: dict[str, Tensor] | None,
        buffers: dict[str, Tensor],
        state: Any = None,
        rule: str | None = None,
        step_count: int = 0,
        aliases: Mapping[str, str] | None = None,
        transient: frozenset[str] = frozenset(),
        structure: object = None,
        draw: dict[str, Any] | None = None,
    ) -> None:
        self._weights, self._buffers = weights, buffers
        self._state, self._rule, self._step_count = state, rule, step_count
        self._aliases, self._transient = aliases or {}, transient
        self._structure, self._draw = structure, draw
        self._leaves = self._donated = None
        self._made_here = False

    @classmethod
    def _make(
        cls, weights: dict[str, Tensor] | None, buffers: dict[str, Tensor], **parts: Any
    ) -> Parameters:
        """Take tensors that nobody else will write to."""
        self = cls.__new__(cls)
        self._fill(weights, buffers, **parts)
        return self

    def _next(
        self,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        state: Any,
        *,
        rule: str | None,
        made_here: bool,
        step_count: int,
        structure: object,
    ) -> Parameters:
        """Make another value of the same network."""
        made = Parameters.__new__(Parameters)
        made._fill(
            weights, buffers, state, rule, step_count, self._aliases, self._transient, structure
        )
        made._made_here = made_here
        return made

    def _export(self) -> dict[str, Any]:
        """Everything but what can be made again, as a plain tree."""
        if self._donated is not None:
            self._alive()
        return {
            "weights": self._weights,
            "buffers": self._buffers,
            "state": self._state,
            "rule": self._rule,
            "step_count": self._step_count,
            "aliases": dict(self._aliases),
            "transient": sorted(self._transient),
            "draw": self._draw,
        }


register_as_tree(Parameters)


def _restore(parts: dict[str, Any]) -> Parameters:
    """Undo `Parameters._export`."""
    return Parameters._make(**{**parts, "transient": frozenset(parts["transient"])})


def _merge(
    kind: str,
    mine: dict[str, Tensor],
    given: Mapping[str, Tensor] | None,
    aliases: Mapping[str, str],
) -> dict[str, Tensor]:
    if given is None:
        return mine
    right = f"parameters.replace({kind}s={{name: tensor}})   # names and shapes of this network"
    check_mapping(kind, given, right)
    given = {aliases.get(name, name): given[name] for name in given}
    check_match(kind, given, mine, right, partial=True)
    return {name: owned(given[name]) if name in given else tensor for name, tensor in mine.items()}
