"""PostgreSQL tables as a source."""
