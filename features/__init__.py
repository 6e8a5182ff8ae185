"""Features: users in any online store of Feast's, the training log in its offline store, generations in Redis."""
