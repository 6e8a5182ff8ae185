"""The zero-shot tower trained on planted tastes, at any size."""
