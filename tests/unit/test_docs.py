"""The documentation names files that exist: docs/architecture.md in its text, every page in its links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
import typer

from lakehouse.cli.app import app

REPOSITORY = Path(__file__).parents[2]
ARCHITECTURE = REPOSITORY / "docs/architecture.md"
PAGES = [REPOSITORY / name for name in ("README.md", "README.pt-BR.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
PACKAGES = {file.parent.name for file in (REPOSITORY / "lakehouse").glob("*/__init__.py")}


def test_architecture_names_files_that_exist() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    named = re.findall(r"`([\w./]+(?:/|\.py|\.md|\.json|\.toml))`", text)
    paths = [path for path in named if "<" not in path and path != "__init__.py"]

    missing = [
        path for path in paths if not (REPOSITORY / path).exists() and not (REPOSITORY / "lakehouse" / path).exists()
    ]

    assert len(paths) > 40
    assert missing == []


def test_architecture_lists_every_package() -> None:
    tree = ARCHITECTURE.read_text(encoding="utf-8").split("```")[1]

    assert {name for name in PACKAGES if f"{name}/" in tree} == PACKAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)

    missing = [target for target in targets if not (page.parent / target).exists()]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_to_a_heading_lead_to_one(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", text)

    missing = [
        (file, heading) for file, heading in targets if heading not in headings((page.parent / file) if file else page)
    ]

    assert missing == []


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def test_the_index_links_to_every_page() -> None:
    """Pages of evidence and of decisions are listed by an index of their own."""
    found = set()
    for index in (REPOSITORY / "docs/README.md", *(REPOSITORY / "docs").glob("*/README.md")):
        targets = re.findall(r"\]\(([^)#]+\.md)", index.read_text(encoding="utf-8"))
        found |= {(index.parent / target).resolve() for target in targets}
    evidence = REPOSITORY / "docs/evidence"
    pages = [page for page in PAGES if evidence not in page.parents and page.parent != REPOSITORY]

    assert [str(page) for page in pages if page not in found and page.name != "README.md"] == []


def test_the_pages_for_newcomers_are_short() -> None:
    lengths = {page: len(page.read_text(encoding="utf-8").splitlines()) for page in PAGES}
    readmes = [lengths[REPOSITORY / name] for name in ("README.md", "README.pt-BR.md")]
    rules = [lines for page, lines in lengths.items() if page.parent.name == "changes"]

    assert max(readmes) <= 115
    assert max(rules) <= 300 and len(rules) >= 12


def test_every_verb_has_a_line_in_the_readme_or_a_guide() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    command = [sys.executable, "-m", "lakehouse", "--help"]
    help_text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    verbs = re.findall(r"^  ([a-z]+)  ", help_text.partition("Commands:")[2], re.MULTILINE)

    assert "run" in verbs
    assert [verb for verb in verbs if f"lakehouse {verb}" not in text] == []


# Pages whose blocks of commands a test runs, all but those that state why not.
RUN_BY = {
    "README.md": "tests/lake/test_pages.py",
    "README.pt-BR.md": "tests/lake/test_pages.py",
    "docs/tutorial.md": "tests/lake/test_pages.py",
    "docs/guide/python.md": "tests/lake/report/test_python_page.py",
    **{
        f"docs/guide/{name}.md": "tests/systems/test_how_tos.py" for name in ("look", "model-tests", "models", "report")
    },
    "docs/guide/change-feeds.md": "tests/systems/test_feed.py",
    **{
        f"docs/guide/feed-{name}.md": "tests/systems/test_feed_examples.py"
        for name in ("cdc-kaggle", "dms", "debezium", "change-sets")
    },
    "docs/guide/reading-files.md": "tests/lake/ingest/test_reading_files.py",
    "docs/guide/missing-keys.md": "tests/lake/ingest/test_grace.py",
    "docs/guide/slices.md": "tests/lake/ingest/test_slices.py",
    "docs/guide/no-keys.md": "tests/lake/ingest/test_no_keys.py",
    "docs/guide/why.md": "tests/systems/test_why.py",
}
GUIDES = [page for page in PAGES if page.parent.name == "guide" or str(page.relative_to(REPOSITORY)) in RUN_BY]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_each_command_is_run_by_a_test_or_states_why_not(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    above = [lines[n - 1] for n, line in enumerate(lines) if line == "```sh"]
    reasons = [found[1] for line in above if (found := re.fullmatch(r"<!-- not run: (\w.{15,}) -->", line))]
    named = [path for reason in reasons for path in re.findall(r"tests/[\w/.]+", reason)]

    assert str(page.relative_to(REPOSITORY)) in RUN_BY or len(reasons) == len(above)
    assert [path for path in named if not (REPOSITORY / path.rstrip(".")).exists()] == []


@pytest.mark.parametrize(("page", "test"), RUN_BY.items())
def test_the_test_that_runs_a_page_names_it(page: str, test: str) -> None:
    assert Path(page).name.removesuffix(".md") in (REPOSITORY / test).read_text(encoding="utf-8").replace(
        "TUTORIAL", "tutorial"
    )


COMMANDS_IN_PAGES = sorted(
    {
        command.strip()
        for page in PAGES
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
        for command in re.findall(r"^(?:\.venv/bin/)?lakehouse (.+)", line)
    }
)


@pytest.mark.parametrize("command", COMMANDS_IN_PAGES)
def test_a_command_of_a_page_can_be_parsed(command: str) -> None:
    lexer = shlex.shlex(command, posix=True, punctuation_chars="&|;<>")
    words = list(takewhile(lambda word: word[0] not in "&|;<>", ["lakehouse", *lexer]))[1:]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]

    assert words[0] in commands
    commands[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_command_in_the_text_of_a_page_has_a_verb_and_options_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    unknown = []
    for verb, rest in re.findall(r"`(?:\.venv/bin/)?lakehouse ([a-z]+)([^`]*)`", text):
        options = set(re.findall(r"(?<=\s|\[)--[a-z-]+", rest))
        known = {name for option in commands[verb].params for name in option.opts} if verb in commands else set()
        unknown += [f"{verb}{rest}"] if verb not in commands or not options <= known | {"--help"} else []

    assert unknown == []


def test_the_tutorial_imports_only_what_its_reader_has_installed() -> None:
    setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    installed = re.findall(r'"([a-z-]+)[>=]', setup[setup.index("install_requires") : setup.index("extras_require")])
    text = (REPOSITORY / "docs/tutorial.md").read_text(encoding="utf-8")

    imported = set(re.findall(r"^(?:python -c \")?(?:import|from) (\w+)", text, re.MULTILINE))

    assert {"duckdb", "deltalake"} <= imported <= {*installed, "lakehouse"}


def test_ci_runs_test_commands_of_the_readme_and_nothing_else() -> None:
    lines = (REPOSITORY / ".ci/run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if not line.startswith(("#", "set ", "cd "))]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")

    assert commands == ["make test", "make test-systems", "make test-live"]
    assert [command for command in commands if command not in readme] == []


ARGUMENTS_WITH_A_SECRET = [
    r"(?:-v|--set|--variable)[ =]\S*passw",
    r"--password[ =]\S",
    r"\bcurl\b.*(?: -u |--user )",
    r"\b\w*(?:PASSWORD|SECRET|TOKEN)=\S*\.\.\.",
    r"\bpsql\b.*\$\{?\w*PASSWORD",
    r"://[^\s/:@]+:[^\s/@]+@",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_command_of_a_page_has_a_password_among_its_arguments(page: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)

    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    assert [line for line in lines if re.search("|".join(ARGUMENTS_WITH_A_SECRET), line, re.IGNORECASE)] == []
