"""The calls that a recording notes: forward, backward, step and their like.

They are recognised by their code objects while the statement runs. Nothing is patched and no hook
is registered, so the program that is watched is the program that runs without a ledger.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, RandomSampler, Subset, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from fnlib.factory import Model
from fnlib.ledger.looks.bytes import address, fingerprint, norm, parts, unreadable
from fnlib.ledger.looks.differ import Keeper
from fnlib.ledger.looks.watches import wrapped_by
from fnlib.ledger.recording.graphs import Graph, saved_by
from fnlib.ledger.recording.hidden import NOWHERE
from fnlib.ledger.recording.tracing import Outcome
from fnlib.network.backward import differentiate
from fnlib.torch_private import (
    DROPOUTS,
    NORMS,
    active_transform,
    initial_step,
    is_wrapped,
    steps_before,
    unsaved_buffers,
    version_of,
    wrapped_step,
)


class Recorder(Protocol):
    """What the handlers of calls ask a recorder, and tell it."""

    keeper: Keeper

    def event(self, kind: str, subject: str, **data: Any) -> dict[str, Any]: ...
    def dies(self, value: Any, data: dict[str, Any]) -> None: ...
    def passed(self, data: dict[str, Any], ages: frozenset[int]) -> None: ...
    def stepped(self) -> None: ...
    def records(self, frame: FrameType | None) -> bool: ...
    def is_root(self, module: Any) -> bool: ...
    def entry_of_age(self, age: int) -> int: ...
    def changed_since(self, ages: set[int]) -> bool: ...
    def graph_behind(self, roots: tuple[Any, ...]) -> Graph: ...
    def name_of_loose(self, weight: Any) -> str: ...
    def name_of(self, values: tuple[Any, ...]) -> str: ...


Handler = Callable[[Recorder, FrameType], "dict[str, Any] | Outcome | None"]

MASKS = (  # of torch.nn.functional; they have an argument `training`, which is True by default
    *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d),
    *(functional.alpha_dropout, functional.feature_alpha_dropout),
)
UNREAD = frozenset({"requires_grad", "train", "eval"})
FEW = 8  # gradients of unwatched weights that a step tells apart: a norm waits for the device
NEAR = 12  # calls between a forward and a dropout in it

_alive: list[CodeType] = []  # an identity tells an object only while it lives


@functools.cache
def handlers() -> dict[int, Handler]:
    """Map identities of the code objects of the calls of interest to what notes them.

    Identities, because hashing a code object goes through all its constants, at every call.
    """
    found: dict[int, Handler] = {}

    def on(function: Any, handler: Handler) -> None:
        of(inspect.unwrap(function).__code__, handler)

    def of(code: CodeType, handler: Handler) -> None:
        _alive.append(code)
        found[id(code)] = handler

    on(nn.Module.__call__, _forward)
    on(torch.Tensor.backward, _tensor_backward)
    on(torch.autograd.backward, _backward)
    on(torch.autograd.grad, _grad)
    if wrapped_step is not None:
        of(wrapped_step, step)
    else:  # each class has a step of its own
        for kind in _optimizers():
            on(kind.step, step)
    on(Optimizer.__init__, optimizer_built)
    on(Optimizer.zero_grad, _zero_grad)
    on(nn.Module.zero_grad, _zero_grad)
    on(nn.Module.load_state_dict, load)
    on(nn.Module.__setattr__, _attribute)
    for drop in MASKS:
        on(drop, _mask)
    on(Optimizer.load_state_dict, functools.partial(_noted, "load_state_dict"))
    on(nn.Module.state_dict, _module_state_dict)
    on(Optimizer.state_dict, _optimizer_state_dict)
    on(LRScheduler.__init__, _scheduler_built)
    on(LRScheduler.step, _scheduler_step)
    on(torch.optim.lr_scheduler.ReduceLROnPlateau.step, _scheduler_step)
    on(torch.optim.lr_scheduler.SequentialLR.step, _scheduler_step)
    schedulers = [
        kind for kind in vars(torch.optim.lr_scheduler).values() if isinstance(kind, type)
    ]
    for kind in schedulers:
        if issubclass(kind, LRScheduler) and "load_state_dict" in vars(kind):
            on(vars(kind)["load_state_dict"], _scheduler_load)
    on(DataLoader.__iter__, _iterator)
    on(torch.manual_seed, _seed)
    on(differentiate, _differentiate)
    on(Model.step, _functional_step)
    for clip in (nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_):
        on(clip, _clip)
    scaler = torch.amp.GradScaler
    on(scaler.scale, functools.partial(_scaler, "scale"))
    on(scaler.unscale_, functools.partial(_scaler, "unscale"))
    on(scaler.step, functools.partial(_scaler, "scaler step"))
    return found


def _optimizers() -> list[type[Optimizer]]:
    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, Optimizer) and kind is not Optimizer]


def _forward(recorder: Recorder, frame: FrameType) -> None:
    module = frame.f_locals["self"]
    caller = frame.f_back
    depends = depends_on_mode(module)
    if not (depends or recorder.records(caller) or recorder.is_root(module)):
        return
    label = recorder.keeper.module_label(module)
    if label is None:
        return
    recorder.event(
        "forward",
        label,
        training=module.training,
        grad_enabled=torch.is_grad_enabled(),
        inference=torch.is_inference_mode_enabled(),
        type=type(module).__name__,
        stateful=depends and module.training,
        depends=depends,
    )


def depends_on_mode(module: Any) -> bool:
    """Say whether a module computes something else, or keeps statistics, in training mode."""
    if isinstance(module, DROPOUTS):
        return bool(module.p > 0)
    if isinstance(module, NORMS):
        return bool(module.track_running_stats)
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return bool(module.dropout)
    return isinstance(module, nn.RReLU)


def _tensor_backward(recorder: Recorder, frame: FrameType) -> dict[str, Any] | None:
    here = frame.f_locals
    return _pass(recorder, "backward", (here["self"],), here, here["inputs"])


def _backward(recorder: Recorder, frame: FrameType) -> dict[str, Any] | None:
    if (
        frame.f_back is not None
        and frame.f_back.f_code is inspect.unwrap(torch.Tensor.backward).__code__
    ):
        return None  # noted by the method that called it
    here = frame.f_locals
    return _pass(recorder, "backward", _tensors(here["tensors"]) or (), here, here["inputs"])


def _grad(recorder: Recorder, frame: FrameType) -> dict[str, Any] | None:
    here = frame.f_locals
    return _pass(recorder, "grad", _tensors(here["outputs"]) or (), here, here["inputs"])


def _differentiate(recorder: Recorder, frame: FrameType) -> dict[str, Any] | None:
    here = frame.f_locals
    if not isinstance(here["loss"], Tensor) or active_transform() is not None:
        return None  # an error of its own, or noted as torch.autograd.grad
    return _pass(recorder, "grad", (here["loss"],), {**here, "create_graph": False}, here["leaves"])


def _tensors(given: Any) -> tuple[Any, ...] | None:
    """Return the tensors in an argument; ``None`` for a generator, which the function uses up."""
    if isinstance(given, Tensor):
        return (given,)
    if isinstance(given, Iterator):
        return None
    return tuple(given.values() if isinstance(given, Mapping) else given)


def _pass(
    recorder: Recorder, kind: str, roots: tuple[Any, ...], here: dict[str, Any], inputs: Any
) -> dict[str, Any]:
    """Note a backward pass: which weights it reaches, and which statements used them."""
    graph = recorder.graph_behind(roots)
    create = bool(here["create_graph"])
    retain = create if here["retain_graph"] is None else bool(here["retain_graph"])
    given = None if inputs is None else _tensors(inputs)
    only = None if given is None else set(map(id, given))
    weights: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    others = 0
    for key, leaf in graph.leaves.items():
        label = recorder.keeper.weight_label(leaf)
        if label is not None and (only is None or key in only):
            weights[label] = sorted({recorder.entry_of_age(age) for age in graph.uses[key]})
        elif label is None:
            name = recorder.name_of_loose(leaf)
            if name != NOWHERE or isinstance(leaf, nn.Parameter):
                loose.setdefault(name, []).append(recorder.keeper.token(leaf) or 0)
            else:
                others += 1
    saved: dict[str, list[int]] = {}
    for start, ages in (saved_by(roots) if recorder.changed_since(graph.ages) else {}).items():
        for held in recorder.keeper.at.get(start, ()):
            saved[held.label] = sorted({recorder.entry_of_age(age) for age in ages})
    data = recorder.event(
        kind,
        recorder.name_of(roots) if roots else "",
        retain_graph=retain,
        create_graph=create,
        raised=False,
        nodes=graph.nodes,
        weights=weights,
        loose=loose,
        inputs=others,
        loss=_plain(roots[0]) if len(roots) == 1 and type(roots[0]) is Tensor else None,
        saved=saved,
        squashed=graph.squashed
        and (*graph.squashed[:2], *map(recorder.entry_of_age, graph.squashed[2:])),
        autocast=torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
    )
    recorder.passed(data, frozenset(graph.ages))
    return data


def step(recorder: Recorder, frame: FrameType) -> None:
    """Note which weights an optimizer steps, with which gradients and settings."""
    here = frame.f_locals
    arguments = here.get("args", ())
    optimizer = arguments[0] if arguments else here.get("self")
    if not isinstance(optimizer, Optimizer):
        return
    with_gradient: list[Any] = []
    without: list[Any] = []
    unwatched, dead = 0, 0
    others: list[Tensor] = []
    shapes: dict[str, tuple[int, ...]] = {}
    held: list[tuple[int | None, ...]] = []
    for group in optimizer.param_groups:
        held.append(tuple(map(recorder.keeper.token, group["params"])))
        for weight in group["params"]:
            label = recorder.keeper.weight_label(weight)
            if label is None:
                unwatched += 1
                dead += weight.grad is None
                if weight.grad is not None and len(others) < FEW and not unreadable(weight.grad):
                    others.append(weight.grad)
            else:
                (without if weight.grad is None else with_gradient).append(label)
                if weight.grad is None:
                    shapes[label] = tuple(weight.shape)
    given = arguments[1] if len(arguments) > 1 else None
    closure = here.get("kwargs", here).get("closure", given)
    recorder.event(
        "step",
        recorder.keeper.label_of(optimizer),
        weights=tuple(with_gradient),
        without=tuple(without),
        shapes=shapes,
        unwatched=unwatched,
        dead=dead,
        others=tuple([(version_of(one), *map(norm, parts(one))) for one in others]),
        token=recorder.keeper.token(optimizer),
        held=tuple(held),
        closure=closure is not None,
        wraps=bool(wrapped_by(optimizer)),
        rates=tuple(group.get("lr") for group in optimizer.param_groups),
        type=f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
        aside={name: tuple(map(norm, some)) for name, some in _aside(optimizer).items()},
    )
    recorder.stepped()


def _aside(optimizer: Optimizer) -> dict[str, list[Tensor]]:
    """Return tensors that an optimizer keeps in attributes of its own, beside state and groups."""
    if type(optimizer).__module__.startswith("torch."):
        return {}
    held = {
        id(one) for group in optimizer.param_groups for w in group["params"] for one in (w, w.grad)
    }
    found: dict[str, list[Tensor]] = {}
    for name, value in vars(optimizer).items():
        if name not in ("state", "param_groups", "defaults") and not name.startswith("_"):
            some = [one for one in _inside(value) if id(one) not in held and not unreadable(one)]
            if some:
                found[name] = some
    return found


def _inside(value: Any, depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors in a value and in dicts and lists of it; keys may be weights."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)) and depth:
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _inside(entry, depth - 1)


def _optimizer_state_dict(recorder: Recorder, frame: FrameType) -> Outcome:
    optimizer = frame.f_locals["self"]
    own = type(optimizer).state_dict is not Optimizer.state_dict  # it may add to what it is given
    data = recorder.event(
        "state_dict",
        recorder.keeper.label_of(optimizer),
        token=recorder.keeper.token(optimizer),
        raised=False,
        lacks=(),
    )
    return Outcome(data) if own else _Saved(data, optimizer)


class _Saved(Outcome):
    """Adds the attributes with tensors that a state dict lacks; a hook may have put them in."""

    __slots__ = ("optimizer",)

    def __init__(self, data: dict[str, Any], optimizer: Optimizer) -> None:
        super().__init__(data)
        self.optimizer = optimizer

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Outcome:
        if event == "return":
            has = set(map(id, _inside(argument, 5)))
            self.data["lacks"] = tuple(
                name
                for name, some in _aside(self.optimizer).items()
                if not has.issuperset(map(id, some))
            )
        return super().__call__(frame, event, argument)


def optimizer_built(recorder: Recorder, frame: FrameType) -> None:
    """Note that an optimizer is built."""
    one = frame.f_locals["self"]
    recorder.event("optimizer built", type(one).__name__, token=recorder.keeper.token(one))


def _zero_grad(recorder: Recorder, frame: FrameType) -> None:
    """Note whose gradients are cleared: an unwatched optimizer may hold watched weights."""
    one = frame.f_locals["self"]
    held = (
        [group["params"] for group in one.param_groups]
        if isinstance(one, Optimizer)
        else [one.parameters()]
    )
    labels = [recorder.keeper.weight_label(weight) for some in held for weight in some]
    recorder.event(
        "zero_grad",
        recorder.keeper.label_of(one),
        weights=tuple([label for label in labels if label is not None]),
    )


def _noted(kind: str, recorder: Recorder, frame: FrameType) -> None:
    recorder.event(kind, recorder.keeper.label_of(frame.f_locals["self"]))


def load(recorder: Recorder, frame: FrameType) -> None:
    """Note which names a load will find, and which are missing or unexpected."""
    here = frame.f_locals
    module, given = here["self"], here["state_dict"]
    label = recorder.keeper.label_of(module)
    own = _saved(module)
    names = [str(name) for name in given] if isinstance(given, Mapping) else []
    mine = [name for name, one in own.items() if name in names and _is_one(given[name], one)]
    data = recorder.event(
        "load_state_dict",
        label,
        assign=bool(here["assign"]),
        strict=bool(here["strict"]),
        ties=_ties(label, module),
        size=len(own),
        given=len(names),
        own=len(mine),
        missing=tuple([name for name in own if name not in names]),
        unexpected=tuple([name for name in names if name not in own]),
        shapes={name: tuple(one.shape) for name, one in own.items() if not is_lazy(one)},
        given_shapes={name: tuple(getattr(given[name], "shape", ())) for name in names},
    )
    recorder.dies(module, data)


def _is_one(given: Any, own: Tensor) -> bool:
    """Say whether a value that is loaded is the memory that it is loaded into."""
    return isinstance(given, Tensor) and given.numel() > 0 and address(given) == address(own)


def _saved(module: nn.Module) -> dict[str, Tensor]:
    """Return what a module's state dict has, by name, without asking its hooks."""
    found: dict[str, Tensor] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        tables = vars(part)
        held = {**tables.get("_parameters", {}), **tables.get("_buffers", {})}
        left_out = unsaved_buffers(part)
        for name, one in held.items():
            if one is not None and name not in left_out:
                found[f"{prefix}.{name}" if prefix else name] = one
    return found


