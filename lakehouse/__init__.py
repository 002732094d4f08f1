"""Full snapshots in; change log, bronze mirror, clean silver and gold cubes out, on open-source Delta Lake."""

__version__ = "0.1.0"
