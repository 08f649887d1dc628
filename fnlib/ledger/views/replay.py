"""Stepping through a recording in a notebook: the page of `ledger.save` in a frame."""

from __future__ import annotations

from html import escape
from typing import Any

from fnlib.ledger.views.page import page

HEIGHT = 760  # pixels of the frame, which scrolls by itself
_STYLE = (
    f"display:block;box-sizing:border-box;width:100%;height:{HEIGHT}px;"
    "border:1px solid rgba(128,128,128,.5);border-radius:6px"
)


class Position:
    """The statement at which a player begins, from 0 (before the first) to ``max``."""

    def __init__(self, player: Any, most: int) -> None:
        self._player, self._value, self.max = player, 0, most

    @property
    def value(self) -> int:
        """The number of the statement; setting it shows the player anew."""
        return self._value

    @value.setter
    def value(self, number: int) -> None:
        self._value = max(0, min(int(number), self.max))
        self._player.show()


class Still:
    """A player without ipywidgets: the same frame, as the HTML of a cell's output.

    Args:
        ledger: the recording.
    """

    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger
        self.slider = Position(self, steps_of(ledger))

    def show(self) -> None:
        """Do nothing: the frame is made when it is displayed."""

    def _repr_html_(self) -> str:
        return frame(self.ledger, self.slider.value)

    def __repr__(self) -> str:
        return str(self.ledger)


def replay(ledger: Any) -> Any:
    """Show the statements of a recording one after the other, with what each changes.

    Args:
        ledger: a finished recording, or a view of one iteration.

    Returns:
        A player with the page of ``ledger.save``: a slider, the lit line of code, boxes of state with
        what is inside, findings. It needs no kernel once it is shown. Set ``.slider.value`` to
        begin at another statement.

    Example:
        >>> import torch
        >>> from fnlib.ledger import Ledger
        >>> weight = torch.ones(2)
        >>> with Ledger(weight=weight) as ledger:
        ...     _ = weight.mul_(3)
        >>> player = replay(ledger)
        >>> player.slider.value = 1
        >>> player.slider.max
        1
    """
    try:
        import ipywidgets as widgets
    except ImportError:
        return Still(ledger)

    class Player(widgets.HTML):
        """The frame as a widget, so that a notebook stores none of it."""

        def __init__(self) -> None:
            super().__init__(layout={"width": "100%", "margin": "0"})
            self.ledger = ledger
            self.slider = Position(self, steps_of(ledger))
            self.show()

        def show(self) -> None:
            """Make the frame anew."""
            self.value = frame(ledger, self.slider.value)

        def __repr__(self) -> str:
            return str(ledger)

    return Player()


def steps_of(ledger: Any) -> int:
    """Return how many runs of statements a recording has, those inside of calls too."""
    waiting, found = list(ledger.entries), 0
    while waiting:
        found += 1
        waiting.extend(waiting.pop().inside)
    return found


def frame(ledger: Any, start: int) -> str:
    """Write the page of a recording as a frame, apart from the styles of the page around it."""
    content = escape(page(ledger, start=start, embedded=True))
    return (
        f'<iframe title="{escape(str(ledger.title))}" style="{_STYLE}" srcdoc="{content}"></iframe>'
    )
