"""How one module tree serves many values: a pool of trees, and one tree with places for tensors."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fnlib import errors
from fnlib.network.hidden_state import Attributes, Place, State, anatomy, resizable
from fnlib.network.names import named_tensors, refuse_views
from fnlib.network.randomness import preserved
from fnlib.show import words
from fnlib.torch_private import hooks_of, outside_transforms, registries, waits_for_grad
from fnlib.values.check import check_match
from fnlib.values.held import Held
from fnlib.values.protect import share_all, unchanged

Mode = bool | tuple[tuple[str, bool], ...]  # of the whole network, or by submodule
# What a forward pass calls: a method, or None for the module itself, with its arguments.
Call = tuple[str | None, tuple[Any, ...], dict[str, Any]]


_BIND = "model = ModelFactory(fnlib.Parameters.from_module(network))   # or what its step returned"


_NOTHING: tuple[list[Tensor], list[Tensor]] = ([], [])
SHARED = (
    "`{0}` {1}, and all models of this factory share one module, so model.call can't run it. Change the network where it is "
    "built, and make another factory.\n\n"
    '    model.call("{0}", ...)   # wrong\n\n'
    "    network = build(); network.{0}(...)\n"
    "    ModelFactory = fnlib.Factory(network)   # right: a network that has been changed\n"
)


def mode_in_words(mode: Mode) -> str:
    """Say which parts train: "training except bn"."""
    named = {"": mode} if isinstance(mode, bool) else {"": True, **dict(mode)}
    rest = named.pop("")
    others = [name for name, trains in named.items() if trains is not rest]
    back = [
        name
        for name in named
        if name not in others and name.startswith(tuple(f"{o}." for o in others))
    ]
    text = "training" if rest else "evaluation"
    text += f" except {', '.join(others)}" if others else ""
    return text + (f" (but not {', '.join(back)})" if back else "")


class Network:
    """What a factory knows of its network: everything but the values of its tensors.

    Args:
        module: a module that is ours to take apart.
        another: makes another module of the same structure, for passes at the same time.
    """

    def __init__(self, module: nn.Module, another: Callable[[], nn.Module]) -> None:
        for path, part in module.named_modules():
            if isinstance(part, torch.jit.ScriptModule):
                which = f"'{path}' of this network" if path else "This network"
                raise errors.UnsupportedModule(
                    f"{which} is a scripted module, which keeps its weights where Python can't replace them. "
                    "Use the nn.Module that you scripted."
                )
        tensors = named_tensors(module)
        refuse_views(module, tensors)
        self.names = tensors.names
        for name, weight in tensors.weights.items():
            if waits_for_grad(weight):
                raise errors.UnsupportedModule(
                    f"'{name}' has a hook that waits for its .grad (register_post_accumulate_grad_hook), but model.backward "
                    "never fills .grad, so nothing would call it. Use the gradient that model.backward(loss) returns."
                )
        self.modules = {path for path, _ in module.named_modules(remove_duplicate=False)}
        hooks = {name: list(hooks_of(weight).values()) for name, weight in tensors.weights.items()}
        self.hooks = {name: some for name, some in hooks.items() if some}
        # Tensors on "meta" have names, shapes and kinds, and no content.
        self.weights = {
            name: nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
            for name, weight in tensors.weights.items()
        }
        self.buffers = {n: buffer.detach().to("meta") for n, buffer in tensors.buffers.items()}
        self.placeholders = list[Tensor](self.weights.values()), list(self.buffers.values())
        self.trained = [i for i, weight in enumerate(self.weights.values()) if weight.requires_grad]
        self.trained_names = [name for name, weight in self.weights.items() if weight.requires_grad]
        # Whether forward passes write to weights; unless a layer says so, the first pass shows it.
        self.writes_weights = any(
            getattr(m, "max_norm", None) is not None for m in module.modules()
        )
        # Buffers that a pass resizes, by index: PyTorch can't resize a lazy copy.
        self.plain = resizable(module, list(tensors.buffers.values()))
        # Containers that all trees hold, because the build gave each of them the same: the user's.
        self.shared: frozenset[int] | None = None
        self._another = another
        first = Tree(self, module, True)
        self.keeps_nothing = first.keeps_nothing
        self._idle: dict[Mode, list[Tree]] = {True: [first]}
        # Trees that a graph or an output still refers to, and will run parts of again.
        self.left: deque[Tree] = deque(maxlen=8)

    def mode_of(self, training: object) -> Mode:
        """Return as a mode what `training=` maps submodule names to: True or False."""
        right = 'model = ModelFactory(parameters, training={"bn": False})'
        flags = training.values() if isinstance(training, Mapping) else (None,)
        if not isinstance(training, Mapping) or {*map(type, flags)} - {bool}:
            what = "training= takes True, False or a mapping of submodule names to them"
            raise errors.WrongParameters(what, f"got {training!r}", right)
        unknown = [str(name) for name in training if name not in self.modules]
        if unknown:
            known = words.names(sorted(self.modules - {""})) or "none"
            what = "training= names a submodule that this network doesn't have"
            raise errors.WrongParameters(what, f"{words.names(unknown)}; there is {known}", right)
        return tuple(sorted(training.items())) or True

    def fit(self, held: Held) -> Held:
        """Check a record, and return it with weights and buffers in this network's order."""
        check_match("weights", held.weights, self.weights, _BIND)
        check_match("buffers", held.buffers, self.buffers, _BIND, free=held.names.resized)
        if self.names.extra.keys() - held.names.extra.keys():  # a file can't hold any object
            extra = {**self.names.extra, **held.names.extra}
            held = held._replace(names=held.names._replace(extra=extra))
        if [*held.weights, *held.buffers] == [*self.weights, *self.buffers]:
            return held
        return held._replace(
            weights={name: held.weights[name] for name in self.weights},
            buffers={name: held.buffers[name] for name in self.buffers},
        )

    def borrow(self, mode: Mode) -> Tree:
        """Take a tree that no other pass uses; so one factory serves threads and nested calls."""
        try:
            return self._idle[mode].pop()
        except (KeyError, IndexError):
            pass
        for tree in list(self.left):
            if tree.mode == mode and not tree.is_referenced():
                with contextlib.suppress(ValueError):  # another thread took it
                    self.left.remove(tree)
                    tree.restore()
                    tree.changes = None
                    return tree
        with preserved(), outside_transforms():
            return Tree(self, self._another(), mode)

    def give_back(self, tree: Tree, buffers: list[Tensor]) -> None:
        """Put a tree back into the pool, or keep its tensors in place for a graph or an output.

        Checkpointing runs parts of a module again in backward; an output may be one of its methods.
        """
        tree.restore()
        if tree.is_referenced():
            if tree.changes is not None:  # which a graph or an output may need
                tree.put(tree.changes)
            tree.after = share_all(buffers)
            tree.fill(tree.given[0], share_all(buffers))
            self.left.append(tree)
        else:
            tree.changes = None
            tree.clear()
            self._idle.setdefault(tree.mode, []).append(tree)

    def describe(self) -> tuple[str, str]:
        """Return the name of the network and its repr, as PyTorch prints it."""
        tree = self.borrow(True)
        try:
            return type(tree.module).__name__, repr(tree.module)
        finally:
            self.give_back(tree, [])

    def check_left(self) -> None:
        """Refuse a backward that changed buffers: it came after the pass that returned them."""
        for tree in list(self.left):
            now = tree.read(tree.buffer_places, tree.after)
            named = zip(self.buffers, now, tree.after, strict=True)
            names = [name for name, new, old in named if not unchanged(new, old)]
            if names:
                with contextlib.suppress(ValueError):
                    self.left.remove(tree)
                raise errors.UnsupportedModule(
                    f"A part of this network runs again in backward (torch.utils.checkpoint) and changes {words.names(names)} a second "
                    "time. Stock PyTorch counts both runs, but with_buffers has already returned the buffers of the first. "
                    "Leave this layer out of the checkpoint, or bind it with training=False."
                )


