"""Did what was done have an effect, and did it last? Flags, calls, loads and freezes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fnlib.ledger.entries import Change, Entry, Event
from fnlib.ledger.findings.story import Rule, Story
from fnlib.ledger.findings.texts import argument, assigned, code_of
from fnlib.ledger.recording.source import text_of

# Methods of torch's objects that do something only when they are called.
_METHODS = {"zero_grad", "step", "backward", "eval", "train", "requires_grad_", "detach_", "zero_"}
_CONTEXTS = re.compile(
    r"(torch\.)?(autograd\.)?(no_grad|inference_mode|enable_grad)\(\)|(torch\.)?(amp\.|cuda\.amp\.)?autocast\(.*\)"
)
_FLAG = re.compile(r"(?!requires_grad$)requires?_?grads?(ient)?|required_grad|requires_grad_")
# Out of place, and with a twin that writes in place.
_PURE = {name for name in dir(Tensor) if not name.startswith("_") and hasattr(Tensor, name + "_")}
_PURE = (_PURE | {"to", "float", "double", "half", "bfloat16", "long", "cuda", "cpu", "clone"}) - {
    *("put", "apply", "map", "set", "requires_grad", "share_memory", "data", "normal", "uniform"),
    *("random", "bernoulli", "rename", "retain_grad", "resize", "copy"),
}
_OF_PARTS = re.compile(r"\.(named_)?(parameters|modules|children|buffers)\(|state_dict\(\)\.items")
ENOUGH = 3  # weights whose new values nobody reads
_HELD = {"data", "grad", "weight", "bias"}  # attributes that are tensors wherever they are


class Unread(Rule):
    """Flags on objects that nobody reads, and statements that name a method or make a context."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.flags: list[tuple[Entry, Event]] = []
        self.moved: set[str] = set()
        self.types: dict[tuple[str, str, str], str] = {}
        self.idle: dict[tuple[str, str, int], list[Entry]] = {}  # calls that were given a model
        self.acted: set[tuple[str, str, int]] = set()
        self.applications: dict[tuple[str, str, int], tuple[Entry, str, str] | None] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "attribute":
            self.flags.append((entry, event))
        elif event.kind == "step":
            self.moved.update(event.data["weights"])

    def after(self, entry: Entry) -> None:
        for change in entry.changes:
            if change.state == "name" and change.after is not None:
                key = (entry.file, entry.function, change.owner)
                self.types[key] = getattr(change.after, "type", "")
        if entry.kind != "statement" or entry.shares_line > 1 or not entry.has_source:
            return
        if "(" in entry.source or "." in entry.source:
            self.statement(entry)

    def statement(self, entry: Entry) -> None:
        """Judge a statement whose value goes nowhere, and one that sets a flag."""
        if len(entry.source) > 200:
            return
        for path, value in assigned(entry.source) if "grad" in entry.source else ():
            owner, _, name = path.rpartition(".")
            if owner and _FLAG.fullmatch(name) and isinstance(value, ast.Constant):
                if isinstance(value.value, bool) and self.is_tensor(entry, owner):
                    fixed = f"{owner}.requires_grad = {value.value}"
                    self.report(entry, owner, "No tensor reads that attribute.", fixed)
        node = _expression(entry)
        if isinstance(node, ast.Attribute) and node.attr in _METHODS and entry.named:
            owner = ast.unparse(node.value)
            self.report(entry, owner, "Without parentheses nothing is called.", entry.source + "()")
        elif isinstance(node, ast.Call):
            self.call(entry, node)

    def call(self, entry: Entry, node: ast.Call) -> None:
        """Judge a call whose result goes nowhere."""
        source = ast.unparse(node)
        if _CONTEXTS.fullmatch(source) and not entry.events:
            why = "It makes a context manager; only `with` enters it."
            self.report(entry, source, why, f"with {source}:\n    pass      # the lines it is for")
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "apply" and node.args:
            self.applied(entry, node, ast.unparse(node.args[0]))
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _PURE:
            owner = ast.unparse(node.func.value)
            keywords = {one.arg for one in node.keywords}
            if self.is_tensor(entry, owner) and not keywords & {"out", "inplace"}:
                if not any(change.state not in ("name", "graph") for change in entry.changes):
                    target = owner if owner.replace(".", "").isidentifier() else "result"
                    self.story.report(
                        "result-ignored", "question", entry, owner, source=source,
                        bound=f"{target} = {source}",
                        because=f"`{node.func.attr}` returns a new tensor and leaves `{owner}` as "
                        "it is.",
                    )  # fmt: skip
        elif any(self.story.weights_of(one, entry.links) for one in entry.named) and node.args:
            if entry.events or _acts(entry):
                self.acted.add(entry.where)
            else:
                self.idle.setdefault(entry.where, []).append(entry)

    def unwrapped(self, entry: Entry) -> str:
        """Write a call that was given a wrapped model with the model inside: its names are others."""
        for owner in entry.named:
            for inner in ("module", "_orig_mod"):
                if any(one.startswith(f"{owner}.{inner}.") for one in entry.links.weights):
                    return re.sub(rf"\b{re.escape(owner)}\b", f"{owner}.{inner}", entry.source)
        return f"{entry.source}      # with a model for which that is true"

    def applied(self, entry: Entry, node: ast.Call, function: str) -> None:
        """Note whether a function that is applied to all parts of a model acts on one."""
        acts = any(one.source not in ("return", "return None", "pass") for one in entry.inside)
        again = entry.where in self.applications  # a later call may no longer be looked into
        one = None if again or acts or _acts(entry) else (entry, ast.unparse(node), function)
        self.applications[entry.where] = one

    def never_applied(self, entry: Entry, source: str, function: str) -> None:
        """Ask about a function that was applied once and acted on no part of a model."""
        modules = [one for one in entry.named if self.story.weights_of(one, entry.links)]
        module = _looks_for(text_of(entry.file), function.rpartition(".")[2])
        if modules and module:
            owner = min(modules, key=len)
            self.story.report(
                "set-without-effect", "question", entry, owner, source=source,
                because=f"No part of {owner} is what {function} looks for: it acts on none.",
                fixed=f"if isinstance({module}, nn.Linear):      # in {function}: a class of {owner}'s",
            )  # fmt: skip

    def is_tensor(self, entry: Entry, path: str) -> bool:
        """Say whether a path leads to a tensor."""
        if path.rpartition(".")[2] in _HELD or path in entry.links.flags:
            return True
        key = (entry.file, entry.function, path)
        return self.types.get(key, "") in ("Tensor", "Parameter")

    def report(self, entry: Entry, place: str, why: str, fixed: str) -> None:
        """Report a statement that has no effect."""
        fields = {"source": entry.source, "because": why, "fixed": fixed}
        self.story.report("set-without-effect", "certain", entry, place, **fields)

    def end(self) -> None:
        for one in self.applications.values():
            if one is not None:
                self.never_applied(*one)
        for where, entries in self.idle.items():
            entry = entries[-1]
            called = ast.unparse(ast.parse(entry.source).body[0].value.func)  # type: ignore[attr-defined]
            test = _only_if(text_of(entry.file), called.rpartition(".")[2])
            if where not in self.acted and len(entries) >= ENOUGH and test:
                self.story.report(
                    "set-without-effect", "question", entry, called, source=entry.source,
                    because=f"In {len(entries)} calls `{test}` was never true for a part of the model.",
                    fixed=self.unwrapped(entry),
                )  # fmt: skip
        for entry, event in self.flags:
            place, name, value = event.subject, event.data["name"], event.data["value"]
            code = code_of(place)
            if name in ("train", "eval"):
                mode = (
                    f"{code}.{name}()"
                    if value
                    else f"{code}.{'eval' if name == 'train' else 'train'}()"
                )
                why = f"It replaces the method {name}() by {value}."
                self.report(entry, place, why, f"del {code}.{name}\n{mode}")
                continue
            flags = entry.links.flags
            weights = [one for one in flags if one.startswith(f"{place}.")]
            if not any(flags[one] != value for one in weights):
                continue  # they are as the statement wants them
            severity = "certain" if not value and self.moved.intersection(weights) else "question"
            why = "A module has no such flag; only its weights have it."
            fields = {"source": entry.source, "because": why}
            fields["fixed"] = f"{code}.requires_grad_({value})"
            self.story.report("set-without-effect", severity, entry, place, per=place, **fields)  # type: ignore[arg-type]


