"""The training log as training reads it: a window of rankings joined with their outcomes."""
