"""Gives access to S3: `S3Path`, which has the methods of `pathlib.Path` and conditional writes.

    client.py     the boto3 client, and the settings of Spark for the same store
    request.py    the translation of failed requests to errors of this project
    path.py       objects and folders

boto3 is imported at the first request, so that a lake on a disk does not need it.
"""

from lakehouse.storage.s3.client import SCHEME, client, spark_settings
from lakehouse.storage.s3.path import S3Object, S3Path
from lakehouse.storage.s3.request import WriteConflict

__all__ = ["SCHEME", "S3Object", "S3Path", "WriteConflict", "client", "spark_settings"]
