"""Is what was kept a copy? Models and states in lists and attributes, and data changed where it is."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Scopes, Story, in_iteration
from fnlib.ledger.findings.texts import assigned, code_of

# Calls that give the same memory, or a container with the same tensors.
_SAME_MEMORY = {"detach", "data", "numpy", "view", "flatten", "squeeze", "values", "items"}
_SHALLOW = {"dict", "list", "tuple", "OrderedDict", "copy.copy", "collections.OrderedDict"}
_STATES = {"state_dict", "parameters", "named_parameters", "buffers", "named_buffers"}
MANY = 3  # times that a pattern takes
_KEEPS = {"append", "add", "insert", "appendleft"}


@dataclass(eq=False, slots=True)
class Kept:
    """Something that a statement put aside without copying it, and what has changed since."""

    entry: Entry
    where: str  # as it is written: best, self.best, history
    value: str
    owner: str  # whose state it is
    many: bool = False  # in a list, to which more is added
    moved: str = ""
    times: int = 1
    stepped: bool = False  # whether its owner had been trained before it was kept


class References(Rule):
    """Models and states that are kept by reference while training goes on.

    A second name for a model (``raw_model = model``) is no copy and isn't meant to be one. What is
    kept again and again, or kept after some steps and used after more, is meant to stay.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.kept: dict[tuple[str, str, str], Kept] = {}
        self.trained: set[str] = set()
        self.types = Scopes()  # of the value of each name

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            owners = {self.story.owner(weight) for weight in event.data["weights"]}
            self.trained |= owners
            for kept in self.kept.values():
                if kept.owner in owners or kept.owner == event.subject:
                    kept.moved = kept.moved or kept.owner

    def after(self, entry: Entry) -> None:
        self.used(entry)
        self.changed(entry)
        self.types.leave(entry)
        types = self.types.of(entry)
        for change in entry.changes:
            if change.state == "name":
                key = (entry.file, entry.function, change.owner)
                kept = self.kept.get(key)
                if kept is not None and kept.entry is not entry:
                    del self.kept[key]
                kind = getattr(change.after, "type", "")
                is_module = getattr(change.after, "is_module", False)
                types[change.owner] = "module" if is_module else kind
        if entry.kind == "statement" and entry.has_source and entry.shares_line == 1:
            self.keep(entry)

    def keep(self, entry: Entry) -> None:
        """Note what a statement keeps without a copy."""
        if not ("=" in entry.source or any(f".{name}(" in entry.source for name in _KEEPS)):
            return
        for where, value, many in _kept_by(entry.source):
            key = (*_scope(entry, where), where)
            before = self.kept.pop(key, None) if not many else self.kept.get(key)
            owner = self.owner_of(entry, value)
            if owner is None:
                continue
            if many and before is not None and before.entry.line == entry.line:
                before.times += 1
                if before.moved and before.times > 2:
                    self.report(before, entry)
                continue
            text = ast.unparse(value)
            repeated = before is not None and before.entry.where == entry.where
            kept = Kept(entry, where, text, owner, many, stepped=owner in self.trained)
            kept.times = before.times + 1 if repeated and before is not None else 1
            self.kept[key] = kept

    def owner_of(self, entry: Entry, value: ast.expr) -> str | None:
        """Return whose memory an expression is, ``None`` if it is a copy or nobody's."""
        path = _aliased(value)
        if path is None:
            return None
        types = self.types.of(entry)
        if types.get(path) == "Tensor" and isinstance(value, ast.Name):
            return path
        named = [one for one in entry.named if self.story.weights_of(one, entry.links)]
        if not named:
            return None
        for one in sorted(named, key=len):
            weights = self.story.weights_of(one, entry.links)
            if (
                path == one
                or types.get(path) == "module"
                or isinstance(value, ast.Call | ast.DictComp)
            ):
                return one
            if any(label.startswith(f"{path}.") or label == path for label in weights):
                return one
        return None

    def changed(self, entry: Entry) -> None:
        """Note tensors that changed in place since they were put into a list."""
        for change in entry.changes:
            if change.overwritten and change.state == "value" and not change.place:
                for kept in self.kept.values():
                    if kept.owner == change.owner and kept.entry.function == entry.function:
                        kept.moved = change.owner

    def used(self, entry: Entry) -> None:
        """Judge a kept model that is used after more steps."""
        if not self.kept:
            return
        for read in entry.reads:
            key = (*_scope(entry, read), read)
            kept = self.kept.get(key)
            if kept is None or kept.many or not kept.moved or kept.entry is entry:
                continue
            kinds = {event.kind for event in entry.all_events}
            uses = kinds & {"forward", "state_dict", "load_state_dict"} or "save" in entry.source
            module = kept.value == kept.owner or self.types.of(entry).get(read) == "module"
            if module and uses and (kept.stepped or kept.times > 1):
                self.report(kept, entry)
            elif self.types.of(entry).get(read) in ("list", "tuple", "ndarray"):
                if re.search(r"\.data\b|\.detach\(|\.numpy\(", kept.value):
                    self.report(kept, entry)

    def report(self, kept: Kept, entry: Entry) -> None:
        """Report something kept by reference, at the statement that keeps it."""
        copied = f"copy.deepcopy({kept.value})"
        if kept.owner == kept.value and not self.story.weights_of(kept.owner, entry.links):
            copied = f"{kept.value}.clone()"
        elif kept.value.endswith((".data", ".detach()")):
            copied = f"{kept.value}.clone()"
        self.story.report(
            "kept-by-reference", "question", kept.entry, kept.owner, per=kept.where,
            name=kept.where, value=kept.value, changes="training goes on changing",
            fixed=_put(kept.entry.source, kept.value, copied),
        )  # fmt: skip


