"""Measures how the code is laid out: sizes, helpers, docstrings, and the files that a stage passes through.

python bench/structure.py                  the figures of the syntax tree
python bench/structure.py --trace          the same, and the files per stage (runs Spark on a small pipeline)
python bench/structure.py --root FOLDER    another checkout
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef

# First words of docstrings that are verbs in the imperative, and "Whether", which opens a predicate's.
WORDS = """
add allow answer append apply ask assert attach await begin bind bring build cache calculate call cast change
check choose clear close collect combine compare complete compute connect convert copy count create cut decide
declare define delete derive describe detect determine diff disable discard download drop enable encode end
ensure erase escape estimate evaluate exclude execute expand explain export extract fetch fill filter find
finish fold follow format generate get give group handle hash have hide hold ignore import include infer insert
inspect join keep label land lay let limit link list load lock look make map mark mask match measure merge
modify move name narrow normalize note notify offer open order overwrite pack parse partition pass perform pick
plan prepare print probe provide publish put query quote raise read rebuild receive recompute record redact
reduce refresh refuse register reject release remember remove rename render repair repeat replace replay report
request require reset resolve restore restrict retry return rewrite roll round run save scan see select send
serialize set show shorten skip sort split start state stop store stream strip summarize sum take test time
tokenize trace translate transform trim truncate try type undo unpack update upload use validate verify wait
walk warn whether widen wrap write yield
"""
VERBS = frozenset(WORDS.split())

SNAPSHOTS = {
    "20250101_000000": "id,qty,note\na,1,x\nb,2,x\nc,3,y\nd,4,y\ne,5,z\n",
    "20250102_000000": "id,qty,note\na,10,x\nb,2,x\nc,3,y\nd,4,z\nf,6,\n",
}
PIPELINE = """
name: shop
lake: {root}/lake
source: {{type: files, path: {root}/source}}
tables:
  items: {{file: items.csv, format: csv, schema: "id STRING, qty INT, note STRING", keys: [id]}}
silver:
  items: {{keys: [id]}}
gold:
  notes: {{}}
"""
MODELS = {
    "silver/items": "SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i",
    "gold/notes": "SELECT i.note AS note, SUM(i.qty) AS qty FROM silver.items AS i GROUP BY i.note",
}
# Read once and used by every stage: paths and files, the session, types, configuration, errors and logs.
SERVICES = ("cli/", "concurrency", "config/", "error", "logs", "retry", "schema/", "spark/", "storage/")

# The function of runner/stages.py that does a stage, by its names over time. The steps before it, reading the pipeline
# and its SQL, are the same for all verbs.
ENTRIES = {
    "extract": frozenset({"_extract"}),
    "ingest": frozenset({"_ingest"}),
    "bronze": frozenset({"_bronze"}),
    "silver": frozenset({"_models", "refresh_models"}),
    "gold": frozenset({"_models", "refresh_models"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--trace", action="store_true", help="run a small pipeline and list the files of each stage")
    parser.add_argument("--list", action="store_true", help="name what the figures count")
    options = parser.parse_args()
    print_static(options.root / "lakehouse", options.list)
    if options.trace:
        sys.path.insert(0, str(options.root))
        print_trace(options.root / "lakehouse", options.list)


def print_static(package: Path, listed: bool) -> None:
    """Print the figures that the syntax tree gives."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(package.rglob("*.py"))}
    functions = [(file, node) for file, tree in trees.items() for node in ast.walk(tree) if isinstance(node, Function)]
    once = [
        (file, node.name) for file, node in functions if _is_private(node.name) and _uses(trees[file], node.name) == 1
    ]
    wide = [(file, node.name) for file, node in functions if _parameters(node) >= 6]
    documented = [(file, node, text) for file, node in functions if (text := ast.get_docstring(node))]
    verbs = [text for _, _, text in documented if _first_word(text) in VERBS]
    flat = list(package.glob("*.py"))
    packages = [folder for folder in package.iterdir() if (folder / "__init__.py").is_file()]
    print(f"modules {len(trees)}, flat {len(flat)}, packages {len(packages)}")
    print(f"functions {len(functions)}, private and used once {len(once)} ({len(once) / len(functions):.0%})")
    print(f"functions with six or more parameters {len(wide)}")
    print(
        f"docstrings of functions {len(documented)}, open with a verb {len(verbs)} ({len(verbs) / len(documented):.0%})"
    )
    if listed:
        for file, name in once:
            print(f"  used once: {file.relative_to(package)} {name}")
        for file, name in wide:
            print(f"  wide: {file.relative_to(package)} {name}")
        for word, number in Counter(
            _first_word(t) for _, _, t in documented if _first_word(t) not in VERBS
        ).most_common():
            print(f"  no verb: {word} {number}")


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _uses(tree: ast.Module, name: str) -> int:
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name]
    return len(named) + len([n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == name])


def _parameters(node: Function) -> int:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _first_word(text: str) -> str:
    return text.split(maxsplit=1)[0].strip(".,:;`'\"").lower()


def print_trace(package: Path, listed: bool) -> None:
    """Run two snapshots through a small pipeline and print the files whose functions the second one passes."""
    from lakehouse.cli import main as command

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "pipeline.yml").write_text(PIPELINE.format(root=root), encoding="utf-8")
        for model, sql in MODELS.items():
            (root / model).parent.mkdir(exist_ok=True)
            (root / f"{model}.sql").write_text(sql, encoding="utf-8")
        all_files: set[str] = set()
        for snapshot, rows in SNAPSHOTS.items():
            (root / "source" / snapshot).mkdir(parents=True)
            (root / "source" / snapshot / "items.csv").write_text(rows, encoding="utf-8")
            for stage, entries in ENTRIES.items():
                with traced(package, entries) as files, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    code = command([stage, str(root)])
                assert code == 0, (stage, code)
                if snapshot == max(SNAPSHOTS):
                    passed = {file for thread in files.values() for file in thread}
                    changes = sum(len(thread) - 1 for thread in files.values())
                    all_files |= passed if stage in ("extract", "ingest", "bronze") else set()
                    own = {file for file in passed if not file.startswith(SERVICES)}
                    print(f"{stage}: {len(passed)} files, {len(own)} of them no services, {changes} changes of file")
                    if listed:
                        print("  " + " ".join(sorted(passed)))
        print(f"a snapshot, from extract to bronze: {len(all_files)} files")


@contextmanager
def traced(package: Path, entries: frozenset[str]) -> Iterator[dict[int, list[str]]]:
    """Collect, by thread, the files whose functions a stage calls: an entry for each change of file."""
    prefix, files, inside = str(package) + os.sep, dict[int, list[str]](), [0]

    def profile(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(prefix) or code.co_name == "<module>":
            return
        if code.co_filename.endswith("stages.py") and code.co_name in entries:
            inside[0] += {"call": 1, "return": -1}.get(event, 0)
        if event == "call" and inside[0]:
            thread = files.setdefault(threading.get_ident(), [])
            file = code.co_filename.removeprefix(prefix)
            if thread[-1:] != [file]:
                thread.append(file)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
