"""Co-training of both towers: the paper's Algorithm 1."""
