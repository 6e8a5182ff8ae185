"""What refreshed generations are worth to new users: a dataset replayed week by week."""