def _looks_for(text: str, function: str) -> str:
    r"""Return the argument that a function tests before it does anything; "" for another function.

    >>> _looks_for("def f(m):\n    if isinstance(m, str):\n        m.zero_()", "f")
    'm'
    """
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function and node.args.args:
            name = node.args.args[-1].arg
            first = node.body[1:] if ast.get_docstring(node) else node.body
            tested = first[0].test if first and isinstance(first[0], ast.If) else None
            names = ast.walk(tested) if tested is not None else ()
            if any(isinstance(one, ast.Name) and one.id == name for one in names):
                return name
    return ""


def _only_if(text: str, function: str) -> str:
    r"""Return the test on which all writes of a function depend, in a loop over parts of a model.

    >>> _only_if("def f(m):\n    for k, p in m.named_parameters():\n        if k in s:\n            s[k].copy_(p)", "f")
    'k in s'
    """
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef) or node.name != function:
            continue
        loops = [one for one in _always(node.body) if isinstance(one, ast.For)]
        for loop in loops if len(loops) == 1 else ():
            names = {one.id for one in ast.walk(loop.target) if isinstance(one, ast.Name)}
            test = loop.body[0].test if isinstance(loop.body[0], ast.If) else None
            if (
                len(loop.body) == 1
                and test is not None
                and _OF_PARTS.search(ast.unparse(loop.iter))
            ):
                if any(isinstance(one, ast.Name) and one.id in names for one in ast.walk(test)):
                    return ast.unparse(test)
    return ""


