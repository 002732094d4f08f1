"""Contains the commands that only read the lake.

status.py   `status`, `history`, `quarantine`, and `time_travel`   disk_usage.py, attention.py   parts of `status`
query.py    `show` and `sql`                                    plain_value.py   their values, as JSON has them
diff.py     `diff`                                              diff_samples.py, json_rows.py   its counts and rows
                                                                last_change.py   its content if nothing is new
                                                                between.py, at_time.py   of the lake at two times
model_tests.py   `test`                                         cases.py, cut_case.py   its files, and new ones
"""
