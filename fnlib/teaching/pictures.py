"""A picture with alternative text, shown the same way by every notebook front end.

JupyterLab draws ``image/png`` outputs without an ``alt`` attribute, whatever their metadata say. So a picture is shown
as HTML, ``<img alt="...">``, with the picture inside; where only text can be shown, the text is what you get.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100
SHARPNESS = 2  # twice as many points as are shown, for a projector or a dense screen


@dataclass(frozen=True)
class Picture:
    """A finished picture and the text that says the same.

    Attributes:
        png: the encoded picture.
        alt: what a reader who cannot see it is told: the content, not the looks.
        width: width on the page in points.
    """

    png: bytes
    alt: str
    width: int

    @property
    def html(self) -> str:
        """The picture as one HTML element that needs no file beside it."""
        code = base64.b64encode(self.png).decode()
        style = f"width:{self.width}px;max-width:100%;height:auto"
        return f'<img style="{style}" alt="{html.escape(self.alt)}" src="data:image/png;base64,{code}">'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"[Picture: {self.alt}]"


def show(figure: Figure, alt: str) -> Picture:
    """Turn a matplotlib figure into a picture with alternative text, and close the figure.

    Write it as the last line of a cell, instead of ``plt.show()``.

    Args:
        figure: what was drawn.
        alt: one or two sentences with the content: what rises, what falls, where lines meet.

    Returns:
        A ``Picture``; the notebook shows it.

    Raises:
        ValueError: the text is empty.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> figure, axes = plt.subplots()
        >>> show(figure, "An empty pair of axes.")
        [Picture: An empty pair of axes.]
    """
    if not alt.strip():
        raise ValueError(
            'A picture without words is lost to some readers: show(figure, alt="what it shows").'
        )
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    figure.savefig(
        file,
        format="png",
        dpi=SHARPNESS * DOTS_PER_INCH,
        facecolor="white",
        bbox_inches="tight",
        pad_inches=0.08,
    )
    plt.close(figure)
    png = file.getvalue()
    pixels = int.from_bytes(png[16:20], "big")  # the width, in a PNG's header
    return Picture(png, " ".join(alt.split()), pixels // SHARPNESS)
