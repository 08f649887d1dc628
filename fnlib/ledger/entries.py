"""The data model of a recording: what an entry, a change and an event carry.

Everything that shows or judges a recording (tables, picture, replay, findings, compare) reads only this.

``ledger.entries`` is a list of `Entry`, one for each time a statement ran, in order. Loop iterations are
separate entries; ``entry.iteration`` tells them apart. With ``depth=`` the statements of a called function
are entries too, in ``entry.inside`` of the statement that called it. ``ledger.walk()`` gives all of them flat,
in the order in which they started.

An `Entry` has

=================  ==========================================================================================
``index``          grows in the order in which statements started; `Event.entry` refers to it
``line``           first line of the statement, ``end_line`` its last
``source``         its text, dedented; lines of a multi-line statement are kept
``kind``           ``"statement"``, or ``"header"`` for ``for``, ``while``, ``if``, ``with``, ``def`` ... lines
                   (kept only when something happened in them); ``"gap"`` where the recording paused
``iteration``      number of the innermost recorded loop's iteration, from 1; ``None`` outside of loops
``iterations``     of all recorded loops around it, outermost first: ((header line, number), ...)
``reads``          the dotted names that its text reads: ("loss.backward", "model", ...)
``binds``          the names that its text binds: ("loss",)
``named``          labels of the watched owners that its text names (see fnlib/ledger/names.py)
``changes``        what it changed, a tuple of `Change`
``events``         what was called in it, a tuple of `Event` (``all_events`` has those of ``inside`` too)
``seconds``        how long the statement itself took, the ledger's own work left out
``raised``         ``"ValueError: text"`` when it raised, else ``None``
``shares_line``    number of statements that share these lines: more than 1 says that they were not told apart
``has_source``     False for code without source text: ``named`` is then unknown and it is not counted
``grad_enabled``   gradient mode when it started; ``inference`` likewise
``links``          a `Links`: which tensor each weight was, and which the optimizers held, after the statement
``aliases``        tuple of `Alias`: who shared storage with whom after the statement
``inside``         entries of the functions that it called (``depth=``)
=================  ==========================================================================================

A `Change` has an ``owner`` (label of a watched object, or the name for names and values), a ``place`` in it
(``"0.weight.grad"``), a ``state`` (one of `STATES`) and a ``kind`` (one of `KINDS`):

* *created*: the place held nothing before; *removed*: it holds nothing now (``note`` "given away": an fnlib value whose
  memory went to the next one by ``donate=True``)
* *changed in place*: the same place, and the old value is lost (bytes overwritten, a rate or a flag assigned)
* *replaced*: the place holds another tensor, or a box another value; the old one may live on elsewhere
* *rebound*: only for ``state == "name"``: the name has another value
* *kept*: only for ``state == "graph"``: a backward pass left the graph standing (``retain_graph=True``)

``before`` and ``after`` are a `Summary` for tensors, a `Bound` for names (and where the graph of a value grew in place,
``total += loss``: state "graph", kind "changed in place"), else a string for graphs
(``"built"``, ``"freed"``, ``"kept"``), else the plain value (a rate, a flag). ``named`` says whether the statement names
the owner: ``not change.named`` on owned state is action at a distance (``change.at_a_distance``).
``also`` lists the other names of the same storage (``"best['0.weight']"``).

An `Event` is a call that was seen, in order (``order`` counts over the whole recording):

==================  =========================================================================================
``kind``            ``subject`` and ``data``
==================  =========================================================================================
``forward``         module label ("model", "model.1"); owners, parts called directly, and every part whose forward
                    depends on its mode. training, grad_enabled, inference, type (class name),
                    stateful (True: dropout, BatchNorm ... in training mode), depends (such a part, in either mode)
``backward``        name of the loss, or "". retain_graph, create_graph, raised, nodes (size of the graph),
                    weights: {place label: [entry index of each use in the graph's forward]} for each watched leaf
                    reached; labels are "model.0.weight". saved: the same for each watched place that the graph saved,
                    if anything watched has changed since the graph was begun. loose: {label: [token]} of the weights
                    reached that no watched module registers; inputs: number of other leaves; loss: its value; autocast: whether
                    it was on; squashed: nodes of a loss and of what squashed its input before, and their entries, or None
``grad``            torch.autograd.grad, the same data
``step``            optimizer label. weights: labels of watched weights that had a gradient; without: those
                    that had none, and their shapes; unwatched: number of tensors held that no watched module owns; dead: of these,
                    those without gradient; others: what tells the first gradients of these apart; token: of the
                    optimizer; closure: whether it was given one; wraps: whether it holds another optimizer;
                    rates; type, with its module; held: a tuple of tokens of weights for each group
``optimizer built`` class name. token: of the optimizer
``zero_grad``       optimizer or module label; weights: labels of the watched weights that it holds
``scheduler step``  scheduler label; optimizer: label of its optimizer; early: its first, and before any of the optimizer's;
                    token: of the optimizer; type: class name; scheduler: token; mode, metric: of one
                    that waits for a metric; total: steps of the whole schedule, if it has an end
``scheduler built`` class name; optimizer; token: of the optimizer; scheduler: token of the scheduler; begins: whether
                    it was given no epoch to go on from
``scheduler load``  scheduler label. scheduler: its token
``iterator``        of a DataLoader, made anew. batches: how many it gives, or None; order: what decides the order in which
                    it shuffles (a DistributedSampler's epoch, a generator's state), or None; shuffles: class of the
                    sampler; weights: number of a weighted sampler's; data, size: token and length of the data set;
                    whole: token of the one that it is a Subset of
``load_state_dict`` module or optimizer label. Of a module: assign; strict; ties: groups of labels that are one weight when
                    it begins; size, given, own: numbers of its own names, of those given, and of values that are
                    its own already; missing: its names that aren't
                    given; unexpected: names given that it hasn't; shapes, given_shapes; gone: whether the
                    module is no more after the statement
``mask``            label of a module in evaluation mode in whose forward a functional dropout draws. grad_enabled
``attribute``       label of a module on which a flag is set that no module reads. name, value
``state_dict``      module or optimizer label
``clip``            names the function; found: number of gradients; gradients: labels of those that are watched
``scale``           gradient scaler label, if it is on; likewise ``unscale`` and ``scaler step``, with optimizer and token
``functional step`` name of the `fnlib` model
``seed``            "torch". seed
==================  =========================================================================================

These are made by the thousand and therefore not frozen; nothing changes them once their statement has ended.

Subjects of objects that are not watched are ``"(SGD)"``, the class in brackets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

State = Literal[
    "weight",
    "gradient",
    "buffer",
    "optimizer state",
    "group entry",
    "scheduler state",
    "mode flag",
    "requires_grad flag",
    "value",
    "random state",
    "graph",
    "name",
]
Kind = Literal["created", "changed in place", "replaced", "rebound", "removed", "kept"]

STATES: tuple[State, ...] = State.__args__  # type: ignore[attr-defined]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
UNOWNED = frozenset({"random state", "graph", "name"})  # listed, never counted as somebody's state
GIVEN_AWAY = "given away"
UNNAMED = "(unnamed)"  # the owner of a graph that no name stood for


@dataclass(slots=True, unsafe_hash=True)
class Summary:
    """What is kept of a tensor: never its numbers, unless it is small or the ledger has ``keep=True``.

    ``token`` numbers tensor objects: equal tokens are the same object. ``norm`` is the Euclidean norm,
    ``fingerprint`` a checksum of the bytes in order, ``value`` a copy, or ``None`` without ``keep=True``.
    ``octets`` are the bytes of a small tensor, for the views. ``share``: each rank holds another part of it.
    """

    shape: tuple[int, ...]
    dtype: str
    device: str
    norm: float | None
    fingerprint: str | None
    token: int | None
    value: Tensor | None = field(default=None, repr=False, compare=False)
    octets: bytearray | None = field(default=None, repr=False, compare=False)
    share: bool = False

    def numbers(self) -> Tensor | None:
        """Return the tensor as it was, if its numbers were kept; it isn't to be written to."""
        if self.value is not None or self.octets is None:
            return self.value
        return torch.frombuffer(self.octets, dtype=getattr(torch, self.dtype)).view(self.shape)

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape)) or "scalar"
        return f"{size} {self.dtype}" + ("" if self.norm is None else f", norm {self.norm:.4g}")


