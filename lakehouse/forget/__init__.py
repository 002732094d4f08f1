"""Erases all rows of a key from every layer of the lake: `lakehouse forget PIPELINE TABLE KEY`.

Entry points: `forget_key`, which lists its steps in order (forget.py), `find_key`, which shows the rows of a key,
and `lift_key`, which lets a key come again.

    data_subject.py      the data subject: whose rows are erased, and how to find them
    search.py            finds its rows in all layers that are not computed
    landing.py           finds and erases in landed files
    tables.py            the same in change sets, quarantine and bronze
    remaining_files.py   lists files of old table versions, which VACUUM removes later
"""

from lakehouse.forget.forget import find_key, forget_key, lift_key

__all__ = ["find_key", "forget_key", "lift_key"]
