"""Stepping through a recording: a slider, a play button, the line that runs, and what it changes."""

from __future__ import annotations

import asyncio
from html import escape
from types import SimpleNamespace
from typing import Any

from fnlib.ledger.entries import Change, Entry
from fnlib.ledger.views.words import counted

SECONDS = 1.0  # between two statements while it plays
AROUND = 10  # statements shown before and after the present one
_SIGNS = {
    "created": "●",
    "changed in place": "■",
    "replaced": "◆",
    "rebound": "◆",
    "removed": "✖",
}
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
_CELL = "text-align:left;padding:2px 8px"
_playing: list[Any] = []


def replay(ledger: Any) -> Any:
    """Show the statements of a recording one after the other, with what each changes.

    Args:
        ledger: a finished recording, or a view of one iteration.

    Returns:
        A widget with ``.slider`` (0 is the state before the first statement), ``.play`` (set its
        ``value`` or press it), ``.next`` and ``.shown``, the HTML of the present step. It plays
        while the kernel is idle and blocks nothing; only one player plays at a time. Without
        ipywidgets you get the table, with a ``.slider`` that code can set.

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
    _stop_playing()
    try:
        import ipywidgets as widgets
    except ImportError:
        return Still(ledger)
    entries = list(ledger.entries)

    class Player(widgets.VBox):
        """Slider and buttons above the present step."""

        def __init__(self) -> None:
            self.slider = widgets.IntSlider(
                value=0, min=0, max=len(entries), description="statement", continuous_update=True
            )
            self.play = widgets.ToggleButton(value=False, description="Play", icon="play")
            self.next = widgets.Button(description="Next statement")
            self.shown = widgets.HTML(page(entries, 0))
            self.slider.observe(self._moved, names="value")
            self.play.observe(self._pressed, names="value")
            self.next.on_click(lambda _: self.step())
            self._waiting: asyncio.TimerHandle | None = None
            super().__init__([widgets.HBox([self.play, self.next, self.slider]), self.shown])

        def step(self) -> None:
            """Go on by one statement; from the last to the state before the first."""
            self.slider.value = (self.slider.value + 1) % (len(entries) + 1)

        def _moved(self, change: Any) -> None:
            self.shown.value = page(entries, change["new"])

        def _pressed(self, change: Any) -> None:
            plays = change["new"]
            self.play.description = "Pause" if plays else "Play"
            self.play.icon = "pause" if plays else "play"
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
            if plays:
                _stop_playing()
                _playing.append(self)
                self._tick()
            elif self in _playing:
                _playing.remove(self)

        def _tick(self) -> None:
            """Show one statement, and the next one later: a timer of the kernel, no thread."""
            self._waiting = None
            self.step()
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # no notebook, so nobody to wait for
                self.play.value = False
                return
            if self.slider.value == len(entries):
                self.play.value = False
            else:
                self._waiting = loop.call_later(SECONDS, self._tick)

        def close(self) -> None:
            """Stop, and take the widget from the page."""
            self.play.value = False
            super().close()

        def __repr__(self) -> str:
            return str(ledger)

    return Player()


def _stop_playing() -> None:
    while _playing:
        _playing.pop().play.value = False


class Still:
    """The player without ipywidgets: the table of the whole recording, and a slider for code.

    Args:
        ledger: the recording.
    """

    def __init__(self, ledger: Any) -> None:
        self.ledger, self.slider, self.value = ledger, self, 0

    @property
    def shown(self) -> Any:
        """An object whose ``value`` is the HTML of the present step, as in the player."""
        return SimpleNamespace(value=page(list(self.ledger.entries), self.value))

    def _repr_html_(self) -> str:
        return str(self.ledger._repr_html_())

    def __repr__(self) -> str:
        return str(self.ledger)


# --- one step as HTML ------------------------------------------------------------------------


def page(entries: list[Entry], step: int) -> str:
    """Lay out the code with one line lit, the boxes of state, and what this line changes."""
    first, last = max(1, step - AROUND), min(len(entries), max(step, AROUND) + AROUND)
    lines = [_line(entry, number == step) for number, entry in enumerate(entries, 1)]
    before = f"&ensp; ... {counted(first - 1, 'statement')} before"
    after = f"&ensp; ... {counted(len(entries) - last, 'more statement')}"
    shown = [_div(before)] * (first > 1) + lines[first - 1 : last]
    shown += [_div(after)] * (last < len(entries))
    code = _boxes(entries, step)
    code += f'<div style="font-family:monospace;white-space:pre-wrap">{"".join(shown)}</div>'
    if step == 0:
        said = "Before the first statement. Move the slider, or press play."
        return f'{code}<p style="padding:4px 6px">{said}</p>'
    changes = entries[step - 1].changes
    if not changes:
        said = "This statement changes nothing that is watched."
        return f'{code}<p style="padding:4px 6px">{said}</p>'
    heads = ("whose", "what", "how", "before", "after", "moved by")
    head = "".join(f'<th scope="col" style="{_CELL}">{title}</th>' for title in heads)
    rows = "".join(map(_row, changes))
    caption = f"Statement {step} of {len(entries)} changes {counted(len(changes), 'place')}"
    return (
        f'{code}<table style="border-collapse:collapse;margin-top:6px">'
        f'<caption style="{_CELL}">{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _div(content: str, style: str = "") -> str:
    return f'<div style="padding:1px 6px;{style}">{content}</div>'


def _line(entry: Entry, lit: bool) -> str:
    color, strength = ("#0072B2", "font-weight:bold") if lit else ("transparent", "opacity:.75")
    code = escape(" ".join(entry.source.split()))
    return _div(f"{'▶ ' if lit else '&ensp; '}{code}", f"border-left:4px solid {color};{strength}")


def _how(change: Change) -> str:
    return f"{_SIGNS.get(change.kind, '·')} {change.kind}"


def _row(change: Change) -> str:
    far = " (its owner is not named: action at a distance)" if change.at_a_distance else ""
    cells = (
        change.owner,
        f"{change.place or change.owner} ({change.state})",
        _how(change) + far,
        _short(change.before),
        _short(change.after),
        "" if change.moved is None else f"{change.moved:.3g}",
    )
    return "<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in cells) + "</tr>"


def _short(value: Any, most: int = 40) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _boxes(entries: list[Entry], step: int) -> str:
    """Draw a box for each kind of state with its last change, lit where this line acts."""
    last: dict[tuple[str, str], str] = {}
    lit: set[tuple[str, str]] = set()
    for number, entry in enumerate(entries, 1):
        for change in entry.changes:
            if change.state in _BOXES:
                key = (change.owner, _BOXES[change.state])
                last.setdefault(key, "as it was")
                if number <= step:
                    last[key] = _how(change)
                if number == step:
                    lit.add(key)
    boxes = ""
    for key, said in last.items():
        border = "2px solid #0072B2" if key in lit else "1px solid rgba(128,128,128,.6)"
        strong = "font-weight:bold" if key in lit else "opacity:.75"
        style = f"border:{border};border-radius:4px;padding:2px 8px;min-width:90px"
        name = escape(" ".join(filter(None, key)))
        boxes += f'<div style="{style}"><div>{name}</div><div style="{strong}">{said}</div></div>'
    style = "display:flex;flex-wrap:wrap;gap:6px;margin:4px 0 6px 0;line-height:1.35"
    return f'<div style="{style}">{boxes}</div>'