def _put(source: str, value: str, copied: str) -> str:
    """Write a statement with a copy in place of the value that it keeps.

    >>> _put("best_model = model", "model", "copy.deepcopy(model)")
    'best_model = copy.deepcopy(model)'
    """
    before, found, after = source.rpartition(value)
    return f"{before}{copied}{after}" if found else f"kept = {copied}"


def _scope(entry: Entry, path: str) -> tuple[str, str]:
    """Return where a name is known: in its function, or for an attribute of `self` in its class."""
    if path.startswith("self."):
        return entry.file, entry.function.rpartition(".")[0]
    return entry.file, entry.function


def _kept_by(source: str) -> list[tuple[str, ast.expr, bool]]:
    """Return what a statement keeps: where, the value, and whether it is added to a list."""
    found: list[tuple[str, ast.expr, bool]] = []
    for target, value in assigned(source):
        if "[" in target and not isinstance(value, ast.Constant):
            found.append((target.partition("[")[0], value, True))
        elif isinstance(value, ast.Dict):
            found += [(target, one, False) for one in value.values]
        else:
            found.append((target, value, False))
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return found
    call = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args:
        if call.func.attr in _KEEPS:
            value = call.args[-1]
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            found += [(ast.unparse(call.func.value), one, True) for one in values]
    return found


def _aliased(node: ast.expr) -> str | None:
    """Return the path to what an expression shares memory with; ``None`` if it makes a copy.

    >>> def path(source): return _aliased(ast.parse(source, mode="eval").body)
    >>> path("model.state_dict()"), path("dict(net.state_dict())"), path("copy.deepcopy(net)")
    ('model', 'net', None)
    >>> path("{name: one for name, one in net.state_dict().items()}"), path("w.detach().clone()")
    ('net', None)
    """
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Subscript):
        inner, at = _aliased(node.value), node.slice
        whole = isinstance(at, ast.Constant | ast.Slice)
        return f"{inner}.{ast.unparse(at)}" if inner and whole else None
    if isinstance(node, ast.Attribute):
        inner = _aliased(node.value)
        return inner if inner is None or node.attr == "data" else f"{inner}.{node.attr}"
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name in _SHALLOW and len(node.args) == 1:
            return _aliased(node.args[0])
        if isinstance(node.func, ast.Attribute) and not node.args:
            of = node.func.value
            shallow = isinstance(of, ast.Call) and ast.unparse(of.func).endswith("_dict")
            if node.func.attr in _SAME_MEMORY | _STATES or (node.func.attr == "copy" and shallow):
                return _aliased(of)
        return None
    if isinstance(node, ast.DictComp | ast.ListComp):
        value = node.value if isinstance(node, ast.DictComp) else node.elt
        while isinstance(value, ast.Call | ast.Attribute):
            call = value.func if isinstance(value, ast.Call) else value
            if not isinstance(call, ast.Attribute) or call.attr not in _SAME_MEMORY | {"cpu"}:
                return None
            value = call.value
        own = {one.id for one in ast.walk(node.generators[0].target) if isinstance(one, ast.Name)}
        if isinstance(value, ast.Name) and value.id in own:
            return _aliased(node.generators[0].iter)
    return None


