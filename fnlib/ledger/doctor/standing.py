"""What shows without a recording: who holds which tensor, in which mode, at which rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fnlib.ledger.doctor.report import Seen
from fnlib.ledger.entries import Finding
from fnlib.ledger.findings.rates import SETTINGS
from fnlib.ledger.findings.story import Severity, finding, parameters_of
from fnlib.ledger.findings.texts import built, code_of
from fnlib.ledger.looks.watches import leaves, wrapped_by
from fnlib.ledger.recording.calls import depends_on_mode
from fnlib.ledger.views.words import counted

Named = dict[str, Any]


def inspect(given: Named) -> list[Finding]:
    """Look for silent bugs in named objects as they are.

    Args:
        given: modules, optimizers, schedulers, dicts of tensors, tensors, by name; others are
            passed over.

    Returns:
        The findings; ``line`` is 0, since nothing has been recorded.
    """
    with torch.no_grad():
        return list(Objects(given).findings())


def seen_in(given: Named) -> Seen:
    """Say which of some named objects are looked at."""
    models, optimizers, others, left_out = [], [], [], []
    for name, value in given.items():
        kind = type(value).__name__
        if isinstance(value, nn.Module):
            weights = sum(1 for _ in value.parameters())
            size = f", {counted(weights, 'weight')}" if weights else ""
            models.append(f"{name} ({kind}{size})")
        elif isinstance(value, Optimizer):
            optimizers.append(f"{name} ({kind})")
        elif isinstance(value, dict | Tensor):
            others.append(f"{name} ({kind})")
        else:
            left_out.append(f"{name} ({kind}) is no module, optimizer, tensor or dict")
    return Seen(tuple(models), tuple(optimizers), tuple(others), left_out=tuple(left_out))


def memory_of(tensor: Tensor) -> int:
    """Return the address of a tensor's memory; 0 where it has none to share."""
    lazy = isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)
    if tensor.is_meta or tensor.layout is not torch.strided or lazy:
        return 0
    return tensor.untyped_storage().data_ptr() if tensor.numel() else 0


def _held_by(optimizer: Optimizer) -> dict[int, Tensor]:
    return {id(weight): weight for group in optimizer.param_groups for weight in group["params"]}


def _is_average(module: nn.Module) -> bool:
    """Say whether a module is a shell around one part that no backward reaches: a moving average."""
    alone = len(list(module.children())) == 1 and not isinstance(module, nn.Sequential)
    return alone and all(weight.grad is None for weight in module.parameters())


def _as_one(optimizers: dict[str, Optimizer]) -> dict[str, str]:
    """Return for each optimizer's name the first name of those that are one with it.

    An optimizer is one with those that it wraps, and with one whose state object it shows.

    Example:
        >>> weights = [torch.ones(1, requires_grad=True)]
        >>> inner, other = torch.optim.SGD(weights, lr=0.1), torch.optim.SGD(weights, lr=0.1)
        >>> other.state = inner.state
        >>> _as_one({"inner": inner, "other": other})
        {'inner': 'inner', 'other': 'inner'}
    """
    first = {name: name for name in optimizers}
    for name, one in optimizers.items():
        inner = list(map(id, wrapped_by(one).values()))
        for other, two in optimizers.items():
            if two is one or two.state is one.state or id(two) in inner:
                same = {first[name], first[other]}
                kept = next(label for label in optimizers if label in same)
                first = {label: kept if at in same else at for label, at in first.items()}
    return first


