"""Drivers: from an objective, a start and an optimizer to a `Result`."""
