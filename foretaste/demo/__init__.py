"""The demo: real users sign up through Kafka, are enriched, and are ranked, with every figure taken live."""
