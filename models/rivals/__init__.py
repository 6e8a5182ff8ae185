"""Rivals of the towers: what else ranks for a user of whom only the attributes are known, each after its own source."""