def _always(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that every call of a function runs, up to one that may end it."""
    for one in body:
        if any(isinstance(inner, ast.Return) for inner in ast.walk(one)):
            return
        yield from _always(one.body) if isinstance(one, ast.With) else (one,)


def _acts(entry: Entry) -> bool:
    """Say whether a call changed something, or ran a statement in a loop."""
    return any(change.state not in ("name", "graph") for change in entry.changes) or any(
        one.kind == "statement" and one.iterations or _acts(one) for one in entry.inside
    )


def _expression(entry: Entry) -> ast.expr | None:
    """Return the expression that a statement is; ``None`` for any other statement."""
    if "ipykernel" in entry.file:
        return None  # a notebook shows it
    try:
        body = ast.parse(entry.source).body
    except SyntaxError:
        return None
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None


class Rebound(Rule):
    """Loops over weights that bind the loop's name to a new tensor: ``p = p.clamp(-1, 1)``."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.lost: dict[tuple[str, str, int], list[Entry]] = {}

    def after(self, entry: Entry) -> None:
        if entry.kind != "statement" or entry.shares_line > 1 or not entry.iterations:
            return
        for change in entry.changes:
            if change.state == "name" and getattr(change.before, "type", "") == "Parameter":
                if getattr(change.after, "type", "") == "Tensor":
                    self.lost.setdefault(entry.where, []).append(entry)

    def end(self) -> None:
        for entries in self.lost.values():
            entry = entries[-1]
            name = entry.binds[0] if len(entry.binds) == 1 else ""
            if len(entries) >= ENOUGH and _goes_nowhere(entry, name):
                fields = {"source": entry.source, "fixed": _in_place(entry.source, name)}
                fields["because"] = (
                    f"It binds the name `{name}` to a new tensor, which nobody reads."
                )
                self.story.report("set-without-effect", "certain", entry, name, **fields)


def _goes_nowhere(entry: Entry, name: str) -> bool:
    """Say whether a statement in a loop over weights binds the loop's name, and nothing reads it.

    The text decides: a header that reads a name and changes nothing isn't recorded.
    """
    try:
        tree = ast.parse(text_of(entry.file))
    except SyntaxError:
        return False
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)
             and node.lineno <= entry.line <= (node.end_lineno or 0)]  # fmt: skip
    if not loops:
        return False
    loop = max(loops, key=lambda node: node.lineno)
    bound = {one.id for one in ast.walk(loop.target) if isinstance(one, ast.Name)}
    reads = [
        node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name
        and isinstance(node.ctx, ast.Load) and entry.end_line < node.lineno
    ]  # fmt: skip
    end = loop.end_lineno or 0
    again = {one.id for one in ast.walk(loop) if isinstance(one, ast.Name)} & {"locals", "vars"}
    return name in bound and not again and not any(node.lineno <= end for node in reads)


