"""The advice of messages (`next`) is right: each is provoked, followed as it is written, and the command then succeeds.

Here is what the configuration, the models' SQL, the source and the command line refuse. tests/lake/test_advice.py has
what needs a lake. `test_every_advice_is_followed_by_a_test` keeps tests/advice_list.py complete.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from advice_list import COVERED, NOT_FOLLOWED

from lakehouse.cli import main

REPOSITORY = Path(__file__).parents[2]
SCHEMA = "id STRING, qty INT, price DOUBLE, tags ARRAY<STRING>, shop STRING"
GOOD = "SELECT t.id AS id, t.qty AS qty FROM bronze.items AS t"


@dataclass
class Shop:
    """A valid pipeline, whose files a test changes."""

    folder: Path
    document: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        table = {"file": "items.json", "format": "json", "schema": SCHEMA, "keys": ["id"]}
        source = {"type": "files", "path": str(self.folder / "source")}
        self.document = {"name": "shop", "lake": str(self.folder / "lake"), "source": source}
        self.document |= {"tables": {"items": table}, "silver": {"items": {"keys": ["id"]}}}
        self.deliver("20250101_000000")
        self.model("items", GOOD)

    def deliver(self, name: str, content: str = '{"id":"a"}\n') -> None:
        (self.folder / "source" / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "source" / name / "items.json").write_text(content, encoding="utf-8")

    def model(self, name: str, sql: str) -> None:
        (self.folder / "silver").mkdir(exist_ok=True)
        (self.folder / "silver" / f"{name}.sql").write_text(sql, encoding="utf-8")

    def configure(self, **settings: Any) -> None:
        self.document |= settings

    def write(self) -> None:
        (self.folder / "pipeline.json").write_text(json.dumps(self.document), encoding="utf-8")


Change = Callable[[Shop], Any]


def rename(shop: Shop, old: str, new: str) -> None:
    (shop.folder / "source" / old).rename(shop.folder / "source" / new)


def grouped(sql: str) -> Change:
    def change(shop: Shop) -> None:
        shop.model("items", sql)
        shop.configure(silver={"items": {"keys": ["shop"]}})

    return change


def remove_source(shop: Shop) -> None:
    for file in sorted((shop.folder / "source").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (shop.folder / "source").rmdir()


TOTALS = "SELECT t.shop AS shop{0}, count(*) AS n FROM bronze.items AS t GROUP BY ROLLUP (t.shop)"
CASES: dict[str, tuple[Change, str, str, Change]] = {  # what is wrong, the command, the advice, what it says to do
    "no source": (
        remove_source,
        "extract",
        "correct source.path, or mount the folder",
        lambda s: s.deliver("20250101"),
    ),
    "another folder": (
        lambda s: rename(s, "20250101_000000", "novembro"),
        "extract",
        "rename the folders",
        lambda s: rename(s, "novembro", "2025-11-01"),
    ),
    "two folders of one time": (
        lambda s: s.deliver("2025-01-01"),
        "extract",
        "remove one of them, or give it the time",
        lambda s: rename(s, "2025-01-01", "2025-01-02"),
    ),
    "a sum of DOUBLE": (
        grouped("SELECT t.shop AS shop, SUM(t.price) AS price FROM bronze.items AS t GROUP BY t.shop"),
        "validate",
        "cast the argument to DECIMAL, such as SUM(CAST(price AS DECIMAL(18, 4)))",
        grouped(
            "SELECT t.shop AS shop, SUM(CAST(t.price AS DECIMAL(18, 4))) AS price FROM bronze.items AS t"
            " GROUP BY t.shop"
        ),
    ),
    "totals": (
        grouped(TOTALS.format("")),
        "validate",
        "select GROUPING_ID() AS grouping_id",
        lambda s: (
            s.model("items", TOTALS.format(", GROUPING_ID() AS grouping_id")),
            s.configure(silver={"items": {"keys": ["shop", "grouping_id"]}}),
        ),
    ),
    "two columns of one name": (
        lambda s: s.model("items", "SELECT t.id AS id, t.qty AS n, t.shop AS n FROM bronze.items AS t"),
        "validate",
        "give one of them another name: AS n_2",
        lambda s: s.model("items", "SELECT t.id AS id, t.qty AS n, t.shop AS n_2 FROM bronze.items AS t"),
    ),
    "several faults": (
        lambda s: s.model("items", "SELECT t.id AS id, t.qtx AS qty, uper(t.shop) AS shop FROM bronze.items AS t"),
        "validate",
        "correct these lines, and run `lakehouse validate` again",
        lambda s: s.model("items", "SELECT t.id AS id, t.qty AS qty, upper(t.shop) AS shop FROM bronze.items AS t"),
    ),
    "an unknown function in a rule": (
        lambda s: s.configure(silver={"items": {"keys": ["id"], "expect": {"r": {"check": "soundx(id) = 'A'"}}}}),
        "validate",
        "compute it in the model's SQL as a column, and check that column",
        lambda s: (
            s.model("items", "SELECT t.id AS id, soundex(t.id) AS sound FROM bronze.items AS t"),
            s.configure(silver={"items": {"keys": ["id"], "expect": {"r": {"check": "sound = 'A'"}}}}),
        ),
    ),
    "an unknown key": (
        lambda s: s.configure(lakee="x"),
        "validate",
        "lakehouse validate",
        lambda s: s.document.pop("lakee"),
    ),
    "a published name of PostgreSQL": (
        lambda s: (
            s.model("items", "SELECT t.id AS id, t.qty AS xmin FROM bronze.items AS t"),
            s.configure(publish={"postgres": {"url": "postgresql://db/x", "tables": {"silver.items": "items"}}}),
        ),
        "validate",
        "publish a model that selects fewer columns, others by another name",
        lambda s: s.model("items", "SELECT t.id AS id, t.qty AS minimum FROM bronze.items AS t"),
    ),
    "a lock that is a link": (
        lambda s: (
            (s.folder / "lake/_state").mkdir(parents=True),
            (s.folder / "lake/_state/lock").symlink_to(s.folder / "other"),
        ),
        "extract",
        "rm {folder}/lake/_state/lock",
        lambda s: (s.folder / "lake/_state/lock").unlink(),
    ),
    "models in a circle": (
        lambda s: (
            s.model("a", "SELECT b.id AS id FROM silver.b AS b"),
            s.model("b", "SELECT a.id AS id FROM silver.a AS a"),
            s.configure(silver={name: {"keys": ["id"]} for name in ("items", "a", "b")}),
        ),
        "validate",
        "remove one of these references",
        lambda s: s.model("b", "SELECT t.id AS id FROM bronze.items AS t"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_following_the_advice_ends_well(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    break_it, verb, advice, follow = CASES[case]
    shop = Shop(tmp_path)
    break_it(shop)
    shop.write()

    assert main([verb, str(tmp_path), "--json"]) in (2, 5)
    error = json.loads(capsys.readouterr().out)
    notes = [error["error"]["next_step"]] if error.get("error") else [o["note"] for o in error["outcomes"]]
    assert advice.format(folder=tmp_path) in "\n".join(notes)
    if found := re.search(r"docs/[\w/.-]+", advice):
        assert (REPOSITORY / found[0]).exists()

    follow(shop)
    shop.write()
    assert main(["validate" if verb == "run" else verb, str(tmp_path), "--json"]) == 0


def test_a_snapshot_time_that_is_taken_is_replaced_by_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path)
    remove_source(shop)
    shop.write()
    (tmp_path / "source").mkdir()
    for content in ('{"id":"a"}', '{"id":"b"}'):
        (tmp_path / "source/items.json").write_text(content)
        capsys.readouterr()
        code = main(["extract", str(tmp_path), "--snapshot-time", "20250101_000000", "--json"])
    assert code == 2
    (outcome,) = json.loads(capsys.readouterr().out)["outcomes"]
    assert "use another time for --snapshot-time" in outcome["note"]

    assert main(["extract", str(tmp_path), "--snapshot-time", "20250102_000000", "--json"]) == 0


@pytest.mark.parametrize("words", [["init"], ["run"], ["--nothing"]])
def test_a_wrong_command_line_names_the_help_that_exists(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    (advice,) = re.findall(r"next: +lakehouse (.*)", capsys.readouterr().err)

    assert main(advice.split()) == 0
    assert "Usage: lakehouse" in capsys.readouterr().out


def test_init_writes_to_another_folder_if_there_is_a_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path)
    shop.deliver("20250101_000000", "".join(f'{{"id":"a{n}"}}\n' for n in range(5)))
    for target, code in (("pipeline", 0), ("pipeline", 2), ("other", 0)):
        assert main(["init", str(tmp_path / "source"), str(tmp_path / target)]) == code
    assert "choose another folder, or remove the file first" in capsys.readouterr().err


def test_a_folder_without_a_pipeline_gets_one_from_the_command_of_the_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, target = Shop(tmp_path), tmp_path / "new shop"
    shop.deliver("20250101_000000", "".join(f'{{"id":"a{n}"}}\n' for n in range(5)))
    target.mkdir()
    assert main(["validate", str(target), "--json"]) == 2
    advice = json.loads(capsys.readouterr().out)["error"]["next_step"]
    assert advice == f"lakehouse init SOURCE '{target}', to write one for a folder of files"

    command = shlex.split(advice.partition(", to write")[0].replace("SOURCE", str(tmp_path / "source")))
    assert main(command[1:]) == 0
    assert main(["validate", str(target)]) == 0


def test_a_pipeline_that_init_cannot_propose_is_written_by_hand_as_the_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No column of these files can be a key; a pipeline by hand names the one that later files have."""
    shop, target = Shop(tmp_path), tmp_path / "other"
    shop.deliver("20250101_000000", '{"tags":["a"]}\n{"tags":["b"]}\n')
    assert main(["init", str(tmp_path / "source"), str(target), "--json"]) == 5
    advice = json.loads(capsys.readouterr().out)["error"]["next_step"]
    assert advice == "correct the files, or write a pipeline by hand: see docs/reference/pipeline.md"
    page = (REPOSITORY / "docs/reference/pipeline.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in ("source", "tables", "file", "format", "schema", "keys"))

    shop.write()
    assert main(["validate", str(tmp_path)]) == 0


# --- the list -------------------------------------------------------------------------------------------------------


def advices() -> Iterator[tuple[str, str]]:
    """Yield each advice in the code: its module, and its text with {} for what is filled in."""
    for file in sorted((REPOSITORY / "lakehouse").rglob("*.py")):
        module = str(file.relative_to(REPOSITORY / "lakehouse"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "next_step":
                yield from ((module, text) for text in texts(node.value))


def texts(node: ast.AST) -> Iterator[str]:
    """Yield the texts that an expression may have; none for a name, whose text is written elsewhere."""
    match node:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in values)
        case ast.IfExp(body=body, orelse=other):
            yield from (*texts(body), *texts(other))
        case ast.BoolOp(values=values):
            for value in values:
                yield from texts(value)


def test_every_advice_is_followed_by_a_test() -> None:
    written = {f"{module}: {text}" for module, text in advices()}
    listed = {*COVERED, *NOT_FOLLOWED}

    assert sorted(written - listed) == [], (
        "an advice that no test follows: add one, and list it in tests/advice_list.py"
    )
    assert sorted(listed - written) == []
    assert not COVERED.keys() & NOT_FOLLOWED.keys()


@pytest.mark.parametrize("advice", COVERED)
def test_the_test_of_an_advice_exists(advice: str) -> None:
    file, _, test = COVERED[advice].partition("::")
    code = (REPOSITORY / file).read_text(encoding="utf-8")

    assert re.search(rf"^def {test}\b", code, re.MULTILINE), COVERED[advice]
