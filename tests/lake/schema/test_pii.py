"""Personal columns: no plain value is written outside landing, and protected values are compared like any other."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import polars as pl
import pytest
from helpers import Project, Row, nonzero_counts
from pyspark.sql import SparkSession
from text_search import find_words

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
KEY, OTHER_KEY = "first-key-" + "k" * 32, "second-key-" + "q" * 32
SCHEMA = "id STRING, email STRING, phone BIGINT, password STRING, qty INT"
PII = {"id": "hmac", "email": "hmac", "phone": "mask", "password": "drop"}
HEADER = "id,email,phone,password,qty,nick\n"
# Parts of the personal values, which only landing may contain; they occur nowhere else.
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
    assert find_words(project.lake / "landing", WORDS)  # shows that the search works


def failed(project: Project) -> list[str]:
    return [f"{c['what']}: {c['figures']}" for c in project("verify").document["checks"] if c["result"] == "failed"]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", KEY)


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One snapshot with every kind of rejected row, and a model over the others."""
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


def test_no_plain_value_is_written_outside_landing_whatever_is_wrong_with_a_row(base: Project) -> None:
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


def test_a_rejected_row_is_shown_with_protected_values_and_its_line(base: Project) -> None:
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


def test_diff_and_updates_compare_protected_values(shop: Project) -> None:
    """Another phone or password is no change; a phone instead of null is one, and so is another mail."""
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


def test_no_message_and_no_reason_shows_a_value(shop: Project) -> None:
    """With a file without its header, conflicting keys, and malformed rows under `malformed: fail`."""
    shop.snapshot(SECOND, items=row("a") + row("b"))
    shop.snapshot(THIRD, items=HEADER + row("a", 1) + row("a", 2))
    shop.configure(duplicates="fail")
    first = shop.run()
    shop.configure(malformed="fail")
    shop.snapshot("20250104_000000", items=HEADER + row("a", phone="990011x"))
    second = shop.run()
    assert (first.code, second.code) == (5, 5)
    reasons = [entry["reason"] for entry in shop.ledger()[-3:]]
    assert "no column id" in reasons[0] and "6 names, not shown" in reasons[0]
    assert "different content, such as in lines 2, 3" in reasons[1]
    assert "such as in line 2: phone: not a BIGINT (malformed)" in reasons[2]
    output = f"{first.stderr}{first.document}{second.stderr}{second.document}"
    assert [word for word in WORDS if word in output] == []
    assert_nothing_plain(shop)


@pytest.mark.parametrize("file_format", ["json", "parquet"])
def test_json_and_parquet_are_protected_like_csv(tmp_path: Path, file_format: str) -> None:
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


def test_without_a_key_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEHOUSE_PII_KEY")
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.configure(schema=SCHEMA, pii=PII)
    for verb in ("validate", "run"):
        rejected = project(verb)
        assert rejected.code == 2
        assert "LAKEHOUSE_PII_KEY" in rejected.error["found"]
    assert not project.lake.exists()


def test_another_key_is_rejected_until_a_full_refresh(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.snapshot(SECOND, items=HEADER + row("a", 5) + row("g"))
    assert shop.run().code == 0
    before = shop.ledger()
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", OTHER_KEY)
    rejected = shop.run()
    assert rejected.code == 2
    note = rejected.outcome("ingest", "items")["note"]
    assert "id has another key; email has another key" in note
    assert f"lakehouse ingest {shop.pipeline} items --full-refresh" in note
    assert OTHER_KEY not in note and KEY not in note
    assert shop.ledger() == before

    assert shop("ingest", "items", "--full-refresh").code == 0
    assert shop.run().code == 0
    assert [r["id"] for r in shop.rows("silver/items")] == sorted(hashed(f"zzid{n}", OTHER_KEY) for n in "ag")
    after = [(e["sequence"], e["status"], nonzero_counts(e)) for e in shop.ledger()]
    assert after == [(e["sequence"], e["status"], nonzero_counts(e)) for e in before]
    assert find_words(shop.lake, [hashed("zzida"), hashed("zzidb")], skipped_folders=["landing", "silver"]) == []
    assert failed(shop) == []
    assert shop.run().document["nothing_new"]


def test_a_full_refresh_removes_plain_values_of_columns_that_became_personal(tmp_path: Path) -> None:
    """A rebuild of bronze alone is rejected, because it would use the plain change sets."""
    project = Project(tmp_path)
    project.configure(schema=SCHEMA)
    project.snapshot(FIRST, items=HEADER + row("a") + row("b", "x"))
    assert project.run().code == 0
    project.configure(pii=PII)
    for stage, command in (("ingest", ["ingest"]), ("bronze", ["bronze", "--full-refresh"])):
        rejected = project(*command)
        assert rejected.code == 2
        note = rejected.outcome(stage, "items")["note"]
        assert "email is plain, now hmac" in note and "phone is plain, now mask" in note
        assert "password is plain, now drop" in note and f"ingest {project.pipeline} items --full-refresh" in note
    assert project("ingest", "items", "--full-refresh").code == 0
    assert project.run().code == 0
    assert values(project, "a")["email"] == hashed("zzmail.a@example.org")
    assert_nothing_plain(project)
