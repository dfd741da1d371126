"""Ordinary differential equations: solved, differentiated, audited and fitted.

Importing it does not import diffrax; solving does.
"""
