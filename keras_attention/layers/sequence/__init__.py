"""Layers that take a sequence."""
