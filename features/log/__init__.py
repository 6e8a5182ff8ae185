"""The training log: events of rankings and behaviours, by day."""
