"""Erases a key from every place of the lake."""
