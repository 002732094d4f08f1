"""Kaggle datasets as a source."""
