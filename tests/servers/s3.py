"""Runs S3 servers for tests, on a free port of the loopback, during a block.

moto       from pip, in memory, starts in a second; its writes are atomic. It checks no signature and no rights, unless
           INITIAL_NO_AUTH_ACTION_COUNT is set: after so many requests it checks signatures, and the actions and
           resources of IAM policies, but not their conditions
s3proxy    from Maven, on a disk; checks signatures, knows no policies, creates an object atomically if there is none.
           Its If-Match is not atomic: of several such writes at the same time more than one succeeds
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jar_lists import S3PROXY_LIST, S3PROXY_POM, check_jars, s3proxy_command
from servers.ports import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testsecret", "AWS_REGION": "us-east-1"}

_MOTO = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
_LOGBACK = Path(__file__).with_name("s3proxy-log.xml")
_PROPERTIES = """
s3proxy.endpoint=http://127.0.0.1:{port}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={AWS_ACCESS_KEY_ID}
s3proxy.credential={AWS_SECRET_ACCESS_KEY}
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir={folder}
"""


@contextmanager
def moto(folder: Path, **environment: str) -> Iterator[str]:
    """Run moto, with further environment variables; yield its address."""
    log = folder / "moto.log"
    settings = {"env": os.environ | environment, "stderr": subprocess.STDOUT}
    with log.open("wb") as out, subprocess.Popen(_MOTO, stdout=out, **settings) as process:
        try:
            yield _wait_for_log(log, r"Running on (http://127\.0\.0\.1:\d+)", process)
        finally:
            process.kill()


@contextmanager
def s3proxy(folder: Path) -> Iterator[str]:
    """Run s3proxy with its objects below `folder`; yield its address."""
    (folder / "objects").mkdir()
    port = free_port()
    settings = folder / "s3proxy.conf"
    settings.write_text(_PROPERTIES.format(port=port, folder=folder / "objects", **CREDENTIALS))
    java = [str(Path(os.environ["JAVA_HOME"], "bin", "java")) if "JAVA_HOME" in os.environ else "java", "-Xmx256m"]
    java += [f"-Dlogback.configurationFile={_LOGBACK}", "-cp", f"{s3proxy_jars()}/*", "org.gaul.s3proxy.Main"]
    log = folder / "s3proxy.log"
    command = [*java, "--properties", str(settings)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            _wait_for_port(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def s3proxy_jars() -> Path:
    """Return a folder outside the repository with s3proxy's jars, which Maven downloads at first use (57 MB)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "lakehouse-tests"
    jars = cache / f"s3proxy-{re.findall(r'<version>([^<]+)', S3PROXY_POM.read_text())[-1]}"
    if jars.is_dir():
        check_jars(jars, S3PROXY_LIST)
        return jars
    fetching = cache / f".{jars.name}.{os.getpid()}"
    subprocess.run(s3proxy_command(fetching), check=True, timeout=240)
    check_jars(fetching, S3PROXY_LIST)
    try:
        fetching.rename(jars)
    except OSError:  # another test process was faster
        shutil.rmtree(fetching)
    return jars


def client(url: str) -> Any:
    """Return a boto3 client of a server."""
    import boto3

    return boto3.session.Session(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]).client(
        "s3", region_name=CREDENTIALS["AWS_REGION"], endpoint_url=url
    )


def _wait_for_log(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found[1]
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.1)
    raise TimeoutError(log.read_text(errors="replace"))


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.1)
    raise TimeoutError(log.read_text(errors="replace"))
