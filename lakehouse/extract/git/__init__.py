"""Reads the snapshots of tables from a git repository on this machine; the entry point is `source.open_history`.

1. `repository.py` runs git: the commits, the files that each changed, and the content of files. Nothing is checked out.
2. `history.py` gives each commit its time, and finds the files of a table in it. It is pure.
3. `source.py` finds the commits that have not been taken, by the commit ids in the manifests of landed snapshots.
"""
