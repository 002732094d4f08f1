"""Contains the commands that only read the lake.

status.py   `status`, `history`, `quarantine`, and `as_of`      disk_usage.py   the storage part of `status`
diff.py     `diff`                                              diff_samples.py, json_rows.py   its counts and rows
"""
