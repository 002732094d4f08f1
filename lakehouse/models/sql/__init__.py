"""The SQL of models, read without Spark."""
