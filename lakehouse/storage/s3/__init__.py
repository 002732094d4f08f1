"""Places on S3, as far as the lake needs them: what `pathlib.Path` is on a disk, and conditional writes.

    client.py     whom to ask, by the AWS tools' rules (environment, profile, role), for boto3 and for Spark alike
    asking.py     a request, and what becomes of one that is refused, or fails
    path.py       objects and folders

boto3 is imported with the first request, so that who has no lake on S3 needs none.
"""

from lakehouse.storage.s3.client import SCHEME, client, spark_settings
from lakehouse.storage.s3.path import S3Object, S3Path
from lakehouse.storage.s3.request import WriteConflict

__all__ = ["SCHEME", "S3Object", "S3Path", "WriteConflict", "client", "spark_settings"]
