"""Streams: the sign-up way and the behaviour way, on Kafka through Faust."""
