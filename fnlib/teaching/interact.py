"""A slider over pictures, with the picture standing there before anything is moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fnlib.teaching.pictures import Picture


def explore(
    draw: Callable[[Any], Picture], values: Sequence[Any], *, name: str, start: Any = None
) -> Any:
    """Draw a picture for one value, and let the reader choose others with a slider.

    The slider is an extra: put the static version, which carries the same content, in the cell before. Without
    ipywidgets there is the picture alone, which code can still set.

    Args:
        draw: value -> ``Picture``; called once for each move. An error in it is raised where the slider is set.
        values: what the slider runs through.
        name: what is chosen, with its unit.
        start: the first value; the first of ``values`` if not given.

    Returns:
        The slider with its picture, which the notebook shows: ``.slider`` can be set in code
        (``box.slider.value = 0.5``), ``.picture`` is the picture that is shown.

    Raises:
        ValueError: there are no values, or ``start`` is not among them.

    Example:
        >>> from fnlib.teaching import plots
        >>> box = explore(lambda rate: plots.curves({"w": [1.0, 1.0 - rate]}), [0.1, 0.5], name="lr")
        >>> box.slider.value = 0.5
        >>> box.picture
        [Picture: loss over step. w: from 1 to 0.5.]
    """
    values = list(values)
    start = values[0] if start is None and values else start
    if start not in values:
        raise ValueError(
            f"start={start!r} is not one of the {len(values)} values that the slider runs through."
        )
    try:
        import ipywidgets as widgets
    except ImportError:
        return Unmoved(draw, start)

    class Explorer(
        widgets.VBox
    ):  # here, because ipywidgets is imported only when a slider is wanted
        """A slider above a picture."""

        def __init__(self) -> None:
            labels = [
                (value if isinstance(value, str) else f"{value:g}", value) for value in values
            ]
            self.picture = draw(start)
            self._shown = widgets.HTML(self.picture.html)
            self.slider = widgets.SelectionSlider(
                options=labels,
                value=start,
                description=name,
                continuous_update=False,
                style={"description_width": "initial"},
                layout={"width": "420px"},
            )
            self.slider.observe(self._move, names="value")
            super().__init__([self.slider, self._shown])

        def _move(self, change: Any) -> None:
            self.picture = draw(change["new"])
            self._shown.value = self.picture.html

        def __repr__(self) -> str:
            return f"[Slider: {name}. {self.picture.alt}]"

    return Explorer()


class Unmoved:
    """What stands for a slider where ipywidgets is missing: it shows its picture, and code can set it.

    Args:
        draw: value -> ``Picture``.
        start: the first value.
    """

    def __init__(self, draw: Callable[[Any], Picture], start: Any) -> None:
        self._draw, self.slider = draw, self
        self.value = start

    @property
    def value(self) -> Any:
        """The value that the picture is drawn for."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value, self.picture = value, self._draw(value)

    def _repr_html_(self) -> str:
        return f"{self.picture.html}<p>Without ipywidgets there is no slider here: set .slider.value instead.</p>"

    def __repr__(self) -> str:
        return f"{self.picture!r} Without ipywidgets there is no slider here: set .slider.value instead."
