"""Who shares storage with whom."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from fnlib.ledger.content import is_cow, parts, storage_span, unreadable
from fnlib.ledger.entries import Alias


def aliases_of(places: Iterable[tuple[str, Tensor]]) -> tuple[Alias, ...]:
    """Group named tensors that share storage.

    Args:
        places: labels and tensors, in the order in which the first is to be named.

    Returns:
        One `Alias` for each set of labels that are one tensor or lie in the same bytes, and one for each pair that overlaps in part.
    """
    whole: dict[tuple[object, ...], list[tuple[str, Tensor]]] = {}
    spans: list[tuple[int, int, str]] = []
    for label, tensor in places:
        if unreadable(tensor):
            continue
        for part in parts(tensor):
            start, first, end = storage_span(part)
            if not start:
                continue
            key = (part.device, start, tuple(part.shape), part.stride(), part.dtype)
            whole.setdefault(key, []).append((label, tensor))
            if len(whole[key]) == 1 and not is_cow(part):
                spans.append((first, end, label))
    found = []
    for held in whole.values():
        labels = tuple(dict.fromkeys(label for label, _ in held))
        if len(labels) > 1:
            one = all(tensor is held[0][1] for _, tensor in held)
            found.append(Alias(labels, "same tensor" if one else "same storage"))
    spans.sort(key=lambda span: span[:2])
    for at, (_, end, label) in enumerate(spans):
        for first, _, other in spans[at + 1 :]:
            if first >= end:
                break
            if other != label:
                found.append(Alias((label, other), "overlap"))
    return tuple(found)
