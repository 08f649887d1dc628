"""Judging whether attributes that a forward pass changed are state: run copies, and compare.

The copies start from the weights, buffers and arguments before the pass, without the user's hooks.
Nothing that they do reaches the user: attributes, arguments, generators, what is printed.
"""

from __future__ import annotations

import contextlib
import copy
import io
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.containers import content_of
from fnlib.network.hidden_state import OF_EVERY_MODULE, State
from fnlib.network.pool import Call, Tree
from fnlib.network.randomness import preserved
from fnlib.torch_private import flat, forward_hook_dicts, map_tensors
from fnlib.values.protect import in_transform, same_bits, share, share_all

_ADDED = "adds or removes them while it runs"
_AGAIN = "gives a different output when it runs again with the same parameters and input"
_TWICE = "replaces one of two references to the same tensor"


@dataclass(eq=False)
class Record:
    """What was found out about the passes of one tree through one method."""

    count: int = 0
    accepted: set[str] = field(default_factory=set)  # attributes that were judged to be no state
    # Start and step of what counts passes, by its place.
    counters: dict[tuple[int, Any], tuple[Any, Any]] = field(default_factory=dict)
    due: bool = False  # whether the next pass is judged whatever its number
    earlier: State | None = None  # the attributes after the last pass that was judged
    outside: list[Any] | None = None

    def begin(self, tree: Tree, call: Call) -> Call | Exception | None:
        """Copy the arguments of pass 1, 2, 4, 8 ... or of one after new attributes have changed."""
        self.count += 1
        if self.count & (self.count - 1) and not self.due:
            self.outside = None
            return None
        self.due = False
        self.outside = [content_of(container) for _, container, _ in tree.attributes.outside]
        return _copied(call, tree)

    def _keep(self, tree: Tree, before: State, fresh: State) -> None:
        """Keep the attributes after a judged pass, without graphs, and what counts passes."""
        now, first = tree.attributes.note(), tree.attributes.first
        noted = [map(_entries, state.contents) for state in (first, fresh, before, now)]
        self.counters = {
            (i, key): (a[key], b[key] - a[key])
            for i, (a, b, c, d) in enumerate(zip(*noted, strict=True))
            for key in a
            if _count(a[key], b.get(key), c.get(key), d.get(key))
        }
        contents = [_without_graph(content, tree) for content in now.contents]
        self.earlier = now._replace(contents=contents)

    def _counted(self, state: State) -> State:
        """Set counters to where they would be had no pass been undone: a warm-up may wait for it."""
        contents = [copy.copy(content) for content in state.contents]
        for (i, key), (first, step) in self.counters.items():
            contents[i][key] = first + step * (self.count - 1)
        return state._replace(contents=contents)


def _entries(content: Any) -> dict[Any, Any]:
    content = dict(enumerate(content)) if isinstance(content, list) else content
    return content if isinstance(content, dict) else {}


def _count(a: Any, b: Any, c: Any, d: Any) -> bool:
    """Say whether a number moves as much from a to b as from c to d."""
    alike = type(a) in (int, float) and type(a) is type(b) is type(c) is type(d)
    return alike and b - a == d - c != 0


def judge(
    record: Record,
    tree: Tree,
    weights: list[Tensor],
    buffers: Mapping[str, Tensor],
    copied: Call | Exception | None,
    attributes: list[str],
) -> None:
    """Refuse attributes that a pass changed if the output depends on them, or nobody can tell.

    Args:
        record: what is known of passes like this one.
        tree: the one that the pass ran on; its attributes are put back by the caller.
        weights, buffers: those before the pass.
        copied: the arguments before the pass, or why they can't be copied.
        attributes: what the pass changed.
    """
    new = set(attributes) - record.accepted
    if copied is None:
        record.due = record.due or bool(new)
        return
    if isinstance(copied, Exception):
        if new:
            why = f"its arguments can't be copied to see whether the change matters ({copied})"
            raise errors.HiddenState(attributes, why)
        return
    after = tree.attributes.note()
    earlier = record.earlier
    with _undisturbed(tree):
        starts = [(list(weights), list(buffers.values()))]
        if tree.exchanged:  # what is left behind differs from the new tensor only afterwards
            starts.append(tree.after_pass)
        for placed, given in starts:
            start = _Start(tree, placed, given, copied)
            expected = start.run(tree.attributes.first)
            fresh = tree.attributes.note()
            if earlier is None:
                earlier = start.elsewhere() or after
            counted = record._counted(earlier)
            try:
                found = start.run(counted)
            except Exception:
                found = _FAILED
            if not _same_output(expected, found):
                why = _TWICE if tree.exchanged else _ADDED if tree.grown else _AGAIN
                raise errors.HiddenState(tree.grown or tree.exchanged[:1] or attributes, why)
        record._keep(tree, counted, fresh)
    tree.attributes.put(after)
    record.accepted |= new


_FAILED = object()


