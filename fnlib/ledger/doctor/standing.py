"""What shows without a recording: who holds which tensor, in which mode, at which rate."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fnlib.ledger.doctor.report import Seen
from fnlib.ledger.entries import Finding
from fnlib.ledger.findings.rates import SETTINGS
from fnlib.ledger.findings.story import Severity, finding
from fnlib.ledger.findings.texts import built, code_of
from fnlib.ledger.looks.watches import leaves, wrapped_by
from fnlib.ledger.recording.calls import depends_on_mode
from fnlib.ledger.views.captions import counted

Named = dict[str, Any]


def inspect(given: Named) -> list[Finding]:
    """Look for silent bugs in named objects as they are.

    Args:
        given: modules, optimizers, schedulers, dicts of tensors, tensors, by name; anything else is passed over.

    Returns:
        The findings; ``line`` is 0, since nothing has been recorded.
    """
    modules = {name: value for name, value in given.items() if isinstance(value, nn.Module)}
    optimizers = {name: value for name, value in given.items() if isinstance(value, Optimizer)}
    kept = {
        name: value
        for name, value in given.items()
        if isinstance(value, (dict, Tensor)) and not isinstance(value, nn.Parameter)
    }
    weights = dict(_weights(modules))
    with torch.no_grad():
        found = [
            *_one_module(modules),
            *_held(weights, optimizers),
            *_twice(weights, optimizers),
            *_ties(weights),
            *_memory(weights, optimizers),
            *_snapshots(weights, kept),
            *_frozen(weights, optimizers),
            *_modes(modules),
            *_rates(optimizers),
        ]
    return found


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


def names_for(objects: tuple[Any, ...], frame: FrameType) -> Named:
    """Return the names that objects have where they were passed, else their class."""
    names: Named = {}
    for value in objects:
        spaces = (frame.f_locals, frame.f_globals)
        known = [
            name
            for space in spaces
            for name, held in space.items()
            if held is value and name not in names and name[0] != "_"
        ]
        kind = type(value).__name__.lower()
        name = known[0] if known else kind
        number = 1
        while name in names:
            number += 1
            name = f"{kind}_{number}"
        names[name] = value
    return names


def _weights(modules: Named) -> Iterator[tuple[str, nn.Parameter]]:
    """Every weight once, under its first name."""
    seen: set[int] = set()
    for label, module in modules.items():
        for name, weight in module.named_parameters():
            if id(weight) not in seen:
                seen.add(id(weight))
                yield f"{label}.{name}", weight


def memory_of(tensor: Tensor) -> int:
    """Identity of a tensor's memory; 0 where it has none to share."""
    if (
        tensor.is_meta
        or tensor.layout is not torch.strided
        or isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer))
    ):
        return 0
    return tensor.untyped_storage().data_ptr() if tensor.numel() else 0


def _found(code: str, severity: Severity, places: list[str], **fields: Any) -> Finding:
    fields.setdefault("model", places[0].partition(".")[0])
    return finding(code, severity, places, standing=True, **fields)


def _rule_of(optimizer: Optimizer) -> dict[str, str]:
    """Return an optimizer's class and rate as Python."""
    rate = optimizer.param_groups[0].get("lr")
    kind = built(f"{type(optimizer).__module__}.{type(optimizer).__qualname__}")
    return {"kind": kind, "rate": "" if rate is None else f", lr={float(rate):g}"}


