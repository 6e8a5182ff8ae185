"""Ranking towers: embeddings in, logits out."""
