"""The online store: features of users behind the `OnlineStore` port."""