@dataclass(slots=True, unsafe_hash=True)
class Bound:
    """What a name is bound to.

    ``token`` numbers objects as in `Summary`; ``alive``: whether the object that the name let go of was still
    there after the statement (``None``: cannot be told). For tensors with a graph, ``nodes`` is its size,
    ``leaves`` the labels of the watched weights that it reaches, and ``carries_previous`` says that the graph
    contains the graph of the name's previous value (a running total, a hidden state). ``is_module``: it is a network.
    ``view``: it is a view of another tensor. ``contents``: a checksum of a
    followed tensor without a graph that a statement bound while it drew random numbers.
    """

    type: str
    text: str
    token: int | None = None
    tensor: Summary | None = None
    alive: bool | None = None
    nodes: int = 0
    leaves: tuple[str, ...] = ()
    carries_previous: bool = False
    is_module: bool = False
    view: bool = False
    contents: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True, unsafe_hash=True)
class Change:
    """One place that a statement changed; the module's text says what each field means."""

    owner: str
    place: str
    state: State
    kind: Kind
    before: Any = None
    after: Any = None
    moved: float | None = None
    named: bool = True
    also: tuple[str, ...] = ()
    note: str = ""

    @property
    def label(self) -> str:
        """Owner and place in one: ``model.0.weight.grad``."""
        return f"{self.owner}.{self.place}" if self.place else self.owner

    @property
    def at_a_distance(self) -> bool:
        """Whether state changed whose owner the statement does not name."""
        return not self.named and self.state not in UNOWNED

    @property
    def overwritten(self) -> bool:
        """Whether a value was overwritten and lost."""
        return self.kind == "changed in place" and self.state not in UNOWNED

    @property
    def rebound(self) -> bool:
        """Whether a name that had a value was bound to another one."""
        return self.kind == "rebound"


