"""Verbs that only read: `status` and `history` (status.py), `diff` (diff.py)."""
