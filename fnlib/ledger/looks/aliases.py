"""Who shares storage with whom: places that are one tensor, lie in the same bytes, or overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fnlib.ledger.entries import Alias


@dataclass(eq=False, slots=True)
class Sites:
    """Where the watched tensors lay after a statement. Most are never asked about, so the answer is worked out when it is.

    ``places``: for each beginning of a storage its span, and (label, token) of each place there; ``held``: for tokens of
    tensors the places in optimizers that hold them.
    """

    places: list[tuple[tuple[int, int] | None, list[tuple[str, int | None]]]]
    held: Mapping[int, tuple[str, ...]]
    found: tuple[Alias, ...] | None = None

    def aliases(self) -> tuple[Alias, ...]:
        """The sets of labels that are one tensor or lie in the same bytes, and the pairs that overlap."""
        if self.found is None:
            same = [alias for _, here in self.places if (alias := self._same(here)) is not None]
            self.found = (*same, *self._overlaps())
        return self.found

    def _same(self, here: list[tuple[str, int | None]]) -> Alias | None:
        tokens = dict.fromkeys(token for _, token in here if token is not None)
        labels = dict.fromkeys(label for label, _ in here)
        for token in tokens:
            labels.update(dict.fromkeys(self.held.get(token, ())))
        if len(labels) < 2:
            return None
        return Alias(tuple(labels), "same tensor" if len(tokens) == 1 else "same storage")

    def _overlaps(self) -> list[Alias]:
        spans = sorted(
            (span, here[0][0]) for span, here in self.places if span is not None and here
        )
        found = []
        reach, holder = 0, ""
        for (first, end), label in spans:
            if first < reach:
                found.append(Alias((holder, label), "overlap"))
            if end > reach:
                reach, holder = end, label
        return found
