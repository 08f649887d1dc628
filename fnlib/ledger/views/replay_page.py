"""One step of a replay as HTML: the code with one line lit, a box for each kind of state, and what the line changes."""

from __future__ import annotations

import html
from typing import Any

from fnlib.ledger.entries import Change, Entry
from fnlib.ledger.views.words import counted

AROUND = 10  # statements shown before and after the present one
_SIGNS = {"created": "●", "changed in place": "■", "replaced": "◆", "removed": "✖"}
_BOXES = {  # the word on the box for a kind of state; what is not here has none
    "weight": "weights",
    "gradient": ".grad",
    "buffer": "buffers",
    "optimizer state": "moments",
    "group entry": "rate and settings",
    "scheduler state": "state",
    "mode flag": "mode",
    "requires_grad flag": "requires_grad",
    "value": "",
    "name": "",
}


def page(entries: list[Entry], step: int) -> str:
    """Lay out the code with one line lit, and beside it what this line changes."""
    lines = []
    first, last = max(1, step - AROUND), min(len(entries), max(step, AROUND) + AROUND)
    for number, entry in enumerate(entries[first - 1 : last], first):
        lit = number == step
        style = (
            "border-left:4px solid #0072B2;font-weight:bold"
            if lit
            else "border-left:4px solid transparent;opacity:.75"
        )
        mark = "▶ " if lit else "&ensp; "
        lines.append(
            f'<div style="padding:1px 6px;{style}">{mark}{html.escape(" ".join(entry.source.split()))}</div>'
        )
    if first > 1:
        lines.insert(
            0,
            f'<div style="padding:1px 6px">&ensp; ... {counted(first - 1, "statement")} before</div>',
        )
    if last < len(entries):
        lines.append(
            f'<div style="padding:1px 6px">&ensp; ... {counted(len(entries) - last, "more statement")}</div>'
        )
    code = (
        _boxes(entries, step)
        + f'<div style="font-family:monospace;white-space:pre-wrap">{"".join(lines)}</div>'
    )
    if step == 0:
        return (
            code
            + '<p style="padding:4px 6px">Before the first statement. Move the slider, or press play.</p>'
        )
    changes = list(entries[step - 1].changes)
    if not changes:
        return (
            code + '<p style="padding:4px 6px">This statement changes nothing that is watched.</p>'
        )
    head = "".join(
        f'<th scope="col" style="text-align:left;padding:2px 8px">{title}</th>'
        for title in ("whose", "what", "how", "before", "after", "moved by")
    )
    rows = "".join(_row(change) for change in changes)
    caption = f"Statement {step} of {len(entries)} changes {len(changes)} place{'s' if len(changes) > 1 else ''}"
    return (
        f'{code}<table style="border-collapse:collapse;margin-top:6px"><caption style="text-align:left;padding:2px 8px">{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(change: Change) -> str:
    distance = " (its owner is not named: action at a distance)" if change.at_a_distance else ""
    moved = "" if change.moved is None else f"{change.moved:.3g}"
    cells = (
        change.owner,
        f"{change.place or change.owner} ({change.state})",
        f"{_SIGNS.get(change.kind, '·')} {change.kind}{distance}",
        _short(change.before),
        _short(change.after),
        moved,
    )
    return (
        "<tr>"
        + "".join(
            f'<td style="text-align:left;padding:2px 8px">{html.escape(str(cell))}</td>'
            for cell in cells
        )
        + "</tr>"
    )


def _short(value: Any, most: int = 40) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _boxes(entries: list[Entry], step: int) -> str:
    """A box for each kind of state that the recording changes: empty at first, with the last change in it, lit where this line acts."""
    last: dict[tuple[str, str], str] = {}
    lit: set[tuple[str, str]] = set()
    for number, entry in enumerate(entries, 1):
        for change in entry.changes:
            if change.state in _BOXES:
                key = (change.owner, _BOXES[change.state])
                last.setdefault(key, "")
                if number <= step:
                    last[key] = change.kind
                if number == step:
                    lit.add(key)
    boxes = []
    for key, kind in last.items():
        border = "2px solid #0072B2" if key in lit else "1px solid rgba(128,128,128,.6)"
        said = f"{_SIGNS.get(kind, '·')} {kind}" if kind else "as it was"
        strong = "font-weight:bold" if key in lit else "opacity:.75"
        boxes.append(
            f'<div style="border:{border};border-radius:4px;padding:2px 8px;min-width:90px">'
            f'<div>{html.escape(" ".join(filter(None, key)))}</div><div style="{strong}">{said}</div></div>'
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:6px;margin:4px 0 6px 0;line-height:1.35">{"".join(boxes)}</div>'
