"""Redis as this project reaches it: addresses, many commands in one round trip, walks over keys."""