def _mask(recorder: Recorder, frame: FrameType) -> None:
    """Note a dropout mask that is drawn in the forward of a module in evaluation mode."""
    here = frame.f_locals
    if not here["training"] or not here["p"]:
        return
    caller, module = frame.f_back, None
    for _ in range(NEAR):
        if caller is None:
            return
        if caller.f_code.co_name == "forward":
            module = caller.f_locals.get("self")
            if isinstance(module, nn.Module) and not isinstance(module, DROPOUTS):
                break
            if recorder.keeper.module_label(module) is not None:
                return  # a layer of the model, whose own mode is noted
        caller = caller.f_back
    if isinstance(module, nn.Module) and not module.training:
        label = recorder.keeper.label_of(module)
        recorder.event("mask", label, grad_enabled=torch.is_grad_enabled())


def _attribute(recorder: Recorder, frame: FrameType) -> None:
    """Note a flag that is set on a module and that no module has: ``layer.requires_grad = False``."""
    here = frame.f_locals
    name, module = here["name"], here["self"]
    if name not in UNREAD or not isinstance(here["value"], bool):
        return
    caller = frame.f_back
    inside = caller is not None and caller.f_locals.get("self") is module  # it may read it itself
    if name in ("train", "eval") or not (inside or hasattr(type(module), name)):
        label = recorder.keeper.label_of(module)
        recorder.event("attribute", label, name=name, value=here["value"])


