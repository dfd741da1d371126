"""Benchmarks that can be believed: compile and warm time apart, the error reached beside each."""