class Repeated(Rule):
    """Layers that are one: ``nn.ModuleList([layer] * 4)``, ``[layer for _ in range(4)]``.

    A module's places are followed once each. So a list of which only place 0 has weights, although
    it was repeated, holds one layer.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.made: dict[str, tuple[Entry, ast.expr, str]] = {}  # the list, and what repeats it

    def after(self, entry: Entry) -> None:
        source = entry.source
        if "(" not in source or not ("] * " in source or " for " in source):
            return
        for target, value in assigned(entry.source):
            for call in ast.walk(value):
                if isinstance(call, ast.Call) and len(call.args) == 1:
                    node = call.args[0]
                    node = node.value if isinstance(node, ast.Starred) else node
                    layer = _repeated(node)
                    if layer is not None:
                        self.made[target.rpartition(".")[2]] = (entry, node, layer)

    def end(self) -> None:
        labels = {label for entry in self.story.entries[-1:] for label in entry.links.weights}
        for name, (entry, node, fixed) in self.made.items():
            places = [label for label in labels if f".{name}.0." in f".{label}"]
            if places and not any(f".{name}.1." in f".{label}" for label in labels):
                fixed = entry.source.replace(ast.unparse(node), fixed)
                place = f"{min(places).partition(f'{name}.0.')[0]}{name}"
                self.story.report(
                    "one-layer-many-times", "question", entry, place, source=ast.unparse(node),
                    name=name, fixed=fixed,
                )  # fmt: skip


def _repeated(node: ast.expr) -> str | None:
    """Write a list that repeats one layer as one of copies; ``None`` for any other list.

    >>> def copies(source): return _repeated(ast.parse(source, mode="eval").body)
    >>> copies("[nn.Linear(8, 8)] * 4"), copies("[layer for _ in range(n)]")
    ('[nn.Linear(8, 8) for _ in range(4)]', '[copy.deepcopy(layer) for _ in range(n)]')
    >>> copies("[nn.Linear(8, 8) for _ in range(4)]")
    """
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.List):
        layer, times = ast.unparse(node.left)[1:-1], ast.unparse(node.right)
        made = layer if "(" in layer else f"copy.deepcopy({layer})"
        return f"[{made} for _ in range({times})]" if len(node.left.elts) == 1 else None
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        own = {
            one.id for part in node.generators for one in ast.walk(part.target)
            if isinstance(one, ast.Name)
        }  # fmt: skip
        inside = {one.id for one in ast.walk(node.elt) if isinstance(one, ast.Name)}
        if isinstance(node.elt, ast.Name | ast.Attribute) and not own & inside:
            layer = ast.unparse(node.elt)
            copied = ast.parse(f"copy.deepcopy({layer})", mode="eval").body
            return ast.unparse(ast.ListComp(copied, node.generators))
    return None


class KeptGraphs(Rule):
    """Losses that are put into a list with their graphs, although a backward has used these."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.names = Scopes()  # of each name with a graph: [used up, put where, nodes]
        self.kept: dict[tuple[str, str, str], int] = {}  # how many graphs a list keeps

    def after(self, entry: Entry) -> None:
        self.names.leave(entry)
        names = self.names.of(entry)
        for change in entry.changes:
            if change.state == "name":
                nodes = getattr(change.after, "nodes", 0)
                names.pop(change.owner, None)
                if nodes:
                    names[change.owner] = [False, None, nodes]
            elif change.state == "graph" and change.kind == "removed":
                behind = change.note.removeprefix("and the part of it behind ").split(", ")
                for name in {change.owner, *behind} & names.keys():
                    names[name][0] = True
                    self.count(names[name], name)
            if change.state == "name":
                self.kept.pop((entry.file, entry.function, change.owner), None)
        for target, _ in assigned(entry.source) if "." in entry.source else ():
            self.kept.pop((entry.file, entry.function, target), None)
        for where, value, many in _kept_by(entry.source) if "append" in entry.source else ():
            if many and isinstance(value, ast.Name) and value.id in names:
                names[value.id][1] = (entry, where)
                self.count(names[value.id], value.id)

    def count(self, known: list[Any], name: str) -> None:
        """Count a graph that was used up and is kept; report the third at one line."""
        used, put, nodes = known
        if not used or put is None:
            return
        known[1] = None
        entry, where = put
        key = (entry.file, entry.function, where)
        times = self.kept[key] = self.kept.get(key, 0) + 1
        if times == 3:
            self.story.report(
                "graph-kept", "question", entry, where, name=where, nodes=times * nodes,
                when=in_iteration(entry), fixed=_put(entry.source, name, f"{name}.detach()"),
            )  # fmt: skip