def _ties(label: str, value: Any) -> tuple[tuple[str, ...], ...]:
    """Return the weights of a module that have several names, as labels."""
    names: dict[int, list[str]] = {}
    if isinstance(value, nn.Module):
        for name, weight in value.named_parameters(remove_duplicate=False):
            names.setdefault(id(weight), []).append(f"{label}.{name}")
    return tuple(tuple(labels) for labels in names.values() if len(labels) > 1)


def _module_state_dict(recorder: Recorder, frame: FrameType) -> None:
    here = frame.f_locals
    if here.get("destination") is None:  # the parts of a module are asked with one
        recorder.event("state_dict", recorder.keeper.label_of(here["self"]))


def _scheduler_step(recorder: Recorder, frame: FrameType) -> None:
    scheduler = frame.f_locals["self"]
    caller = None if frame.f_back is None else frame.f_back.f_code
    if caller is not None and caller in (LRScheduler.__init__.__code__, initial_step):
        return
    label, optimizer = recorder.keeper.label_of, vars(scheduler).get("optimizer")
    recorder.event(
        "scheduler step",
        label(scheduler),
        optimizer=label(optimizer),
        early=steps_before(scheduler),
        token=recorder.keeper.token(_innermost(optimizer)),
        type=type(scheduler).__name__,
        scheduler=recorder.keeper.token(scheduler),
        mode=vars(scheduler).get("mode"),
        metric=_plain(frame.f_locals.get("metrics")),
        total=_length(scheduler),
    )


