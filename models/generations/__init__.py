"""Generations as files and in Triton: written, checked, published, loaded again."""
