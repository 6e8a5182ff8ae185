"""Foretaste: a taste profile for a new user before the first click."""
