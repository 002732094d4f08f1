"""The declared schema of a table, and values of declared types."""
