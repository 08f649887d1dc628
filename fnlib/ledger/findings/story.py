"""A recording in order, call by call and change by change, for rules that listen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fnlib.ledger.entries import UNOWNED, Change, Entry, Event, Finding, Links
from fnlib.ledger.findings.texts import SEVERAL, TEXTS, built, code_of

_SECOND = re.compile(r" \(\d+\)")  # the label of another object under the same name: "model (2)"
_OLD_COMMENT = re.compile(r" +#[^#\n]*(?=      # )")  # of the program, before that of the advice
Severity = Literal["certain", "question"]


def moments(entries: list[Entry] | tuple[Entry, ...]) -> Iterator[tuple[Entry, Event | None]]:
    """Yield each call with its statement, and ``None`` at the end of each statement."""
    for entry in entries:
        parts: list[tuple[int, Entry | Event]] = [(event.order, event) for event in entry.events]
        latest = -1
        for inner in entry.inside:
            orders = [event.order for event in inner.all_events]
            latest = max(latest, min(orders, default=latest))
            parts.append((latest, inner))
        for _, part in sorted(parts, key=lambda pair: pair[0]):
            if isinstance(part, Event):
                yield entry, part
            else:
                yield from moments([part])
        yield entry, None


class Scopes(dict[tuple[str, str], dict[str, Any]]):
    """What is known of the names of each function that runs, forgotten when it has returned."""

    def of(self, entry: Entry) -> dict[str, Any]:
        """Return what is known of the names of the function that a statement belongs to."""
        return self.setdefault((entry.file, entry.function), {})

    def leave(self, entry: Entry) -> None:
        """Forget the names of the functions that a statement has called."""
        for inner in entry.inside:
            if (inner.file, inner.function) != (entry.file, entry.function):
                self.pop((inner.file, inner.function), None)


def own_changes(entry: Entry) -> list[Change]:
    """Return the changes of a statement without those of statements inside of it."""
    inner = {(change.label, change.state) for one in entry.inside for change in one.changes}
    return [
        change
        for change in entry.changes
        if change.state == "name" or (change.label, change.state) not in inner
    ]


class Story:
    """What rules share: entries by index, the links before a statement, and the reports.

    Args:
        entries: of a recording, or of a part of one between two pauses.
        after: the story of the part before, whose reports are kept.
    """

    def __init__(self, entries: list[Entry], after: Story | None = None) -> None:
        self.entries = entries
        self.by_index: dict[int, Entry] = {}
        self.owners: set[str] = set()
        self.before = Links()
        self.around: dict[int, Entry] = {}  # the statement that called the function of another
        waiting = list(entries)
        while waiting:
            outer = waiting.pop()
            self.around.update((inner.index, outer) for inner in outer.inside)
            waiting += outer.inside
        self._asked: tuple[Entry | None, list[Change]] = (None, [])
        self._reports: dict[
            tuple[str, str, int, str], tuple[Severity, Entry, list[str], dict[str, Any]]
        ] = {}
        if after is not None:
            self._reports, self.by_index = after._reports, after.by_index
            self.owners = after.owners

    def report(
        self,
        code: str,
        severity: Severity,
        entry: Entry,
        place: str,
        *,
        per: str = "",
        **fields: Any,
    ) -> None:
        """Note a finding; at the same line, the same one only adds its place.

        Args:
            code: of its text.
            severity: whether it is certain.
            entry: the statement to look at.
            place: label of what it is about.
            per: keeps findings of one line apart.
            fields: what the text's sentences need.
        """
        key = (code, entry.file, entry.line, per)
        if key not in self._reports:
            self._reports[key] = (severity, entry, [], fields)
        places = self._reports[key][2]
        if place not in places:
            places.append(place)

    def findings(self) -> list[Finding]:
        """Return the findings, certain ones first, in the order in which they happened."""
        found = []
        for (code, *_), (severity, entry, places, fields) in self._reports.items():
            model, links = self.owner(places[0]), entry.links
            owned: dict[str, set[int]] = {}
            for label, token in links.weights.items():
                owned.setdefault(self.owner(label), set()).add(token)
            wanted = {links.weights[label] for label in places if label in links.weights}
            wanted.update(links.held.get(fields.get("optimizer", ""), ()))
            fields = {"model": model, "parameters": parameters_of(owned, wanted), **fields}
            one = finding(code, severity, places, line=entry.line, file=entry.file, **fields)
            found.append(one)
        return sorted(found, key=lambda one: one.severity != "certain")

    def reported(self, *codes: str) -> bool:
        """Say whether a finding of one of these codes was noted."""
        return any(code in codes for code, *_ in self._reports)

    def chain(self, entry: Entry | None) -> Iterator[Entry]:
        """Yield a statement, the statement that called its function, and so on outwards."""
        while entry is not None:
            yield entry
            entry = self.around.get(entry.index)

    def rounds(self, entry: Entry) -> tuple[tuple[str, int, int], ...]:
        """Return the iterations of all loops around a statement, also of its callers' loops.

        Returns:
            (file, header line, number) of each loop, outermost first.
        """
        found: list[tuple[str, int, int]] = []
        for one in self.chain(entry):
            found[:0] = [(one.file, line, number) for line, number in one.iterations]
        return tuple(found)

    def owner(self, label: str) -> str:
        """Return the watched object that a label is a part of: ``self.model`` for its weights."""
        parts = label.split(".")
        starts = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        return next((start for start in starts if start in self.owners), parts[0])

    def own(self, entry: Entry) -> list[Change]:
        """Return the changes of a statement without those inside of it; each rule asks for them."""
        if entry is not self._asked[0]:
            self._asked = (entry, own_changes(entry))
        return self._asked[1]

    def line(self, index: int) -> int:
        """Return the first line of the statement with an index."""
        entry = self.by_index.get(index)
        return entry.line if entry is not None else 0

    def weights_of(self, subject: str, links: Links) -> set[str]:
        """Return labels of the weights that an optimizer holds, or a module has."""
        if subject in links.held:
            held = set(links.held[subject])
            return {label for label, token in links.weights.items() if token in held}
        tokens = {
            token for label, token in links.weights.items() if label.startswith(subject + ".")
        }
        return {label for label, token in links.weights.items() if token in tokens}

    def tell(self, rules: list[Rule]) -> None:
        """Play the recording to the rules."""
        for entry, event in moments(self.entries):
            self.by_index[entry.index] = entry
            if event is None:
                owned = (change for change in entry.changes if change.state not in UNOWNED)
                self.owners |= {change.owner for change in owned} | entry.named
            for rule in rules:
                if event is not None:
                    rule.event(entry, event)
                else:
                    rule.after(entry)
            if event is None:
                self.before = entry.links
        for rule in rules:
            rule.end()


class Rule:
    """One listener: to each call, the end of each statement, and the end of the recording.

    ``whole``: it judges what never happens, which only a recording without a pause can show.
    """

    whole = False

    def __init__(self, story: Story) -> None:
        self.story = story

    def go_on(self, story: Story) -> Rule:
        """Return the rule for the part after a pause: begin anew, as steps are missing between.

        A rule that overrides it remembers what no missing step can have changed.
        """
        return Rule(story) if self.whole else type(self)(story)

    def event(self, entry: Entry, event: Event) -> None:
        """A call was seen in a statement."""

    def after(self, entry: Entry) -> None:
        """A statement has ended; its changes are known."""

    def end(self) -> None:
        """The recording has ended."""


def finding(
    code: str,
    severity: Severity,
    places: list[str],
    *,
    line: int = 0,
    file: str = "",
    standing: bool = False,
    **fields: Any,
) -> Finding:
    """Make a finding from its text.

    Args:
        code: of the text.
        severity: whether it is certain.
        places: labels of what it is about; the fix covers all of them.
        line: where it was seen.
        file: where it was seen.
        standing: whether it was seen in objects as they are, not in a recording.
        fields: what the text's sentences need.
    """
    text, first, many = TEXTS[code], places[0], len(places) > 1
    place = f"{first} and {len(places) - 1} more" if many else first
    module, weight = first.rpartition(".")[0] or first, code_of(first)
    fill = {
        "where": "",
        "place": place,
        "place_code": weight,
        "weight": weight,
        "module": module,
        **{one: several if many else one for one, several in SEVERAL.items()},
        **fields,
    }
    modules = dict.fromkeys(code_of(one.rpartition(".")[0] or one) for one in places)
    fill["modules"] = ", ".join(modules)
    fill |= {name: code_of(fill[name]) for name in ("model", "module") if name in fill}
    owners = ("model", "module", "modules", "weight", "place_code", "optimizer", "scheduler")
    fill |= {name: _SECOND.sub("", fill[name]) for name in owners if name in fill}
    what = text.standing if standing else text.what
    several = len(modules) > 1 if "{modules}" in text.many else many and text.many
    fix = text.many if several else text.fix
    what, why, fix = (sentence.format(**fill) for sentence in (what, text.why, fix))
    fix = _OLD_COMMENT.sub("", fix)
    return Finding(code, severity, line, place, what, why, fix, text.link, file)


def parameters_of(modules: Mapping[str, set[int]], wanted: set[int]) -> str:
    """Return Python for the parameters of the modules that own wanted tensors.

    Args:
        modules: for each module's label, tokens of its tensors.
        wanted: tokens of the tensors that an optimizer should hold.

    Example:
        >>> parameters_of({"encoder": {1, 2}, "decoder": {3}, "critic": {4}}, {2, 3})
        '[*encoder.parameters(), *decoder.parameters()]'
        >>> parameters_of({"actor": {1, 2}, "critic": {1, 3}}, {2, 3})  # no tensor twice
        'torch.nn.ModuleList([actor, critic]).parameters()'
        >>> parameters_of({"net": {1, 2}, "net (2)": {3, 4}, "net.head": {2}}, {2, 3})
        'net.parameters()'
    """
    named: dict[str, set[int]] = {}
    for label, tokens in modules.items():
        if tokens & wanted:
            named.setdefault(_SECOND.sub("", code_of(label)), set()).update(tokens)
    outer: list[str] = []  # one name for each module, none for a module inside another one
    for name in sorted(named, key=lambda name: -len(named[name])):
        if not any(named[name] <= named[other] for other in outer):
            outer.append(name)
    names = [name for name in named if name in outer]
    if len(names) == 1:
        return f"{names[0]}.parameters()"
    every = [token for name in names for token in named[name]]
    if len(every) > len(set(every)):
        return f"torch.nn.ModuleList([{', '.join(names)}]).parameters()"
    return f"[{', '.join(f'*{name}.parameters()' for name in names)}]"


def rule_of(step: Event) -> dict[str, str]:
    """Return the class and the rate of the optimizer that a step belongs to, as Python."""
    rate = next(iter(step.data["rates"]), None)
    return {
        "kind": built(step.data["type"]),
        "rate": "" if rate is None else f", lr={float(rate):g}",
    }


def in_iteration(entry: Entry) -> str:
    """Say in which iteration a statement ran; "by now" outside of loops."""
    return f"in iteration {entry.iteration}" if entry.iteration else "by now"


def norm_after(change: Change) -> float | None:
    """Return the norm of a place's tensor after a change; ``None`` without a tensor."""
    return getattr(change.after, "norm", None)
