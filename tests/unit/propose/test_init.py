"""What `lakehouse init` writes for a folder, a configuration and as an example, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse import config
from lakehouse.cli import main
from lakehouse.config.ddl import Column
from lakehouse.errors import ConfigError
from lakehouse.models.sql import pipeline_plans
from lakehouse.propose import init_from_config, init_pipeline, write_demo

REPOSITORY = Path(__file__).parents[3]
ORIGINAL: dict[str, Any] = {
    "dataset_name": "teocalvo/teomewhy-loyalty-system",
    "aws": {"bucket": "meu-lago", "prefix": "raw/upsell/", "region": "sa-east-1"},
    "timer": {"unit": "hours", "value": 6},
    "cleanup": {"enabled": True, "keep_last_n_cdc_files": 5},
    "tables": [
        {"sep": ";", "name": "clientes", "date_field": "DtAtualizacao", "pk": "idCliente"},
        {"sep": ";", "name": "transacao_produto", "date_field": "", "pk": ["idTransacaoProduto"]},
    ],
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def read(folder: Path) -> config.Pipeline:
    """Return the written pipeline, whose models must be valid too."""
    pipeline = config.load(folder)
    assert set(pipeline_plans.plan_pipeline(pipeline)) == {f"silver.{name}" for name in pipeline.silver}
    return pipeline


def kinds(columns: tuple[Column, ...]) -> list[tuple[str, str]]:
    """Return names and kinds of columns: an INT and a BIGINT are equally right, and so are two sizes of DECIMAL."""
    return [(c.name, c.canonical_type.replace("BIGINT", "INT").partition("(")[0]) for c in columns]


def test_the_loyalty_samples_get_the_tables_of_the_shipped_pipeline(tmp_path: Path) -> None:
    init_pipeline(REPOSITORY / "samples" / "loyalty", tmp_path / "loyalty")

    written, shipped = read(tmp_path / "loyalty"), config.load(REPOSITORY / "conf" / "loyalty")
    assert set(written.tables) == set(shipped.tables)
    for name, table in shipped.tables.items():
        proposed = written.tables[name]
        assert (proposed.file, proposed.format, proposed.options) == (table.file, table.format, table.options)
        assert (proposed.keys, kinds(proposed.columns)) == (table.keys, kinds(table.columns))
    assert {name: model.keys for name, model in written.silver.items()} == {
        name: model.keys for name, model in shipped.silver.items()
    }


def test_the_tesouro_samples_get_the_tables_of_the_shipped_pipeline(tmp_path: Path) -> None:
    document = init_pipeline(REPOSITORY / "samples" / "tesouro", tmp_path / "tesouro")

    written, shipped = read(tmp_path / "tesouro"), config.load(REPOSITORY / "conf" / "tesouro")
    assert written.timezone == shipped.timezone
    assert set(written.tables) == set(shipped.tables)
    for name, table in shipped.tables.items():
        proposed = written.tables[name]
        assert (proposed.format, set(proposed.keys)) == (table.format, set(table.keys))
        assert sorted(kinds(proposed.columns)) == sorted(kinds(table.columns))
        assert proposed.names == table.names
        assert proposed.updated_at == table.updated_at
    assert written.tables["dadostesouroipca"].file == "dadostesouroipca_*.json"
    assert (
        written.tables["precotaxatesourodireto"].options.items()
        >= {
            "sep": ";",
            "locale": "pt-BR",
            "dateFormat": "dd/MM/yyyy",
        }.items()
    )
    assert all(table["notes"] for table in document["tables"])


@pytest.mark.parametrize(
    ("names", "tables"),
    [
        (["a.csv", "b.csv"], {"a": "a.csv", "b": "b.csv"}),
        (["sales_2024.csv", "sales_2025.csv"], {"sales": "sales_*.csv"}),
        (
            ["sales_2024.csv", "sales_2025.csv", "sales_old.csv"],
            {"sales": "sales_[0-9]*.csv", "sales_old": "sales_old.csv"},
        ),
        (["2025-01-31 Vendas SP.csv", "2025-02-28 Vendas SP.csv"], {"vendas_sp": "* Vendas SP.csv"}),
        (["q1-2025-01-31.csv", "q1-2025-02-28.csv"], {"q": "q*.csv"}),
        (["itens/part-0-x.csv", "itens/part-1-y.csv"], {"itens": "itens/part-*"}),
        (["Preços (R$) [v2].csv"], {"precos_r_v2": "Preços (R$) [[]v2].csv"}),
        (["2024.csv"], {"table_2024": "2024.csv"}),
        (["v/2024/01.csv", "v/2025/02.csv"], {"v": "v/*/*.csv"}),
        (["v/2024/jan.csv", "v/2024/fev.csv"], {"v_2024_fev": "v/2024/fev.csv", "v_2024_jan": "v/2024/jan.csv"}),
        (["v/uf=SP/part-0.csv", "v/uf=RJ/part-0.csv"], {"v": "v/uf=*/part-*"}),
        (["v/uf=SP/ano=2024/0.csv", "v/uf=RJ/ano=2025/0.csv"], {"v": "v/uf=*/ano=*/0.csv"}),
        (["a b.csv", "a_b.csv"], {"a_b": "a b.csv", "a_b_2": "a_b.csv"}),
    ],
)
def test_files_whose_names_differ_in_digits_are_one_table(
    tmp_path: Path, names: list[str], tables: dict[str, str]
) -> None:
    write(tmp_path / "source", {name: f"id,v\n{n},x\n" for n, name in enumerate(names)})

    init_pipeline(tmp_path / "source", tmp_path / "p")

    assert {name: table.file for name, table in read(tmp_path / "p").tables.items()} == tables
    for name, pattern in tables.items():
        found = {path.relative_to(tmp_path / "source").as_posix() for path in (tmp_path / "source").glob(pattern)}
        assert found, name


def test_files_with_other_columns_are_tables_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "source", {"dim1.csv": "id,a\n1,x\n", "dim2.csv": "code,b,c\nk,x,y\n"})

    init_pipeline(tmp_path / "source", tmp_path / "p")

    assert {name: t.file for name, t in read(tmp_path / "p").tables.items()} == {"dim1": "dim1.csv", "dim2": "dim2.csv"}


def test_numbered_files_that_share_keys_are_tables_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "source", {f"store{n}.csv": f"id,v\n1,x{n}\n2,y{n}\n" for n in (1, 2)})

    document = init_pipeline(tmp_path / "source", tmp_path / "p")

    assert {name: (t.file, t.keys) for name, t in read(tmp_path / "p").tables.items()} == {
        "store1": ("store1.csv", ["id"]),
        "store2": ("store2.csv", ["id"]),
    }
    assert "store*.csv as one table has no key" in document["tables"][0]["notes"][-1]


def test_a_name_with_the_day_is_one_table_over_the_snapshots(tmp_path: Path) -> None:
    days = {"2025-01-01": "20250101", "20250102": "20250102", "20250103_120000": "20250103"}
    write(tmp_path / "source", {f"{folder}/t_{day}.csv": "id,v\n1,x\n2,y\n" for folder, day in days.items()})

    document = init_pipeline(tmp_path / "source", tmp_path / "p")

    assert document["snapshots"] == list(days)
    assert (document["tables"][0]["rows"], document["tables"][0]["stable"]) == ([2, 2, 2], 1.0)
    assert read(tmp_path / "p").tables["t"].file == "t_*.csv"


def test_a_table_without_a_key_is_a_comment_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path / "source", {"good.csv": "id,v\n1,x\n", "bad.csv": "amount;note\n1,5;a\n2,5;a\n", "none.csv": ""})

    document = init_pipeline(tmp_path / "source", tmp_path / "p")

    assert list(read(tmp_path / "p").tables) == ["good"]
    assert {t["table"]: t["written"] for t in document["tables"]} == {"bad": False, "good": True, "none": False}
    text = (tmp_path / "p" / "pipeline.yml").read_text(encoding="utf-8")
    assert "# bad (bad.csv) is left out: no usable key" in text
    assert "# none (none.csv) is left out: the file is empty" in text
    # What the comment says is right: with the signs removed, the table is valid.
    lines = text.splitlines()
    start = lines.index("  # bad:")
    block = [line.replace("# ", "", 1) for line in lines[start : lines.index("", start)]]
    completed = [*lines[:start], *block, *lines[start + len(block) :]]
    (tmp_path / "p" / "pipeline.yml").write_text("\n".join(completed), encoding="utf-8")
    table = config.load(tmp_path / "p").tables["bad"]
    assert (table.options, table.counts_rows) == ({"sep": ";", "locale": "pt-BR"}, True)


def test_a_file_that_some_snapshots_lack_is_mentioned(tmp_path: Path) -> None:
    files = {
        "20250101_000000/a.csv": "id,v\n1,x\n",
        "20250102_000000/a.csv": "id,v\n1,x\n",
        "20250102_000000/b.csv": "id,v\n1,x\n",
    }
    document = init_pipeline(write(tmp_path / "source", files), tmp_path / "p")

    assert document["tables"][1]["rows"] == [None, 1]
    assert any("none in 20250101_000000" in note for note in document["tables"][1]["notes"])


def test_what_is_passed_over_is_a_warning(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"x.csv": "id\n1\n"})
    source = write(tmp_path / "source", {"20250101_000000/a.csv": "id,v\n1,x\n", "novembro/a.csv": "id\n1\n"})
    snapshot = source / "20250101_000000"
    write(snapshot, {"notes.xlsx": "", ".hidden.csv": "id\n1\n", "_SUCCESS": "", "a:b.csv": "id\n1\n"})
    (snapshot / "link.csv").symlink_to(outside / "x.csv")
    (snapshot / "broken.csv").symlink_to(snapshot / "nothing.csv")
    (source / "20250102_000000").symlink_to(outside, target_is_directory=True)
    if sys.platform == "linux":
        Path(os.fsdecode(os.fsencode(snapshot) + b"/caf\xe9.csv")).write_text("id\n1\n", encoding="utf-8")

    document = init_pipeline(source, tmp_path / "p")

    assert [table["table"] for table in document["tables"]] == ["a"]
    warnings = " | ".join(document["warnings"])
    for part in (
        "novembro",
        "20250102_000000 is a symbolic link",
        "notes.xlsx",
        "link.csv",
        "broken.csv",
        "a:b.csv",
        "caf?",
    ):
        assert part in warnings or (part == "caf?" and sys.platform != "linux"), part
    assert "hidden" not in warnings
    json.dumps(document).encode()


def test_an_existing_pipeline_or_model_is_never_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a.csv": "id,v\n1,x\n"})
    for number, name in enumerate(["pipeline.yml", "pipeline.yaml", "pipeline.json", "silver/a.sql"]):
        target = write(tmp_path / str(number), {name: "mine"})
        with pytest.raises(ConfigError, match="is not overwritten"):
            init_pipeline(source, target)
        assert [path.read_text(encoding="utf-8") for path in target.rglob("*") if path.is_file()] == ["mine"]


def test_folders_that_look_like_snapshots_are_mentioned(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"january/a.csv": "id,v\n1,x\n", "february/a.csv": "id,v\n1,y\n"})
    beside = write(tmp_path / "beside", {"20250101/a.csv": "id,v\n1,x\n", "b.csv": "id,v\n1,x\n"})

    assert "name them YYYYMMDD_HHMMSS" in init_pipeline(source, tmp_path / "p")["warnings"][0]
    assert init_pipeline(beside, tmp_path / "q")["warnings"] == [
        "b.csv is passed over: it is in no folder of a snapshot"
    ]


def test_a_value_in_the_name_of_a_folder_is_no_column(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"v/uf=SP/a.csv": "id,v\n1,x\n", "v/uf=RJ/a.csv": "id,v\n2,x\n"})

    (table,) = init_pipeline(source, tmp_path / "p")["tables"]

    assert "uf is in the names of folders only" in table["notes"][0]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("Clientes 2025-10.csv", "Clientes *.csv"),
        ("t_20251003.csv", "t_*.csv"),
        ("t_20251003_170552.csv.gz", "t_*.csv.gz"),
        ("v2.csv", ""),
        ("t.csv", ""),
    ],
)
def test_a_name_with_a_date_in_one_snapshot_is_mentioned(tmp_path: Path, name: str, pattern: str) -> None:
    content = b"id,v\n1,x\n"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    (table,) = init_pipeline(tmp_path / "source", tmp_path / "p")["tables"]

    assert table["file"] == name
    assert [note for note in table["notes"] if "has a date" in note] == (
        [f"file: its name has a date; if the next snapshot has another one, write `{pattern}`"] if pattern else []
    )


def test_how_the_next_snapshot_is_delivered_is_said_where_there_is_no_folder_for_it(tmp_path: Path) -> None:
    text = []
    for folder in ("", "20250101_000000/"):
        source = write(tmp_path / f"source{len(text)}", {f"{folder}t.csv": "id,v\n1,x\n"})
        init_pipeline(source, tmp_path / f"p{len(text)}")
        text.append((tmp_path / f"p{len(text)}" / "pipeline.yml").read_text(encoding="utf-8"))

    assert "named by its time in UTC, such as 20251003_170552" in text[0]
    assert "one snapshot, at the time of the run" not in text[1]


def test_files_that_look_like_snapshots_are_mentioned(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {f"t_202501{n:02}.csv": f"id,v\n1,x\n2,y{n}\n" for n in (1, 2)})

    document = init_pipeline(source, tmp_path / "p")

    assert "move each into a folder named by its time" in document["tables"][0]["notes"][-1]


def test_an_archive_with_several_tables_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"ok.csv": "id,v\n1,x\n"})
    with zipfile.ZipFile(source / "20250101.zip", "w") as archive:
        archive.writestr("a.csv", "id,name\n1,x\n")
        archive.writestr("b.csv", "shop_id,city\n1,x\n")

    document = init_pipeline(source, tmp_path / "p")

    (problem,) = [table["problem"] for table in document["tables"] if not table["written"]]
    assert "the files in 20250101.zip have different columns" in problem
    assert "unpack it" in problem


def test_words_of_sql_are_names_of_tables_and_columns(tmp_path: Path) -> None:
    files = {
        f"{word}.csv": "id,select,not,date,from,values\n1,a,b,2025-01-31,d,e\n" for word in ("select", "join", "order")
    }

    init_pipeline(write(tmp_path / "source", files), tmp_path / "p")

    assert set(read(tmp_path / "p").tables) == {"select", "join", "order"}
    sql = (tmp_path / "p" / "silver" / "join.sql").read_text(encoding="utf-8")
    assert "t.`select`,\n    t.`not`,\n    t.date," in sql
    assert "FROM bronze.`join` AS t" in sql


def test_a_long_list_of_files_that_are_passed_over_is_cut(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a.csv": "id,v\n1,x\n"} | {f"deep/er/{n}.xyz": "" for n in range(50)})

    warnings = init_pipeline(source, tmp_path / "p")["warnings"]

    assert len(warnings) == 21
    assert warnings[-1] == "in all, 30 more files are passed over"


def test_a_git_repository_is_mentioned(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a.csv": "id,v\n1,x\n", ".git/HEAD": "ref: refs/heads/main\n"})

    (warning,) = init_pipeline(source, tmp_path / "p")["warnings"]

    assert "is a git repository" in warning


def test_two_folders_of_one_time_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"20250101/a.csv": "id\n1\n", "2025-01-01/a.csv": "id\n1\n"})

    with pytest.raises(ConfigError, match="two folders of one time"):
        init_pipeline(source, tmp_path / "p")


def test_the_file_can_have_another_name(tmp_path: Path) -> None:
    init_pipeline(write(tmp_path / "source", {"a.csv": "id,v\n1,x\n"}), tmp_path / "conf" / "Minha Loja.yml")

    assert config.load(tmp_path / "conf" / "Minha Loja.yml").name == "minha_loja"
    assert (tmp_path / "conf" / "silver" / "a.sql").is_file()


def test_the_original_configuration_is_translated(tmp_path: Path) -> None:
    original = tmp_path / "config.json"
    original.write_text(json.dumps(ORIGINAL), encoding="utf-8")

    init_from_config(original, tmp_path / "lago")

    pipeline, shipped = read(tmp_path / "lago"), config.load(REPOSITORY / "conf" / "loyalty" / "kaggle.yml")
    assert pipeline.source == shipped.source
    assert pipeline.lake == "s3a://meu-lago/raw/upsell/lago"
    assert pipeline.schedule == shipped.schedule
    for name in ("clientes", "transacao_produto"):
        assert kinds(pipeline.tables[name].columns) == kinds(shipped.tables[name].columns)
        assert pipeline.tables[name].keys == shipped.tables[name].keys
        assert pipeline.tables[name].options == {"sep": ";"}


def test_another_dataset_takes_its_columns_from_a_folder(tmp_path: Path) -> None:
    settings = ORIGINAL | {
        "dataset_name": "somebody/shop",
        "tables": [{"sep": "|", "name": "t", "date_field": "dt", "pk": "cod"}],
    }
    original = tmp_path / "config.json"
    original.write_text(json.dumps(settings), encoding="utf-8")
    source = write(
        tmp_path / "source", {"t.csv": "id|cod|dt|v\n1|a|2025-01-01 10:00:00|1,5\n2|b|2025-01-01 10:00:00|2,5\n"}
    )

    init_from_config(original, tmp_path / "alone")
    init_from_config(original, tmp_path / "with_files", source)

    alone, full = read(tmp_path / "alone").tables["t"], read(tmp_path / "with_files").tables["t"]
    assert [(c.name, c.type) for c in alone.columns] == [("cod", "STRING"), ("dt", "TIMESTAMP")]
    assert "complete the columns" in (tmp_path / "alone" / "pipeline.yml").read_text(encoding="utf-8")
    assert [c.name for c in full.columns] == ["id", "cod", "dt", "v"]
    assert (full.keys, full.options) == (["cod"], {"sep": "|", "locale": "pt-BR"})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"tables": []}, "no tables"),
        ({"tables": [{"name": "t"}]}, "name and pk are required"),
        ({"tables": [{"name": "t", "pk": "id", "spe": ";"}]}, "unknown key spe"),
        ({"datasett_name": "x/y"}, "unknown key datasett_name"),
        ({"dataset_name": None}, "no dataset_name"),
    ],
)
def test_a_fault_of_the_original_configuration_is_named(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    original = tmp_path / "config.json"
    original.write_text(json.dumps(ORIGINAL | change), encoding="utf-8")

    with pytest.raises(ConfigError, match=found):
        init_from_config(original, tmp_path / "p")


def test_the_demo_is_a_valid_pipeline_with_two_snapshots(tmp_path: Path) -> None:
    write_demo(tmp_path / "My shop")

    pipeline = config.load(tmp_path / "My shop")
    assert pipeline.name == "my_shop"  # as the folder, so that messages and the report have the name that was typed
    assert set(pipeline_plans.plan_pipeline(pipeline)) == {"silver.customers", "silver.orders", "gold.sales_by_city"}
    assert len(list((tmp_path / "My shop" / "source").iterdir())) == 2
    with pytest.raises(ConfigError, match="not empty"):
        write_demo(tmp_path / "My shop")


def test_the_command_prints_a_table_or_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", {"a.csv": "id,v\n1,x\n", "b.csv": ""})

    assert main(["init", str(source), str(tmp_path / "p")]) == 0
    out = capsys.readouterr().out
    assert "left out" in out
    assert f"next: lakehouse validate {tmp_path / 'p'}" in out
    assert main(["validate", str(tmp_path / "p")]) == 0
    capsys.readouterr()
    assert main(["init", str(source), str(tmp_path / "p"), "--json"]) == 2
    assert "is not overwritten" in json.loads(capsys.readouterr().out)["error"]["found"]
    shutil.rmtree(tmp_path / "p")
    assert main(["init", str(source), str(tmp_path / "p"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"][0]["keys"] == ["id"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere", "p"], 2),
        (["empty", "p"], 2),
        (["source"], 2),
        (["--demo", "d", "source"], 2),
        (["--from-config", "nowhere.json", "p"], 2),
        (["no_key", "p"], 5),
    ],
)
def test_a_command_that_cannot_be_done_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"source/a.csv": "id,v\n1,x\n", "no_key/a.csv": "amount\n1.5\n1.5\n", "empty/readme.md": ""})

    assert main(["init", *arguments]) == code
    assert not (tmp_path / "p").exists()
    assert not (tmp_path / "d").exists()


def test_a_full_temporary_folder_is_worth_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise duckdb.IOException("Could not write file: No space left on device")

    monkeypatch.setattr("lakehouse.propose.proposal.load_table", fail)  # a full disk cannot be had in a test

    assert main(["init", str(write(tmp_path / "source", {"a.csv": "id,v\n1,x\n"})), str(tmp_path / "p")]) == 3
    assert not (tmp_path / "p").exists()


def test_a_source_below_the_working_directory_stays_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my ${files}", {"a.csv": "id,v\n1,x\n"})

    assert main(["init", "my ${files}", "p"]) == 0
    source = config.load("p").source
    assert isinstance(source, config.Files)
    assert source.path == "my ${files}"


def test_the_example_of_the_guide_is_what_init_writes(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "guide" / "init.md").read_text(encoding="utf-8")
    _, content, expected = re.findall(r"^```(?:sh|yaml)?\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)[:3]
    folder = tmp_path / "exports" / "20251003_000000"
    folder.mkdir(parents=True)
    (folder / "precos.csv").write_text(content, encoding="latin-1")

    init_pipeline(tmp_path / "exports", tmp_path / "p")

    assert expected in (tmp_path / "p" / "pipeline.yml").read_text(encoding="utf-8")
