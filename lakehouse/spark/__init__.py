"""Provides the Spark session; the entry point is `session.get_session`.

session.py             the session, its settings, and helpers that need more than the DataFrame API
launch.py              how a new Spark is started
class_archive.py       starts it faster, with an archive of loaded classes that build_class_archive.py builds
collect.py             selects values in a form that can be collected
java.py                the Java it runs on, and versions that are refused
engine/                a JVM that stays behind for the next command: a warm engine
spark-defaults.conf    settings for any Spark that reads or writes the lake
spark-s3.conf          further settings for a lake on S3
"""
