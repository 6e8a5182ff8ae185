"""Attribute effects: what each attribute value says of each item, fitted on counts."""
