"""The ledger: which statement changed which state."""

from fnlib.ledger.entries import Alias, Bound, Change, Counts, Entry, Event, Finding, Links, Summary
from fnlib.ledger.errors import (
    AlreadyRecording,
    LedgerError,
    NoSuchIteration,
    NothingToCompare,
    RecordingFailed,
    UnknownObject,
    UnknownWatch,
)
from fnlib.ledger.ledger import Ledger
from fnlib.ledger.magic import load_ipython_extension
from fnlib.ledger.views.compare import Comparison, compare
from fnlib.ledger.views.ranks import Ranks, across_ranks
from fnlib.ledger.views.view import View

__all__ = [
    "Alias",
    "AlreadyRecording",
    "Bound",
    "Change",
    "Comparison",
    "Counts",
    "Entry",
    "Event",
    "Finding",
    "Ledger",
    "LedgerError",
    "Links",
    "NoSuchIteration",
    "NothingToCompare",
    "Ranks",
    "RecordingFailed",
    "Summary",
    "UnknownObject",
    "UnknownWatch",
    "View",
    "across_ranks",
    "compare",
    "load_ipython_extension",
]
