"""Compares jars that Maven has downloaded with lists of SHA-256, before anything of them runs.

    python3 deploy/connect/jar_lists.py     # writes both lists from a new download: make lock-connect-jars

Maven compares a download only with a checksum from the same server. The lists have the format of `sha256sum`, with
which the images check them (deploy/compose/java.Dockerfile). Maven's plugins, which run in a build, are not checked.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE / "jars.sha256"
S3PROXY_POM = HERE.parents[1] / "tests" / "servers" / "s3proxy-pom.xml"
S3PROXY_LIST = S3PROXY_POM.with_name("s3proxy.sha256")
OWN_JARS = frozenset({"plugins/s3-json-sink/s3-json-sink-1.jar"})  # built from this repository


def check_jars(folder: Path, jar_list: Path) -> None:
    """Check all jars below a folder.

    Args:
        folder: The folder.
        jar_list: The list, with paths relative to the folder.

    Raises:
        RuntimeError: A jar has another content than the list says, is not on it, or is missing.
    """
    wanted = {name: digest for digest, _, name in map(_parts, jar_list.read_text(encoding="utf-8").splitlines())}
    found = _hashes(folder)
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise RuntimeError(
            f"{len(wrong)} jars in {folder} are not those of {jar_list}: {', '.join(wrong[:5])}. Delete the folder, and"
            " have it downloaded again. If they differ again, find out where your Maven downloads them from; after a"
            " change of a version, `make lock-connect-jars` writes the list"
        )


def s3proxy_command(folder: Path) -> list[str]:
    """Return the command that downloads s3proxy's jars to a folder."""
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    return ["mvn", "-q", "-B", "-f", str(S3PROXY_POM), *goal]


def connect_command() -> list[str]:
    """Return the command that downloads Kafka and Debezium to target/, and builds the sink."""
    return ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "package"]


def _parts(line: str) -> tuple[str, str, str]:
    return line.partition("  ")


def _hashes(folder: Path) -> dict[str, str]:
    jars = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.jar")}
    return {n: hashlib.sha256(jar.read_bytes()).hexdigest() for n, jar in sorted(jars.items()) if n not in OWN_JARS}


def _write_list(folder: Path, jar_list: Path) -> None:
    lines = (f"{digest}  {name}\n" for name, digest in _hashes(folder).items())
    jar_list.write_text("".join(lines), encoding="utf-8")
    print(f"{jar_list} is written")


def main() -> None:
    """Write both lists from a new download, which leaves Maven's own repository aside."""
    with tempfile.TemporaryDirectory() as name:
        repository, s3proxy = f"-Dmaven.repo.local={name}/repository", Path(name, "s3proxy")
        shutil.rmtree(HERE / "target", ignore_errors=True)
        subprocess.run([*connect_command(), "-DskipTests", repository], check=True)
        _write_list(HERE / "target", LIST)
        subprocess.run([*s3proxy_command(s3proxy), repository], check=True)
        _write_list(s3proxy, S3PROXY_LIST)


if __name__ == "__main__":
    main()
