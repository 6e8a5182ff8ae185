"""How a worker is: whether it takes what waits for it, and where others ask that."""
