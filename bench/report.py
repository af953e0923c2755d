"""Results as tables: for the terminal, as Markdown, as JSON."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.cases import Case, Figures
from bench.peers import PEERS

MARKDOWN_BEGIN = "<!-- results: written by python -m bench --markdown -->"
MARKDOWN_END = "<!-- end of results -->"
NOTHING = "–"


@dataclass(frozen=True)
class Result:
    """What one peer did in one case in one round: figures, or why there are none."""

    case: str
    peer: str
    round: int
    figures: Figures = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class Column:
    heading: str
    key: str
    ratio: bool = False  # of the medians, to the case's reference


# By the title of a case: what its table shows.
COLUMNS = {
    "Store": (
        Column("n", "instances"),
        Column("acknowledged s", "acknowledged_s"),
        Column("ms/instance", "acknowledged_ms_per_instance"),
        Column("instances/s", "acknowledged_per_s"),
        Column("÷ ref.", "acknowledged_ms_per_instance", ratio=True),
        Column("all stored s", "stored_s"),
        Column("÷ ref.", "stored_ms_per_instance", ratio=True),
        Column("CPU s/1000: server", "server_cpu_s_per_1000"),
        Column("gateway", "gateway_cpu_s_per_1000"),
        Column("peak MB: server", "server_peak_mb"),
        Column("worker", "worker_peak_mb"),
        Column("forwarder", "forwarding_peak_mb"),
        Column("supervisor", "supervisor_peak_mb"),
        Column("other", "gateway_peak_mb"),
    ),
    "Store while other associations are idle": (
        Column("stored", "samples"),
        Column("p50 ms", "p50_ms"),
        Column("÷ ref.", "p50_ms", ratio=True),
        Column("p95 ms", "p95_ms"),
        Column("CPU % before, all idle", "idle_cpu_percent"),
        Column("idle ones open at the end", "idle_open_at_end"),
    ),
    "Association set-up: associate, C-ECHO, release": (
        Column("cycles", "samples"),
        Column("p50 ms", "p50_ms"),
        Column("÷ ref.", "p50_ms", ratio=True),
        Column("p95 ms", "p95_ms"),
        Column("cycles/s", "associations_per_s"),
        Column("errors", "errors"),
        Column("CPU s/1000", "cpu_s_per_1000"),
    ),
}


@dataclass(frozen=True)
class Report:
    """All results of one call of the benchmark.

    `machine` describes what it ran on; `flushes`: files made durable in a second, by size, one per round.
    """

    machine: list[str]
    sizes: str
    flushes: dict[str, list[float]]
    results: list[Result]
    cases: Sequence[Case]

    def failures(self) -> list[str]:
        return [f"{r.case}, {r.peer}, round {r.round + 1}: {r.failure}" for r in self.results if r.failure]

    def _values(self, case: Case, peer: str, key: str) -> list[float]:
        mine = [result for result in self.results if (result.case, result.peer) == (case.name, peer)]
        if any(result.failure for result in mine):
            return []  # a case that failed once has no figure
        return [result.figures[key] for result in mine if key in result.figures]

    def _cell(self, case: Case, peer: str, column: Column) -> str:
        values = self._values(case, peer, column.key)
        if not column.ratio:
            return spread(values)
        reference = self._values(case, case.reference, column.key)
        if not values or not reference or peer == case.reference:
            return NOTHING
        return number(statistics.median(values) / statistics.median(reference))

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """For each kind of case a title, headings and rows."""
        tables = []
        for title, columns in COLUMNS.items():
            rows = []
            for case in self.cases:
                tried = {result.peer: result for result in self.results if result.case == case.name}
                for peer in (peer for peer in case.peers if case.title == title and peer in tried):
                    cells = [self._cell(case, peer, column) for column in columns]
                    failed = any(r.failure for r in self.results if (r.case, r.peer) == (case.name, peer))
                    rows.append([case.name, peer, *(["FAILED", *cells[1:]] if failed else cells)])
            used = [True, True] + [
                column.ratio or any(row[2 + index] != NOTHING for row in rows) for index, column in enumerate(columns)
            ]
            headings = ["case", "peer", *(column.heading for column in columns)]
            if rows:
                tables.append((title, _keep(headings, used), [_keep(row, used) for row in rows]))
        return tables

    def notes(self) -> list[str]:
        """What a reader must know to judge the tables: machine, disk, noise, peers."""
        flushes = "; ".join(f"{size}: {spread(values)}" for size, values in self.flushes.items())
        shown = {result.peer for result in self.results}
        peers = "; ".join(f"**{name}** {kind.description}" for name, kind in PEERS.items() if name in shown)
        return [
            *self.machine,
            self.sizes,
            f"Files per second that one thread makes durable (write, fsync, rename, fsync of the folder): {flushes}.",
            self._noise(),
            f"Peers: {peers}.",
            "÷ ref.: median divided by the median of the case's first peer, per instance.",
        ]

    def _noise(self) -> str:
        differences = []
        for case in self.cases:
            first = self._values(case, "orthanc-nd", "acknowledged_ms_per_instance")
            again = self._values(case, "orthanc-nd-again", "acknowledged_ms_per_instance")
            if first and again:
                differences.append(abs(statistics.median(again) / statistics.median(first) - 1) * 100)
        if not differences:
            return "The machine's noise was not measured (no case in which orthanc-nd runs twice)."
        typical, most = number(statistics.median(differences)), number(max(differences))
        return f"Noise: orthanc-nd measured twice differed by {typical} % in the median of the cases, {most} % at most."

    def print(self, console: Console) -> None:
        for title, headings, rows in self.tables():
            table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
            for index, heading in enumerate(headings):
                table.add_column(heading, justify="left" if index < 2 else "right", overflow="fold")
            previous = ""
            for row in rows:
                if previous and row[0] != previous:
                    table.add_section()
                table.add_row(*row)
                previous = row[0]
            console.print(table)
        for note in self.notes():
            console.print(note.replace("**", ""), highlight=False, markup=False)
        for failure in self.failures():
            console.print(f"FAILED {failure}", style="bold red", highlight=False, markup=False)

    def markdown(self) -> str:
        lines: list[str] = []
        for title, headings, rows in self.tables():
            lines += [f"### {title}", "", _row(headings), _row("---" for _ in headings)]
            lines += [_row(row) for row in rows] + [""]
        lines += [f"- {note}" for note in self.notes()]
        lines += [f"- FAILED: {failure}" for failure in self.failures()]
        return "\n".join(lines) + "\n"

    def write_markdown(self, path: Path) -> None:
        """Write the tables to `path`; in a file with the two marks, only between them."""
        old = path.read_text() if path.exists() else ""
        if MARKDOWN_BEGIN in old and MARKDOWN_END in old:
            head, rest = old.split(MARKDOWN_BEGIN, 1)
            tail = rest.split(MARKDOWN_END, 1)[1]
            path.write_text(f"{head}{MARKDOWN_BEGIN}\n\n{self.markdown()}\n{MARKDOWN_END}{tail}")
        else:
            path.write_text(self.markdown())

    def write_json(self, path: Path) -> None:
        content = {
            "machine": self.machine,
            "sizes": self.sizes,
            "flushes_per_s": self.flushes,
            "results": [asdict(result) for result in self.results],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def _keep(cells: Sequence[str], used: Sequence[bool]) -> list[str]:
    return [cell for cell, keep in zip(cells, used, strict=True) if keep]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """A count as it is, anything else with about three significant digits."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def spread(values: Sequence[float], show: Callable[[float], str] = number) -> str:
    """The median, with [smallest-largest] behind it where they differ."""
    if not values:
        return NOTHING
    low, middle, high = show(min(values)), show(statistics.median(values)), show(max(values))
    return middle if low == high else f"{middle} [{low}-{high}]"