def _in_place(source: str, name: str) -> str:
    """Write a statement that binds a new tensor as one that writes into the old one.

    >>> print(_in_place("p = p.clamp(-1, 1)", "p"))
    with torch.no_grad():
        p.copy_(p.clamp(-1, 1))
    """
    value = next((ast.unparse(value) for target, value in assigned(source) if target == name), name)
    return f"with torch.no_grad():\n    {name}.copy_({value})"


# --- loads ---------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Load:
    """Weights and buffers of a module that a load has set, and how many forwards used them."""

    entry: Entry
    reached: set[str]
    forwards: int = 0
    written: dict[str, tuple[Entry, int]] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    copied: bool = False  # it is one weight, set by a copy


_COPIED = re.compile(r"deepcopy\(.*state_dict\(\)|clone\(\).*state_dict\(\)")
_COPY = re.compile(r"\.copy_\(|\.data\s*=|from_numpy\(|from_pretrained\(")


class Loads(Rule):
    """Loads that change nothing, and loaded weights that something else overwrites unused."""

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.loads: dict[str, Load] = {}
        self.futile: dict[str, tuple[Entry, Event]] = {}
        self.flags: dict[tuple[str, str], str] = {}  # set in a forward, by its function
        self.own: list[tuple[Entry, Event, bool]] = []
        self.trained: set[str] = set()
        self.dropped: dict[tuple[str, str, int], tuple[Entry, str]] = {}
        self.copies: dict[str, tuple[Entry, str]] = {}  # by the name that keeps one

    def go_on(self, story: Story) -> Rule:
        later = type(self)(story)
        later.trained = self.trained
        return later

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind == "load_state_dict" and "missing" in event.data:
            self.load(entry, event)
        elif event.kind == "forward" and event.data["grad_enabled"]:
            self.trained.add(event.subject)
            for place, one in self.loads.items():
                if place == event.subject or one.copied and place.startswith(event.subject + "."):
                    one.forwards += 1

    def load(self, entry: Entry, event: Event) -> None:
        """Note which names a load reaches; report one that reaches none of them."""
        data, place = event.data, event.subject
        missing = set(data["missing"])
        reached = {name for name in data["shapes"] if name not in missing}
        if data["own"] == data["size"] > 0:
            self.own.append((entry, event, place in self.trained))
        elif data["gone"] and _of_nobody(entry.source):
            self.dropped[entry.where] = (entry, place)
        if data["size"] and not data["strict"]:
            prefix = _prefix(data)
            if not reached or prefix is not None:
                self.futile[place] = (entry, event)
        if reached:
            self.loads[place] = Load(entry, {f"{place}.{name}" for name in reached})
        if not missing:
            self.futile.pop(place, None)

    def after(self, entry: Entry) -> None:
        if entry.function.endswith(".forward") and entry.source.endswith("= True"):
            name = entry.source.removesuffix("= True").strip().removeprefix("self.")
            if name.isidentifier():
                self.flags[entry.file, entry.function] = name
        if entry.kind == "statement" and entry.iterations and entry.named:
            for name, value in assigned(entry.source) if "state_dict()" in entry.source else ():
                models = [one for one in entry.named if self.story.weights_of(one, entry.links)]
                if models and _COPIED.search(ast.unparse(value)):
                    self.copies[name] = (entry, min(models, key=len))
        loads = any(event.kind == "load_state_dict" for event in entry.all_events)
        steps = any(event.kind == "step" for event in entry.all_events)
        if loads:
            return
        drew = any(change.label == "random.torch" for change in entry.changes)
        for change in self.story.own(entry):
            if change.state == "name" and change.kind == "rebound":
                self.rebound(entry, change)
            if change.state not in ("weight", "buffer") or steps:
                continue
            one = next((one for one in self.loads.values() if change.label in one.reached), None)
            if one is not None:
                self.overwritten(entry, change, one, drew)
            elif change.state == "weight" and not drew and _COPY.search(entry.source):
                self.loads[change.label] = Load(entry, {change.label}, copied=True)

    def overwritten(self, entry: Entry, change: Change, one: Load, drew: bool) -> None:
        """Note a loaded value that is overwritten, in a forward or by a draw."""
        if change.label in one.written:
            one.again.add(change.label)  # as running statistics are, in each forward
        elif one.forwards <= 1 and _in_forward(entry) and not one.copied:
            one.written[change.label] = (entry, 1)
        elif drew and not one.forwards:
            one.written[change.label] = (entry, 0)

    def rebound(self, entry: Entry, change: Change) -> None:
        """Report a model that was loaded, and whose name is bound to a new one before it is used."""
        one = self.loads.get(change.owner)
        was, now = change.before, change.after
        if one is None or one.forwards or not now.is_module or now.type != was.type:
            return
        if now.alive is False and change.owner not in entry.reads:
            fields: dict[str, Any] = {"loaded": one.entry.line}
            fields["how"] = "builds another model under that name"
            fields["fixed"] = f"{entry.source}\n{one.entry.source}      # load last"
            self.story.report("load-overwritten", "question", entry, change.owner, **fields)
            del self.loads[change.owner]

    def end(self) -> None:
        for place, one in self.loads.items():
            lost = {label: at for label, at in one.written.items() if label not in one.again}
            forward = {label: at for label, at in lost.items() if at[1]}
            drawn = {label: at for label, at in lost.items() if not at[1]}
            if one.forwards < 2:
                forward = {}  # it may change in each forward
            if 2 * len(drawn) < len(one.reached):
                drawn = {}  # a part of it is drawn anew on purpose, most often the last layer
            first = min((at[0] for at in forward.values()), key=_index, default=None)
            for label, (entry, _) in {**forward, **drawn}.items():
                fields: dict[str, Any] = {"loaded": one.entry.line, "how": "draws them anew"}
                fields["model"] = place
                fields["fixed"] = f"{entry.source}\n{one.entry.source}      # load last"
                if label in forward:
                    fields["how"] = "overwrites them in the first forward"
                    flag = self.flags.get((entry.file, entry.function), "initialized")
                    fields["fixed"] = (
                        f'self.register_buffer("{flag}", torch.tensor(False))      # in __init__\n'
                        f"self.{flag}.fill_(True)      # where it is set"
                    )
                at = first if label in forward and first is not None else entry
                self.story.report("load-overwritten", "question", at, label, **fields)
        for place, (entry, event) in self.futile.items():
            self.report_futile(place, entry, event)
        if not self.story.reported("snapshot-moved"):
            for entry, event, kept in self.own:
                self.report_own(entry, event, kept)
        for name, (entry, place) in self.copies.items():
            others = {one.file for one in self.story.by_index.values() if one.file[:1] != "<"}
            if _is_lost(name, entry, {entry.file, *others}):
                self.story.report(
                    "load-without-effect", "question", entry, place, per=name,
                    said=f"`{name}` keeps a copy of the weights, and no line reads it",
                    because="What is evaluated after training are the last weights, not the best.",
                    fixed=f"{code_of(place)}.load_state_dict({name})      # after the loop",
                )  # fmt: skip
        for entry, place in self.dropped.values():
            call = ast.unparse(ast.parse(entry.source).body[0])
            made = call.partition(".load_state_dict(")[0]
            fixed = f"model = {made}\nmodel.load_state_dict({_argument(entry.source)})"
            self.story.report(
                "load-without-effect", "question", entry, place, fixed=fixed,
                said=f"This load goes into {made}, a model that no name keeps",
                because="The model that trains afterwards is another one.",
            )  # fmt: skip

    def report_own(self, entry: Entry, event: Event, kept: bool) -> None:
        """Report a load of the model's own values, of ones kept in training or of no checkpoint."""
        place, given = event.subject, _argument(entry.source)
        owner = re.search(r"([\w.\[\]]+)\.load_state_dict\(", entry.source)
        model = owner[1] if owner else code_of(place)
        because = "A state dict holds the model's own tensors"
        if kept:
            name = given if given.isidentifier() else "best"
            because += ", so a kept one changes along with the model."
            fixed = f"{name} = copy.deepcopy({model}.state_dict())      # where {given} is made"
        else:
            because += (
                "; no name of the checkpoint has replaced one of them, most often for a prefix "
                "such as `module.`."
            )
            fixed = (
                f"{model}.load_state_dict(checkpoint)      # the file's own names, strict: "
                f"it raises where {given} hides the difference"
            )
        self.story.report(
            "load-without-effect", "question", entry, place, per=place,
            said=f"This load gives {place} the {event.data['size']} values that it has already",
            because=because, fixed=fixed,
        )  # fmt: skip

    def report_futile(self, place: str, entry: Entry, event: Event) -> None:
        """Report a load that reaches nothing, or leaves out names that only have another prefix."""
        data = event.data
        prefix = _prefix(data)
        code = code_of(place)
        given = _argument(entry.source)
        fixed = f"{code}.load_state_dict({given})      # strict, so that it raises"
        if prefix is not None:
            old, new = prefix
            name, only = "name", ""
            if old:
                name, only = f'name.removeprefix("{old}")', f' if name.startswith("{old}")'
            name = f'"{new}" + {name}' if new else name
            fixed = (
                f"state = {{{name}: value for name, value in {given}.items(){only}}}\n"
                f"{code}.load_state_dict(state, strict=False)"
            )
        reached = data["size"] - len(data["missing"])
        severity = "certain" if not reached and data["given"] else "question"
        instead = data["unexpected"][0] if data["unexpected"] else "nothing"
        said = (
            f"This load reaches {reached} of {data['size']} names of {place}: it has "
            f"{data['missing'][0]}, the state dict has {instead}"
        )
        because = "strict=False skips names that don't match and reports them only in its result."
        fields = {"said": said, "because": because, "fixed": fixed}
        self.story.report("load-without-effect", severity, entry, place, per=place, **fields)  # type: ignore[arg-type]


