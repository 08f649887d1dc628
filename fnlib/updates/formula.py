"""Formula: an update rule that is written as the formula for one weight.

`Formula.update` applies it to one weight after the other. What PyTorch computes in another order
of operations (half precision, complex numbers, sparse gradients, ``foreach=True``, rates that are
tensors, accelerators) goes to the optimizer of torch.optim itself, which has its own bits.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

import torch
from torch import Tensor

from fnlib import errors
from fnlib.torch_private import is_wrapped
from fnlib.updates.fused import Moments
from fnlib.updates.rule import Moved, Named, Rule, Settings
from fnlib.updates.wrap import Wrapped
from fnlib.values.protect import in_transform, share, share_all

Out = Callable[[Tensor], Tensor | None]  # where a result may go: into memory that ends here
# Weights and what is kept of them, which a step moves, and the gradient between them.
Parts = tuple[dict[str, Tensor], Named, dict[str, Moments]]
Class = TypeVar("Class", bound=type)
_ORDINARY, _DENSE = {torch.float32, torch.float64}, {torch.strided}
_DTYPE, _IS_CPU, _LAYOUT = map(operator.attrgetter, ("dtype", "is_cpu", "layout"))
_PLAIN = {int, float}  # asked first: PyTorch's `isinstance` takes longer
_IS_CONTIGUOUS: Any = Tensor.is_contiguous


@dataclass_transform(frozen_default=True, eq_default=False)
def formula(cls: Class) -> Class:
    """Make a frozen dataclass of a rule, whose fields are its settings."""
    if not hasattr(cls, "like"):
        raise errors.CannotWrap(
            cls.__name__,
            "a Formula needs `like`, the class of torch.optim that has the same bits, because that "
            "class takes the unusual steps",
            "class Rule:   # right: any object with init(weights) and update(weights, gradient, state)",
            f"@formula\n    class {cls.__name__}(Formula): ...",
        )
    made: Any = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    made.__setattr__, made.__delattr__ = Rule.__setattr__, Rule.__delattr__  # their error teaches
    return made


class Formula(Rule):
    """Base of `fnlib.SGD` and `fnlib.Adam`: `move` is the formula, for one weight."""

    counts: ClassVar[bool] = False  # it keeps how many steps each weight has taken
    _fused_kernel: ClassVar[Callable[..., None]]
    foreach: bool | None
    fused: bool | None
    _has_tensors: bool
    _twins: list[Rule]  # made when first needed, one for all copies of this rule

    def move(self, w: Tensor, g: Tensor, kept: Moments, t: Any, out: Out) -> tuple[Tensor, Moments]:
        """Return the new weight and what is kept of it.

        Args:
            w, g: the weight and its gradient.
            kept: what the last step kept, or what `start` returned.
            t: how many steps this weight has taken, this one included, where the rule `counts`.
            out: says where a result goes; see `fnlib.optim`.
        """
        raise NotImplementedError

    def moments(self) -> tuple[str, ...]:
        """Name what is kept, in the shape of the weight."""
        raise NotImplementedError

    def start(self, w: Tensor) -> Moments:
        """Return what is kept of a weight before its first step."""
        return {}

    @functools.cached_property
    def reads(self) -> object:
        """What a step reads of the state: settings decide it, those of groups too."""
        return self.name, self.moments(), self.groups

    def __post_init__(self) -> None:
        names = [field.name for field in dataclasses.fields(self) if field.name != "groups"]  # type: ignore[arg-type]
        self._set_up({name: getattr(self, name) for name in names}, self.groups)
        vars(self).update(self._settings, _twins=[])
        vars(self)["_has_tensors"] = _have_tensors(self._settings.values())
        accepted = inspect.signature(self.like).parameters
        first = {**self._settings, **self._schedules()}
        first = {key: value for key, value in first.items() if not _are_wrapped(value)}
        # PyTorch's own checks, and its own errors
        self.like([torch.zeros(1)], **{k: v for k, v in first.items() if k in accepted})

    def update(
        self, weights: dict[str, Tensor], gradient: Named, state: Any, *, in_place: bool = False
    ) -> Moved:
        """Take one step. See `Rule.update`."""
        partition, inside = self.partition(weights), in_transform()
        fixed = self._is_fixed()
        rules = [self] if fixed else [self.having(**settings) for settings, _ in partition]
        if not inside and _are_unusual(rules, weights, gradient):
            return self._twin().update(weights, gradient, state, in_place=in_place)
        weights, kept, count = dict(weights), dict(state["state"]), Counter()
        for rule, (_, names) in zip(rules, partition, strict=True):
            moving = names if len(gradient) == len(weights) else [n for n in names if n in gradient]
            fused = rule.fused and not inside
            move = rule._move_fused if fused else rule._move_each
            move(moving, (weights, gradient, kept), count, in_place)
        return weights, {"state": kept, "param_groups": [settings for settings, _ in partition]}

    def _move_each(self, names: list[str], parts: Parts, count: Counter, in_place: bool) -> None:
        """Move one weight after the other."""
        weights, gradient, kept = parts
        counts = self.counts
        where = same if in_place else new
        starts = counts or type(self).start is not Formula.start
        # A new tensor would have other strides than a weight that isn't contiguous.
        dense = in_place or in_transform() or all(map(_IS_CONTIGUOUS, weights.values()))
        for name in names:
            w, out, before = weights[name], where, kept.get(name)
            if not before:
                before = self.started(w) if starts else {}
            step, t = count(before["step"]) if counts else (None, None)
            if not dense and not w.is_contiguous():
                w, before, out = share(w), _shared(before), same
            weights[name], after = self.move(w, gradient[name], before, t, out)
            if step is not None:
                after["step"] = step
            if after:
                kept[name] = after

    def _move_fused(self, names: list[str], parts: Parts, count: Counter, in_place: bool) -> None:
        """Move all weights in one call, in place: on shared tensors if they are not donated."""
        weights, gradient, kept = parts
        places = [weights[name] for name in names]
        entries = [dict(kept.get(name) or self.started(weights[name])) for name in names]
        if not in_place:
            places, entries = share_all(places), [_shared(entry) for entry in entries]
        for entry in entries if self.counts else ():
            entry["step"], _ = count(entry["step"])
        type(self)._fused_kernel(self, places, [gradient[name] for name in names], entries)
        weights.update(zip(names, places, strict=True))
        kept.update((name, entry) for name, entry in zip(names, entries, strict=True) if entry)

    def started(self, w: Tensor) -> Moments:
        """Return what is kept of a weight before its first step, the counter included."""
        kept = self.start(w)
        if self.counts:
            double = torch.get_default_dtype() is torch.float64 and not self.fused
            dtype = torch.float64 if double else torch.float32  # as torch.optim counts
            kept["step"] = torch.zeros((), dtype=dtype, device=w.device if self.fused else None)
        return kept

    def _expected(self, weight: Tensor, settings: Settings) -> dict[str, torch.Size]:
        shapes = dict.fromkeys(self.having(**settings).moments(), weight.shape)
        return {"step": torch.Size(), **shapes} if self.counts else shapes

    def _twin(self) -> Rule:
        """Return the same rule, made of the class of torch.optim."""
        if not self._twins:
            accepted = inspect.signature(self.like).parameters
            settings = {key: self._settings[key] for key in self._settings if key in accepted}
            self._twins.append(Wrapped(self.like, settings, self.groups))
        return self._twins[0].having(_step_count=self._step_count, _rate=self._rate)

    def _written(self) -> Mapping[str, Any]:
        """The rate, and what differs from its default."""
        default = {field.name: field.default for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {k: v for k, v in self._settings.items() if k == "lr" or v != default[k]}


def _are_unusual(rules: list[Any], weights: Named, gradient: Named) -> bool:
    """Say whether torch.optim has to take this step: only it has its bits, or its error."""
    for rule in rules:
        if rule.foreach or rule._has_tensors:
            return True
        if rule.groups is not None and _have_tensors(vars(rule).values()):
            return True
    tensors = weights.values()
    return not (
        _ORDINARY.issuperset(map(_DTYPE, tensors))
        and _DENSE.issuperset(map(_LAYOUT, gradient.values()))
        and (all(map(_IS_CPU, tensors)) or all(rule.fused for rule in rules))
    )


class Counter:
    """Counts one step. Weights that moved equally often share a tensor: one addition serves all."""

    def __init__(self) -> None:
        self.counted: dict[int, tuple[Tensor, Tensor, Any]] = {}
        self.later: dict[Any, Tensor] = {}

    def __call__(self, before: Tensor) -> tuple[Tensor, Any]:
        """Return the counter after this step, as it is kept and as a number."""
        if id(before) not in self.counted:
            if in_transform():
                after = before + 1
                number: Any = after.double()  # float32 would drift in the correction of the bias
            else:
                number = before.item() + 1
                kind = number, before.dtype, before.device
                if kind not in self.later:
                    self.later[kind] = before + 1
                after = self.later[kind]
            self.counted[id(before)] = before, after, number
        return self.counted[id(before)][1:]


def _have_tensors(values: Iterable[Any]) -> bool:
    """Say whether a setting is a tensor, or has one among its numbers."""
    return any(
        isinstance(v, Tensor) or (type(v) in (list, tuple) and _have_tensors(v)) for v in values
    )


def _are_wrapped(value: Any) -> bool:
    """Say whether a transform's tensor is among the numbers: PyTorch's checks can't read those."""
    if type(value) in (list, tuple):
        return any(map(_are_wrapped, value))
    return isinstance(value, Tensor) and is_wrapped(value)


