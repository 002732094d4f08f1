"""Compares large CSV snapshots line by line, so that only lines that changed are parsed.

Entry point: `FastPath.find_changes`, called by `ingest/compare.py`. In order:

1. check that every line of the files is a record, and how it splits into fields          csv_layout.py
2. skip the sections that two files have in common, byte by byte                          common_lines.py
3. find the lines that only one of the files has, by their hashes                         line_diff.py
4. parse these lines, and fetch the rows of bronze that they affect                       known_lines.py

Then `FastPath.has_overlooked_rows` checks the verdicts, and `FastPath.save_faulty_lines` prepares the next comparison.
"""

from lakehouse.ingest.fast_path.known_lines import ChangedLines, FastPath

__all__ = ["ChangedLines", "FastPath"]