def _plain(metric: Any) -> float | None:
    """Return a metric as a number; a tensor on another device is not waited for."""
    if isinstance(metric, int | float):
        return float(metric)
    if not isinstance(metric, Tensor) or metric.device.type != "cpu":
        return None
    if is_wrapped(metric) or unreadable(metric) or metric.numel() != 1 or metric.is_complex():
        return None
    return float(metric.item())


def _length(scheduler: Any) -> int | None:
    """Return how many steps a schedule has, if it has an end."""
    known = vars(scheduler)
    found = next(
        (known[name] for name in ("total_steps", "T_max", "total_iters") if name in known), None
    )
    return found if isinstance(found, int) else None


def _innermost(optimizer: Any) -> Any:
    """Return the optimizer that does the steps of one that wraps it, as Accelerate's does."""
    for _ in range(3):  # not endlessly around two that hold each other
        inner = wrapped_by(optimizer) if isinstance(optimizer, Optimizer) else {}
        if len(inner) == 1:
            (optimizer,) = inner.values()
    return optimizer


def _scheduler_built(recorder: Recorder, frame: FrameType) -> None:
    here = frame.f_locals
    recorder.event(
        "scheduler built",
        type(here["self"]).__name__,
        optimizer=recorder.keeper.label_of(here["optimizer"]),
        token=recorder.keeper.token(_innermost(here["optimizer"])),
        scheduler=recorder.keeper.token(here["self"]),
        begins=here.get("last_epoch", -1) == -1,
    )


