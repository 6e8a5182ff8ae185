"""Swaps of generations under ranking requests and sign-ups."""
