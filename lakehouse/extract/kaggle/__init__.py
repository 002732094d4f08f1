"""Reads a dataset on Kaggle as a source; the entry point is `source.open_snapshots`.

source.py      the newest version as a snapshot, and its files
api.py         the requests: the newest version, and the download of its archive
client.py      the login, timeouts and errors of Kaggle's client
progress.py    the progress bar of a download
"""
