"""How values, ledgers and comparisons print."""
