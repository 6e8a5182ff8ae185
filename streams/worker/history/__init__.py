"""What topics hold, read beside the workers."""
