"""Runs git to read a repository: its commits, the files that they changed, and the content of files.

The repository may be anybody's. Only commands that read objects are run, with lists of arguments; they call no hook, no
filter and no program that the repository's configuration names, and they fetch nothing. Names of files end with NUL.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import IO

from lakehouse.errors import ConfigError, DataRefused, InfrastructureError, LakehouseError
from lakehouse.text import visible

MINIMUM_VERSION = (2, 25)
_CHUNK = 1 << 20
# In messages about an object of a partial clone that would have to be fetched, by several versions of git.
_LAZY_FETCH = ("lazy fetching", "promisor", "' not allowed")
_ID_HASHES = {40: "sha1", 64: "sha256"}  # by the length of ids
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# The variables that stay: where git and the user's own configuration are. The others name another repository.
_KEPT_VARIABLES = re.compile(r"GIT_(EXEC_PATH|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+))")
_ENVIRONMENT = {
    "LC_ALL": "C",  # messages are recognized by their text
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",  # the history as it was committed
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # the same for versions before 2.45
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
# The path is configured by the user, so it may be bare. Ownership is still checked, by git's `safe.directory`.
_OPTIONS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "safe.bareRepository=all")


@dataclass(frozen=True)
class Commit:
    """One commit.

    Attributes:
        id: Its id, in hex.
        committed: The committer's time, in seconds since 1970.
    """

    id: str
    committed: int


@dataclass(frozen=True)
class TreeEntry:
    """One entry of a commit's tree.

    Attributes:
        mode: Its mode, as git writes it.
        object_id: The id of its content.
    """

    mode: str
    object_id: str

    @property
    def is_file(self) -> bool:
        """Whether it is a file, and no symbolic link or submodule."""
        return self.mode.startswith("100")

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return {"120000": "a symbolic link", "160000": "a submodule"}.get(self.mode, "a file")


@dataclass(frozen=True)
class Repository:
    """A repository that exists and has a commit.

    Attributes:
        path: Its path, as configured.
        where: The place in pipeline.yml that names it, for messages.
        head: The id of the commit that HEAD names.
    """

    path: Path
    where: str
    head: str

    @cached_property
    def shallow_commits(self) -> tuple[str, ...]:
        """The commits at which the history of a shallow clone begins; none if the clone is complete."""
        file = self.path / os.fsdecode(_run(self.path, "rev-parse", "--git-path", "shallow").rstrip(b"\n"))
        return tuple(sorted(file.read_text().split())) if file.is_file() else ()

    def first_parents(self) -> list[Commit]:
        """Return HEAD's commit, its first parent, that one's first parent, and so on; oldest first."""
        output = self._read("rev-list", "--first-parent", "--reverse", "--timestamp", self.head, "--")
        lines = (line.split() for line in output.decode().splitlines())
        return [Commit(commit, int(committed)) for committed, commit in lines]

    def is_ancestor(self, commit: str) -> bool:
        """Return whether a commit, which may be unknown here, is HEAD's commit or one of its ancestors."""
        if not re.fullmatch("[0-9a-f]{40,64}", commit):
            return False
        result = subprocess.run(
            _command(self.path, "merge-base", "--is-ancestor", commit, self.head),
            env=_environment(self.path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return result.returncode == 0

    def list_files(self, commit: str, paths: Iterable[str]) -> dict[str, TreeEntry]:
        """Return the entries of a commit's tree, by name.

        Args:
            commit: The id of the commit.
            paths: Files and folders to which the result is limited; none for all.
        """
        output = self._read("ls-tree", "-r", "-z", "--full-tree", commit, "--", *paths)
        entries = (line.partition(b"\t") for line in output.split(b"\0") if line)
        return {_text(name): _tree_entry(*head.decode().split()[::2]) for head, _, name in entries}

    def changed_files(
        self, commits: Iterable[tuple[str, str | None]], paths: Iterable[str]
    ) -> Iterator[tuple[str, str, TreeEntry | None]]:
        """Yield each file that a commit changed: the commit's id, the name, and the entry; None if it was removed.

        All commits are compared by one process.

        Args:
            commits: The id of each commit, and that of the commit to compare it with; None for an empty tree.
            paths: Files and folders to which the result is limited; none for all.
        """
        options = ("--stdin", "-r", "-z", "--raw", "--root", "--no-renames", "--no-ext-diff", "--no-textconv")
        command = _command(self.path, "diff-tree", *options, "--", *paths)
        with TemporaryFile() as pairs, TemporaryFile() as errors:
            pairs.writelines(f"{commit} {parent or ''}".rstrip().encode() + b"\n" for commit, parent in commits)
            pairs.seek(0)
            with subprocess.Popen(
                command, env=_environment(self.path), stdin=pairs, stdout=subprocess.PIPE, stderr=errors
            ) as process:
                assert process.stdout
                commit, texts = "", _split_at_nul(process.stdout)
                for text in texts:
                    if text.startswith(b":"):
                        _, mode, _, object_id, _ = text[1:].decode().split()
                        name = _text(next(texts))
                        yield commit, name, None if mode == "000000" else _tree_entry(mode, object_id)
                    else:
                        commit = text.decode()
            if process.returncode:
                raise _failure(self.path, "diff-tree", _content(errors))

    @contextmanager
    def open_blobs(self) -> Iterator[Blobs]:
        """Open the reader of files' content, one process for all files; it ends with the block."""
        with TemporaryFile() as errors:
            process = subprocess.Popen(
                _command(self.path, "cat-file", "--batch"),
                env=_environment(self.path),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
            try:
                yield Blobs(self, process, errors)
            finally:
                process.kill()  # it holds nothing open but its pipes
                process.communicate()

    def _read(self, *arguments: str) -> bytes:
        return _run(self.path, *arguments)


class Blobs:
    """Copies the content of files out of a repository, one at a time.

    Args:
        repository: The repository.
        process: A running `git cat-file --batch`.
        errors: The file with that process's messages.
    """

    def __init__(self, repository: Repository, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        assert process.stdin and process.stdout
        self._repository, self._errors, self._lock = repository, errors, Lock()
        self._requests, self._answers = process.stdin, process.stdout

    def copy(self, entry: TreeEntry, target: Path, name: str) -> None:
        """Write the content of a file, as it was committed.

        Args:
            entry: The file.
            target: The file to write.
            name: Its name and commit, for messages.

        Raises:
            DataRefused: The content is kept outside the repository, by Git LFS; or it is not what was committed.
            ConfigError: The clone is partial, and lacks the content.
            InfrastructureError: The repository cannot be read.
        """
        with self._lock, target.open("wb") as copy:
            start = self._copy(entry.object_id, self._request(entry.object_id, name), copy, name)
        if start.startswith(_LFS_POINTER):
            raise DataRefused(
                f"{visible(name)} is a pointer of Git LFS: its content is not in the repository",
                expected="files that the repository itself contains",
                where=str(self._repository.path),
                next_step="set source.since to a day after the last commit with such a pointer, or change `file`",
            )

    def _request(self, object_id: str, name: str) -> int:
        """Ask for the content of a file and return its size; the content follows."""
        try:
            self._requests.write(f"{object_id}\n".encode())
            self._requests.flush()
            header = self._answers.readline().split()
        except BrokenPipeError:
            header = []
        if header[1:] == [b"missing"]:
            raise _partial_clone_error(self._repository.path)
        if len(header) != 3:
            raise _failure(self._repository.path, "cat-file", _content(self._errors))
        if header[:2] != [object_id.encode(), b"blob"]:
            found = f"{header[1].decode(errors='replace')} {header[0].decode(errors='replace')}"
            raise self._foreign_content(name, object_id, visible(found))
        return int(header[2])

    def _copy(self, object_id: str, size: int, copy: IO[bytes], name: str) -> bytes:
        """Copy the content that follows, and return its first bytes.

        Its id is a hash of it, which git itself does not compute again when it reads.
        """
        start, digest = b"", hashlib.new(_ID_HASHES[len(object_id)], b"blob %d\0" % size, usedforsecurity=False)
        while size:
            chunk = self._answers.read(min(size, _CHUNK))
            if not chunk:
                raise _failure(self._repository.path, "cat-file", _content(self._errors))
            copy.write(chunk)
            digest.update(chunk)
            start, size = start or chunk[: len(_LFS_POINTER)], size - len(chunk)
        self._answers.read(1)  # the line feed after the content
        if digest.hexdigest() != object_id:
            raise self._foreign_content(name, object_id, f"content whose id is {digest.hexdigest()}")
        return start

    def _foreign_content(self, name: str, object_id: str, found: str) -> DataRefused:
        return DataRefused(
            f"{visible(name)}: the commit names the content {object_id}, and the repository has the {found} there",
            expected="the content that was committed",
            where=str(self._repository.path),
            next_step=f"{git_command(self._repository.path)} fsck, or clone it again",
        )


def open_repository(path: Path, where: str) -> Repository:
    """Return a repository, after a look whether git can read it.

    Args:
        path: A folder with a repository, bare or with a work tree.
        where: The place in pipeline.yml that names it, for messages.

    Raises:
        ConfigError: There is no repository, it has no commit, or git is missing, too old, or refuses to read it.
    """
    if not path.is_dir():
        raise ConfigError(
            f"the repository {path} is a file" if path.exists() else f"the repository {path} does not exist",
            expected="a folder with a git repository",
            where=where,
            next_step="correct source.path, or clone the repository there: git clone URL PATH",
        )
    _require_version(where)
    try:
        _run(path, "rev-parse", "--git-dir")
    except InfrastructureError as error:
        raise _refusal(path, where, error.found) from None
    try:
        head = _run(path, "rev-parse", "--verify", "HEAD^{commit}")
    except InfrastructureError:
        raise ConfigError(
            f"the repository {path} has no commit at HEAD",
            expected="a branch with at least one commit",
            where=where,
            next_step=f"fetch into it, or look which branch HEAD names: {git_command(path)} symbolic-ref HEAD",
        ) from None
    return Repository(path, where, head.decode().strip())


def git_command(path: Path) -> str:
    """Return the beginning of a git command for a repository, as it is typed.

    Args:
        path: The path of the repository.
    """
    return f"git -C {shlex.quote(str(path))}"


def _refusal(path: Path, where: str, message: str) -> ConfigError:
    """Return the error about a folder that git does not read as a repository."""
    if "dubious ownership" in message or "unsafe repository" in message:
        return ConfigError(
            f"the repository {path} belongs to another user, so git does not read it",
            expected="a repository of the user who runs this, or one that is listed as safe",
            where=where,
            next_step=f"if you trust it: git config --global --add safe.directory {shlex.quote(str(path.resolve()))}",
        )
    is_missing = "not a git repository" in message
    return ConfigError(
        f"{path} is not a git repository" if is_missing else f"git cannot read {path}: {message}",
        expected="the folder of a repository itself, bare or with a work tree; not a folder inside it",
        where=where,
        next_step="correct source.path, or clone the repository there: git clone URL PATH",
    )


def _require_version(where: str) -> None:
    try:
        output = subprocess.run(
            ["git", "version"],  # noqa: S607 - the git of the PATH, as users have it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        ).stdout
    except OSError as error:
        found = "git is not installed" if isinstance(error, FileNotFoundError) else f"git cannot be started: {error}"
    else:
        version = re.search(rb"git version (\d+)\.(\d+)", output)
        if version and (int(version[1]), int(version[2])) >= MINIMUM_VERSION:
            return
        found = f"git is too old: {visible(output.decode(errors='replace').strip())}"
    raise ConfigError(
        found,
        expected=f"git {MINIMUM_VERSION[0]}.{MINIMUM_VERSION[1]} or later on the PATH",
        where=where,
        next_step="install git, or a later version of it",
    )


def _run(path: Path, *arguments: str) -> bytes:
    """Return the output of a git command.

    Raises:
        InfrastructureError: It failed; the message is git's.
        ConfigError: The clone is partial, and lacks an object.
    """
    result = subprocess.run(
        _command(path, *arguments),
        env=_environment(path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        raise _failure(path, arguments[0], result.stderr)
    return result.stdout


def _command(path: Path, *arguments: str) -> list[str]:
    options = [word for option in _OPTIONS for word in ("-c", option)]
    return ["git", "--no-pager", *options, "-C", str(path), *arguments]


def _environment(path: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or _KEPT_VARIABLES.fullmatch(name)
    }
    # A repository around the folder is not meant.
    return kept | _ENVIRONMENT | {"GIT_CEILING_DIRECTORIES": str(path.resolve().parent)}


def _failure(path: Path, command: str, message: bytes) -> LakehouseError:
    """Return the error about a command that failed."""
    text = message.decode(errors="replace").strip()
    if any(words in text for words in _LAZY_FETCH):
        return _partial_clone_error(path)
    first_line = text.splitlines()[0].removeprefix("fatal: ") if text else f"git {command} ended without a message"
    return InfrastructureError(
        first_line,
        expected=f"a repository whose commits and files can all be read by git {command}",
        where=str(path),
        next_step=f"{git_command(path)} fsck, or clone it again",
    )


def _partial_clone_error(path: Path) -> ConfigError:
    return ConfigError(
        "the clone lacks the content of files, or their names",
        expected="a clone with all of it, made without --filter: nothing is fetched here",
        where=str(path),
        next_step="clone the repository again without --filter",
    )


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _split_at_nul(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(_CHUNK):
        *texts, rest = (rest + chunk).split(b"\0")
        yield from texts


def _text(name: bytes) -> str:
    """Return a file's name as text; bytes that are not UTF-8 become escapes."""
    return name.decode("utf-8", "backslashreplace")


def _tree_entry(mode: str, object_id: str) -> TreeEntry:
    return TreeEntry(mode, object_id)
