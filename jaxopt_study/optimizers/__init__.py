"""Optimizers as optax gradient transformations that are pytrees: one file a method."""
