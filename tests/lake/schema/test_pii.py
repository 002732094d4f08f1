"""Personal columns: nothing plain gets past landing, and what is kept of them is compared like any other value."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import polars as pl
import pytest
from helpers import Project, Row, nonzero_counts
from pyspark.sql import SparkSession
from traces import find_words

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
KEY, OTHER_KEY = "first-key-" + "k" * 32, "second-key-" + "q" * 32
SCHEMA = "id STRING, email STRING, phone BIGINT, password STRING, qty INT"
PII = {"id": "hmac", "email": "hmac", "phone": "mask", "password": "drop"}
HEADER = "id,email,phone,password,qty,nick\n"
# What only landing may hold: whatever a row does, its personal values look like nobody else's.
WORDS = [f"zz{what}" for what in ("id", "mail", "pass", "nick")] + ["990011"]


def row(name: str, qty: object = 1, email: str | None = None, phone: str = "990011") -> str:
    mail = f"zzmail.{name}@example.org" if email is None else email
    return f"zzid{name},{mail},{phone},zzpass{name},{qty},zznick{name}\n"


def hashed(value: str, key: str = KEY) -> str:
    return hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()


def values(project: Project, name: str) -> Row:
    (found,) = [r for r in project.rows("bronze/items") if r["id"] == hashed(f"zzid{name}")]
    return found


def assert_nothing_plain(project: Project) -> None:
    assert find_words(project.lake, [*WORDS, KEY, KEY.encode().hex()], skipped_folders=["landing"]) == []
    assert find_words(project.lake / "landing", WORDS)  # the search finds them where they are


def failed(project: Project) -> list[str]:
    return [f"{c['what']}: {c['figures']}" for c in project("verify").document["checks"] if c["result"] == "failed"]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", KEY)


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One snapshot with every kind of row that is refused, and a model over the rest."""
    models = {
        "silver.items": (
            "SELECT i.id AS id, i.email AS email, i.phone AS phone FROM bronze.items AS i",
            {"keys": ["id"]},
        )
    }
    project = Project(tmp_path_factory.mktemp("base"), models=models)
    project.configure(schema=SCHEMA, pii=PII, duplicates="quarantine", guard={"max_quarantined": 1, "max_deleted": 1})
    broken = "zzidragged,zzmail.ragged@example.org,990011\n"
    doubled = row("twice", 1) + row("twice", 2)
    rows = row("a") + row("b", email="", phone="") + row("c", "7x") + row("d", phone="990011x") + f",{row('e')[6:]}"
    project.snapshot(FIRST, items=HEADER + rows + broken + doubled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_PII_KEY", KEY)
        assert project.run().code == 0
    return project


@pytest.fixture
def shop(base: Project, tmp_path: Path) -> Project:
    return base.copy(tmp_path / "shop")


def test_nothing_plain_is_written_outside_landing_whatever_a_row_has_wrong(base: Project) -> None:
    assert nonzero_counts(base.ledger()[-1]) == {"rows_read": 8, "inserted": 2, "quarantined": 6}
    assert values(base, "a") == {
        "id": hashed("zzida"),
        "email": hashed("zzmail.a@example.org"),
        "phone": "***",
        "qty": 1,
    }
    assert values(base, "b") == {"id": hashed("zzidb"), "email": None, "phone": None, "qty": 1}
    assert_nothing_plain(base)
    assert failed(base) == []


def test_a_refused_row_is_shown_by_what_may_be_kept_of_it_and_by_its_line(base: Project) -> None:
    shown = {(q["rule"], q["column"], q["line"]): q for q in base.quarantine()}
    assert shown.keys() == {
        ("malformed", "qty", 4),
        ("malformed", "phone", 5),
        ("null_key", "id", 6),
        ("malformed", None, 7),
        ("duplicate_key", "id", 8),
        ("duplicate_key", "id", 9),
    }
    phone = shown["malformed", "phone", 5]
    kept = {"id": hashed("zzidd"), "email": hashed("zzmail.d@example.org"), "phone": "***", "qty": "1"}
    assert (phone["value"], phone["reason"], json.loads(phone["row"])) == ("***", "phone: not a BIGINT", kept)
    assert shown["malformed", None, 7]["row"] == "***"
    assert shown["malformed", "qty", 4]["value"] == "7x"  # not personal


def test_diff_shows_and_updates_are_judged_by_what_is_kept(shop: Project) -> None:
    """Another phone or password is no change; a phone where there was none is one, and so is another mail."""
    rows = row("a", phone="990012").replace("zzpassa", "zzpassother") + row(
        "b", email="zzmail.new@example.org", phone="990011"
    )
    shop.snapshot(SECOND, items=HEADER + rows + row("f"))
    shown = shop("diff")
    assert shown.document["tables"][0]["columns"] == {"email": 1, "phone": 1}
    assert found_in(shown.document) == []
    assert shop.run().code == 0
    entry = shop.ledger()[-1]
    assert nonzero_counts(entry) == {"rows_read": 3, "inserted": 1, "updated": 1, "unchanged": 1}
    (updated,) = [r for r in shop.change_set(entry) if r["_cdc_operation"] == "U"]
    assert updated["_cdc_changed"] == ["email", "phone"]
    assert_nothing_plain(shop)
    assert failed(shop) == []


def found_in(document: Row) -> list[str]:
    return [word for word in WORDS if word in json.dumps(document)]


def test_no_message_and_no_decision_shows_a_value(shop: Project) -> None:
    """Neither of a file without its header, nor of conflicting keys, nor of rows that may not be malformed."""
    shop.snapshot(SECOND, items=row("a") + row("b"))
    shop.snapshot(THIRD, items=HEADER + row("a", 1) + row("a", 2))
    shop.configure(duplicates="fail")
    told = shop.run()
    shop.configure(malformed="fail")
    shop.snapshot("20250104_000000", items=HEADER + row("a", phone="990011x"))
    more = shop.run()
    assert (told.code, more.code) == (5, 5)
    reasons = [entry["reason"] for entry in shop.ledger()[-3:]]
    assert "no column id" in reasons[0] and "6 names, not shown" in reasons[0]
    assert hashed("zzida") in reasons[1]
    assert "'***': phone: not a BIGINT" in reasons[2]
    assert [w for w in WORDS if w in f"{told.stderr}{told.document}{more.stderr}{more.document}"] == []
    assert_nothing_plain(shop)


@pytest.mark.parametrize("file_format", ["json", "parquet"])
def test_json_and_parquet_keep_no_more_than_csv(tmp_path: Path, file_format: str) -> None:
    project = Project(tmp_path)
    project.configure(file=f"items.{file_format}", format=file_format, schema=SCHEMA, pii=PII)
    a = {
        "id": "zzida",
        "email": "zzmail.a@example.org",
        "phone": 990011,
        "password": "zzpassa",
        "qty": 1,
        "nick": "zznicka",
    }
    b = a | {"id": "zzidb", "email": None, "phone": None}
    c = a | {"id": None}
    folder = project.source / FIRST
    folder.mkdir()
    if file_format == "parquet":
        pl.DataFrame([a, b, c]).write_parquet(folder / "items.parquet")
    else:
        lines = [json.dumps(a), json.dumps(b), json.dumps(a | {"id": "zzidc", "qty": "x"}), '{"id": "zzidbroken']
        (folder / "items.json").write_text("\n".join([*lines, json.dumps(a | {"id": "zzidd", "zznick.e@x.org": 1})]))
        project.configure(guard={"max_quarantined": 1})
    done = project.run()
    assert done.code == 0, done.document
    assert values(project, "a") == {"id": hashed("zzida"), "email": hashed(a["email"]), "phone": "***", "qty": 1}
    assert values(project, "b")["email"] is None
    assert found_in(done.document) == []
    assert_nothing_plain(project)


def test_without_a_key_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEHOUSE_PII_KEY")
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.configure(schema=SCHEMA, pii=PII)
    for verb in ("validate", "run"):
        refused = project(verb)
        assert refused.code == 2
        assert "LAKEHOUSE_PII_KEY" in refused.error["found"]
    assert not project.lake.exists()


def test_another_key_is_refused_until_everything_is_taken_anew_by_it(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.snapshot(SECOND, items=HEADER + row("a", 5) + row("g"))
    assert shop.run().code == 0
    before = shop.ledger()
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", OTHER_KEY)
    refused = shop.run()
    assert refused.code == 2
    note = refused.outcome("ingest", "items")["note"]
    assert "id has another key; email has another key" in note
    assert "lakehouse ingest PIPELINE items --full-refresh" in note
    assert OTHER_KEY not in note and KEY not in note
    assert shop.ledger() == before

    assert shop("ingest", "items", "--full-refresh").code == 0
    assert shop.run().code == 0
    assert [r["id"] for r in shop.rows("silver/items")] == sorted(hashed(f"zzid{n}", OTHER_KEY) for n in "ag")
    taken = [(e["sequence"], e["status"], nonzero_counts(e)) for e in shop.ledger()]
    assert taken == [(e["sequence"], e["status"], nonzero_counts(e)) for e in before]
    assert find_words(shop.lake, [hashed("zzida"), hashed("zzidb")], skipped_folders=["landing", "silver"]) == []
    assert failed(shop) == []
    assert shop.run().document["nothing_new"]


def test_columns_named_personal_later_leave_raw_where_everything_is_taken_anew(tmp_path: Path) -> None:
    """Also where bronze is gone, so that it would be built again from plain change sets."""
    project = Project(tmp_path)
    project.configure(schema=SCHEMA)
    project.snapshot(FIRST, items=HEADER + row("a") + row("b", "x"))
    assert project.run().code == 0
    project.configure(pii=PII)
    for stage, command in (("ingest", ["ingest"]), ("bronze", ["bronze", "--full-refresh"])):
        refused = project(*command)
        assert refused.code == 2
        told = refused.outcome(stage, "items")["note"]
        assert "email is plain, now hmac" in told and "phone is plain, now mask" in told
        assert "password is plain, now drop" in told and "ingest PIPELINE items --full-refresh" in told
    assert project("ingest", "items", "--full-refresh").code == 0
    assert project.run().code == 0
    assert values(project, "a")["email"] == hashed("zzmail.a@example.org")
    assert_nothing_plain(project)