def _without_graph(content: Any, tree: Tree) -> Any:
    """Detach the tensors that a pass put into a container, and what it put there with them."""

    def detached(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach() if value.grad_fn is not None else value
        known = id(value) in tree.attributes.seen or not isinstance(value, (dict, list, tuple))
        return value if known else map_tensors(torch.Tensor.detach, value)

    if type(content) is dict:
        return {k: v if k in OF_EVERY_MODULE else detached(v) for k, v in content.items()}
    return [detached(value) for value in content] if type(content) is list else content


class _Start(NamedTuple):
    """Tensors and arguments from which copies of a pass run, as often as needed."""

    tree: Tree
    weights: list[Tensor]
    buffers: list[Tensor]
    call: Call

    def run(self, state: State, call: Call | None = None) -> Any:
        """Run a pass with the attributes of a state, and leave those that it makes."""
        copied = _copied(call or self.call, self.tree)
        if isinstance(copied, Exception):
            raise copied
        self.tree.put(state)
        placed = share_all(self.weights)
        for i in self.tree.network.trained:
            if not in_transform() and not placed[i].requires_grad:
                placed[i].requires_grad_()
        buffers = [buffer.clone() for buffer in self.buffers]
        try:
            with preserved():
                return self.tree.call(placed, buffers, copied)
        finally:
            self.tree.blank()

    def elsewhere(self) -> State | None:
        """Return the attributes after a pass on another input: they may depend on the first one."""
        try:
            self.run(self.tree.attributes.first, map_tensors(_other_values, self.call))
        except Exception:  # the input may be out of bounds now
            return None
        return self.tree.attributes.note()


def _other_values(tensor: Tensor) -> Tensor:
    """Return a tensor of the same kind with other values, which an input may have too."""
    if tensor.layout is not torch.strided or tensor.dtype is torch.bool or in_transform():
        return tensor
    flipped = tensor.detach().flip(list(range(tensor.dim())))
    if tensor.is_floating_point() or tensor.is_complex():
        flipped = flipped * 1.5
    return flipped.requires_grad_(tensor.requires_grad)


def _copied(call: Call, tree: Tree) -> Call | Exception:
    """Copy the arguments of a call, or return why they can't be copied."""
    method, args, kwargs = call
    memo: dict[int, Any] = {id(part): part for part in tree.attributes.parts}
    try:
        _copy_special((args, kwargs), memo, set())
        args, kwargs = copy.deepcopy((args, kwargs), memo)
    except Exception as error:
        return TypeError(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return method, args, kwargs


def _copy_special(value: Any, memo: dict[int, Any], seen: set[int]) -> None:
    """Copy what deepcopy doesn't: tensors of a graph, and what functions keep."""
    if id(value) in memo or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        copied = share(value.detach())
        if copied is not value:
            copied.requires_grad_(value.requires_grad)
        memo[id(value)] = copied
    elif isinstance(value, types.FunctionType):
        memo[id(value)] = _copy_of_function(value, memo)
    elif isinstance(value, (Mapping, list, tuple, set, frozenset)):
        for item in value.values() if isinstance(value, Mapping) else value:
            _copy_special(item, memo, seen)
    elif isinstance(value, (nn.Module, type, types.ModuleType)):
        pass
    elif hasattr(value, "__dict__"):
        _copy_special(vars(value), memo, seen)


def _copy_of_function(function: types.FunctionType, memo: dict[int, Any]) -> Any:
    """Copy a function with what its closure holds, so that a call changes the copy only."""
    if function.__closure__ is None:
        return function
    cells = []
    memo[id(function)] = function  # it may refer to itself
    for cell in function.__closure__:
        _copy_special(cell.cell_contents, memo, set())
        cells.append(types.CellType(copy.deepcopy(cell.cell_contents, memo)))
    same = function.__code__, function.__globals__, function.__name__, function.__defaults__
    copied = types.FunctionType(*same, tuple(cells))
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


@contextlib.contextmanager
def _undisturbed(tree: Tree) -> Iterator[None]:
    """Run without the user's hooks and without printing."""
    saved = [(hooks, dict(hooks)) for hooks in forward_hook_dicts(tree.attributes.parts)]
    for hooks, own in saved:
        hooks.clear()
        hooks.update({k: h for k, hook in own.items() if (h := _harmless(hook, tree)) is not None})
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for hooks, own in saved:
            hooks.clear()
            hooks.update(own)


def _harmless(hook: Any, tree: Tree) -> Any:
    """Return a hook, or a copy, that changes nothing but the network; None if there is none."""
    function = getattr(hook, "__func__", hook)
    place = function if isinstance(function, types.FunctionType) else type(hook)
    if (place.__module__ or "").partition(".")[0] == "torch":
        return hook
    if not isinstance(function, types.FunctionType):
        return None
    if function is not hook:  # a method
        return hook if any(hook.__self__ is part for part in tree.attributes.parts) else None
    harmless = (type(None), types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType)
    space = function.__globals__
    if not all(isinstance(space.get(name), harmless) for name in function.__code__.co_names):
        return None
    try:
        memo = {id(part): part for part in tree.attributes.parts}
        return _copy_of_function(function, memo)
    except Exception:
        return None


def _same_output(a: Any, b: Any) -> bool:
    leaves_a, tree_a = flat(a)
    leaves_b, tree_b = flat(b)
    return tree_a == tree_b and all(map(_same_leaf, leaves_a, leaves_b))


def _same_leaf(x: Any, y: Any) -> bool:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return same_bits(x, y)
    if type(x) is not type(y):
        return False
    if isinstance(x, (types.FunctionType, types.MethodType)):
        return True
    if hasattr(x, "__dict__"):
        return _same_output(dict(vars(x)), dict(vars(y)))
    return bool(x == y or (x != x and y != y))
