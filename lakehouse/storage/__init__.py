"""Files of a lake, on a disk or on S3: paths, landed snapshots, the lock, Delta's log. Needs no Spark."""
