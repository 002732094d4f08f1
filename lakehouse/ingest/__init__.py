"""From landed snapshots to change sets."""
