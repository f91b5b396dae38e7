"""Entry points of the straight line; each reads a config and calls one function."""
