"""From line events to entries."""
