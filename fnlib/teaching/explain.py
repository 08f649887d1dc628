"""``fnlib explain CODE``: a finding with an example from the museum."""

from __future__ import annotations

import difflib
import textwrap

from fnlib.ledger.doctor.explain import rule
from fnlib.teaching.museum import EXHIBITS, Exhibit, source


def explanation(code: str) -> str:
    """Explain a finding's code: what, why, fix, an example, and pages about it.

    Args:
        code: such as "snapshot-moved".

    Raises:
        UnknownCode: no finding has it.

    Example:
        >>> print(explanation("result-ignored").splitlines()[0])
        result-ignored: the result of `x.clamp(0, 1)` is not bound to a name.
    """
    one = rule(code)
    lines = textwrap.wrap(f"{code}: {one.what[0].lower()}{one.what[1:]}", 96)
    lines += ["", "Why it matters", *_indented(one.why)]
    lines += ["", "What to write", *(f"    {line}" for line in one.fix.splitlines())]
    if example := example_of(code):
        lines += ["", f"Example: {example.title}", *(f"    {line}" for line in cured(example.code))]
    if met := _met(code):
        lines += ["", "Pages about it", *(f"    {address}" for address in met)]
    return "\n".join([*lines, "", one.page])


def example_of(code: str) -> Exhibit | None:
    """Return the first exhibit of the museum that shows a finding; ``None`` without one."""
    shown = [one for one in EXHIBITS if code in (one.finding, one.standing)]
    return min(shown, key=lambda one: (one.finding != code, not one.core), default=None)


def cured(exhibit: str) -> list[str]:
    """Return an exhibit's loop with its cure, as the lines of a diff.

    >>> [line for line in cured("zero_grad_forgotten") if line[0] in "+-"]
    ['+         optimizer.zero_grad()']
    """
    bug, cure = (source(exhibit, part).splitlines()[1:] for part in ("bug", "cure"))
    lines = difflib.ndiff(textwrap.dedent("\n".join(bug)).splitlines(),
                          textwrap.dedent("\n".join(cure)).splitlines())  # fmt: skip
    return [line.rstrip() for line in lines if not line.startswith("?")]


def _met(code: str) -> list[str]:
    links = [rule(code).link] if rule(code).link else []
    for one in EXHIBITS:
        if one.finding == code:
            links += [address for address, _ in one.links]
    return list(dict.fromkeys(links))


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in textwrap.wrap(text, 92)]
