"""Stepping through a recording: a slider, a play button, the line that runs, and the state that changes."""

from __future__ import annotations

import html
from types import SimpleNamespace
from typing import Any

from fnlib.ledger.entries import Change, Entry

_SIGNS = {"created": "●", "changed in place": "■", "replaced": "◆", "removed": "✖", "accumulated": "▲"}


def replay(ledger: Any) -> Any:
    """Show the statements of a recording one after the other, with what each changes.

    Args:
        ledger: a finished recording, or a view of one iteration.

    Returns:
        A widget with ``.slider`` (0 is the state before the first statement) and ``.play``, and ``.shown``, the HTML of the
        present step. Without ipywidgets the table stands in its place, which carries the same content; code can set its
        ``.slider`` too.

    Example:
        >>> import torch
        >>> from fnlib.ledger import Ledger
        >>> weight = torch.ones(2)
        >>> with Ledger(weight=weight) as ledger:
        ...     _ = weight.mul_(3)
        >>> player = replay(ledger)
        >>> player.slider.value = 1
        >>> "weight.mul_(3)" in player.shown.value
        True
    """
    try:
        import ipywidgets as widgets
    except ImportError:
        return Unmoved(ledger)
    entries = list(ledger.entries)

    class Player(widgets.VBox):
        """Slider and play button above the present step."""

        def __init__(self) -> None:
            last = len(entries)
            self.slider = widgets.IntSlider(value=0, min=0, max=last, description="statement", continuous_update=True)
            self.play = widgets.Button(description="Next statement")
            self.play.on_click(self._next)
            self.shown = widgets.HTML(_page(entries, 0))
            self.slider.observe(self._move, names="value")
            super().__init__([widgets.HBox([self.play, self.slider]), self.shown])

        def _move(self, change: Any) -> None:
            self.shown.value = _page(entries, change["new"])

        def _next(self, _: Any) -> None:
            self.slider.value = (self.slider.value + 1) % (len(entries) + 1)

        def __repr__(self) -> str:
            return str(ledger)

    return Player()


class Unmoved:
    """What stands for the player where ipywidgets is missing: the table of the whole recording, and a slider for code.

    Args:
        ledger: the recording.
    """

    def __init__(self, ledger: Any) -> None:
        self.ledger, self.slider, self.value = ledger, self, 0

    @property
    def shown(self) -> Any:
        """An object whose ``value`` is the HTML of the present step, as in the player."""
        return SimpleNamespace(value=_page(list(self.ledger.entries), self.value))

    def _repr_html_(self) -> str:
        return str(self.ledger._repr_html_())

    def __repr__(self) -> str:
        return str(self.ledger)


def _page(entries: list[Entry], step: int) -> str:
    """Lay out the code with one line lit, and beside it what this line changes."""
    lines = []
    for number, entry in enumerate(entries, 1):
        lit = number == step
        style = "border-left:4px solid #0072B2;font-weight:bold" if lit else "border-left:4px solid transparent;opacity:.75"
        mark = "▶ " if lit else "&ensp; "
        lines.append(f'<div style="padding:1px 6px;{style}">{mark}{html.escape(" ".join(entry.source.split()))}</div>')
    code = f'<div style="font-family:monospace;white-space:pre-wrap">{"".join(lines)}</div>'
    if step == 0:
        return code + '<p style="padding:4px 6px">Before the first statement. Move the slider, or press play.</p>'
    changes = list(entries[step - 1].changes)
    if not changes:
        return code + '<p style="padding:4px 6px">This statement changes nothing that is watched.</p>'
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
    return "<tr>" + "".join(f'<td style="text-align:left;padding:2px 8px">{html.escape(str(cell))}</td>' for cell in cells) + "</tr>"


def _short(value: Any, most: int = 40) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= most else text[: most - 1] + "…"
