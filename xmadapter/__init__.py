"""Adapt a vision-language model from a few labelled images."""

__version__ = "0.1.0"
__all__ = ["__version__"]
