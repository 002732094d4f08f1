"""Measures an incremental diff: a new CSV against the stored state, with the change set written; ours and others.

    .venv/bin/python bench/changes.py --rows 1000000 --shares 0.01

Every peer compares the same files in a process of its own, whose start is not counted: first cold, then once more,
warm. The result is compared, column by column, with the generated changes: a peer with any other result fails the
bench. Seconds depend on the machine; the ratios to DuckDB in the same round are comparable.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # use the package of this clone, not an installed one

from peers import data, page, process, trial  # noqa: E402

Results = dict[str, list[dict[str, Any]]]


def run_peer(peer: str, *paths: Path) -> Any:
    """Run a peer in a process of its own; return its result."""
    return process.run_module("peers.trial", peer, *paths)


def prepare_states(peers: Iterable[str], folder: Path, rows: int, work: Path) -> dict[str, Path]:
    """Prepare the state that each peer compares the snapshot with, from v1."""
    csv, parquet = data.state_files(folder, rows)
    states = dict.fromkeys(peers, parquet)
    if trial.MERGE in states:
        run_peer(f"prepare:{trial.MERGE}", parquet, _new_folder(work / "delta"))
        states[trial.MERGE] = work / "delta/table"
    if trial.OURS in states:
        run_peer(f"prepare:{trial.OURS}", csv, _new_folder(work / "ours"))
        states[trial.OURS] = work / "ours/pipeline"
    return states


def measure_peers(peers: list[str], state: dict[str, Path], new: Path, work: Path, rounds: int) -> Results:
    """Run each peer once per round, so that other load on the machine affects all of them."""
    results: Results = {peer: [] for peer in peers}
    if trial.OURS in state:
        trial.land_snapshot(state[trial.OURS], new, work / "landed")
        state = state | {trial.OURS: work / "landed"}
    for n in range(rounds):
        for peer in peers:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                result = run_peer(peer, state[peer], new, Path(folder))
            results[peer].append(result)
            print(f"round {n + 1}  {peer:<16} {result['cold']:8.2f} {result['warm']:8.2f} s", file=sys.stderr)
    return results


def disagreements(results: Results, expected: data.Changes) -> list[str]:
    """Return a line for each peer whose changes differ from the generated ones."""
    lines = []
    for peer, trials in results.items():
        for changes in (c for result in trials for c in result["changes"]):
            if changes != asdict(expected):
                lines.append(f"{peer} found {data.Changes(**changes)}; expected are {expected}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--shares", type=_parse_shares, default=[0.001, 0.01, 0.2], help="shares of changed rows: 0.001,0.01"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=trial.PEERS, metavar="NAME,...")
    parser.add_argument("--data", type=Path, help="folder that keeps the generated files; by default a temporary one")
    parser.add_argument("--out", type=Path, help="page whose table gets the rows, such as docs/bench.md")
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in trial.PEERS]:
        parser.error(f"unknown peer {', '.join(unknown)}: the peers are {', '.join(trial.PEERS)}")
    skipped = {peer: reason for peer in options.only if (reason := trial.missing_reason(peer))}
    for peer, reason in skipped.items():
        print(f"{peer} is skipped: {reason}", file=sys.stderr)
    peers = [peer for peer in trial.PEERS if peer in options.only and peer not in skipped]
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.data or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="work-") as work:
            states = prepare_states(peers, folder, options.rows, Path(work))
            for share in options.shares:
                new, expected = (
                    data.snapshot_file(folder, options.rows, share),
                    data.expected_changes(options.rows, share),
                )
                results = measure_peers(peers, states, new, _new_folder(Path(work) / f"{share:g}"), options.rounds)
                if wrong := disagreements(results, expected):
                    raise SystemExit("\n".join(wrong))
                rows.append(page.diff_row(page.Measurement(options.rows, share, options.rounds, results)))
    print(page.diff_section(rows))
    if options.out:
        page.write_section(options.out, page.diff_section(rows, page.read_section(options.out, page.DIFF_HEADING)))


def _parse_shares(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
