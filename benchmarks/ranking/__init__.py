"""`python -m benchmarks rank`."""
