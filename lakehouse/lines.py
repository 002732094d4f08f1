"""The fast path of a comparison: lines of CSV that stood in the last accepted snapshot are never parsed again.

For each row of bronze the hash of its line in that snapshot is kept, with its keys, under `_state/lines/<table>`: a
cache, which may be deleted at any time. Of the next snapshot only the lines without a known hash are read, and only
the rows of bronze that they, or hashes without a line, concern are compared: by the same functions as always
(changes.py), on less.

Most lines are not even looked up: a bucket of some twenty lines with the digest it had holds the lines it had.

Sound only while equal lines mean equal rows (no record spans lines; header, dialect, schema as they were), while a
known line is the only one of its key, and while bronze is what the cache was made from. Each is checked; in doubt there
is no fast path.

    settled   lines that are a row of bronze: good, and the only one of their key
    orphans   keys that may be in bronze without such a line: one of theirs is in quarantine, or doubled
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from lakehouse import changes, snapshot
from lakehouse.config import Table, fingerprint_config
from lakehouse.lake import Lake, write_json
from lakehouse.landing import Landed
from lakehouse.ledger import Entry
from lakehouse.session import SMALL_BYTES
from lakehouse.snapshot.csv_lines import Layout
from lakehouse.snapshot.fields import Read, literal

LEAST_BYTES = SMALL_BYTES  # below, everything is read anew: it takes no longer
_TEXT, _HASH = "_cdc_line", ["_cdc_line_1", "_cdc_line_2"]
_NEW, _GONE = f"{_TEXT} IS NOT NULL", f"{_TEXT} IS NULL"
_SEEDS = (42, -7046029254386353131)
_STAMP = "known.json"
_BUCKETS, _RESTLESS = "_cdc_bucket", "_restless"
_DIGEST = [_BUCKETS, "_lines", *(f"_xor{h}" for h in _HASH)]
_BUCKET, _LEAST_BITS = 20, 4
_MOST_PARTS = 8
_MOST_BROADCAST = 400_000  # keys that every task may hold
_WORTH_REWRITING = 0.2  # of the settled lines


@dataclass(frozen=True)
class Known:
    """What is known of the last accepted snapshot's lines.

    Attributes:
        of: sequence, fingerprint and run of the ledger's row that it belongs to.
        layout: of the files, and all else by which a line becomes a row.
        live: rows of bronze.
        settled: lines.
        bits: of a line's hash, by which lines are put into buckets.
        changed: lines added or gone since `parts[0]` was written.
        parts: folders, oldest first: the settled lines, then what each snapshot since added and took away.
    """

    of: list[int | str | None]
    layout: str
    live: int
    settled: int
    bits: int
    changed: int
    parts: list[str]


@dataclass(frozen=True)
class Unknown:
    """What is left to compare.

    Attributes:
        read: the lines that are not known.
        state: the rows of bronze that these, or lines that are gone, concern.
        same: rows of the snapshot that are in bronze as they stand.
        digest: of all its buckets.
        lines: that are not known, or known and gone (without text); held until `release`.
        known: from which this was made.
    """

    read: Read
    state: DataFrame
    same: int
    lines: DataFrame
    digest: DataFrame
    known: Known

    def release(self) -> None:
        for held in (self.lines, self.digest, self.state):
            held.unpersist()


@dataclass(frozen=True)
class Lines:
    """The cache of one table."""

    spark: SparkSession
    lake: Lake
    name: str
    table: Table
    zone: str

    def unknown(self, landed: Landed, last: Entry | None, state: DataFrame) -> Unknown | None:
        """What of a snapshot has to be compared with bronze's `state`; None: all of it, there is no fast path.

        Args:
            last: the last accepted row of the ledger; `state` is bronze with it.
        """
        known, layout = self._load(), self._layout(landed)
        if known is None or layout is None or known.layout != self._told(layout):
            return None
        if last is None or known.of != _of(last):
            return None
        digest = self._digest(landed, known.bits).persist(StorageLevel.MEMORY_AND_DISK)
        lines, new, gone, doubled = self._unmatched(landed, known, digest)
        text = F.col(_TEXT)
        headers = lines.where(layout.is_header(text)).count()
        if doubled or headers != len(landed.files) * bool(layout.header):
            lines.unpersist()  # a known line stands there twice, or a row looks like the header
            digest.unpersist()
            return None
        texts = lines.where(_NEW).where(~layout.is_header(text) & ~layout.is_blank(text)).select(_TEXT)
        read = snapshot.read_lines(self.spark, self.table, landed, self.zone, texts)
        keys = self.table.keys
        ours = lines.where(_GONE).select(*keys)
        if (orphans := self._part(known.parts[-1], "orphans")) is not None:
            ours = ours.unionByName(orphans)
        theirs = read.rows.where(F.col(snapshot.KEY) == "read").select(*keys)
        touched = ours.unionByName(theirs)
        touched = F.broadcast(touched) if new + gone <= _MOST_BROADCAST else touched
        few = state.join(touched, on=keys, how="left_semi")
        state = few.persist(StorageLevel.MEMORY_AND_DISK)
        found = Unknown(read, state, known.settled - gone, lines, digest, known)
        if not found.state.join(ours, on=keys, how="left_anti").isEmpty():
            found.release()  # a new line has the key of a known one that stays: the two have to be compared
            return None
        return found

    def remember(
        self, landed: Landed, entry: Entry, verdicts: DataFrame, state: DataFrame, unknown: Unknown | None
    ) -> None:
        """Keep the lines of a snapshot that is about to be accepted as `entry`.

        Args:
            state: what it was compared with: all of bronze, or what `unknown` left to compare.
        """
        folder, layout = self._folder(), self._layout(landed)
        if layout is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        part = f"{entry.sequence}_{entry.run_id}"
        shutil.rmtree(folder / part, ignore_errors=True)
        if unknown:
            known = self._continued(unknown, layout, entry, verdicts, part)
        else:
            known = self._begun(landed, layout, entry, verdicts, part)
        live = (unknown.known.live if unknown else state.count()) + (entry.inserted or 0) - (entry.deleted or 0)
        orphans = self._part(part, "orphans")
        if not known.settled <= live <= known.settled + (orphans.count() if orphans is not None else 0):
            shutil.rmtree(folder, ignore_errors=True)  # some lines are not what they seem
            return
        known = replace(known, live=live)
        if len(known.parts) > _MOST_PARTS or known.changed > _WORTH_REWRITING * known.settled:
            known = self._rewritten(known)
        write_json(folder / _STAMP, asdict(known))
        for old in folder.iterdir():
            if old.is_dir() and old.name not in known.parts:
                shutil.rmtree(old)

    def _layout(self, landed: Landed) -> Layout | None:
        """How the files' lines become fields; None where that takes more than the line itself, or is not worth it."""
        if self.table.format != "csv" or landed.size < LEAST_BYTES:
            return None
        return Layout.of(self.table, snapshot.schema(self.table), landed)

    def _told(self, layout: Layout) -> str:
        """All by which a line becomes a row, and rows are compared."""
        return json.dumps([layout.header, fingerprint_config(self.table, self.zone)])

    def _load(self) -> Known | None:
        try:
            known = Known(**json.loads((self._folder() / _STAMP).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None  # none was written, or by another version
        whole, *later = known.parts
        there = [(whole, "added"), (known.parts[-1], "digest"), *((p, w) for p in later for w in ("added", "gone"))]
        return known if all((self._folder() / part / what / "_SUCCESS").exists() for part, what in there) else None

    def _begun(self, landed: Landed, layout: Layout, entry: Entry, verdicts: DataFrame, part: str) -> Known:
        """All lines anew."""
        lines = self._hashed(landed)
        settled = self._add(lines, layout, entry, verdicts, part)
        bits = max(_LEAST_BITS, (settled // _BUCKET).bit_length())
        known = Known(_of(entry), self._told(layout), 0, settled, bits, 0, [part])
        ours = self._bucketed(self._known_lines(known), bits).groupBy(_BUCKETS).agg(F.count("*").alias("_settled"))
        digest = self._digest(landed, bits).join(ours, on=_BUCKETS, how="left")
        self._write(
            digest.select(*_DIGEST, (F.col("_lines") - F.coalesce("_settled", F.lit(0))).alias(_RESTLESS)),
            part,
            "digest",
        )
        return known

    def _continued(self, unknown: Unknown, layout: Layout, entry: Entry, verdicts: DataFrame, part: str) -> Known:
        """What a snapshot added to the known lines, and took away."""
        before, lines = unknown.known, unknown.lines
        new = lines.where(_NEW)
        settled = self._add(new, layout, entry, verdicts, part)
        gone = self._write(lines.where(_GONE).select(*_HASH), part, "gone")
        added = self._part(part, "added")
        assert added is not None
        restless = self._bucketed(new.join(added, on=_HASH, how="left_anti"), before.bits)
        counted = F.broadcast(restless.groupBy(_BUCKETS).agg(F.count("*").alias(_RESTLESS)))
        digest = unknown.digest.join(counted, on=_BUCKETS, how="left")
        self._write(digest.select(*_DIGEST, F.coalesce(_RESTLESS, F.lit(0)).alias(_RESTLESS)), part, "digest")
        return Known(
            _of(entry),
            self._told(layout),
            0,
            before.settled - gone + settled,
            before.bits,
            before.changed + gone + settled,
            [*before.parts, part],
        )

    def _add(self, lines: DataFrame, layout: Layout, entry: Entry, verdicts: DataFrame, part: str) -> int:
        """Keep which of `lines` are settled, and the keys that are not."""
        added, unsettled = self._settled(lines, layout), changes.unsettled(verdicts, self.table)
        if (entry.quarantined or 0) + (entry.duplicates or 0):
            self._write(unsettled, part, "orphans")
            added = added.join(unsettled, on=self.table.keys, how="left_anti")
        return self._write(added, part, "added")

    def _unmatched(self, landed: Landed, known: Known, digest: DataFrame) -> tuple[DataFrame, int, int, bool]:
        """Lines that are not known, and known ones that are gone; how many of each; whether known ones are doubled."""
        then = self._part(known.parts[-1], "digest")
        assert then is not None
        both = digest.alias("n").join(then.alias("t"), on=_BUCKETS, how="full")
        same = [F.col(f"n.{c}").eqNullSafe(F.col(f"t.{c}")) for c in _DIGEST[1:]]
        differ = both.where(~reduce(Column.__and__, same) | (F.col(_RESTLESS) > 0))
        some = differ.select(_BUCKETS, F.col("n._lines").alias("now"), F.col("t._lines").alias("then"), _RESTLESS)
        some = some.persist(StorageLevel.MEMORY_AND_DISK)
        now, before, restless = some.agg(
            *[F.coalesce(F.sum(c), F.lit(0)) for c in ("now", "then", _RESTLESS)]
        ).collect()[0]
        buckets = F.broadcast(some.select(_BUCKETS))
        here = self._bucketed(self._hashed(landed), known.bits).join(buckets, on=_BUCKETS, how="left_semi")
        there = self._bucketed(self._known_lines(known), known.bits).join(buckets, on=_BUCKETS, how="left_semi")
        there = there.drop(_BUCKETS).withColumn("_cdc_known", F.lit(True))
        # Hashing one side in memory spares sorting both.
        matched = here.drop(_BUCKETS).join(there.hint("shuffle_hash"), on=_HASH, how="full")
        lines = matched.where(F.expr(_GONE) | F.col("_cdc_known").isNull()).drop("_cdc_known")
        lines = lines.persist(StorageLevel.MEMORY_AND_DISK)
        new, gone = lines.agg(F.count(_TEXT), F.count_if(F.expr(_GONE))).collect()[0]
        some.unpersist()
        return lines, new, gone, now - new != before - restless - gone

    def _digest(self, landed: Landed, bits: int) -> DataFrame:
        """A row a bucket: how many lines, and their hashes as one. Doubled lines cancel out; they are never settled."""
        lines = self._bucketed(self._hashed(landed), bits).groupBy(_BUCKETS)
        return lines.agg(F.count("*").alias("_lines"), *[F.bit_xor(h).alias(f"_xor{h}") for h in _HASH])

    def _bucketed(self, lines: DataFrame, bits: int) -> DataFrame:
        return lines.withColumn(_BUCKETS, F.shiftright(_HASH[0], 64 - bits))

    def _hashed(self, landed: Landed) -> DataFrame:
        lines = self.spark.read.text([literal(path) for path in landed.paths]).toDF(_TEXT)
        return lines.select("*", *[F.xxhash64(F.lit(s), _TEXT).alias(h) for s, h in zip(_SEEDS, _HASH, strict=True)])

    def _known_lines(self, known: Known) -> DataFrame:
        whole, *later = known.parts
        lines = self._part(whole, "added")
        assert lines is not None
        for part in later:
            if (gone := self._part(part, "gone")) is not None:
                lines = lines.join(gone, on=_HASH, how="left_anti")
            if (added := self._part(part, "added")) is not None:
                lines = lines.unionByName(added)
        return lines

    def _settled(self, lines: DataFrame, layout: Layout) -> DataFrame:
        """Lines with as many fields as the header and a key, by their hashes and keys."""
        text = F.col(_TEXT)
        whole, keys = lines.where(layout.is_whole(text)), layout.values(text, self.table.keys, self.zone)
        keyed = whole.select(*_HASH, *[value.alias(name) for name, value in keys.items()])
        return keyed.where(reduce(Column.__and__, [F.col(k).isNotNull() for k in self.table.keys]))

    def _rewritten(self, known: Known) -> Known:
        """All parts as one."""
        newest = known.parts[-1]
        part = f"{newest}_whole"
        shutil.rmtree(self._folder() / part, ignore_errors=True)
        self._write(self._known_lines(known), part, "added")
        for what in ("orphans", "digest"):
            if (rows := self._part(newest, what)) is not None:
                self._write(rows, part, what)
        return replace(known, changed=0, parts=[part])

    def _write(self, rows: DataFrame, part: str, what: str) -> int:
        written = Observation()
        rows.observe(written, F.count("*").alias("rows")).write.parquet(str(self._folder() / part / what))
        return int(written.get["rows"])

    def _part(self, part: str, what: str) -> DataFrame | None:
        path = self._folder() / part / what
        return self.spark.read.parquet(literal(path)) if path.is_dir() else None

    def _folder(self) -> Path:
        return self.lake.state("lines", self.name)


def _of(entry: Entry) -> list[int | str | None]:
    """Which row of the ledger this is."""
    return [entry.sequence, entry.fingerprint, entry.run_id]
