"""Every private name of PyTorch that fnlib uses, each with a public fallback.

A private name may be gone in the next release. What fnlib then loses is speed or a check, never a
result; `tests/core/test_torch_private.py` trains with each name taken away.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def _found(path: str) -> Any:
    """Return what a dotted name below `torch` leads to, or None."""
    thing: Any = torch
    for name in path.split("."):
        thing = getattr(thing, name, None)
    return thing


# --- copy on write ------------------------------------------------------------------------------

# 0.4 us and no memory, where `clone` takes 1.3 us and a copy. None where PyTorch has no such thing.
lazily_cloned: Callable[[Tensor], Tensor] | None = _found("Tensor._lazy_clone")
lazy_clone: Callable[[Tensor], Tensor] = lazily_cloned or Tensor.clone
# Without it, bytes are compared to find out whether a tensor was written to.
is_cow: Callable[[Tensor], bool] = _found("_C._is_cow_tensor") or (lambda tensor: False)


def memory_of(tensor: Tensor) -> int:
    """Identify a tensor's storage. Its address would too, but asking for it makes a lazy copy real."""
    storage = tensor.untyped_storage()
    identity: int | None = getattr(storage, "_cdata", None)
    return storage.data_ptr() if identity is None else identity


# --- transforms of torch.func -------------------------------------------------------------------

# Without these two, fnlib works outside of transforms only.
is_wrapped: Callable[[Tensor], bool] = _found("_C._functorch.is_functorch_wrapped_tensor") or (
    lambda tensor: False
)
active_transform: Callable[[], object] = _found("_C._functorch.peek_interpreter_stack") or (
    lambda: None
)


@contextlib.contextmanager
def outside_transforms() -> Iterator[None]:
    """Leave the transforms of ``torch.func`` that are running, to work on tensors of our own."""
    clear = _found("_functorch.pyfunctorch.temporarily_clear_interpreter_stack")
    if clear is None or active_transform() is None:
        yield
        return
    with clear():
        yield


# --- autograd -----------------------------------------------------------------------------------

_run_backward = _found("autograd.Variable._execution_engine.run_backward")
_ONE = torch.ones(())


def gradients_of(loss: Tensor, leaves: tuple[Tensor, ...], retain: bool) -> Sequence[Tensor | None]:
    """Return ``torch.autograd.grad(loss, leaves, retain_graph=retain, allow_unused=True)``.

    Its Python front takes 10 of the 95 us of a whole step of the 128-64-10 network, so the engine
    is called directly.
    """
    if _run_backward is None or active_transform() is not None:
        return torch.autograd.grad(loss, leaves, retain_graph=retain, allow_unused=True)
    plain = loss.is_cpu and loss.dtype is torch.float32 and not loss.shape
    one = lazy_clone(_ONE) if plain else torch.ones_like(loss)
    found: Sequence[Tensor | None] = _run_backward(
        (loss,), (one,), retain, False, leaves, True, accumulate_grad=False
    )
    return found


def hooks_of(weight: Tensor) -> Mapping[int, Any]:
    """Return the hooks that `register_hook` put on a weight."""
    return getattr(weight, "_backward_hooks", None) or {}


def copy_hooks(weight: Tensor, to: Tensor) -> None:
    """Give a copied weight the hooks of its original."""
    if hooks_of(weight):
        to._backward_hooks = hooks_of(weight)  # type: ignore[assignment]


def waits_for_grad(weight: Tensor) -> bool:
    """Say whether a hook of `register_post_accumulate_grad_hook` waits for this weight's ``.grad``."""
    return bool(getattr(weight, "_post_accumulate_grad_hooks", None))


def is_own(tensor: Tensor) -> bool:
    """Say whether a tensor is known to be no view of another one."""
    return getattr(tensor, "_base", tensor) is None


# --- modules ------------------------------------------------------------------------------------


