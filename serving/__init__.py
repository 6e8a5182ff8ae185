"""Serving: the ranking way and its HTTP API."""
