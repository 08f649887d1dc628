"""Saving and loading parameters: one safetensors file, never unpickled."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file
from safetensors.torch import save_file
from torch import Tensor

from fnlib import errors
from fnlib.values.held import Held, Names
from fnlib.values.protect import is_sharded
from fnlib.values.trees import storable

_FORMAT = "fnlib.Parameters 1"


def save(held: Held, path: str | os.PathLike[str]) -> None:
    """Write a record to one file, all of it or nothing: a crash leaves the old file."""
    tensors: dict[str, Tensor] = {}

    def put(tensor: Tensor, flat: Tensor) -> str:
        name = str(len(tensors))
        tensors[name] = flat.cpu().clone()
        return name

    tree = described(held, put)
    path = Path(os.path.realpath(os.fsdecode(path)))  # a link goes on leading to the file
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    # Beside the old file, under a name of its own, with the rights of the old file.
    name = path.parent / f".fnlib-{uuid.uuid4().hex}"
    name.touch(exist_ok=False)
    try:
        if path.exists():
            name.chmod(path.stat().st_mode)
        written(name, tensors, {"format": _FORMAT, "tree": tree}, name.stat().st_mode)
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def written(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], rights: int
) -> None:
    """Write a safetensors file from the tensors' own memory, where `save_file` needs NumPy.

    Args:
        path: the file.
        tensors: contiguous, on the CPU.
        metadata: what the header says besides.
        rights: the mode of the file; safetensors gives its owner's alone.
    """
    if sys.byteorder == "big":  # the file has the other order, and `save_file` turns the bytes
        save_file(dict(tensors), path, dict(metadata))
    else:
        serialize_file(specs(tensors), path, dict(metadata))
    path.chmod(rights)


def specs(tensors: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    """Say to safetensors where in memory contiguous tensors on the CPU are."""
    return {
        name: TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=tensor.shape,
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in tensors.items()
    }


def load(path: str | os.PathLike[str]) -> Held:
    """Read what `save` wrote. See ``fnlib.Parameters.load``."""
    path = os.fsdecode(path)
    with open(path, "rb"):  # a missing or unreadable file is Python's own error
        pass
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                why = "`Parameters.save` didn't write this safetensors file"
                raise errors.NotAParametersFile(path, why)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        return restored(metadata["tree"], tensors)
    except SafetensorError as error:
        why = f"it is truncated or not a safetensors file ({error})"
        raise errors.NotAParametersFile(path, why) from error
    except MISFIT as error:
        if isinstance(error, errors.FnlibError):
            raise
        why = f"its description doesn't fit its tensors ({type(error).__name__}: {error})"
        raise errors.NotAParametersFile(path, why) from error


# --- a record as JSON, with its tensors put aside ---------------------------------------------

Put = Callable[[Tensor, Tensor], str]


def described(held: Held, put: Put) -> str:
    """Describe a record in JSON and put its tensors aside.

    Args:
        held: what a value holds; a sparse tensor of it can't be stored.
        put: given a tensor and its numbers in the order of memory (a view of one dimension), puts
            them aside and returns the name to find them by.
    """
    parts = held._asdict()
    names = parts.pop("names")
    parts |= {"aliases": dict(names.ties), "transient": sorted(names.unsaved)}
    parts |= {"resized": sorted(names.resized), "extra": {}}
    for name, value in names.extra.items():
        with contextlib.suppress(errors.CannotStore):  # left to the network that is bound
            parts["extra"][name] = storable(value, name)
    return json.dumps(_flatten(parts, put))


def restored(description: str, tensors: Mapping[str, Tensor]) -> Held:
    """Undo `described`, after a check: a file may be anybody's. Raises any of `MISFIT`."""
    return _checked(_unflatten(json.loads(description), tensors))


_AS_IT_IS = frozenset({str, int, bool, type(None)})
MISFIT = (KeyError, TypeError, ValueError, AttributeError, RuntimeError)


def _flatten(tree: Any, put: Put) -> Any:
    """Make a tree of JSON: each container says what it is, so that nothing is guessed on reading."""
    if type(tree) in _AS_IT_IS:
        return tree
    if isinstance(tree, Tensor):
        if tree.layout is not torch.strided:
            raise errors.CannotStore("A sparse tensor", tree, " that a safetensors file can't hold")
        if is_sharded(tree):
            why = " of which each rank holds a part: store `tensor.full_tensor()`"
            raise errors.CannotStore("A sharded tensor", tree, why)
        plain = tree.detach().resolve_conj().resolve_neg()
        # In the order of memory, so that channels-last weights come back channels-last.
        dense = plain.is_contiguous() or torch.empty_like(plain).stride() == plain.stride()
        plain = plain if dense else plain.contiguous()
        flat = torch.as_strided(plain, (plain.numel(),), (1,))
        return {
            "tensor": put(tree, torch.view_as_real(flat) if flat.is_complex() else flat),
            "shape": list(plain.shape),
            "stride": list(plain.stride()),
            "complex": plain.is_complex(),
        }
    if isinstance(tree, dict):
        return {"dict": [[_flatten(key, put), _flatten(value, put)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return {type(tree).__name__: [_flatten(value, put) for value in tree]}
    if isinstance(tree, float):
        return {"float": tree.hex()}  # exact, and JSON has no NaN
    if isinstance(tree, complex):
        return {"complex": [tree.real.hex(), tree.imag.hex()]}
    return tree


def _unflatten(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_flatten`."""
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        flat = tensors[tree["tensor"]]
        flat = torch.view_as_complex(flat) if tree["complex"] else flat
        shape, stride = tree["shape"], tree["stride"]
        extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if math.prod(shape) != flat.numel() or (flat.numel() and extent != flat.numel()):
            raise ValueError(
                f"tensor {tree['tensor']} has {flat.numel()} elements, which do not fill the shape {shape}"
            )
        made = torch.empty_strided(shape, stride, dtype=flat.dtype)
        torch.as_strided(made, (made.numel(),), (1,)).copy_(flat)
        return made
    ((kind, content),) = tree.items()
    if kind == "dict":
        return {_unflatten(key, tensors): _unflatten(value, tensors) for key, value in content}
    if kind == "float":
        return float.fromhex(content)
    if kind == "complex":
        return complex(*map(float.fromhex, content))
    return {"list": list, "tuple": tuple}[kind](_unflatten(value, tensors) for value in content)


def _checked(parts: Any) -> Held:
    """Return the record of parts whose kinds are as they should be."""
    parts = {"resized": [], "extra": {}, **parts}  # which older files don't have
    kinds = {"weights": dict, "buffers": dict, "extra": dict, "aliases": dict, "transient": list}
    for part, kind in (kinds | {"step_count": int, "rule": str | None}).items():
        if not isinstance(parts[part], kind):
            raise TypeError(f"{part} is a {type(parts[part]).__name__}")
    for name, tensor in {**parts["weights"], **parts["buffers"]}.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor)):
            raise TypeError(f"{name} is a {type(tensor).__name__}")
    unsaved, resized = (frozenset(map(str, parts[part])) for part in ("transient", "resized"))
    names = Names(parts["aliases"], unsaved, resized, parts["extra"])
    weights, buffers, state = parts["weights"], parts["buffers"], parts["state"]
    return Held(weights, buffers, state, parts["rule"], parts["step_count"], names)