class Tree:
    """One module tree with places for tensors, which are filled for a forward pass."""

    given: tuple[list[Tensor], list[Tensor]]  # what was put into the places
    found: tuple[list[Tensor], list[Tensor]]  # what was there after the pass
    after_pass: tuple[list[Tensor], list[Tensor]]  # the same, if it is to be judged
    after: list[Tensor]  # buffers after the pass, if a graph still refers to this tree

    def __init__(self, network: Network, module: nn.Module, mode: Mode) -> None:
        self.module, self.mode, self.network = module, mode, network
        tensors = named_tensors(module)
        if [*map(list, tensors[:2])] != [list(network.weights), list(network.buffers)]:
            raise errors.UnsupportedModule(
                "Building this network twice gave different names of weights or buffers. Build the same network every time."
            )
        self.weight_places = _places(module, 0, tensors.weights)
        self.buffer_places = _places(module, 1, tensors.buffers)
        _set_mode(module, mode)
        self.attributes = Attributes(module, _indices(tensors.weights), _indices(tensors.buffers))
        self.second_places = self.attributes.weight_places, self.attributes.buffer_places
        self.all_second_places = tuple(map(tuple, self.second_places))
        self.exchanged: list[str] = []  # second places that a pass left behind
        self.grown: list[str] = []  # buffers that a pass added or filled
        self.records: dict[str | None, Any] = {}  # by method, what is known of its passes
        self.changes: State | None = None  # the attributes after a pass, if it changed any
        self.clear()
        self.attributes.remember()
        self.keeps_nothing = self.attributes.keeps_nothing
        self.references: int | None = None

    def is_referenced(self) -> bool:
        """Say whether something refers to the module that did not before its forward passes."""
        return self.references is not None and self._count_references() > self.references

    def _count_references(self) -> int:
        return sum(map(sys.getrefcount, self.attributes.parts))

    def call(self, weights: list[Tensor], buffers: list[Tensor], call: Call) -> Any:
        """Run a forward pass, and read into `found` the tensors that are in place afterwards."""
        if self.references is None:
            self.references = self._count_references()
        self.given = weights, buffers
        self.fill(weights, buffers)
        method, args, kwargs = call
        if method is None:
            output = self.module(*args, **kwargs)
        else:
            output = self._run_method(method, args, kwargs)
        self.found = (
            self.read(self.weight_places, weights),
            self.read(self.buffer_places, buffers) if buffers else buffers,
        )
        return output

    def _run_method(self, method: str, args: Any, kwargs: Any) -> Any:
        """Run a method that only computes: later models get this tree and these weights too."""
        function, parts = getattr(self.module, method), self.attributes.parts
        if getattr(function, "__func__", function) is vars(nn.Module).get(method):
            what = "is a method of every nn.Module, not one that your class adds"
            raise errors.UnsupportedModule(SHARED.format(method, what))
        before = anatomy(parts)
        output = function(*args, **kwargs)
        if changed := [name for name, now in anatomy(parts).items() if now != before.get(name)]:
            what = f"changes {words.names(changed)}"
            raise errors.UnsupportedModule(SHARED.format(method, what))
        return output

    def fill(self, weights: list[Tensor], buffers: list[Tensor]) -> None:
        """Put tensors into their places."""
        for places in (self.weight_places, self.second_places[0]):
            for container, key, i in places:
                container[key] = weights[i]
        for places in (self.buffer_places, self.second_places[1]):
            for container, key, i in places:
                container[key] = buffers[i]

    def clear(self) -> None:
        """Take the tensors out again."""
        self.given = self.found = self.after_pass = _NOTHING
        self.after = _NOTHING[0]
        self.fill(*self.network.placeholders)

    @staticmethod
    def read(places: list[Place], placed: list[Tensor]) -> list[Tensor]:
        """Return the tensors in places now: a forward pass may have put in others."""
        found = list(placed)
        for container, key, i in places:
            if container.get(key) is not placed[i]:
                if container.get(key) is None:
                    raise errors.HiddenState([key], "adds or removes them while it runs")
                found[i] = container[key]
        return found

    def changed_attributes(self, outside: list[Any] | None) -> list[str]:
        """Name the attributes that the pass changed; tensors in places do not count."""
        self.grown = self.attributes.grew()
        self.exchanged = self.blank()
        names = [*self.grown, *self.attributes.changed(outside)]
        if names:
            self.changes = self.attributes.note()
            self.after_pass = self.found
            if self.network.shared is None:
                self.network.shared = self._shared()
        return names

    def blank(self) -> list[str]:
        """Take the tensors out of second places, and name those that a pass left behind."""
        exchanged = []
        for places, found, given, empty in zip(
            self.second_places, self.found, self.given, self.network.placeholders, strict=True
        ):
            for container, key, i in places:
                with contextlib.suppress(LookupError):
                    if container[key] is found[i]:
                        container[key] = empty[i]
                    elif container[key] is given[i]:
                        exchanged.append(str(key))
        return exchanged

    def put(self, state: State) -> None:
        """Put the attributes to a state; second places with a tensor of their own are left alone."""
        self.attributes.put(state)
        self._choose_places()

    def _choose_places(self) -> None:
        for places, every, empty in zip(
            self.second_places, self.all_second_places, self.network.placeholders, strict=True
        ):
            places.clear()
            for container, key, i in every:
                with contextlib.suppress(LookupError):
                    if container[key] is empty[i]:
                        places.append((container, key, i))

    def restore(self) -> None:
        """Undo what a pass changed in attributes of the network's own."""
        if self.changes is not None:
            shared = self.network.shared or frozenset()
            self.attributes.put(self.attributes.first, self.changes, shared)
            self._choose_places()

    def _shared(self) -> frozenset[int]:
        other = self.network.borrow(self.mode)
        ids = frozenset(self.attributes.identities())
        self.network.give_back(other, [])
        return ids.intersection(other.attributes.identities())


