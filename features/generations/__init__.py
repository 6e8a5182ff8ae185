"""Generations in Redis: their records, the pointer to the active one, the lease and the progress of a refresh."""
