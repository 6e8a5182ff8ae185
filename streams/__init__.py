"""Streams: what is done with the events of Kafka, by workers, the training log and the watch; on Faust or aiokafka."""
