"""How a recording is shown."""
