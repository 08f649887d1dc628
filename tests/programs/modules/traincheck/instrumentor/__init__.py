"""Stand-in for `traincheck.instrumentor`."""

meta_vars: dict[str, object] = {}
