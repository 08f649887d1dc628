"""Which tensors lie partly in the same bytes, without being the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fnlib.ledger.seen import Seen


def overlaps(sights: list[Seen]) -> list[tuple[str, str]]:
    """Find the pairs of places that overlap.

    Args:
        sights: one for each place, with its span: the addresses of its first byte and after its last.

    Returns:
        Pairs of labels, the place that begins first standing first.
    """
    spans = [(seen.span, at) for at, seen in enumerate(sights) if seen.span is not None]
    spans.sort()
    found: list[tuple[str, str]] = []
    reach, holder = 0, 0
    for (first, end), at in spans:
        if first < reach:
            found.append((sights[holder].label, sights[at].label))
        if end > reach:
            reach, holder = end, at
    return found
