"""Fits with their uncertainties: `curve_fit` makes a `Fit`, and a `Fit` answers questions."""
