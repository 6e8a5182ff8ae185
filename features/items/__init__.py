"""Items that were registered, where every process finds them."""
