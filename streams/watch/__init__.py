"""The watch: what is served, against what the active generation was trained on."""