def same(tensor: Tensor) -> Tensor:
    """Put a result where its first operand was, which has been donated."""
    return tensor


def new(tensor: Tensor) -> None:
    """Put a result into memory of its own."""


def _shared(kept: Moments) -> Moments:
    """Share what a step writes to: not the counters, which it replaces."""
    return {key: value if key == "step" else share(value) for key, value in kept.items()}


# --- arithmetic whose factors may be tensors: scheduled in a compiled step, stacked under vmap ----


def used(number: Any) -> bool:
    """Say whether a setting takes part in the formula: 0 leaves its term out."""
    if type(number) in _PLAIN:
        return bool(number)
    return isinstance(number, Tensor) or bool(number)


def place(out: Tensor | None) -> Tensor | None:
    """Return where a result goes: a transform of torch.func makes a new tensor each time."""
    return None if out is None or in_transform() else out


def add(a: Tensor, factor: Any, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``a + factor * b``."""
    if type(factor) not in _PLAIN and isinstance(factor, Tensor):
        return a + factor * b
    if out is None:
        return torch.add(a, b, alpha=factor)
    return torch.add(a, b, alpha=factor, out=place(out))


def lerp(a: Tensor, b: Tensor, weight: Any, out: Tensor | None = None) -> Tensor:
    """Return ``a + weight * (b - a)``."""
    if type(weight) not in _PLAIN and isinstance(weight, Tensor):
        return a + weight * (b - a)
    return torch.lerp(a, b, weight, out=place(out))


def addcmul(a: Tensor, factor: Any, b: Tensor, c: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``a + factor * b * c``."""
    if type(factor) not in _PLAIN and isinstance(factor, Tensor):
        return a + factor * b * c
    return torch.addcmul(a, b, c, value=factor, out=place(out))


def addcdiv(a: Tensor, factor: Any, b: Tensor, c: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``a + factor * b / c``."""
    if type(factor) not in _PLAIN and isinstance(factor, Tensor):
        return a + factor * b / c
    return torch.addcdiv(a, b, c, value=factor, out=place(out))
