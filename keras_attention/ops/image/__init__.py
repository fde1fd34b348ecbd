"""Pooling, gating and covariance of images in either data format."""
