"""The benchmark's command line: ``python -m bench --help``."""

import argparse
import contextlib
import fnmatch
import http.client
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

import bench
from bench.cases import CASES, Case, Material, Run, Sizes, StoreCase, warm_up
from bench.machine import describe, file_system, flushes_per_s
from bench.peers import PEERS, REPOSITORY, PeerFailed, add_variant
from bench.report import Report, Result, spread
from bench.senders import SendingFailed
from bench.testdata import generate

FLUSH_BYTES = {"33 KB": 33_000, "1 KB": 1_000}
FAILURES = (PeerFailed, SendingFailed, OSError, http.client.HTTPException)
# Option: instances or samples, in a full run and in a quick one.
AMOUNTS = {"count": (500, 60), "slow_count": (50, 10), "samples": (200, 50)}
WIDTH_WITHOUT_TERMINAL = 200


def main() -> int:
    """Run what the command line asks for.

    Returns 0, 1 if a case failed, 2 if nothing was selected, 130 if interrupted.
    """
    options = _options()
    console, progress = Console(width=options.width), Console(stderr=True, highlight=False, soft_wrap=True)
    cases = _selected(options.cases)
    if options.list:
        for case in CASES:
            console.print(f"{case.name:24} {case.title}: {', '.join(case.peers)}", highlight=False)
        return 0
    if not cases:
        progress.print("no case has such a name; --list shows them")
        return 2
    sizes = Sizes(options.count, options.slow_count, options.samples, options.samples_seconds)
    interrupted = False
    with _scratch(options.directory) as scratch:
        if (kind := file_system(scratch)) in ("tmpfs", "ramfs"):
            progress.print(f"warning: {scratch} is a {kind}, where a flush costs nothing; use --directory")
        report = Report(describe(scratch), _amounts_note(options.rounds, sizes), {}, [], cases)
        progress.print("generating instances")
        material = _material(scratch, cases, sizes)
        try:
            for number in range(options.rounds):
                for result in _round(number, report, options.peers, scratch, material):
                    report.results.append(result)
                    progress.print(f"round {number + 1}/{options.rounds} {_line(result)}", markup=False)
        except KeyboardInterrupt:
            interrupted = True
            progress.print("interrupted; what was measured so far:")
    report.print(console)
    if options.markdown:
        report.write_markdown(options.markdown)
    if options.json:
        report.write_json(options.json)
    if interrupted:
        return 130
    return 1 if report.failures() else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=bench.__doc__)
    add = parser.add_argument
    add("--cases", nargs="+", metavar="PATTERN", help="names, with * and ? (default: all but 8 associations)")
    add("--peers", nargs="+", metavar="PEER", choices=list(PEERS), default=list(PEERS), help=f"{', '.join(PEERS)}")
    add(
        "--variant",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "JSON"),
        help="one peer more in the store cases: the gateway with these options in its section",
    )
    add("--list", action="store_true", help="list the cases and end")
    add("--rounds", type=int, default=3, help="every peer runs every case once in each (default 3)")
    add("--count", type=int, help="instances in a store case (default 500)")
    add("--slow-count", type=int, help="instances per association with Nagle's algorithm on (default 50)")
    add("--samples", type=int, help="single messages or associations in the other cases (default 200)")
    add("--samples-seconds", type=float, default=5.0, help="begin no sample after so long (default 5)")
    add("--quick", action="store_true", help="one round with few instances: does it work, roughly")
    add("--directory", type=Path, default=REPOSITORY / "var", help="a folder on a real disk (default: var/)")
    add(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables there, between its marks if it has them",
    )
    add("--json", type=Path, metavar="FILE", help="write every single figure there")
    add("--width", type=int, help="columns of the printed tables (default: the terminal's)")
    options = parser.parse_args()
    for name, section in options.variant:
        add_variant(name, json.loads(section))
        options.peers.append(name)
    for name, (full, quick) in AMOUNTS.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    if options.quick:
        options.rounds = 1
    if options.width is None and not sys.stdout.isatty():
        options.width = WIDTH_WITHOUT_TERMINAL
    return options


def _selected(patterns: Sequence[str] | None) -> list[Case]:
    if patterns is None:
        return [case for case in CASES if not case.optional]
    return [case for case in CASES if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]


def _amounts_note(rounds: int, sizes: Sizes) -> str:
    return (
        f"Rounds: {rounds}, each peer once in each, median [min-max]. {sizes.instances} instances in a store "
        f"case, but {sizes.slow_instances} per association where one side has Nagle's algorithm on."
    )


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _emptied_folder(parent: Path) -> Iterator[Path]:
    """A folder whose files are empty afterwards: to delete thousands would slow the next measurement down.

    ext4 without a journal does not give an inode out for a minute after it was deleted and looks at each of them
    whenever a file is created; with `discard`, freeing blocks delays the flushes of others.
    """
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, 0)
        os.sync()


def _material(folder: Path, cases: Sequence[Case], sizes: Sizes) -> Material:
    counts = {"mr128": sizes.samples}
    for case in cases:
        if isinstance(case, StoreCase):
            most = max(case.instances(peer, sizes) for peer in case.peers)
            counts[case.shape] = max(counts.get(case.shape, 0), most)
    data = {shape: generate(folder / shape, shape, count) for shape, count in counts.items()}
    return Material(data, generate(folder / "warm-up", "mr128", 1)[0], sizes)


def _round(number: int, report: Report, peers: Sequence[str], scratch: Path, material: Material) -> Iterator[Result]:
    for label, size in FLUSH_BYTES.items():
        report.flushes.setdefault(label, []).append(flushes_per_s(scratch, size))
    for case in report.cases:
        order = [peer for peer in case.peers if peer in peers]
        if number % 2:  # who comes first may meet a busier disk
            order.reverse()
        for peer in order:
            yield _measure(number, case, peer, scratch, material)


def _measure(number: int, case: Case, peer_name: str, scratch: Path, material: Material) -> Result:
    with _emptied_folder(scratch) as folder:
        try:
            with PEERS[peer_name].start(folder) as peer:
                try:
                    run = Run(peer, peer_name, folder, material)
                    warm_up(run)
                    os.sync()  # what an earlier peer left to be written is not this one's work
                    return Result(case.name, peer_name, number, case.run(run))
                except FAILURES as error:
                    raise PeerFailed(f"{error}; {peer.condition()}") from error
        except FAILURES as error:
            return Result(case.name, peer_name, number, failure=str(error))


def _line(result: Result) -> str:
    shown = ("acknowledged_s", "stored_s", "p50_ms", "associations_per_s")
    figures = [f"{key} {spread([result.figures[key]])}" for key in shown if key in result.figures]
    outcome = f"FAILED, {result.failure}" if result.failure else ", ".join(figures)
    return f"{result.case} {result.peer}: {outcome}"


if __name__ == "__main__":
    sys.exit(main())
