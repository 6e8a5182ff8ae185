"""The worker: Kafka through Faust, batches, acknowledgements and dead letters."""
