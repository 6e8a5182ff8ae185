"""How fast sign-ups become readable virtual behaviour."""
