"""A recording in words: the picture's caption, and its description for readers who can't see it."""

from __future__ import annotations

from typing import Any

from fnlib.ledger.entries import UNOWNED
from fnlib.ledger.views.scene import Mark, Scene, scene
from fnlib.ledger.views.words import counted, listed

_VERBS = {
    "created": "creates",
    "changed in place": "changes in place",
    "replaced": "replaces",
    "removed": "removes",
    "graph used up": "uses up the graph behind",
    "graph kept": "keeps the graph behind",
    "graph grows": "extends the graph behind",
    "moved": "moves the random generator of",
}
_GRAPHS = {"graph used up": "used up", "graph kept": "kept", "graph grows": "growing"}


def caption(drawn: Scene) -> list[str]:
    """Return the sentences below a picture; those that begin with "!" are warnings."""
    counts, rebound = drawn.counts, counted(drawn.counts.rebound, "name")
    one = counts.at_a_distance == 1
    together = f"In {drawn.folded} iterations: " if drawn.folded > 1 else ""
    sentences = [
        f"{counts.at_a_distance} of {counted(counts.statements, 'statement')} "
        f"{'changes' if one else 'change'} state whose owner "
        f"{'it does' if one else 'they do'} not name. "
        f"{together}{counted(counts.overwritten, 'value')} overwritten and lost. {rebound} rebound."
    ]
    sentences += filter(None, [_not_counted(drawn)])
    for finding in drawn.findings[:3]:
        sentences.append(f"! Line {finding.line}: {finding.what} {finding.why}")
    if len(drawn.findings) > 3:
        sentences.append(f"! And {len(drawn.findings) - 3} more: ledger.findings.")
    for row in drawn.rows:
        if row.entry.raised:
            sentences.append(f"! Line {row.line} raised {row.entry.raised}")
    if drawn.notes:
        notes = counted(drawn.notes, "note")
        sentences.append(f"Not everything was recorded: see ledger.notes ({notes}).")
    return sentences


def _not_counted(drawn: Scene) -> str:
    """Say what the three counts leave out: graphs, random generators, and whether tensors changed."""
    changes = [change for row in drawn.rows for change in row.changes]
    owned = [change for change in changes if change.state not in UNOWNED]
    first = ""
    if changes and not owned and not drawn.counts.overwritten:
        first = "No tensor is changed. "
    elif drawn.counts.overwritten and not drawn.counts.at_a_distance:
        first = "Every statement names what it changes, and still values are lost. "
    said = []
    for kind in (*_GRAPHS, "moved"):
        marks = [mark for mark in drawn.marks if mark.kind == kind]
        if not marks:
            continue
        lines = list(dict.fromkeys(str(drawn.rows[mark.row].line) for mark in marks))
        where = f"(line{'s' * (len(lines) > 1)} {listed(lines)})"
        if kind == "moved":
            said.append(f"the random generator moves {where}")
        else:
            names = list(dict.fromkeys(mark.changes[0].owner for mark in marks))
            graphs = "graphs" if len(names) > 1 else "graph"
            verb = f"{'are' if len(names) > 1 else 'is'} {_GRAPHS[kind]}"
            said.append(f"the {graphs} behind {listed(names)} {verb} {where}")
    return (first + (f"Not counted: {'; '.join(said)}." if said else "")).strip()


def describe(recording: Any, *, iteration: int | None = None) -> str:
    """Say in words what the picture of a recording shows: its alternative text.

    Args:
        recording: a ledger, or a part of one.
        iteration: which iteration of the outermost loop, as in ``plot``.

    Returns:
        A sentence for each statement with what it changed, then the caption.

    >>> import torch
    >>> from fnlib.ledger import Ledger
    >>> weight = torch.ones(2, requires_grad=True)
    >>> with Ledger(weight=weight) as ledger:
    ...     loss = weight.sum()
    ...     loss.backward()
    >>> print(describe(ledger))
    What each statement changes. Line 2, loss = weight.sum(): creates loss.
    Line 3, loss.backward(): creates weight's .grad (1 tensor), at a distance; uses up the graph behind loss.
    1 of 2 statements changes state whose owner it does not name. 0 values overwritten and lost. 0 names rebound.
    Not counted: the graph behind loss is used up (line 3).
    """
    return in_words(scene(recording, iteration=iteration))


def in_words(drawn: Scene) -> str:
    """Describe a picture: a sentence for each statement, then its caption."""
    sentences = ["What each statement changes" + (f", {drawn.which}." if drawn.which else ".")]
    for row in drawn.rows:
        done = [_said(mark, drawn) for mark in drawn.marks if mark.row == row.number]
        if done or row.entry.kind == "statement":
            said = "; ".join(done) or "changes nothing"
            sentences.append(f"Line {row.line}, {row.code}: {said}.")
    return " ".join([*sentences, *caption(drawn)])


def _said(mark: Mark, drawn: Scene) -> str:
    owner, part = mark.lane
    verb = _VERBS[mark.kind]
    if mark.kind == "moved":
        return f"{verb} {part}"
    if mark.kind == "replaced" and all(change.state == "name" for change in mark.changes):
        verb = "rebinds"
    what = owner if part in ("", "itself") else f"{owner}'s {part}"
    what = {
        "other": "other names",
        "new": f"{owner} to a new value",
        "old": f"the old {owner}",
    }.get(part, what)
    size = f" ({', '.join(mark.labels)})" if mark.labels and not mark.listed else ""
    still = (mark.row, (owner, "old")) in drawn.still and part == "new"
    return (
        f"{verb} {what}{size}{', at a distance' if mark.distant else ''}"
        f"{'; the old value is still there' if still else ''}"
    )
