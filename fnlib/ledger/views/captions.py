"""A picture of a recording in words: the caption beneath it, and the description for readers who cannot see it."""

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
    "graph grows": "lets grow the graph behind",
    "moved": "moves the random generator of",
}


def caption(drawn: Scene) -> list[str]:
    """The sentences beneath a picture: the three counts, what they do not say, and what was found.

    All of it is read from the recording: a sentence stands there because a change does.
    """
    counts = drawn.counts
    verb = "changes" if counts.at_a_distance == 1 else "change"
    tail = (
        " state whose owner it does not name"
        if counts.at_a_distance == 1
        else " state whose owner they do not name"
    )
    together = f"In {drawn.folded} iterations: " if drawn.folded > 1 else ""
    sentences = [
        f"{counts.at_a_distance} of {counted(counts.statements, 'statement')} {verb}{tail}. "
        f"{together}{counted(counts.overwritten, 'value')} overwritten and lost. {counted(counts.rebound, 'name')} rebound."
    ]
    aside = not_counted(drawn)
    if aside:
        sentences.append(aside.strip())
    for finding in drawn.findings[:3]:
        sentences.append(f"! Line {finding.line}: {finding.what} {finding.why}")
    if len(drawn.findings) > 3:
        sentences.append(f"! And {len(drawn.findings) - 3} more: ledger.findings.")
    for row in drawn.rows:
        if row.entry.raised:
            sentences.append(f"! Line {row.line} raised {row.entry.raised}")
    if drawn.notes:
        sentences.append(f"Not all was followed: ledger.notes says what ({drawn.notes}).")
    return sentences


def not_counted(drawn: Scene) -> str:
    """What the three counts leave out: no change at all of tensors, graphs used up, generators moved, closed boxes."""
    said: list[str] = []
    first = ""
    changes = [change for row in drawn.rows for change in row.entry.changes]
    owned = [change for change in changes if change.state not in UNOWNED]
    if changes and not owned and not drawn.counts.overwritten:
        first = "No tensor is changed. "
    if drawn.counts.overwritten and not drawn.counts.at_a_distance:
        first = "Every owner is named, and values are lost all the same. "
    for kind, verb in (
        ("graph used up", "used up"),
        ("graph kept", "kept"),
        ("graph grows", "growing"),
    ):
        found = [mark for mark in drawn.marks if mark.kind == kind]
        if found:
            names = list(dict.fromkeys(mark.changes[0].owner for mark in found))
            lines = list(dict.fromkeys(str(drawn.rows[mark.row].line) for mark in found))
            behind, where = (
                "graphs" if len(names) > 1 else "graph",
                "lines" if len(lines) > 1 else "line",
            )
            said.append(
                f"the {behind} behind {listed(names)} {'are' if len(names) > 1 else 'is'} {verb} ({where} {listed(lines)})"
            )
    moved = list(
        dict.fromkeys(
            str(drawn.rows[mark.row].line) for mark in drawn.marks if mark.kind == "moved"
        )
    )
    if moved:
        said.append(
            f"the random generator moves ({'lines' if len(moved) > 1 else 'line'} {listed(moved)})"
        )
    return first + (f"Not counted: {'; '.join(said)}." if said else "")


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
    """The description of a picture that has been decided on."""
    sentences = ["What each statement changes" + (f", {drawn.which}." if drawn.which else ".")]
    for row in drawn.rows:
        done = said_of(drawn, row.number)
        if done:
            sentences.append(f"Line {row.line}, {row.code}: {'; '.join(done)}.")
        elif row.entry.kind == "statement":
            sentences.append(f"Line {row.line}, {row.code}: changes nothing.")
    return " ".join([*sentences, *caption(drawn)])


def said_of(drawn: Scene, row: int) -> list[str]:
    """What one row does, mark by mark, in words."""
    return [_said(mark, drawn) for mark in drawn.marks if mark.row == row]


def _said(mark: Mark, drawn: Scene) -> str:
    owner, part = mark.lane
    if mark.kind == "moved":
        return f"{_VERBS[mark.kind]} {part}"
    what = (
        "other names"
        if part == "other"
        else owner
        if part in ("", "itself")
        else f"{owner}'s {part}"
    )
    if part in ("old", "new"):
        what = f"{owner} with a new value" if part == "new" else f"the old {owner}"
    size = f" ({', '.join(mark.labels)})" if mark.labels and not mark.listed else ""
    still = (
        "; the old value is still there"
        if (mark.row, (owner, "old")) in drawn.still and part == "new"
        else ""
    )
    return f"{_VERBS[mark.kind]} {what}{size}{', at a distance' if mark.distant else ''}{still}"