def _and_more(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more"


def _one_module(modules: Named) -> Iterator[Finding]:
    names: dict[int, str] = {}
    for name, module in modules.items():
        other = names.setdefault(id(module), name)
        if other != name:
            yield _found("one-module-two-names", "question", [name], name=name, other=other)


def _held(weights: Named, optimizers: Named) -> Iterator[Finding]:
    """Weights that no optimizer holds, and tensors in an optimizer that belong to no module."""
    held = {
        id(weight)
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    mine = {id(weight) for weight in weights.values()}
    loose = [
        label
        for label, weight in weights.items()
        if weight.requires_grad and id(weight) not in held
    ]
    if not loose or not mine:
        return
    for name, optimizer in optimizers.items():
        orphans = [
            weight
            for group in optimizer.param_groups
            for weight in group["params"]
            if id(weight) not in mine
        ]
        if not orphans:
            continue
        trained = any(weights[label].grad is not None for label in loose)
        dead = all(weight.grad is None or weight.is_meta for weight in orphans)
        yield _found(
            "weight-not-in-optimizer",
            "certain" if trained and dead else "question",
            loose,
            optimizer=name,
            dead=counted(len(orphans), "tensor"),
            **_rule_of(optimizer),
        )


def _twice(weights: Named, optimizers: Named) -> Iterator[Finding]:
    """Weights that two optimizers hold, unless one of these wraps the other, as Lookahead does, and steps it itself."""
    wrapped = {
        id(inner) for optimizer in optimizers.values() for inner in wrapped_by(optimizer).values()
    }
    holders: dict[int, list[str]] = {}
    for name, optimizer in optimizers.items():
        if id(optimizer) in wrapped:
            continue
        for weight in {
            id(weight) for group in optimizer.param_groups for weight in group["params"]
        }:
            holders.setdefault(weight, []).append(name)
    shared = [label for label, weight in weights.items() if len(holders.get(id(weight), ())) > 1]
    if shared:
        first, second = holders[id(weights[shared[0]])][:2]

        def size(name: str) -> int:
            return sum(len(group["params"]) for group in optimizers[name].param_groups)

        yield _found(
            "weight-in-two-optimizers",
            "question",
            shared,
            optimizer=first,
            other=second,
            **dict(zip(("smaller", "larger"), sorted((first, second), key=size), strict=True)),
        )


def _ties(weights: Named) -> Iterator[Finding]:
    """Two weights of one model that hold the same numbers in different memory: a tie that was lost in a copy or a load.

    A frozen one beside one that trains is no lost tie: so begin encoders that follow by momentum (MoCo, BYOL).
    """
    alike: dict[tuple[Any, ...], list[str]] = {}
    for label, weight in weights.items():
        if memory_of(weight) and weight.dim() > 1 and weight.dtype.is_floating_point:
            alike.setdefault(
                (label.split(".")[0], tuple(weight.shape), weight.dtype, weight.device), []
            ).append(label)
    for labels in alike.values():
        for at, one in enumerate(labels):
            for other in labels[at + 1 :]:
                a, b = weights[one], weights[other]
                alike_in_use = a.requires_grad == b.requires_grad
                if (
                    alike_in_use
                    and memory_of(a) != memory_of(b)
                    and torch.equal(a, b)
                    and not bool((a == a.flatten()[0]).all())
                ):
                    yield _found(
                        "tie-lost", "question", [one], other=other, other_code=code_of(other)
                    )


def _memory(weights: Named, optimizers: Named) -> Iterator[Finding]:
    """Optimizer state that is the memory of a gradient, or of another optimizer's state."""
    gradients = {
        memory_of(weight.grad): f"{label}.grad"
        for label, weight in weights.items()
        if weight.grad is not None
    }
    labels = {id(weight): label for label, weight in weights.items()}
    owner: dict[int, tuple[str, str]] = {}
    for name, optimizer in optimizers.items():
        mine: list[str] = []
        shared: list[tuple[str, str]] = []
        for key, state in optimizer.state.items():
            where = labels.get(id(key), "state")
            for place, leaf in leaves(f"{name}.{where}", state):
                start = memory_of(leaf) if isinstance(leaf, Tensor) else 0
                if start and start in gradients:
                    mine.append(place)
                if start and owner.setdefault(start, (name, place))[0] != name:
                    shared.append((place, owner[start][1]))
        if mine:
            yield _found("state-is-the-gradient", "certain", mine)
        if shared:
            other = shared[0][1]
            yield _found(
                "state-shared",
                "question",
                [place for place, _ in shared],
                other=other,
                optimizer=name,
                source=other.split(".")[0],
            )


def _snapshots(weights: Named, kept: Named) -> Iterator[Finding]:
    at = {start: label for label, weight in weights.items() if (start := memory_of(weight))}
    for name, value in kept.items():
        if isinstance(value, Tensor) and any(value is weight for weight in weights.values()):
            continue
        places = [
            at[start]
            for _, leaf in leaves(name, value)
            if isinstance(leaf, Tensor) and (start := memory_of(leaf)) in at
        ]
        if places:
            yield _found("snapshot-shares-memory", "question", [name], other=_and_more(places))


def _frozen(weights: Named, optimizers: Named) -> Iterator[Finding]:
    for name, optimizer in optimizers.items():
        held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        will_move = [
            label
            for label, weight in weights.items()
            if id(weight) in held
            and not weight.requires_grad
            and weight.grad is not None
            and optimizer.state.get(weight)
        ]
        if will_move:
            yield _found("frozen-weight-with-moments", "question", will_move, optimizer=name)


def _modes(modules: Named) -> Iterator[Finding]:
    """Parts whose mode differs from the model's, and frozen parts whose statistics go on moving."""
    for label, module in modules.items():
        asleep, awake, thawed = [], [], []
        frozen: set[int] = set()
        for name, part in module.named_modules():
            own = list(part.parameters())
            if own and not any(weight.requires_grad for weight in own):
                frozen.update(map(id, part.modules()))
            if not depends_on_mode(part):
                continue
            place = f"{label}.{name}" if name else label
            keeps = any(buffer is not None for buffer in part._buffers.values())
            if part.training and keeps and own and not any(weight.requires_grad for weight in own):
                thawed.append(place)
            elif part.training and not module.training:
                awake.append(place)
            elif not part.training and module.training and id(part) not in frozen:
                asleep.append(place)
        if thawed:
            fields = {"module": thawed[0], "model": label}
            yield _found("frozen-part-in-training-mode", "question", thawed, **fields)
        for places, mode in ((asleep, "evaluation"), (awake, "training")):
            if places:
                call = "train" if mode == "evaluation" else "eval"
                fields = {"mode": mode, "model": label, "call": call}
                yield _found("modes-differ", "question", places, **fields)


def _rates(optimizers: Named) -> Iterator[Finding]:
    for name, optimizer in optimizers.items():
        if type(optimizer).__module__.startswith("torch.optim"):
            for setting in sorted(SETTINGS & vars(optimizer).keys()):
                yield _found(
                    "rate-set-on-the-object",
                    "certain",
                    [f"{name}.{setting}"],
                    optimizer=name,
                    name=setting,
                    assigned=f"= {getattr(optimizer, setting)!r}",
                )
        if len(optimizer.param_groups) == 1 and "initial_lr" not in (
            group := optimizer.param_groups[0]
        ):
            built, now = optimizer.defaults.get("lr"), group.get("lr")
            if isinstance(built, float) and isinstance(now, float) and built != now:
                yield _found(
                    "rate-overwritten",
                    "question",
                    [f"{name}.param_groups[0].lr"],
                    optimizer=name,
                    before=built,
                    after=now,
                )