def _iterator(recorder: Recorder, frame: FrameType) -> None:
    loader = frame.f_locals["self"]
    data, sampler = loader.dataset, getattr(loader.batch_sampler, "sampler", loader.sampler)
    order: int | str | None = None
    if isinstance(sampler, DistributedSampler):
        order = sampler.epoch if sampler.shuffle else None
    elif isinstance(sampler, RandomSampler | WeightedRandomSampler):
        generator = sampler.generator or loader.generator
        order = None if generator is None else fingerprint(generator.get_state())
    whole, token = data, recorder.keeper.token
    while isinstance(whole, Subset):
        whole = whole.dataset
    weighted = isinstance(sampler, WeightedRandomSampler)
    recorder.event(
        "iterator",
        "(DataLoader)",
        batches=_batches(loader),
        order=order,
        shuffles=type(sampler).__name__,
        weights=len(sampler.weights) if weighted else None,
        data=token(data),
        size=_count(data),
        whole=token(whole),
    )


def _batches(loader: Any) -> int | None:
    """Count a loader's batches; a note that it was counted would have it warn about its stream."""
    before = dict(vars(loader))
    found = _count(loader)
    vars(loader).update(before)
    return found


def _count(value: Any) -> int | None:
    try:
        return len(value)
    except Exception:  # a stream has no length, and each class says so in its own way
        return None


