"""Makes the loyalty pipeline ready for its third snapshot: inserts, updates, deletes and a new column."""

from __future__ import annotations

import shutil
from pathlib import Path

from helpers import LakeFiles, Project

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples/loyalty"
THIRD = "20251005_100000"
NEW_COLUMN = "nivel"


class Loyalty(Project):
    """The pipeline of conf/loyalty with a source and a lake in one folder."""

    def __init__(self, folder: Path) -> None:
        LakeFiles.__init__(self, folder / "lake" / "loyalty")
        self.folder, self.pipeline, self.source = folder, folder / "pipeline", folder / "source"
        self.has_new_column = False
        shutil.copytree(ROOT / "conf/loyalty", self.pipeline, dirs_exist_ok=True)

    def configure(self, **_: object) -> None:
        text = (ROOT / "conf/loyalty/pipeline.yml").read_text(encoding="utf-8")
        text = text.replace("lake: ${LAKE_ROOT:-lake}/loyalty", f"lake: {self.lake}")
        text = text.replace('path: "${LOYALTY_SOURCE:-samples/loyalty}"', f"path: {self.source}")
        if self.has_new_column:
            before = "DtCriacao TIMESTAMP, DtAtualizacao TIMESTAMP\n    keys: [idCliente]"
            assert before in text
            text = text.replace(before, before.replace("\n", f", {NEW_COLUMN} INT\n", 1))
        (self.pipeline / "pipeline.yml").write_text(text, encoding="utf-8")


def prepare(folder: Path) -> Loyalty:
    """Two snapshots are in every layer, and a third one is in the source."""
    project = Loyalty(folder)
    project.configure()
    shutil.copytree(SAMPLES, project.source)
    done = project.run()
    assert done.code == 0, done.document
    newest = sorted(path for path in project.source.iterdir() if path.is_dir())[-1]
    _write_third(newest, project.source / THIRD)
    project.has_new_column = True
    project.configure()
    return project


def _write_third(second: Path, third: Path) -> None:
    """Write a snapshot that lacks some rows of another one, has other values in some and others again."""
    third.mkdir()
    for file in second.glob("*.csv"):
        header, *rows = file.read_text(encoding="utf-8").splitlines()
        if file.name != "produtos.csv":
            first, kept = rows[0].split(";"), rows[3:]
            new = ";".join(["00000000-0000-4000-8000-000000000001", *first[1:]])
            rows = [new, *(_changed(row, file.name) if number % 20 == 0 else row for number, row in enumerate(kept))]
        if file.name == "clientes.csv":
            header, rows = f"{header};{NEW_COLUMN}", [f"{row};{n % 3}" for n, row in enumerate(rows)]
        (third / file.name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def _changed(row: str, file: str) -> str:
    fields = row.split(";")
    number = {"clientes.csv": 6, "transacoes.csv": 3, "transacao_produto.csv": 3}[file]
    fields[number] = str(int(fields[number] or 0) + 1)
    return ";".join(fields)
