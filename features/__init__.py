"""Features: the online store (Feast on Redis) and the generation pointer."""
