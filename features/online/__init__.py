"""The online store: features of users behind the `OnlineStore` port, through Feast's API or in Redis directly."""
