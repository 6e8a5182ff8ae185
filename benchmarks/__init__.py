"""Benchmarks: each figure of speed that the project quotes is printed by a command of this package."""
