"""Functional neural networks for PyTorch: a factory, a gradient and parameters that are values."""
