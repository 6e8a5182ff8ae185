"""The ways of an erasure: a user is forgotten, in the store and in the training log. Only ports."""
