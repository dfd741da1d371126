"""Sparse derivatives: which entries there are (`detect`), and which are had in one pass (`coloring`)."""
