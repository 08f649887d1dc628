"""The version, apart from all that imports torch."""

__version__ = "0.1.0"
