"""How fast an online store is filled: again by a rebuild, and by an import."""
