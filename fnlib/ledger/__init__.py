"""The ledger: which statement changed which state."""

from fnlib.ledger.entries import Alias, Bound, Change, Counts, Entry, Event, Finding, Links, Summary
from fnlib.ledger.ledger import Ledger

__all__ = ["Alias", "Bound", "Change", "Counts", "Entry", "Event", "Finding", "Ledger", "Links", "Summary"]