@dataclass(slots=True, unsafe_hash=True)
class Event:
    """One call that was seen while a statement ran; the module's text lists the kinds."""

    order: int
    entry: int
    kind: str
    subject: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Links:
    """Which tensor objects stood where: the same object for as long as nothing was exchanged.

    ``weights`` maps labels of watched weights to tokens, ``held`` maps each optimizer's label to the tokens of the
    tensors that it updates, ``flags`` maps labels of weights to their requires_grad.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    flags: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alias:
    """Places that share storage: ``names`` all of them, ``kind`` "same tensor", "same storage" or "overlap"."""

    names: tuple[str, ...]
    kind: str

    def __str__(self) -> str:
        verb = {"same tensor": "is", "same storage": "shares storage with", "overlap": "overlaps"}[
            self.kind
        ]
        return f"{self.names[0]} {verb} " + ", ".join(self.names[1:])


@dataclass(slots=True)
class Entry:
    """One run of one statement; the module's text says what each field means."""

    index: int
    line: int
    end_line: int
    source: str
    kind: str
    iterations: tuple[tuple[int, int], ...] = ()
    reads: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()
    changes: tuple[Change, ...] = ()
    events: tuple[Event, ...] = ()
    seconds: float = 0.0
    raised: str | None = None
    shares_line: int = 1
    has_source: bool = True
    grad_enabled: bool = True
    inference: bool = False
    links: Links = field(default_factory=Links, repr=False)
    sites: Callable[[], tuple[Alias, ...]] | None = field(default=None, repr=False)
    inside: tuple[Entry, ...] = field(default=(), repr=False)
    depth: int = 0
    file: str = ""
    function: str = ""
    indent: int = 0

    @property
    def aliases(self) -> tuple[Alias, ...]:
        """Who shared storage with whom after the statement."""
        return () if self.sites is None else self.sites()

    @property
    def iteration(self) -> int | None:
        """Number of the innermost loop's iteration, from 1."""
        return self.iterations[-1][1] if self.iterations else None

    @property
    def where(self) -> tuple[str, str, int]:
        """What tells statements apart: file, function, line. Iterations of one statement share it."""
        return (self.file, self.function, self.line)

    @property
    def acts_at_a_distance(self) -> bool:
        """Whether it changed state whose owner its text does not name."""
        return self.has_source and any(change.at_a_distance for change in self.changes)

    @property
    def all_events(self) -> tuple[Event, ...]:
        """Its events and those of the entries inside it, in order."""
        events = [*self.events]
        for entry in self.inside:
            events.extend(entry.all_events)
        return tuple(sorted(events, key=lambda event: event.order))


@dataclass(frozen=True, slots=True)
class Finding:
    """A silent bug that was seen while recording. ``certain``: it is one; ``question``: it may be meant."""

    code: str
    severity: Literal["certain", "question"]
    line: int
    place: str
    what: str
    why: str
    fix: str
    link: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"{self.code} ({self.severity}), line {self.line}, {self.place}: {self.what} {self.why} {self.fix}"


@dataclass(frozen=True, slots=True)
class Counts:
    """The three counts of a recording.

    ``at_a_distance`` of ``statements`` statements change state whose owner they do not name;
    ``overwritten`` values are overwritten and lost; ``rebound`` names are bound to another value.
    A statement in a loop counts once, values and names as often as it happened.
    """

    at_a_distance: int
    statements: int
    overwritten: int
    rebound: int

    def __str__(self) -> str:
        def some(number: int, what: str) -> str:
            return f"{number} {what}" + ("" if number == 1 else "s")

        verb = "acts" if 1 in (self.at_a_distance, self.statements) else "act"
        return (
            f"{self.at_a_distance} of {some(self.statements, 'statement')} {verb} at a distance; "
            f"{some(self.overwritten, 'value')} overwritten; {some(self.rebound, 'name')} rebound"
        )


def count(entries: list[Entry]) -> Counts:
    """Count over entries: action at a distance, values overwritten, names rebound."""
    seen: dict[tuple[str, str, int], bool] = {}
    overwritten = rebound = 0
    for entry in entries:
        owned = any(change.state not in UNOWNED for change in entry.changes)
        if entry.has_source and (entry.kind == "statement" or owned):
            seen[entry.where] = seen.get(entry.where, False) or entry.acts_at_a_distance
        overwritten += sum(change.overwritten for change in entry.changes)
        rebound += sum(change.rebound for change in entry.changes if entry.kind == "statement")
    return Counts(sum(seen.values()), len(seen), overwritten, rebound)
