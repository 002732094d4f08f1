"""Gives access to the files of a lake, on a disk or on S3. Needs no Spark.

    paths.py          `Lake`: the paths and tables of a lake. The entry point
    file_io.py        reads and writes files, on a disk or on S3
    landing.py        the landing zone: received files, and a manifest for each snapshot
    archives.py       unpacks gzip and zip files
    prepare_files.py  unpacks and rewrites landed files, so that Spark reads them correctly
    csv_body.py       leaves out lines before and after the records of a CSV file
    json_records.py   finds the records inside JSON documents; json_text.py has the strict parser
    csv_dialect.py    the CSV options of a table, as Python's reader follows them
    delta_log.py      the version, size and commits of a Delta table
    delta_files.py    the data files and change files of a Delta table
    lock.py           the lock of a lake; on S3 with s3_lease.py
    processes.py      identifies processes by their id and start time
    private_dirs.py   this user's folder for expendable files on this machine
    temp_dirs.py      temporary folders
    spark_conf.py     the settings of the package's `*.conf` files
    s3/               objects and folders on S3

Nothing is imported here: import the module that is needed.
"""
