"""Provides the Spark session; the entry point is `session.get_session`.

session.py             the session, its settings, and helpers that need more than the DataFrame API
java.py                the Java that Spark runs on, and versions that are refused
spark-defaults.conf    settings for any Spark that reads or writes the lake
spark-s3.conf          further settings for a lake on S3
"""