def _indices(tensors: Mapping[str, Tensor]) -> dict[int, int]:
    return {id(tensor): i for i, tensor in enumerate(tensors.values())}


def _places(module: nn.Module, registry: int, tensors: Mapping[str, Tensor]) -> list[Place]:
    """List where each tensor is in the module tree, once for each name of a tied one."""
    indices = _indices(tensors)
    return [
        (container, key, indices[id(tensor)])
        for part in module.modules()
        for container in (registries(part)[registry],)
        for key, tensor in container.items()
        if tensor is not None
    ]


def _set_mode(module: nn.Module, mode: Mode) -> None:
    """Switch a module tree with its own ``train()``, which some networks override."""
    wanted = {"": mode} if isinstance(mode, bool) else {"": True, **dict(mode)}
    before = {
        path: {k: v for k, v in vars(part).items() if k != "training"}
        for path, part in module.named_modules()
    }
    for path in sorted(wanted, key=lambda path: path.count(".") + bool(path)):
        module.get_submodule(path).train(wanted[path])
    for path, part in module.named_modules():
        switched = [key for key in before[path] if vars(part).get(key) is not before[path][key]]
        if switched:
            raise errors.HiddenState(
                [f"{path}.{key}" if path else key for key in switched],
                "its train() or eval() is what changes it",
            )
