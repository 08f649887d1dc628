"""Stepping through a recording: a slider, a play button, the line that runs, and the boxes of state that change."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from fnlib.ledger.views.replay_page import page

SECONDS = 1.0  # between two statements while it plays


def replay(ledger: Any) -> Any:
    """Show the statements of a recording one after the other, with what each changes.

    Args:
        ledger: a finished recording, or a view of one iteration.

    Returns:
        A widget with ``.slider`` (0 is the state before the first statement), ``.play`` (set its ``value`` or press it),
        ``.next`` and ``.shown``, the HTML of the present step. It plays while the kernel is idle and blocks nothing; one
        player plays at a time, so running the cell again stops the old one. Without ipywidgets the table stands in its
        place, which carries the same content; code can set its ``.slider`` too.

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
        return Unmoved(ledger)
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
            self.play.description, self.play.icon = (
                ("Pause", "pause") if change["new"] else ("Play", "play")
            )
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
            if change["new"]:
                _stop_playing()
                _playing.append(self)
                self._tick()
            elif self in _playing:
                _playing.remove(self)

        def _tick(self) -> None:
            """One statement, and the next one after a while: a timer of the kernel's own loop, no thread."""
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


_playing: list[Any] = []


def _stop_playing() -> None:
    """Stop the player that plays now, if there is one."""
    while _playing:
        _playing.pop().play.value = False


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
        return SimpleNamespace(value=page(list(self.ledger.entries), self.value))

    def _repr_html_(self) -> str:
        return str(self.ledger._repr_html_())

    def __repr__(self) -> str:
        return str(self.ledger)
