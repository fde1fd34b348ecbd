"""Scaled dot-product attention: masks, positions, paths and the KV cache."""
