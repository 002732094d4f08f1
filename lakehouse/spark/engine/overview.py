"""Shows and stops the engines of the user: `lakehouse engine status|stop`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lakehouse.spark.engine.files import Engine, EngineFolder, engines_folder


def status() -> dict[str, Any]:
    """Return the engines that run: their processes, use, heap and the readable parts of their keys."""
    folder = EngineFolder(engines_folder())
    return {"engines": [_document(folder, engine) for engine in folder.engines()]}


def stop(force: bool) -> dict[str, Any]:
    """End the engines that no command uses.

    Args:
        force: Kill those that a command uses too; the command then fails with exit code 3.

    Returns:
        `stopped` and `in_use`, lists of engines as `status` describes them.
    """
    folder = EngineFolder(engines_folder())
    stopped: list[dict[str, Any]] = []
    in_use: list[dict[str, Any]] = []
    if not folder.path.exists():
        return {"stopped": stopped, "in_use": in_use}
    with folder.locked():
        for engine in folder.engines():
            document = _document(folder, engine)
            (stopped if _stop(folder, engine, force) else in_use).append(document)
    return {"stopped": stopped, "in_use": in_use}


def _stop(folder: EngineFolder, engine: Engine, force: bool) -> bool:
    lease = folder.try_lease(engine.id)
    if lease is None and not force:
        return False
    if lease and not lease.holder():
        folder.end(engine)
    else:
        folder.kill(engine)
    if lease:
        lease.close()
    return True


def _document(folder: EngineFolder, engine: Engine) -> dict[str, Any]:
    holder = folder.holder(engine.id)
    state = "starting" if engine.jvm is None else "in use" if holder else "idle"
    return {
        "id": engine.id,
        "state": state,
        "jvm": engine.jvm.pid if engine.jvm else None,
        "keeper": engine.keeper.pid,
        "command": holder.pid if holder else None,
        "commands": engine.commands,
        "started": engine.started,
        "idle_since": (engine.last_used or engine.started) if state == "idle" else None,
        "memory_bytes": _resident_bytes(engine),
        "heap_bytes": engine.heap_bytes,
        "heap_max_bytes": engine.heap_max_bytes,
        "log": str(folder.file(engine.id, "log")),
        **engine.about,
    }


def _resident_bytes(engine: Engine) -> int:
    """Return the memory that the JVM uses."""
    if engine.jvm is None:
        return 0
    try:
        lines = Path(f"/proc/{engine.jvm.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    kilobytes = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return 1024 * int(next(kilobytes, "0"))
