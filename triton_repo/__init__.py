"""Triton's side of the towers: a config and a thin model each. Their versions are generated, never committed."""
