"""Bronze: each table's current state or history."""
