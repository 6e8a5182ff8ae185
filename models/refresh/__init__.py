"""The learning way: from the training log to the generation that serves."""
