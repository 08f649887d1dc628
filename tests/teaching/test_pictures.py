"""Pictures carry their content in words, and look the same everywhere."""

from __future__ import annotations

import re
import struct

import matplotlib.pyplot as plt
import pytest
import torch

from fnlib import teaching
from fnlib.teaching import plots, style


def _made() -> dict[str, teaching.Picture]:  # type: ignore[name-defined]
    digits = teaching.twins().test
    named = digits.label[:4].clone()
    named[1] = (named[1] + 1) % 10
    weight = torch.zeros(2, 3)
    return {
        "curves": plots.curves(
            {"stock": [2.0, 3.0, 0.5, 1.0], "functional": [2.0, 3.0, 0.5, 1.0]},
            title="One trajectory",
        ),
        "valley": plots.valley(lambda a, b: a**2 + b**2, {"lr = 0.1": [(1.0, 1.0), (0.5, 0.0)]}),
        "digits": plots.digits(
            digits.feature[:4], label=digits.label[:4], predicted=named, columns=2
        ),
        "images": plots.digits(teaching.images().test.feature[:3], columns=3),
        "states": plots.states(
            {"before": {"w": weight, "b": weight[0]}, "after": {"w": weight + 1, "b": weight[0]}}
        ),
    }


def test_the_words_are_made_from_the_numbers() -> None:
    alt = {name: picture.alt for name, picture in _made().items()}
    assert (
        alt["curves"]
        == "loss over step. stock: from 2 to 1, highest 3, lowest 0.5. functional: the same numbers as stock."
    )
    assert (
        alt["valley"]
        == "Contours of a function of two weights. lr = 0.1: 1 steps from (1, 1) to (0.5, 0), height 2 to 0.25."
    )
    assert re.fullmatch(
        r"4 pictures of digits: (\d, ){3}\d\. 3 of 4 are named right; wrong: a \d named \d\.",
        alt["digits"],
    )
    assert alt["images"] == "3 pictures of digits."
    assert (
        alt["states"]
        == "w: after differs from before in 6 of 6 numbers. b: after is the same as before."
    )


def test_each_picture_has_alternative_text() -> None:
    """Each picture is an image with alternative text and closes its figure."""
    for picture in _made().values():
        bundle = picture._repr_mimebundle_()
        assert set(bundle) == {"text/html", "text/plain"}, (
            "image/png would be shown without alternative text"
        )
        assert (
            bundle["text/html"].startswith("<img ")
            and f'alt="{picture.alt}"' in bundle["text/html"]
        )
        assert bundle["text/plain"] == f"[Picture: {picture.alt}]"
        assert struct.unpack(">II", picture.png[16:24])[0] // 2 == picture.width <= 900
    assert not plt.get_fignums()


def test_quotes_and_line_ends_in_the_words_do_no_harm() -> None:
    picture = teaching.show(plots.canvas()[0], 'A "quoted" <b>\n  text & more')
    assert 'alt="A &quot;quoted&quot; &lt;b&gt; text &amp; more"' in picture.html
    with pytest.raises(ValueError, match="A picture without words"):
        teaching.show(plots.canvas()[0], " ")
    plt.close("all")


def test_no_two_series_look_alike_even_without_colour() -> None:
    names = ["stock", "encapsulated", "fit", "functional"]
    for inks in (style.inks(names), style.inks(["a", "b", "c", "d", "e"])):
        assert (
            len({ink.marker for ink in inks})
            == len({str(ink.line) for ink in inks})
            == len({ink.color for ink in inks})
            == len(inks)
        )
    assert style.inks(["x", "stock"])[1] == style.inks(["stock"])[0], (
        "a loop looks the same whatever stands beside it"
    )
    assert len(style.inks([str(number) for number in range(20)])) == 20


def test_live_curves_draw_in_a_notebook_only_and_never_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import IPython.core.getipython
    import IPython.display

    drawn: list[str] = []

    class Handle:
        def update(self, picture: object) -> None:
            drawn.append(repr(picture))

    monkeypatch.setattr(IPython.core.getipython, "get_ipython", lambda: object())
    monkeypatch.setattr(
        IPython.display,
        "display",
        lambda picture, display_id: drawn.append(repr(picture)) or Handle(),
    )
    live = plots.Live("loss", every=60)
    for step in range(5):
        live.add({"stock": 1.0 / (step + 1)})
    assert drawn == []
    live.close()
    assert drawn == ["[Picture: loss over epoch. stock: from 1 to 0.2.]"]
    eager = plots.Live("loss", every=0)
    eager.add({"stock": torch.tensor(1.0)})
    eager.add({"stock": 0.5})
    assert len(drawn) == 3
    plots.Live("nothing").close()


def test_a_slider_redraws_and_an_error_in_it_is_raised() -> None:
    box = teaching.explore(
        lambda rate: plots.curves({"w": [1.0, 1.0 / rate]}), [1, 2, 0], name="rate", start=2
    )
    assert "to 0.5" in box.picture.alt and box.picture.html in box.children[1].value
    box.slider.value = 1
    assert "to 1" in box.picture.alt and box.picture.html in box.children[1].value
    with pytest.raises(ZeroDivisionError):
        box.slider.value = 0
    assert "[Slider: rate." in repr(box)
    for values, start in (([], None), ([1, 2], 3)):
        with pytest.raises(ValueError, match="is not one of"):
            teaching.explore(lambda rate: plots.curves({}), values, name="rate", start=start)


def test_without_widgets_the_first_picture_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown = teaching.explore(lambda rate: plots.curves({"w": [1.0, rate]}), [2.0], name="rate")
    assert repr(shown).startswith("[Picture: loss over step. w: from 1 to 2.]")
    assert not teaching.predict("00-best")._ipython_display_()  # type: ignore[attr-defined]
