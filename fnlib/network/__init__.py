"""How one module tree serves many values."""