# --- data that is changed where it is -------------------------------------------------------------


_OVERWRITES = re.compile(r"\.(fill|zero|copy|normal|uniform|random|bernoulli)_\(")
_FRESH = re.compile(r"=\s*torch\.\w+\(")  # a tensor that the statement makes


@dataclass(eq=False, slots=True)
class Round:
    """What a name was bound to by one run of a statement, and whether it is a part of kept data."""

    entry: Entry
    stored: bool = False
    changed: bool = False


class Data(Rule):
    """Data that is changed in place by the code that fetches it, so that it is changed each epoch.

    Two signs: a statement changes what it left behind in an earlier round, or a view of something
    that an attribute holds.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.rounds = Scopes()
        self.left: dict[tuple[object, ...], Round] = {}
        self.cases: dict[tuple[str, str, int], list[tuple[Entry, str, bool]]] = {}
        self.stored: dict[tuple[str, str, int], list[tuple[Entry, str]]] = {}
        self.loops: set[tuple[str, str]] = set()
        self.fed: set[tuple[str, str]] = set()

    def after(self, entry: Entry) -> None:
        self.rounds.leave(entry)
        rounds = self.rounds.of(entry)
        for change in entry.changes:  # also by a function that it calls with the name
            if change.state == "name" and getattr(change.after, "type", "") == "Tensor":
                if not self.in_place(entry, change.owner):
                    rounds[change.owner] = Round(entry, _is_stored(entry, change))
            elif change.state == "value" and change.overwritten and not change.place:
                if change.owner in rounds and _reads(entry, change.owner):
                    self.changed(entry, change, rounds[change.owner])
        if any(event.kind == "forward" and event.data["grad_enabled"] for event in entry.events):
            self.fed.update((entry.file, f"{entry.function}:{name}") for name in entry.reads)
        if entry.inside and entry.kind == "header":
            for inner in entry.inside:
                self.loops.add((inner.file, inner.function))

    def in_place(self, entry: Entry, name: str) -> bool:
        """Say whether a statement binds a name to what it was bound to, changed in place."""
        return _reads(entry, name) and any(
            change.owner == name and change.state == "value" and change.overwritten
            for change in entry.changes
        )

    def changed(self, entry: Entry, change: Change, round_: Round) -> None:
        """Compare what a statement changes with what was left by earlier rounds."""
        before, after = (getattr(one, "fingerprint", None) for one in (change.before, change.after))
        if before is None or after is None:
            return
        if _OVERWRITES.search(entry.source) or _FRESH.search(round_.entry.source):
            return
        shape = getattr(change.after, "shape", ())
        size = 1
        for one in shape:
            size *= one
        earlier = self.left.get((before, shape))
        if earlier is not None and earlier is not round_ and size > 1:
            if earlier.entry.where == round_.entry.where and not _reads(round_.entry, change.owner):
                self.cases.setdefault(entry.where, []).append((entry, change.owner, True))
        if round_.stored and not round_.changed:
            self.stored.setdefault(entry.where, []).append((entry, change.owner))
        round_.changed = True
        self.left[after, shape] = round_

    def end(self) -> None:
        for where in {**self.cases, **self.stored}:
            again = [(entry, name) for entry, name, _ in self.cases.get(where, ())]
            stored = self.stored.get(where, [])
            for entry, name in (again or stored)[:1]:
                fetches = entry.function.rpartition(".")[2] == "__getitem__"
                fetches = fetches or (entry.file, entry.function) in self.loops
                fed = (entry.file, f"{entry.function}:{name}") in self.fed
                if (len(again) > 1 and (fetches or fed)) or (len(stored) > 1 and fetches):
                    self.story.report(
                        "data-changed-in-place", "question", entry, name,
                        source=entry.source, name=name, fixed=f"{name} = {name}.clone()\n{entry.source}",
                    )  # fmt: skip


def _reads(entry: Entry, name: str) -> bool:
    return any(read == name or read.startswith((f"{name}.", f"{name}[")) for read in entry.reads)


def _is_stored(entry: Entry, change: Change) -> bool:
    """Say whether a name is bound to a view of something that an attribute of `self` holds."""
    if not getattr(change.after, "view", False):
        return False
    values = [value for target, value in assigned(entry.source) if target == change.owner]
    return (
        bool(values)
        and isinstance(values[0], ast.Subscript)
        and ast.unparse(values[0]).startswith("self.")
    )


# --- weights that are two and have one memory ------------------------------------------------------


class Shared(Rule):
    """Two weights in one memory: ``target.data = weight.data``, ``nn.Parameter(other.weight)``.

    A tie is one Parameter under two names. These are two, so each step of one moves the other,
    and an optimizer that holds both moves the memory twice.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.pairs: dict[tuple[str, str], int] = {}
        self.made: dict[str, Entry] = {}  # the last statement that set a weight's memory
        self.last: Entry | None = None
        self.fed: set[str] = set()

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "step":
            self.last = entry
            self.fed.update(event.data["weights"])

    def after(self, entry: Entry) -> None:
        steps = entry is self.last
        weights = entry.links.weights
        for change in self.story.own(entry):
            if change.state != "weight":
                continue
            if change.kind == "replaced":
                self.made[change.label] = entry
            elif steps and change.overwritten:
                for other in change.also:
                    if other in weights and weights[other] != weights[change.label]:
                        pair = (change.label, other)
                        self.pairs[pair] = self.pairs.get(pair, 0) + 1

    def end(self) -> None:
        for (label, other), times in self.pairs.items():
            if times < MANY or self.last is None or (other, label) in self.pairs and other < label:
                continue
            made = self.made.get(other) or self.made.get(label)
            both = other in self.fed
            changes = "each step changes"
            fixed = f"{code_of(other)}.data = {code_of(label)}.detach().clone()"
            if both:
                changes = "each step changes twice: they are two weights in one memory"
                fixed = f"{code_of(other)} = {code_of(label)}      # one Parameter, before the optimizer"
            elif made is not None and (where := _assigned_data(made.source)):
                fixed = f"{where[0]}.copy_({where[1]})"
            self.story.report(
                "kept-by-reference", "question", made or self.last, other, per="memory",
                name=other, value=label, changes=changes, fixed=fixed,
            )  # fmt: skip


