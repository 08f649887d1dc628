"""Every private name of PyTorch that fnlib uses, each with a public fallback.

A private name may be gone in the next release. What fnlib then loses is speed or a check, never a
result; `tests/core/test_torch_private.py` trains with each name taken away.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import functools
import random
import struct
import sys
import threading
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
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
_is_cow: Callable[[Tensor], bool] = _found("_C._is_cow_tensor") or (lambda tensor: False)


def is_cow(tensor: Tensor) -> bool:
    """Say whether a tensor is copy-on-write; if that isn't known, its bytes are compared."""
    try:
        return _is_cow(tensor)
    except RuntimeError:  # PyTorch 2.14, for a subclass such as DTensor
        return False


def memory_of(tensor: Tensor) -> int:
    """Identify a tensor's storage. Its address would too, but asking for it makes a lazy copy real."""
    storage = tensor.untyped_storage()
    identity: int | None = getattr(storage, "_cdata", None)
    return storage.data_ptr() if identity is None else identity


# --- transforms of torch.func -------------------------------------------------------------------

# Without one of these three, fnlib works outside of transforms only.
_clear = _found("_functorch.pyfunctorch.temporarily_clear_interpreter_stack")
is_wrapped: Callable[[Tensor], bool] = _found("_C._functorch.is_functorch_wrapped_tensor") or (
    lambda tensor: False
)
active_transform: Callable[[], object] = (
    _clear and _found("_C._functorch.peek_interpreter_stack")
) or (lambda: None)


# Leaves the transforms of ``torch.func`` that are running, to work on tensors of our own.
outside_transforms: Callable[[], contextlib.AbstractContextManager[Any]] = (
    _clear or contextlib.nullcontext
)


class OneMap:
    """The ``torch.vmap`` that runs, to take tensors out of it and to put results into it."""

    def __init__(self, level: int, randomness: str) -> None:
        self.level, self.randomness = level, randomness
        self.mapped: dict[int, Tensor] = {}  # what was taken out, with the models first

    def out(self, tensor: Tensor) -> Tensor:
        """Return the tensor of all models, or the one that they share."""
        if _level_of(tensor) != self.level:
            return tensor
        whole: Tensor = _unwrapped(tensor)
        if dimension := _dimension_of(tensor):
            whole = whole.movedim(dimension, 0)
        self.mapped[id(whole)] = whole
        return whole

    def first(self, tensor: Tensor) -> Tensor:
        """Return what the first model has of a tensor that was taken out."""
        return tensor[0] if id(tensor) in self.mapped else tensor

    def into(self, tensor: Tensor) -> Tensor:
        """Let each model see its own part of a tensor."""
        found: Tensor = _add_dimension(tensor, 0, self.level)
        return found


# What ``torch.compile`` does with each function that is called now; None where nothing is compiled.
compiler: Callable[[], object] = _found("_C._dynamo.eval_frame.get_eval_frame_callback") or (
    lambda: None
)
# Without one of these, a mapped step isn't compiled.
_level_of = _found("_C._functorch.maybe_get_level")
_unwrapped = _found("_C._functorch.get_unwrapped")
_dimension_of = _found("_C._functorch.maybe_get_bdim")
_add_dimension = _found("_C._functorch._add_batch_dim")
_of_map = _found("_C._functorch.CVmapInterpreterPtr")


def only_map() -> OneMap | None:
    """Return the one transform that runs, if it's a ``torch.vmap``; None if that isn't known."""
    needed = _level_of, _unwrapped, _dimension_of, _add_dimension, _of_map
    running: Any = active_transform()
    if None in needed or running is None or running.level() != 1 or running.key().name != "Vmap":
        return None
    return OneMap(1, _of_map(running).randomness().name.lower())


# --- autograd -----------------------------------------------------------------------------------

_run_backward = _found("autograd.Variable._execution_engine.run_backward")
_ONE = torch.ones(())