def _is_lost(name: str, kept: Entry, files: set[str]) -> bool:
    """Say whether a statement keeps what a comparison found best, and no line can read it."""
    best = False
    for file in files:
        try:
            nodes = list(ast.walk(ast.parse(text_of(file))))
        except SyntaxError:  # a notebook's, with commands of its own
            nodes = []
        if len(nodes) < 2 or "ipykernel" in file:  # unknown, or a later cell may read it
            return False
        for node in nodes:
            if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
                if file == kept.file and node.lineno < kept.line <= node.body[-1].lineno:
                    best = True
            names = (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "value", ""))
            if name.rpartition(".")[2] in names:
                if not isinstance(getattr(node, "ctx", None), ast.Store):
                    return False
    return best


def _of_nobody(source: str) -> bool:
    """Say whether a statement loads into what a call has just made.

    >>> _of_nobody("Net().load_state_dict(state)"), _of_nobody("net.load_state_dict(state)")
    (True, False)
    """
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    call = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "load_state_dict"
        and isinstance(call.func.value, ast.Call)
    )


def _index(entry: Entry) -> int:
    return entry.index


def _in_forward(entry: Entry) -> bool:
    return entry.function.endswith(".forward") or any(
        event.kind == "forward" for event in entry.events
    )


def _prefix(data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the prefix of names that were given and that of the missing ones that they fit.

    >>> shapes = {"model.a.weight": (2,)}
    >>> _prefix({"missing": ("model.a.weight",), "unexpected": ("a.weight",),
    ...          "shapes": shapes, "given_shapes": {"a.weight": (2,)}})
    ('', 'model.')
    """
    missing, unexpected = data["missing"], data["unexpected"]
    shapes, given = data["shapes"], data["given_shapes"]
    found: dict[tuple[str, str], int] = {}
    for name in missing:
        for other in unexpected:
            if shapes.get(name) == given.get(other):
                pair = _difference(other, name)
                if pair is not None:
                    found[pair] = found.get(pair, 0) + 1
    best = max(found, key=found.__getitem__, default=None)
    if best is None or found[best] < min(2, len(missing)):
        return None
    if len(missing) == len(shapes):
        return best  # nothing was loaded
    fitting = [name for name in unexpected if name.startswith(best[0])]
    return best if found[best] == len(fitting) or found[best] == len(missing) else None


def _difference(old: str, new: str) -> tuple[str, str] | None:
    """Return the beginnings in which two names differ, if their ends of two parts are alike."""
    a, b = old.split("."), new.split(".")
    same = 0
    while same < min(len(a), len(b)) and a[-1 - same] == b[-1 - same]:
        same += 1
    if same < min(2, len(a), len(b)):
        return None
    ends = ["".join(f"{part}." for part in some[: len(some) - same]) for some in (a, b)]
    return ends[0], ends[1]


def _argument(source: str) -> str:
    """Return what a statement loads, as source text."""
    return ast.unparse(given) if (given := argument(source, "load_state_dict")) else "checkpoint"


# --- freezes -------------------------------------------------------------------------------------


class Freezes(Rule):
    """Weights that are frozen and thawed again before anything was trained in between.

    One function that freezes them, evaluates and thaws them again means it.
    """

    def __init__(self, story: Story) -> None:
        super().__init__(story)
        self.frozen: dict[str, Entry] = {}
        self.evaluated: dict[str, Entry] = {}  # the part of them that an evaluation has met
        self.thawed: dict[str, tuple[Entry, Entry]] = {}
        self.lines: dict[int, int] = {}

    def event(self, entry: Entry, event: Event) -> None:
        if event.kind in ("backward", "forward") and self.frozen:
            if event.kind == "backward" or event.data["grad_enabled"]:
                self.judge()
                self.frozen.clear()
            else:
                self.evaluated = dict(self.frozen)

    def after(self, entry: Entry) -> None:
        for change in self.story.own(entry):
            if change.state != "requires_grad flag" or change.before is None:
                continue
            label = change.label.removesuffix(".requires_grad")
            if change.after is False:
                self.frozen[label] = entry
                self.thawed.pop(label, None)
            elif change.after is True and label in self.frozen:
                met = self.evaluated.get(label)
                if met is self.frozen[label] and met.function == entry.function:
                    del self.frozen[label]
                else:
                    self.thawed[label] = (self.frozen[label], entry)

    def judge(self) -> None:
        """Report a freeze of which nothing is left when the first forward runs."""
        groups: dict[int, list[str]] = {}
        for label, entry in self.frozen.items():
            groups.setdefault(entry.line, []).append(label)
        for labels in groups.values():
            if all(label in self.thawed for label in labels):
                for label in labels:
                    freeze, thaw = self.thawed[label]
                    self.story.report(
                        "freeze-undone", "question", thaw, label, earlier=freeze.line, here=thaw.line,
                        source=_first_line(freeze.source),
                    )  # fmt: skip
        self.thawed.clear()

    def end(self) -> None:
        self.judge()


def _first_line(source: str) -> str:
    return source.splitlines()[0]
