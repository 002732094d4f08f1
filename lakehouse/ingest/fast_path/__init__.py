"""The fast path of large CSV files."""