def gradients_of(
    loss: Tensor, leaves: tuple[Tensor, ...], retain: bool, create: bool = False
) -> Sequence[Tensor | None]:
    """Return ``torch.autograd.grad(loss, leaves, retain, create, allow_unused=True)``.

    Its Python front takes 10 of the 95 us of a step of the 128-64-10 network.
    """
    if _run_backward is None or active_transform() is not None:
        return torch.autograd.grad(
            loss, leaves, retain_graph=retain, create_graph=create, allow_unused=True
        )
    plain = type(loss) is Tensor and loss.is_cpu and loss.dtype is torch.float32 and not loss.shape
    one = lazy_clone(_ONE) if plain else torch.ones_like(loss)
    found: Sequence[Tensor | None] = _run_backward(
        (loss,), (one,), retain, create, leaves, True, accumulate_grad=False
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


def forward_hook_dicts(modules: list[nn.Module]) -> list[dict[int, Any]]:
    """Return the dicts that hold the hooks around the forward of modules, and of every module."""
    names = ("_forward_pre_hooks", "_forward_hooks")
    found = [getattr(module, name, None) for module in modules for name in names]
    found.append(_found("nn.modules.module._global_forward_pre_hooks"))
    found.append(_found("nn.modules.module._global_forward_hooks"))
    return [hooks for hooks in found if hooks]


def weak_references(module: nn.Module) -> int:
    """Count the weak references to a module, without the one that ``torch.compile`` keeps of each."""
    guard = sys.modules.get("torch._dynamo.mutation_guard")  # there once something was compiled
    tracker = getattr(getattr(guard, "GenerationTracker", None), "generation_values", None)
    compilers = id(module) in getattr(tracker, "refs", ())
    return weakref.getweakrefcount(module) - compilers


def keep_rnn_lists(rnn: nn.RNNBase) -> None:
    """Keep an RNN from rebuilding ``_flat_weights``: the old list keeps the last weights alive.

    It still does for weights that are computed (weight norm) and on CUDA, which wants one piece.
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

    ``torch.compiler.disable(recursive=False)`` asks again at each call, longer than a step takes.
    Only the code is marked: ``torch.compile`` would wrap a function that is marked itself.
    """
    skip = _found("_dynamo.decorators.skip")  # not on import: it loads the compiler, for a second
    if skip is None:
        return types.MethodType(
            torch.compiler.disable(method.__func__, recursive=False), method.__self__
        )
    skip(types.FunctionType(method.__code__, method.__globals__))
    return method


def shape_fixer() -> Callable[[Tensor], None]:
    """Return what makes the compiler keep a graph for each shape of a tensor that it traces."""
    fixer: Any = _found("_dynamo.mark_static")  # not on import either
    return fixer or (lambda tensor: None)


_set_strategy = _found("_C._dynamo.eval_frame.set_code_exec_strategy")
_strategy = _found("_C._dynamo.eval_frame._FrameExecStrategy")
_action = _found("_C._dynamo.eval_frame._FrameAction")


def never_compiled(*functions: Any) -> None:
    """Keep `torch.compile` out of functions and all that they call.

    `torch.compiler.disable` does the same for 4 us a call, more than a trace function takes.
    """
    if None not in (_set_strategy, _strategy, _action):
        for function in functions:
            _set_strategy(function.__code__, _strategy(_action.SKIP, _action.SKIP))


# --- trees of containers ------------------------------------------------------------------------

_pytree = _found("utils._pytree")


def register_as_tree(kind: type, flatten: Any, unflatten: Any) -> None:
    """Let ``torch.func`` see the tensors inside of a class."""
    if _pytree is not None:
        name = f"fnlib.{kind.__name__}"
        # The compiler can't follow how a tensor leaves a transform.
        never_compiled(flatten, unflatten)
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


# --- ledger -------------------------------------------------------------------------------------


def version_of(tensor: Tensor) -> int | None:
    """Return how often PyTorch has written to a tensor; ``None`` where it doesn't count."""
    return None if tensor.is_inference() else getattr(tensor, "_version", None)


# Where a storage's bytes begin; asking `data_ptr()` would make a lazy copy real. None: not known.
data_address: Callable[[Tensor], int] | None = _found("_C._data_address")


# Where that's hidden, a number that only identifies the storage.
storage_address: Callable[[Tensor], int] = data_address or memory_of


def computes_itself(tensor: Tensor) -> bool:
    """Say whether a tensor's class computes its operations in Python."""
    keys, key = _found("_C._dispatch_keys"), _found("_C.DispatchKey.Python")
    if keys is None or key is None:
        return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return bool(keys(tensor).has(key))


def coordinates(sparse: Tensor) -> tuple[Tensor, ...]:
    """Return the indices and values of a sparse COO tensor as they are stored, () if hidden."""
    if _found("Tensor._indices") is None or _found("Tensor._values") is None:
        return (sparse.indices(), sparse.values()) if sparse.is_coalesced() else ()
    return sparse._indices(), sparse._values()


class quietly:
    """Run PyTorch operations that no mode, hook or graph of the watched program notices.

    Without the private names, a mode or a subclass of the program may see the ledger's reads.
    """

    __slots__ = ("_entered",)

    def __enter__(self) -> None:
        self._entered = [_no_functions(), _inference()]
        if _modes_running():
            self._entered.append(_no_modes())
        for one in self._entered:
            one.__enter__()

    def __exit__(self, *error: Any) -> None:
        for one in reversed(self._entered):
            one.__exit__(*error)


_no_functions: Callable[[], Any] = _found("_C.DisableTorchFunction") or contextlib.nullcontext
# 0.4 us, where the public context takes 2 us, twice a statement.
_inference: Callable[[], Any] = (
    functools.partial(torch._C._InferenceMode, True)
    if _found("_C._InferenceMode")
    else torch.inference_mode
)
_modes_running: Callable[[], int] = _found("_C._len_torch_dispatch_stack") or (lambda: 0)
_no_modes: Callable[[], Any] = (
    _found("utils._python_dispatch._disable_current_modes") or contextlib.nullcontext
)

# --- graphs: without the ages of nodes, nothing is said of when a graph was built

_next_age: Callable[[], int] | None = _found("_C._autograd._get_sequence_nr")


def next_age() -> int:
    """Return the age that the next node of this thread will have; ages only grow."""
    return 0 if _next_age is None else int(_next_age())


def age_of(node: Any) -> int | None:
    """Return when a node of an autograd graph was made, ``None`` where that cannot be known."""
    age = getattr(node, "_sequence_nr", None)
    return None if age is None or _next_age is None else int(age())


def saved_names(kind: type) -> tuple[str, ...]:
    """Name the attributes under which a kind of node saved tensors, to be read without unpacking."""
    return tuple([name for name in dir(kind) if name.startswith("_raw_saved_")])


def normalised_by_batch(node: Any) -> bool:
    """Say whether a BatchNorm's node normalised by the batch, and not by its statistics."""
    return bool(getattr(node, "_saved_training", False))


# --- calls that are recognised by their code

# One wrapper around the step of every class of optimizers; else the step of each class is looked up.
_wrapper = _found("optim.Optimizer.profile_hook_step")
wrapped_step: CodeType | None = None if _wrapper is None else _wrapper(lambda: None).__code__
_first = _found("optim.lr_scheduler.LRScheduler._initial_step")
initial_step: CodeType | None = None if _first is None else _first.__code__

DROPOUTS: Any = (_found("nn.modules.dropout._DropoutNd"),)
if None in DROPOUTS:
    DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    DROPOUTS += (nn.AlphaDropout, nn.FeatureAlphaDropout)
NORMS: Any = (_found("nn.modules.batchnorm._NormBase"),)
if None in NORMS:
    NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    NORMS += (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def steps_before(scheduler: Any) -> bool:
    """Say whether a scheduler takes its first step before its optimizer's first."""
    held = vars(scheduler)
    optimizer = held.get("optimizer") or scheduler
    return held.get("_step_count") == 1 and not vars(optimizer).get("_opt_called", False)


def scaler_state(scaler: Any) -> dict[str, Any]:
    """Return the scale of a gradient scaler and its count of steps, as they are stored."""
    names = ("_scale", "_growth_tracker")
    held = {name[1:]: vars(scaler)[name] for name in names if name in vars(scaler)}
    if held:
        return {name: entry for name, entry in held.items() if isinstance(entry, Tensor)}
    state = scaler.state_dict()
    return {name: state[name] for name in ("scale", "growth_tracker") if name in state}


def thread_count() -> int:
    """Count the running threads that Python started."""
    count = getattr(_thread, "_count", None)
    return threading.active_count() - 1 if count is None else int(count())


def users_threads() -> int:
    """Count them without those of a `DataLoader` that hands its workers their indices."""
    feeders = sum(thread.name == "QueueFeederThread" for thread in threading.enumerate())
    return thread_count() - feeders


# --- generators of Python and NumPy: where the words of a Mersenne Twister are, None if not known

_WORDS = 624


def python_words() -> tuple[int, int] | None:
    """Return address and size of the words of Python's global generator, as `getstate` has them."""
    generator = getattr(random, "_inst", None)
    size = 4 * (_WORDS + 1)
    room = object.__basicsize__ + size
    if sys.implementation.name != "cpython" or type(generator).__basicsize__ < room:
        return None
    address = id(generator) + object.__basicsize__
    index, *words = struct.unpack(f"={_WORDS + 1}I", ctypes.string_at(address, size))
    return (address, size) if random.getstate()[1] == (*words, index) else None


def numpy_words(bits: Any) -> tuple[int, int] | None:
    """Return address and size of the words of a NumPy bit generator, if it is a Mersenne Twister."""
    if type(bits).__name__ != "MT19937":
        return None
    try:
        return bits.ctypes.state_address, 4 * (_WORDS + 1)
    except (AttributeError, ImportError):
        return None
