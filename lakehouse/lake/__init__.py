"""Reads and writes the tables of the lake. All stages use these modules, and import them by name.

table_ref.py        `TableRef`: one table of a pipeline, with the session and the lake that it is worked on with
delta.py            Delta tables by address: read, create, append, progress in commits
merge.py            `merge_to_match`: makes a Delta table equal to the wanted rows, by one MERGE
small_tables.py     reads small tables in the driver, without a Spark query
local_diff.py       compares rows in the driver
local_writer.py     writes small tables from the driver, with delta-rs
cached_rows.py      rows that several queries read, and the value ranges that let queries skip files
ledger.py           the ledger: one row for every decision about a snapshot
usual_range.py      the usual figures of a table's snapshots, by its ledger
change_sets.py      the rows that a snapshot inserts, updates and deletes
quarantine.py       rejected rows, of tables and of models
slices.py           the slices that a snapshot contains; slice_columns.py: the slice of a row
grace.py            the rule of `missing`: keys that a snapshot lacks; marked_rows.py: bronze without the rows it marks
hashes.py           the hashes by which rows are compared
row_id.py           the hash that identifies a row of a table without a key
forgotten_keys.py   keys that no snapshot may bring back
cdc.py              names of columns, operations and commit keys
"""
