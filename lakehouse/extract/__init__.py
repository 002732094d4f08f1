"""Sources: each brings snapshots into the landing zone, as received.

One module a type; `files` for now. A source knows nothing of Spark, of the ledger or of what changed.
"""

from lakehouse.extract.files import Extracted, extract, peek, snapshots, source_root, source_signature

__all__ = ["Extracted", "extract", "peek", "snapshots", "source_root", "source_signature"]