def _scheduler_load(recorder: Recorder, frame: FrameType) -> None:
    one = frame.f_locals["self"]
    recorder.event(
        "scheduler load", recorder.keeper.label_of(one), scheduler=recorder.keeper.token(one)
    )


def _seed(recorder: Recorder, frame: FrameType) -> None:
    recorder.event("seed", "torch", seed=frame.f_locals.get("seed"))


def _functional_step(recorder: Recorder, frame: FrameType) -> None:
    recorder.event("functional step", recorder.name_of((frame.f_locals["self"],)))


def _clip(recorder: Recorder, frame: FrameType) -> Outcome:
    """Note which gradients are clipped; they are known when the function ends."""
    data = recorder.event("clip", frame.f_code.co_name, gradients=(), found=0)
    return _Clipped(data, recorder)


class _Clipped(Outcome):
    """Adds the places of the gradients that a clip has found, and how many these were."""

    __slots__ = ("recorder",)

    def __init__(self, data: dict[str, Any], recorder: Recorder) -> None:
        super().__init__(data)
        self.recorder = recorder

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Outcome:
        if event == "return":
            found = frame.f_locals.get("grads")
            found = [one for one in found if isinstance(one, Tensor)] if found else []
            at = self.recorder.keeper.at
            labels = [held.label for one in found for held in at.get(address(one), ())]
            self.data.update(gradients=tuple(labels), found=len(found))
        return self


def _scaler(kind: str, recorder: Recorder, frame: FrameType) -> None:
    """Note a call of a gradient scaler that is switched on; ``scale`` is what losses are scaled by."""
    here = frame.f_locals
    if not here["self"].is_enabled():
        return
    data: dict[str, Any] = {}
    if kind != "scale":
        data["optimizer"] = recorder.keeper.label_of(here["optimizer"])
        data["token"] = recorder.keeper.token(here["optimizer"])
    recorder.event(kind, recorder.keeper.label_of(here["self"]), **data)
