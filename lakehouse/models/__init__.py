"""Models: silver and gold."""