def registries(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the dicts in which a module keeps its own weights, buffers and submodules.

    They have no public equivalent: named_parameters() leaves out None and cannot be written to.
    """
    return module._parameters, module._buffers, module._modules


REGISTRIES = ("_parameters", "_buffers", "_modules")
# The lists in which RNNs keep their weights a second time.
RNN_LISTS = frozenset({"_flat_weights", "_flat_weight_refs"})


def unsaved_buffers(module: nn.Module) -> set[str]:
    """Name a module's own buffers that a state dict leaves out."""
    found: set[str] | None = getattr(module, "_non_persistent_buffers_set", None)
    if found is None:
        own = {name for name, _ in module.named_buffers(recurse=False, remove_duplicate=False)}
        return own - module.state_dict().keys()
    return found


def pre_hooks_of(module: nn.Module) -> bool:
    """Say whether a module has hooks that run before its forward; True where it cannot be known."""
    return bool(getattr(module, "_forward_pre_hooks", True))


def forward_hooks_of(module: nn.Module) -> bool:
    """Say whether a module has hooks around its forward; True where it cannot be known."""
    return pre_hooks_of(module) or bool(getattr(module, "_forward_hooks", True))


def keep_rnn_lists(rnn: nn.RNNBase) -> None:
    """Keep an RNN from rebuilding ``_flat_weights`` at every step.

    The old list would keep the previous weights alive. An RNN still rebuilds it where it needs
    to: for weights that are computed (weight norm) and on CUDA, which wants them in one piece.
    """
    names = getattr(rnn, "_flat_weights_names", None)
    if names is None or getattr(rnn, "_flat_weight_refs", None) is None:
        return
    weights, _, _ = registries(rnn)

    def current(name: str) -> Callable[[], Tensor | None]:
        def weight() -> Tensor | None:
            found = weights[name]
            return None if found is None or found.is_cuda else found

        return weight

    if all(weights.get(name) is not None for name in names):
        rnn._flat_weight_refs = [current(name) for name in names]  # type: ignore[misc]


# --- torch.compile ------------------------------------------------------------------------------


def leave_to_python(method: Any) -> Any:
    """Let ``torch.compile`` run a method as it is, and compile what it calls.

    ``torch.compiler.disable(recursive=False)`` does the same, but asks again at each call, which
    takes longer than a step. Here only the code is marked: ``torch.compile`` would wrap a function
    that is marked itself.
    """
    skip = _found("_dynamo.decorators.skip")  # not on import: it loads the compiler, for a second
    if skip is None:
        return types.MethodType(
            torch.compiler.disable(method.__func__, recursive=False), method.__self__
        )
    skip(types.FunctionType(method.__code__, method.__globals__))
    return method


# --- trees of containers ------------------------------------------------------------------------

_pytree = _found("utils._pytree")


def register_as_tree(kind: type, flatten: Any, unflatten: Any) -> None:
    """Let ``torch.func`` and ``torch.compile`` see the tensors inside of a class."""
    if _pytree is not None:
        name = f"fnlib.{kind.__name__}"
        _pytree.register_pytree_node(kind, flatten, unflatten, serialized_type_name=name)


def flat(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of nested containers, and their structure to compare with another."""
    if _pytree is not None:
        leaves, structure = _pytree.tree_flatten(tree)
        return leaves, structure
    if isinstance(tree, (Mapping, list, tuple)):
        inside = [flat(x) for x in (tree.values() if isinstance(tree, Mapping) else tree)]
        leaves = [leaf for found, _ in inside for leaf in found]
        keys = list(tree) if isinstance(tree, Mapping) else None
        return leaves, (type(tree), keys, [structure for _, structure in inside])
    return [tree], None


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Rebuild nested containers with a function applied to their tensors."""
    if _pytree is not None:
        return _pytree.tree_map_only(Tensor, function, tree)
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(map_tensors(function, value) for value in tree)
    return tree