class Objects:
    """Named objects, and the rules that look at them."""

    def __init__(self, given: Named) -> None:
        self.modules = {name: one for name, one in given.items() if isinstance(one, nn.Module)}
        self.optimizers = {name: one for name, one in given.items() if isinstance(one, Optimizer)}
        self.one = _as_one(self.optimizers)
        self.kept = {
            name: value
            for name, value in given.items()
            if isinstance(value, dict | Tensor) and not isinstance(value, nn.Parameter)
        }
        self.weights: dict[str, nn.Parameter] = {}  # each once, under its first name
        self.owner: dict[str, str] = {}
        self.labels: dict[int, str] = {}
        for owner, module in self.modules.items():
            for name, weight in module.named_parameters():
                label = self.labels.setdefault(id(weight), f"{owner}.{name}")
                self.weights[label] = weight
                self.owner.setdefault(label, owner)

    def findings(self) -> Iterator[Finding]:
        """Ask every rule."""
        yield from self.one_module()
        yield from self.not_held()
        yield from self.held_twice()
        yield from self.lost_ties()
        yield from self.shared_state()
        yield from self.snapshots()
        yield from self.frozen()
        yield from self.modes()
        yield from self.rates()
        yield from self.padding()

    def found(self, code: str, severity: Severity, places: list[str], **fields: Any) -> Finding:
        """Make a finding; its fix names the module that the first place belongs to."""
        owners = [name for name in self.modules if f"{places[0]}.".startswith(f"{name}.")]
        fields.setdefault("model", max(owners, key=len, default="model"))
        return finding(code, severity, places, standing=True, **fields)

    def one_module(self) -> Iterator[Finding]:
        """Find a module under two names."""
        names: dict[int, str] = {}
        for name, module in self.modules.items():
            other = names.setdefault(id(module), name)
            if other != name:
                cure = f"{name} = copy.deepcopy({other})"
                yield self.found(
                    "one-module-two-names", "question", [name], name=name, other=other, cure=cure
                )

    def not_held(self) -> Iterator[Finding]:
        """Find weights that no optimizer holds, while one holds tensors that belong to no module."""
        held = {key for one in self.optimizers.values() for key in _held_by(one)}
        loose = [
            label
            for label, weight in self.weights.items()
            if weight.requires_grad and id(weight) not in held
        ]
        for name, optimizer in self.optimizers.items() if loose else ():
            orphans = [one for key, one in _held_by(optimizer).items() if key not in self.labels]
            if not orphans:
                continue
            trained = any(self.weights[label].grad is not None for label in loose)
            dead = all(weight.grad is None or weight.is_meta for weight in orphans)
            rate = optimizer.param_groups[0].get("lr")
            owned = {
                label: set(map(id, module.parameters())) for label, module in self.modules.items()
            }
            wanted = {*_held_by(optimizer), *(id(self.weights[label]) for label in loose)}
            yield self.found(
                "weight-not-in-optimizer", "certain" if trained and dead else "question", loose,
                optimizer=name, dead=counted(len(orphans), "tensor"),
                parameters=parameters_of(owned, wanted),
                kind=built(f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"),
                rate="" if rate is None else f", lr={float(rate):g}",
            )  # fmt: skip

    def held_twice(self) -> Iterator[Finding]:
        """Find weights in two optimizers, unless one wraps the other, as Lookahead does."""
        held: dict[str, dict[int, Tensor]] = {}
        for name, optimizer in self.optimizers.items():
            held.setdefault(self.one[name], {}).update(_held_by(optimizer))
        holders = {
            label: [name for name, weights in held.items() if key in weights]
            for key, label in self.labels.items()
        }
        shared = [label for label, names in holders.items() if len(names) > 1]
        if shared:
            first, second = holders[shared[0]][:2]
            smaller, larger = sorted((first, second), key=lambda name: len(held[name]))
            fields = {"optimizer": first, "other": second, "smaller": smaller, "larger": larger}
            yield self.found("weight-in-two-optimizers", "question", shared, **fields)

    def lost_ties(self) -> Iterator[Finding]:
        """Find two weights of one model with equal values in different memory.

        A frozen one beside one that trains is no lost tie: encoders that follow by momentum (MoCo,
        BYOL) begin like that.
        """
        alike: dict[tuple[Any, ...], list[str]] = {}
        for label, weight in self.weights.items():
            if memory_of(weight) and weight.dim() > 1 and weight.dtype.is_floating_point:
                shape = tuple(weight.shape)
                key = (self.owner[label], shape, weight.dtype, weight.device, weight.requires_grad)
                alike.setdefault(key, []).append(label)
        for labels in alike.values():
            for at, one in enumerate(labels):
                for other in labels[at + 1 :]:
                    a, b = self.weights[one], self.weights[other]
                    equal = memory_of(a) != memory_of(b) and torch.equal(a, b)
                    if equal and bool((a != a.flatten()[0]).any()):  # constants are always alike
                        fields = {"other": other, "other_code": code_of(other)}
                        yield self.found("tie-lost", "question", [one], **fields)

    def shared_state(self) -> Iterator[Finding]:
        """Find optimizer state that is a gradient's memory, or another optimizer's state."""
        gradients = {memory_of(one.grad) for one in self.weights.values() if one.grad is not None}
        owner: dict[int, tuple[str, str]] = {}
        for name, optimizer in self.optimizers.items():
            mine: list[str] = []
            shared: list[tuple[str, str]] = []
            for key, state in optimizer.state.items():
                where = self.labels.get(id(key), "state")
                for place, leaf in leaves(f"{name}.{where}", state):
                    start = memory_of(leaf) if isinstance(leaf, Tensor) else 0
                    if start and start in gradients:
                        mine.append(place)
                    first = owner.setdefault(start, (name, place))[0] if start else name
                    if self.one[first] != self.one[name]:
                        shared.append((place, owner[start][1]))
            if mine:
                yield self.found("state-is-the-gradient", "certain", mine)
            if shared:
                other = shared[0][1]
                fields = {"other": other, "optimizer": name, "source": other.split(".")[0]}
                places = [place for place, _ in shared]
                yield self.found("state-shared", "question", places, **fields)

    def snapshots(self) -> Iterator[Finding]:
        """Find kept values that share memory with weights."""
        at = {memory_of(weight): label for label, weight in self.weights.items()}
        at.pop(0, None)
        for name, value in self.kept.items():
            if id(value) in self.labels:
                continue
            tensors = (leaf for _, leaf in leaves(name, value) if isinstance(leaf, Tensor))
            places = [at[start] for leaf in tensors if (start := memory_of(leaf)) in at]
            if places:
                other = places[0] + (f" and {len(places) - 1} more" if len(places) > 1 else "")
                yield self.found("snapshot-shares-memory", "question", [name], other=other)

    def frozen(self) -> Iterator[Finding]:
        """Find frozen weights that the next step will move."""
        for name, optimizer in self.optimizers.items():
            will_move = [
                self.labels[key]
                for key, weight in _held_by(optimizer).items()
                if key in self.labels
                and not weight.requires_grad
                and weight.grad is not None
                and optimizer.state.get(weight)
            ]
            if will_move:
                code = "frozen-weight-with-moments"
                yield self.found(code, "question", will_move, optimizer=name)

    def modes(self) -> Iterator[Finding]:
        """Find parts in another mode than the model, and frozen parts whose statistics change."""
        for label, module in self.modules.items():
            asleep, awake, thawed = [], [], []
            frozen: set[int] = set()
            for name, part in module.named_modules():
                flags = [weight.requires_grad for weight in part.parameters()]
                still = bool(flags) and not any(flags)
                if still:
                    frozen.update(map(id, part.modules()))
                if not depends_on_mode(part):
                    continue
                place = f"{label}.{name}" if name else label
                keeps = any(buffer is not None for buffer in part._buffers.values())
                if part.training and keeps and still:
                    thawed.append(place)
                elif part.training and not module.training:
                    awake.append(place)
                elif not part.training and module.training and id(part) not in frozen:
                    asleep.append(place)
            if thawed:
                fields = {"module": thawed[0], "model": label}
                yield self.found("frozen-part-in-training-mode", "question", thawed, **fields)
            for places, mode, call in (
                (asleep, "evaluation", "train"),
                (awake, "training", "eval"),
            ):
                if places and not _is_average(module):
                    fields = {"mode": mode, "call": call, "model": label}
                    yield self.found("modes-differ", "question", places, **fields)

    def rates(self) -> Iterator[Finding]:
        """Find settings that no optimizer reads, and rates that differ from the one given."""
        known = set(map(id, self.optimizers.values()))
        inner = {
            name: [one for one in wrapped_by(outer).values() if id(one) in known]
            for name, outer in self.optimizers.items()
        }
        for name, optimizer in self.optimizers.items():
            if type(optimizer).__module__.startswith("torch.optim"):
                for setting in sorted(SETTINGS & vars(optimizer).keys()):
                    value = f"= {getattr(optimizer, setting)!r}"
                    fields = {"optimizer": name, "name": setting, "assigned": value}
                    place = f"{name}.{setting}"
                    yield self.found("rate-set-on-the-object", "certain", [place], **fields)
            if any(one.param_groups is optimizer.param_groups for one in inner.get(name, ())):
                continue  # they belong to the optimizer inside of it
            group, *others = optimizer.param_groups
            before, after = optimizer.defaults.get("lr"), group.get("lr")
            plain = isinstance(before, float) and isinstance(after, float) and before != after
            if plain and not others and "initial_lr" not in group:
                rates = {"optimizer": name, "before": before, "after": after}
                place = f"{name}.param_groups[0].lr"
                yield self.found("rate-overwritten", "question", [place], **rates)

    def padding(self) -> Iterator[Finding]:
        """Find embeddings whose padding row, zero when it is built, holds other numbers."""
        for owner, module in self.modules.items():
            for name, part in module.named_modules(prefix=owner):
                row = part.padding_idx if isinstance(part, nn.Embedding) else None
                if row is not None and memory_of(part.weight) and bool(part.weight[row].any()):
                    yield self.found(
                        "set-without-effect", "question", [name], source=f"padding_idx={row}",
                        because="A later write has filled its row. That row gets no gradient, so "
                        "padding keeps counting with those numbers.",
                        fixed=f"with torch.no_grad():\n    {code_of(name)}.weight[{row}].zero_()",
                    )  # fmt: skip
