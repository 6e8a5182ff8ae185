"""The two towers of MAIL as torch modules: embeddings in, vectors or logits out. No loss and no serving code here."""
