"""In-memory forms of all ports, for tests and small trials."""
