"""Erases all rows of a key from every layer of the lake: `lakehouse forget PIPELINE TABLE KEY`.

Entry points: `forget_key`, which lists its steps in order (forget.py), and `lift_key`, which lets a key come again.

    data_subject.py      the data subject: whose rows are erased, and how to find them
    landing.py           erases from landed files
    tables.py            erases from change sets, quarantine and bronze
    remaining_files.py   lists files of old table versions, which VACUUM removes later
"""

from lakehouse.forget.forget import forget_key, lift_key

__all__ = ["forget_key", "lift_key"]
