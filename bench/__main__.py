"""The benchmark's command line: ``python -m bench --help``."""

import argparse
import contextlib
import fnmatch
import http.client
import itertools
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from rich.console import Console

import bench
from bench.case import Case, Material, Run, Sizes
from bench.cases import CASES
from bench.machine import describe, file_system, flushes_per_s
from bench.peers import PEERS, REPOSITORY, Peer, PeerFailed, add_variant
from bench.report import Report, Result, spread
from bench.retrieve_clients import RetrieveFailed
from bench.senders import SendingFailed
from bench.store_cases import StoreCase
from bench.testdata import generate

FLUSH_BYTES = {"33 KB": 33_000, "1 KB": 1_000}
FAILURES = (PeerFailed, SendingFailed, RetrieveFailed, BrokenExecutor, OSError, http.client.HTTPException)
# Option: instances or samples, in a full run and in a quick one.
AMOUNTS = {
    "count": (500, 60),
    "slow_count": (50, 10),
    "samples": (200, 20),
    "samples_seconds": (5.0, 2.0),
    "queries": (100, 20),
    "studies": (5000, 400),
    "retrieved": (1000, 60),
    "orders": (1000, 100),
    "commitments": (20, 4),
}
GROUPS = tuple(dict.fromkeys(case.group for case in CASES))
WIDTH_WITHOUT_TERMINAL = 200
# fmt: off
SHOWN_AT_ONCE = (
    "acknowledged_s", "stored_s", "p50_ms", "associations_per_s", "queries_per_s", "ms_per_instance", "orders_per_s",
    "transactions_per_s",
)
# fmt: on


def main() -> int:
    """Run what the command line asks for.

    Returns 0, 1 if a case failed, 2 if nothing was selected, 130 if interrupted.
    """
    options = _options()
    console, progress = Console(width=options.width), Console(stderr=True, highlight=False, soft_wrap=True)
    cases = _selected(options.groups, options.cases)
    if options.list:
        for case in CASES:
            optional = " (optional)" if case.optional else ""
            console.print(f"{case.name:24} {case.title}: {', '.join(case.peers)}{optional}", highlight=False)
        return 0
    if not cases:
        progress.print("no case has such a name; --list shows them")
        return 2
    sizes = Sizes(
        options.count,
        options.slow_count,
        options.samples,
        options.samples_seconds,
        options.queries,
        options.studies,
        options.retrieved,
        options.orders,
        options.commitments,
    )
    interrupted = False
    with _scratch(options.directory) as scratch:
        if (kind := file_system(scratch)) in ("tmpfs", "ramfs"):
            progress.print(f"warning: {scratch} is a {kind}, where a flush costs nothing; use --directory")
        report = Report(_command(), describe(scratch), options.rounds, sizes, {}, [], cases)
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
    add("--cases", nargs="+", metavar="PATTERN", help="names, with * and ? (default: all that are not optional)")
    add("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="only cases of these groups")
    add("--peers", nargs="+", metavar="PEER", choices=list(PEERS), default=list(PEERS), help=f"{', '.join(PEERS)}")
    add(
        "--variant",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "JSON"),
        help="one peer more: the gateway with these options in its section",
    )
    add("--orders", type=int, help="HL7 orders in a case (default 1000)")
    add("--commitments", type=int, help="transactions of storage commitment in a case (default 20)")
    add("--list", action="store_true", help="list the cases and end")
    add("--rounds", type=int, default=3, help="every peer runs every case once in each (default 3)")
    add("--count", type=int, help="instances in a store case (default 500)")
    add("--slow-count", type=int, help="instances per association with Nagle's algorithm on (default 50)")
    add("--samples", type=int, help="single messages or associations in the other cases (default 200)")
    add("--samples-seconds", type=float, help="begin no sample after so long (default 5)")
    add("--queries", type=int, help="queries in a case, of all clients together (default 100)")
    add("--studies", type=int, help="studies in the archive that is queried (default 5000)")
    add("--retrieved", type=int, help="instances of 525 KB that are retrieved, twice as many of 33 KB (default 1000)")
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


def _selected(groups: Sequence[str], patterns: Sequence[str] | None) -> list[Case]:
    cases = [case for case in CASES if case.group in groups]
    if patterns is None:
        return [case for case in cases if not case.optional]
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]


def _command() -> str:
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])


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
    return Material(folder, data, generate(folder / "warm-up", "mr128", 1)[0], sizes)


def _round(number: int, report: Report, peers: Sequence[str], scratch: Path, material: Material) -> Iterator[Result]:
    for label, size in FLUSH_BYTES.items():
        report.flushes.setdefault(label, []).append(flushes_per_s(scratch, size))
    for _, stage in itertools.groupby(report.cases, key=lambda case: case.stage):
        cases = list(stage)
        named = dict.fromkeys(peer for case in cases for peer in case.peers)
        order = [peer for peer in named if peer in peers]
        if number % 2:  # who comes first may meet a busier disk
            order.reverse()
        started = time.monotonic()
        for peer in order:
            yield from _measure(number, [case for case in cases if peer in case.peers], peer, scratch, material)
        report.add_duration(cases[0].group, time.monotonic() - started)


def _measure(number: int, cases: Sequence[Case], peer_name: str, scratch: Path, material: Material) -> Iterator[Result]:
    """Start a server and run `cases`, all of one stage, on it."""
    remaining = list(cases)
    with _emptied_folder(scratch) as folder:
        try:
            setting = cases[0].setting(folder, material)
            with PEERS[peer_name].start(folder, setting) as peer:
                run = Run(peer, peer_name, folder, material)
                with _blamed(peer):
                    cases[0].warm_up(run)
                os.sync()  # what an earlier peer left to be written is not this one's work
                while remaining:
                    case = remaining.pop(0)
                    yield _result(number, case, run)
        except FAILURES as error:
            for case in remaining:
                yield Result(case.name, peer_name, number, failure=str(error))


def _result(number: int, case: Case, run: Run) -> Result:
    try:
        with _blamed(run.peer):
            return Result(case.name, run.peer_name, number, case.run(run))
    except FAILURES as error:
        return Result(case.name, run.peer_name, number, failure=str(error))


@contextlib.contextmanager
def _blamed(peer: Peer) -> Iterator[None]:
    """Add the server's condition to a failure."""
    try:
        yield
    except FAILURES as error:
        raise PeerFailed(f"{error}; {peer.condition()}") from error


def _line(result: Result) -> str:
    figures = [f"{key} {spread([result.figures[key]])}" for key in SHOWN_AT_ONCE if key in result.figures]
    outcome = f"FAILED, {result.failure}" if result.failure else ", ".join(figures)
    return f"{result.case} {result.peer}: {outcome}"


if __name__ == "__main__":
    sys.exit(main())
