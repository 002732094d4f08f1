"""Ways to find what changed between a stored state and a new CSV, one module each; bench/changes.py measures them."""
