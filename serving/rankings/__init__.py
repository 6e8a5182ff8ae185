"""The ranking way: from users and candidates to ordered lists, and what is noted of them."""
