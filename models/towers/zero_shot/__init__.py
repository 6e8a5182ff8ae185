"""Zero-shot towers: attributes in, virtual behaviour out."""
