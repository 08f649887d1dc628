"""A folder of records, one safetensors file each: what did not change is stored once.

A tensor is named by the hash of its content. A file holds the tensors that no earlier file had, and
says in which file the others are. Files are written whole or not at all: write, fsync, rename,
fsync of the folder.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import uuid
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open, serialize
from torch import Tensor

from fnlib import errors
from fnlib.torch_private import is_cow
from fnlib.values.files import MISFIT, described, restored, specs, written
from fnlib.values.held import Held

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_KIND, _VERSION = "fnlib.History", 1
_FILE = re.compile(r"(\d{6,})\.safetensors")
_stores: weakref.WeakSet[Store] = weakref.WeakSet()
Hashed = dict[int, tuple[weakref.ref[Tensor], str]]


class Header(NamedTuple):
    """What a file says of its record: all but the numbers."""

    tree: str
    places: dict[int, list[str]]  # file -> names of the tensors that are in it
    environment: dict[str, str]


class Store:
    """Read and write the records of a folder, which the first `write` makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.indices = self._found()  # of the records that are stored, in order
        self._known: dict[str, int] | None = None  # name of a stored tensor -> its file
        # The tensors of the last record, by identity: values never change, so their hashes hold.
        self._hashed: Hashed = {}
        # Releases the lock that makes this the one writer.
        self._release: weakref.finalize[..., Store] | None = None
        _stores.add(self)

    # --- reading ----------------------------------------------------------------------------------

    def _found(self) -> list[int]:
        """List the records in the folder."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(int(found[1]) for name in names if (found := _FILE.fullmatch(name)))

    def path(self, index: int) -> Path:
        """Name the file of a record."""
        return self.folder / f"{index:06}.safetensors"

    def _rest(self, index: int) -> Path:
        """Name the file of tensors that outlive their record, because later ones need them."""
        return self.folder / f"{index:06}-tensors.safetensors"

    def read(self, index: int) -> Held:
        """Read a record, bit for bit, on the CPU, or raise `DamagedHistory`."""
        header, tensors = self.header(index), {}
        for file, names in header.places.items():
            tensors.update(self._tensors(file, names))
        try:
            return restored(header.tree, tensors)
        except MISFIT as error:
            raise _damaged(self.path(index), f"its description doesn't fit ({error})") from error

    def header(self, index: int) -> Header:
        """Read all of a record but its numbers."""
        path = self.path(index)
        with _opened(path) as file:
            said: Mapping[str, str] = file.metadata() or {}
        kind, _, form = said.get("format", "").partition(" ")
        if kind != _KIND:
            raise _damaged(path, "it isn't the file of a history")
        if form != str(_VERSION):
            raise _damaged(path, f"another version of fnlib wrote it (format {form}, not 1)")
        if (order := said.get("byteorder")) != sys.byteorder:
            raise _damaged(path, f"it's from a {order}-endian machine; this one isn't")
        if said.get("check") != _check(index, said):
            raise _damaged(path, "its header was changed")
        try:
            places = {int(file): names for file, names in json.loads(said["places"]).items()}
            return Header(said["tree"], places, json.loads(said["environment"]))
        except MISFIT as error:
            raise _damaged(path, f"its description doesn't fit ({error})") from error

    def _tensors(self, index: int, names: Collection[str]) -> dict[str, Tensor]:
        """Read tensors of one file and compare their content with their names."""
        path = self.path(index)
        path = path if path.exists() else self._rest(index)
        with _opened(path) as file:
            tensors = {name: file.get_tensor(name) for name in names}
        for name, tensor in tensors.items():
            if hash_of(tensor) != name:
                raise _damaged(path, "its numbers were changed")
        return tensors

    # --- writing ----------------------------------------------------------------------------------

    def write(self, index: int, held: Held) -> None:
        """Store a record, all of it or nothing. See ``fnlib.History.append``."""
        self.lock()
        new, metadata, hashed = self._prepared(index, held)
        self._put(self.path(index), new, metadata)
        if index not in self.indices:
            bisect.insort(self.indices, index)
        self._hashed = hashed
        self._all_known().update(dict.fromkeys(new, index))

    def cost(self, index: int, held: Held) -> int:
        """Return the bytes that `write` would write."""
        new, metadata, _ = self._prepared(index, held)
        return len(serialize(specs(new), metadata))

    def _prepared(self, index: int, held: Held) -> tuple[dict[str, Tensor], dict[str, str], Hashed]:
        """Return the tensors that aren't stored yet, the header, and the hash of every tensor."""
        known, new = self._all_known(), {}
        hashed: Hashed = {}

        def put(tensor: Tensor, flat: Tensor) -> str:
            before = self._hashed.get(id(tensor))
            if before is not None and before[0]() is tensor and before[1] in known:
                name = before[1]
            else:
                content = flat.cpu()
                # To look at the memory of a copy-on-write tensor would make it a copy for good.
                content = content.clone() if is_cow(content) else content
                name = hash_of(content)
                if name not in known:
                    new[name] = content
            hashed[id(tensor)] = weakref.ref(tensor), name
            return name

        tree = described(held, put)
        places: dict[int, list[str]] = {}
        for name in dict.fromkeys(name for _, name in hashed.values()):
            places.setdefault(known.get(name, index), []).append(name)
        said = {
            "format": f"{_KIND} {_VERSION}",
            "byteorder": sys.byteorder,  # the hashes are of this machine's bytes
            "tree": tree,
            "places": json.dumps(places),
            "environment": json.dumps(environment()),
        }
        return new, {**said, "check": _check(index, said)}, hashed

    def _all_known(self) -> dict[str, int]:
        """Return where the tensors of the last record are, and those written since."""
        if self._known is None:
            self._known = {}
            try:
                places = self.header(self.indices[-1]).places if self.indices else {}
            except errors.DamagedHistory:  # then nothing is known, and all is stored again
                places = {}
            self._known = {name: file for file, names in places.items() for name in names}
        return self._known

    def _put(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        part = self.folder / "part"  # one writer, so one name; what a crash leaves is overwritten
        try:
            written(part, tensors, metadata, (self.folder / "lock").stat().st_mode)
            _sync(part)
            os.replace(part, path)
            _sync(self.folder)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise errors.StateNotWritten(str(path), _reason(error)) from error

    def lock(self) -> None:
        """Become the one writer of this folder, until `close` or the end of the process."""
        if self._release is not None:
            return
        try:
            _make(self.folder)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise errors.StateNotWritten(str(self.folder), _reason(error)) from error
        if not _locked(lock):
            writer = os.read(lock, 20).decode() or "unknown"
            os.close(lock)
            raise errors.HistoryInUse(str(self.folder), f"process {writer} is writing to it")
        if self._found() != self.indices:
            os.close(lock)
            raise errors.HistoryInUse(str(self.folder), "somebody wrote to it since you opened it")
        for left in self.folder.glob(".tmp??????"):  # of a writer that was killed: safetensors' own
            left.unlink()
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._release = weakref.finalize(self, _unlocked, lock, os.getpid())

    def close(self) -> None:
        """Let somebody else write."""
        if self._release is not None:
            self._release()
            self._release = None

    # --- other folders ----------------------------------------------------------------------------

    def link(self, indices: Iterable[int], folder: Path) -> None:
        """Put records into another folder, sharing their bytes where the system can."""
        needed = {file for index in indices for file in (index, *self.header(index).places)}
        for index in sorted(needed):
            path = self.path(index)
            path = path if path.exists() else self._rest(index)
            to = folder / path.name
            try:
                os.link(path, to)
            except FileNotFoundError as error:
                raise _damaged(path, "it's missing") from error
            except OSError:  # another disk, or a file system without hard links
                shutil.copyfile(path, to)
                _sync(to)
        _sync(folder)

    def remove(self, indices: Collection[int]) -> int:
        """Remove records, and tensors that no other needs; return the bytes that became free."""
        self.lock()
        needed: dict[int, set[str]] = {}
        for index in self.indices:
            if index not in indices:
                for file, names in self.header(index).places.items():
                    needed.setdefault(file, set()).update(names)
        before = self._size()
        for index in sorted(indices):
            # The tensors are safe under their new name before the old one goes.
            if index in needed:
                self._keep(index, needed[index])
            self.path(index).unlink()
            self.indices.remove(index)
        for rest in self.folder.glob("*-tensors.safetensors"):
            index = int(rest.name.partition("-")[0])
            if index in self.indices or index not in needed:
                rest.unlink()
            elif index not in indices and needed[index] < _names_in(rest):
                self._keep(index, needed[index])
        _sync(self.folder)
        self._known = {name: file for file, names in needed.items() for name in names}
        return before - self._size()

    def _keep(self, index: int, names: Collection[str]) -> None:
        tensors = {name: tensor.clone() for name, tensor in self._tensors(index, names).items()}
        self._put(self._rest(index), tensors, {"format": f"{_KIND} {_VERSION}"})

    def _size(self) -> int:
        return sum(entry.stat().st_size for entry in os.scandir(self.folder))


# --- content --------------------------------------------------------------------------------------


def hash_of(flat: Tensor) -> str:
    """Name a tensor of one dimension after its dtype and its bytes."""
    found = hashlib.sha256(str(flat.dtype).encode())
    if flat.nbytes:  # without NumPy, which PyTorch can do without too
        found.update((ctypes.c_char * flat.nbytes).from_address(flat.data_ptr()))
    return found.hexdigest()[:40]


def _check(index: int, said: Mapping[str, str]) -> str:
    """Hash a header, so that a changed or renamed file is noticed."""
    parts = [str(index), *(f"{key}={said[key]}" for key in sorted(said) if key != "check")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _names_in(path: Path) -> set[str]:
    with _opened(path) as file:
        return set(file.keys())


@functools.cache
def _machine() -> dict[str, str]:
    return {
        "torch": version("torch"),
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
    }


def environment() -> dict[str, str]:
    """Describe what the last bits of a step depend on besides its arguments."""
    found = {
        **_machine(),
        "threads": str(torch.get_num_threads()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
    }
    if torch.cuda.is_initialized():
        found["GPU"] = torch.cuda.get_device_name()
    return found


# --- the system -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of tensors, with a named error for one that can't be read."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> errors.DamagedHistory:
    return errors.DamagedHistory(str(path), why)


def _reason(error: Exception) -> str:
    """Return what the system says, without the path, which the message names."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _sync(path: Path) -> None:
    """Wait until the disk has what was written to a file, or which files a folder has."""
    if sys.platform == "win32":
        if path.is_dir():
            return  # Windows can't, and writes renames through its journal
    opened = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(opened)
        if sys.platform == "darwin":
            fcntl.fcntl(opened, fcntl.F_FULLFSYNC)  # fsync alone stops at the disk's own cache
    finally:
        os.close(opened)


def _make(folder: Path) -> None:
    """Make a folder that a power loss doesn't take back."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        _sync(path.parent)


def _locked(opened: int) -> bool:
    """Take a lock that the kernel releases when the process dies; False if somebody has it."""
    try:
        if sys.platform == "win32":
            os.lseek(opened, 1 << 30, os.SEEK_SET)  # beyond the text, which others may read
            msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
            os.lseek(opened, 0, os.SEEK_SET)
        else:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlocked(opened: int, owner: int) -> None:
    """Release a lock. Closing isn't enough: a process that is being started has the file open too."""
    if sys.platform != "win32" and os.getpid() == owner:  # a forked child leaves it to the parent
        fcntl.flock(opened, fcntl.LOCK_UN)
    os.close(opened)


def _forked() -> None:
    """Close the lock files: a parent that is killed releases a lock only if no child has it open."""
    for store in list(_stores):
        store.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def new_folder(beside: Path) -> Path:
    """Make a folder beside another path, to be renamed to it when it is complete."""
    folder = beside.parent / f".{beside.name}-{uuid.uuid4().hex[:8]}"
    _make(folder)
    return folder


def move(folder: Path, to: Path) -> None:
    """Give a complete folder its name."""
    os.rename(folder, to)
    _sync(to.parent)
