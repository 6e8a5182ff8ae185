"""Data sets: dataset folders read, checked, split, encoded."""
