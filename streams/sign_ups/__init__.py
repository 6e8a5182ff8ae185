"""The way of a sign-up: `way` from top to bottom, over the rows of `rows`."""

from streams.sign_ups.way import SignUps

__all__ = ["SignUps"]
