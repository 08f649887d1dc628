"""Values over machines: reduce gradients, broadcast parameters, compare replicas.

The engine is ``torch.distributed``; start it with ``torchrun`` and ``init_process_group``. Without a
process group each function returns what it was given, so that a script runs alone unchanged.

Every call first exchanges 24 bytes: which function, and a hash of the names and shapes. Ranks that
don't do the same then get a named error, where gloo would abort and other backends would wait. A
rank that dies or hangs is an error after the timeout of the group.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from fnlib import errors
from fnlib.gradient import Gradient
from fnlib.network.forward import Buffers
from fnlib.network.pool import Network
from fnlib.parameters import Parameters
from fnlib.values.check import refuse_graph
from fnlib.values.files import described, restored
from fnlib.values.held import Empty, Held, caller
from fnlib.values.protect import detached, is_sharded
from fnlib.values.replay import leaves_of
from fnlib.values.store import hash_of

__all__ = ["all_reduce", "broadcast", "same_everywhere"]
Given = TypeVar("Given")
Exchanged = TypeVar("Exchanged", bound=Mapping[str, Tensor])  # a gradient, buffers, parameters
_REDUCE = "gradient = fnlib.distributed.all_reduce(model.backward(loss))"
_SAME = "fnlib.distributed.same_everywhere(parameters)"
_BROADCAST = "parameters = fnlib.distributed.broadcast(parameters)"


class Entry(NamedTuple):
    """A tensor that takes part in a reduction on every rank."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def all_reduce(value: Exchanged) -> Exchanged:
    """Return the mean over all ranks: a value in, a value out.

    An entry that a rank lacks counts as zero there, as in ``DistributedDataParallel``; one that
    every rank lacks stays absent. For two ranks the bits are those of ``DistributedDataParallel``.

    ``mean = (1/n) * g_0 + ... + (1/n) * g_(n-1)``, divided first, so that a sum can't overflow.

    Args:
        value: what ``model.backward`` or ``model.with_buffers`` returned. Of buffers, floating ones
            are averaged; counters stay this rank's.

    Returns:
        A value of the same kind, with the same bits on every rank. Nothing that was given changes.

    Raises:
        RanksDisagree: another rank calls something else, or its tensors have other shapes.
        RankLost: a rank died, or didn't answer within the timeout of the process group.
        CannotReduce: a sparse tensor, or a part of a tensor that is sharded.
        WrongParameters: this is no mapping of tensors.

    >>> import fnlib, torch
    >>> model = fnlib.Sequential(torch.nn.Linear(2, 1))(fnlib.Parameters(seed=0))
    >>> gradient = model.backward(model(torch.ones(1, 2)).sum())
    >>> fnlib.distributed.all_reduce(gradient) is gradient       # without a process group
    True
    """
    if isinstance(value, Gradient):
        tensors, network = detached(value._tensors), value._network
        _check(tensors, _REDUCE)
        if alone():
            return value
        like = _like_a_gradient(tensors, network) if isinstance(network, Network) else tensors
        means = _mean("all_reduce of a gradient", tensors, like)
        return cast(Exchanged, Gradient._of(means, network, value._ties))

    def mean(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        floats = {n: t for n, t in tensors.items() if t.is_floating_point() or t.is_complex()}
        return {**tensors, **_mean("all_reduce of buffers", floats, floats)}

    return _mapped(value, mean, _REDUCE)


def broadcast(value: Exchanged) -> Exchanged:
    """Return the value of rank 0 on every rank.

    Args:
        value: parameters, which may be empty on all ranks but 0, or the buffers that
            ``model.with_buffers`` returned.

    Returns:
        What rank 0 gave: all state of parameters, moments and step count included.

    Raises:
        RanksDisagree, RankLost, CannotReduce, CannotStore: see `all_reduce`.
        EmptyParameters, CarriesGraph, Donated: rank 0 has nothing to give.

    >>> import fnlib, torch
    >>> parameters = fnlib.Parameters.from_module(torch.nn.Linear(2, 1))
    >>> fnlib.distributed.broadcast(parameters) is parameters     # without a process group
    True
    """
    if isinstance(value, Parameters):
        return value if alone() else cast(Exchanged, _broadcast(value))

    def of_first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        entries = [_entry(name, tensor) for name, tensor in tensors.items()]
        _agree("broadcast of buffers", entries)
        sent = _sent(_bytes(tensors.values()), sum(t.nbytes for t in tensors.values()))
        return dict(zip(tensors, _parts(sent, tensors.values()), strict=True))

    return _mapped(value, of_first, _BROADCAST)


def same_everywhere(value: Parameters | Gradient) -> None:
    """Check that every rank holds the same value, byte for byte.

    Args:
        value: parameters, with all state, or a gradient, to find the line at which ranks diverge.

    Raises:
        ReplicasDiffer: they differ; the message names the first weight, the ranks and the step.
        RanksDisagree, RankLost: see `all_reduce`.

    >>> import fnlib, torch
    >>> parameters = fnlib.Parameters.from_module(torch.nn.Linear(2, 1))
    >>> fnlib.distributed.same_everywhere(parameters)     # without a process group: always
    """
    if isinstance(value, Parameters):
        held, step = value._held("be compared"), str(value.step_count)
        tensors, leaves = {**held.weights, **held.buffers}, dict(leaves_of(held))
    elif isinstance(value, Gradient):
        tensors, step = dict(detached(value._tensors)), "of this gradient"
        leaves = {f"gradient[{name!r}]": tensor for name, tensor in tensors.items()}
    else:
        raise _wrong(value, _SAME)
    _check(tensors, _SAME)
    if alone():
        return
    hashes = {name: _hash(leaf) for name, leaf in leaves.items()}
    if len(set(meet("same_everywhere", _digest(hashes)))) == 1:
        return
    everybody: list[tuple[str, dict[str, str]]] = gathered((step, hashes))
    names = dict.fromkeys(name for _, found in everybody for name in found)
    for name in names:
        groups = _groups([found.get(name) for _, found in everybody])
        if len(groups) > 1:
            differ = sum(len({found.get(n) for _, found in everybody}) > 1 for n in names)
            steps = " and ".join(sorted({count for count, _ in everybody}))
            ranks = " against ".join(map(_ranks, groups.values()))
            raise errors.ReplicasDiffer(name, ranks, steps, differ, len(names))


def _like_a_gradient(tensors: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """Return tensors like all that a gradient may have, in order, of the value's dtypes."""
    dtypes = {network.weights[name].dtype: tensors[name].dtype for name in tensors}
    like = {name: network.weights[name] for name in network.trained_names}
    return {
        name: tensors[name] if name in tensors else w.to(dtypes.get(w.dtype, w.dtype))
        for name, w in like.items()
    }


def _mean(
    call: str, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Average tensors like those of any rank, each with a mark that says whether it is there."""
    entries = _agree(call, [_entry(name, tensor) for name, tensor in like.items()])
    device = next((tensor.device for tensor in tensors.values()), _device())
    ours = {
        name: tensors[name]
        if name in tensors
        else torch.zeros(shape, dtype=getattr(torch, dtype), device=device)
        for name, shape, dtype in entries
    }
    found: dict[str, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in ours.values()):  # one, but for mixed ones
        names = [name for name, tensor in ours.items() if tensor.dtype == dtype]
        pieces = [ours[name].reshape(-1) / dist.get_world_size() for name in names]
        there = torch.tensor([float(n in tensors) for n in names], dtype=dtype, device=device)
        flat = torch.cat([*pieces, there])
        _run(call, functools.partial(dist.all_reduce, _real(flat)))
        *parts, marks = flat.split([*(piece.numel() for piece in pieces), len(names)])
        for name, part, mark in zip(names, parts, marks.tolist(), strict=True):
            if mark:
                found[name] = torch.empty_like(ours[name]).copy_(part.view(ours[name].shape))
    return {name: found[name] for name in ours if name in found}


def _real(flat: Tensor) -> Tensor:
    return torch.view_as_real(flat) if flat.is_complex() else flat


def _entry(name: str, tensor: Tensor) -> Entry:
    return Entry(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _mapped(
    value: Any, function: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], right: str
) -> Any:
    """Apply a function to buffers, and to the weights that their forward pass changed."""
    if not isinstance(value, Mapping):
        raise _wrong(value, right)
    tensors = value._tensors if isinstance(value, Buffers) else dict(value)
    _check(tensors, right)
    if alone():
        return value
    if not isinstance(value, Buffers):
        return function(tensors)
    moved = {f"weight {name}": tensor for name, tensor in value.weights.items()}
    found = function({**tensors, **moved})
    weights = {name: found[f"weight {name}"] for name in value.weights}
    buffers = {name: found[name] for name in tensors}
    return Buffers(buffers, weights, value.resized, value.passes, value.behind, value._ties)


# --- bytes ----------------------------------------------------------------------------------------


def _broadcast(parameters: Parameters) -> Parameters:
    """Send a value as a file would hold it: a description, and the bytes of its tensors."""
    call = "broadcast of parameters"
    meet(call)
    first = dist.get_rank() == 0
    head, data, failed = b"", torch.empty(0, dtype=torch.uint8), None
    if first:
        try:
            head, data = _packed(refuse_graph(parameters._held("be broadcast"), "be broadcast"))
        except errors.FnlibError as error:  # the other ranks wait for something
            failed = error
    sizes = torch.tensor([len(head), data.numel()], dtype=torch.int64, device=_device())
    _run(call, lambda: dist.broadcast(sizes, 0))
    if failed is not None:
        raise failed
    size, count = sizes.tolist()
    if not size:
        raise errors.RanksDisagree("rank 0 has no parameters to broadcast", caller())
    said = torch.frombuffer(bytearray(head), dtype=torch.uint8) if first else None
    described_as, numbers = _sent(said, size), _sent(data if first else None, count)
    if first:
        return parameters
    tree, entries = json.loads(bytes(described_as.tolist()))
    like = [torch.empty(n, dtype=getattr(torch, dtype), device="meta") for n, dtype in entries]
    tensors = {str(i): part for i, part in enumerate(_parts(numbers.cpu(), like))}
    found = Parameters._of(restored(tree, tensors))
    if isinstance(parameters._content, Empty):
        return found
    here = [weight.device for weight in parameters._held().weights.values()]
    return found.to(here[0]) if here else found


def _packed(held: Held) -> tuple[bytes, Tensor]:
    parts: list[Tensor] = []

    def put(tensor: Tensor, flat: Tensor) -> str:
        parts.append(flat)
        return str(len(parts) - 1)

    tree = described(held, put)
    entries = [(part.numel(), _entry("", part).dtype) for part in parts]
    return json.dumps([tree, entries]).encode(), _bytes(parts)


def _bytes(tensors: Iterable[Tensor]) -> Tensor:
    """Copy tensors into one piece of memory."""
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    plain = [_real(t).reshape(-1).contiguous().view(torch.uint8) for t in flat]
    return torch.cat(plain) if plain else torch.empty(0, dtype=torch.uint8)


def _parts(data: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """Undo `_bytes`."""
    like = list(like)
    pieces = data.split([tensor.nbytes for tensor in like]) if like else ()
    found = []
    for piece, tensor in zip(pieces, like, strict=True):
        part = piece.clone().view(tensor.dtype).view(tensor.shape)
        device = part.device if tensor.is_meta else tensor.device
        found.append(torch.empty_like(tensor, device=device).copy_(part))
    return found


def _sent(data: Tensor | None, size: int) -> Tensor:
    """Return the bytes of rank 0."""
    device = _device()
    room = torch.empty(size, dtype=torch.uint8, device=device)
    if dist.get_rank() == 0 and data is not None:
        room = data.to(device)
    if size:
        _run("broadcast", lambda: dist.broadcast(room, 0))
    return room


# --- what ranks say to each other -----------------------------------------------------------------


def alone() -> bool:
    """Say whether there is one rank, or no process group."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


def _device() -> torch.device:
    """Return where the backend of the process group works."""
    if "nccl" in str(dist.get_backend()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _agree(call: str, entries: Sequence[Entry]) -> list[Entry]:
    """Check that all ranks are about to send the same; return what they will send.

    Gradients made by hand may lack entries that another rank has; then all send all of them.
    """
    if len(set(meet(call, _digest(entries)))) == 1:
        return list(entries)
    everybody: list[list[Entry]] = [
        [Entry(*entry) for entry in theirs] for theirs in gathered([tuple(e) for e in entries])
    ]
    merged: dict[str, Entry] = {}
    for entry in (entry for theirs in everybody for entry in theirs):
        if merged.setdefault(entry.name, entry) != entry:
            named = [{e.name: f"{e.shape} {e.dtype}" for e in theirs} for theirs in everybody]
            shapes = _against([theirs.get(entry.name) for theirs in named])
            raise errors.RanksDisagree(f"'{entry.name}' is {shapes}", caller())
    if "gradient" not in call:
        counts = _against([str(len(theirs)) for theirs in everybody])
        raise errors.RanksDisagree(f"the number of tensors is {counts}", caller())
    return list(merged.values())


def meet(call: str, digest: bytes = b"") -> list[bytes]:
    """Tell all ranks what this one is about to do, and return what each says.

    Raises:
        RanksDisagree: another rank is about to do something else.
    """
    said = hashlib.sha256(call.encode()).digest()[:8] + digest.ljust(16, b"\0")
    mine = torch.tensor(list(said), dtype=torch.uint8, device=_device())
    everybody = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    _run(call, lambda: dist.all_gather(everybody, mine))
    found = [bytes(theirs.tolist()) for theirs in everybody]
    if len({theirs[:8] for theirs in found}) > 1:
        calls = [f"{theirs} at {where}" for theirs, where in gathered((call, caller()))]
        raise errors.RanksDisagree(_against(calls), caller())
    return [theirs[8:] for theirs in found]


def gathered(mine: Any) -> list[Any]:
    """Return what every rank gave, in the order of ranks."""
    everybody: list[Any] = [None] * dist.get_world_size()
    _run("a comparison", lambda: dist.all_gather_object(everybody, mine))
    return everybody


def _run(call: str, collective: Callable[[], object]) -> None:
    """Run a collective, with a named error where a rank doesn't take part."""
    try:
        collective()
    except RuntimeError as error:
        raise errors.RankLost(call, str(error).splitlines()[0]) from error


def _digest(thing: Any) -> bytes:
    return hashlib.sha256(repr(thing).encode()).digest()[:16]


def _hash(leaf: Any) -> str:
    if not isinstance(leaf, Tensor):
        return repr(leaf)
    flat = _real(leaf.detach().resolve_conj().resolve_neg()).cpu().reshape(-1).clone()
    return f"{tuple(leaf.shape)} {hash_of(flat)}"


def _groups(answers: Sequence[Given]) -> dict[Given, list[int]]:
    """Return which ranks gave which answer."""
    groups: dict[Given, list[int]] = {}
    for rank, answer in enumerate(answers):
        groups.setdefault(answer, []).append(rank)
    return groups


def _against(answers: Sequence[str | None]) -> str:
    """Write which ranks gave which answer: ``(3,) float32 on rank 0, absent on ranks 1, 2``."""
    groups = _groups(answers).items()
    return ", ".join(f"{answer or 'absent'} on {_ranks(ranks)}" for answer, ranks in groups)


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'' if len(ranks) == 1 else 's'} {', '.join(map(str, ranks))}"


def _check(tensors: Mapping[str, Tensor], right: str) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise _wrong({name: tensor}, right)
        if is_sharded(tensor):
            what = "a DTensor, which autograd reduces by itself"
            raise errors.CannotReduce(name, what, "parameters = model.step(gradient)")
        if tensor.layout is not torch.strided:
            what = "sparse, and ranks may have other indices"
            dense = "gradient = all_reduce(gradient.map(Tensor.to_dense))"
            raise errors.CannotReduce(name, what, dense)


def _wrong(value: Any, right: str) -> errors.WrongParameters:
    return errors.WrongParameters(
        "Ranks exchange gradients, buffers and parameters", f"got {type(value).__name__}", right
    )
