"""Implements ways to find the changes between a stored state and a new CSV; bench/changes.py measures them."""