def _assigned_data(source: str) -> tuple[str, str] | None:
    """Return what a statement assigns to ``.data``, and where.

    >>> _assigned_data("t.data = p.data")
    ('t.data', 'p.data')
    """
    found = [(target, ast.unparse(value)) for target, value in assigned(source)]
    return next((pair for pair in found if pair[0].endswith(".data")), None)


# --- a second name that is changed with the first --------------------------------------------------


class Residuals(Rule):
    """``identity = x``, and then `x` is changed in place: both names are the changed one.

    The second name is only there to keep what was. So a later statement reads it beside the first.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.same = Scopes()  # for each second name: [the first one, the statement, who changed it]
        self.cases: dict[tuple[str, str, int], list[tuple[Entry, str, str, Entry]]] = {}

    def after(self, entry: Entry) -> None:
        self.same.leave(entry)
        same = self.same.of(entry)
        for change in entry.changes:
            if change.state == "value" and change.overwritten and not change.place:
                for name, known in same.items():
                    if change.owner in (known[0], name) and not _reads(entry, name):
                        known[2] = entry
        for read in entry.reads:
            known = same.get(read.partition(".")[0])
            if known is not None and known[2] is not None and known[2] is not entry:
                second, case = read.partition(".")[0], known
                if case[3] or known[0] in entry.reads:  # the first name has gone on
                    self.cases.setdefault(case[1].where, []).append(
                        (case[1], second, case[0], case[2])
                    )
        for change in entry.changes:
            if change.state == "name":
                for name, known in list(same.items()):
                    if known[0] == change.owner and known[2] is None:
                        del same[name]  # the first name has gone on before anything changed
                    known[3] |= known[0] == change.owner
                same.pop(change.owner, None)
        if entry.kind == "statement" and entry.shares_line == 1:
            for target, value in assigned(entry.source):
                tensor = any(
                    change.owner == target and getattr(change.after, "type", "") == "Tensor"
                    for change in entry.changes
                    if change.state == "name"
                )
                if tensor and isinstance(value, ast.Name) and target.isidentifier():
                    same[target] = [value.id, entry, None, False]

    def end(self) -> None:
        for cases in self.cases.values():
            if len(cases) >= MANY:
                entry, name, value, at = cases[-1]
                self.story.report(
                    "kept-by-reference", "question", entry, name, per="first", name=name, value=value,
                    changes=f"line {at.line} changes in place before `{name}` is read", fixed=f"{name} = {value}.clone()",
                )  # fmt: skip
