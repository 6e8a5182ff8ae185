"""Evaluation: metrics with intervals, the offline evaluation, the gate and the profile of a generation."""
