"""The Spark session, and the settings it has (*.conf)."""
