"""Recommendations from a whole catalogue: how fast, and how near to what an exact search would find."""
