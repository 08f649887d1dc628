"""Why nothing that is held can change."""
