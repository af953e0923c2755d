"""Results as tables: for the terminal, as Markdown, as JSON."""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.case import Case, Sizes
from bench.figures import Figures
from bench.peers import PEERS

MARKDOWN_BEGIN = "<!-- results of {group}: written by python -m bench --markdown -->"
MARKDOWN_END = "<!-- end of results of {group} -->"
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
    "C-FIND": (
        Column("queries", "samples"),
        Column("matches", "matches"),
        Column("p50 ms", "p50_ms"),
        Column("÷ ref.", "p50_ms", ratio=True),
        Column("p95 ms", "p95_ms"),
        Column("first answer p50 ms", "first_p50_ms"),
        Column("÷ ref.", "first_p50_ms", ratio=True),
        Column("queries/s", "queries_per_s"),
        Column("÷ ref.", "queries_per_s", ratio=True),
        Column("CPU ms/query: server", "server_cpu_ms"),
        Column("gateway", "gateway_cpu_ms"),
    ),
    "Modality worklist": (
        Column("queries", "samples"),
        Column("matches", "matches"),
        Column("p50 ms", "p50_ms"),
        Column("÷ ref.", "p50_ms", ratio=True),
        Column("p95 ms", "p95_ms"),
        Column("first answer p50 ms", "first_p50_ms"),
        Column("CPU ms/query: server", "server_cpu_ms"),
        Column("gateway", "gateway_cpu_ms"),
    ),
    "HL7 orders": (
        Column("orders", "orders"),
        Column("acknowledged/s", "orders_per_s"),
        Column("p50 ms", "p50_ms"),
        Column("p95 ms", "p95_ms"),
        Column("CPU ms/order: gateway", "gateway_cpu_ms"),
        Column("flushed appends/s of the same disk", "appends_per_s"),
    ),
    "Storage commitment": (
        Column("transactions", "transactions"),
        Column("instances in each", "instances"),
        Column("transactions/s", "transactions_per_s"),
        Column("÷ ref.", "ms_per_transaction", ratio=True),
        Column("p50 ms", "p50_ms"),
        Column("p95 ms", "p95_ms"),
        Column("CPU s/transaction: server", "server_cpu_s"),
        Column("gateway", "gateway_cpu_s"),
    ),
    "C-MOVE and C-GET": (
        Column("n", "instances"),
        Column("all s", "all_s"),
        Column("ms/instance", "ms_per_instance"),
        Column("instances/s", "instances_per_s"),
        Column("MB/s", "mb_per_s"),
        Column("÷ ref.", "ms_per_instance", ratio=True),
        Column("first ms", "first_ms"),
        Column("CPU s/1000: server", "server_cpu_s_per_1000"),
        Column("gateway", "gateway_cpu_s_per_1000"),
        Column("peak MB: server", "server_peak_mb"),
        Column("worker", "worker_peak_mb"),
    ),
    "C-MOVE through a proxy": (
        Column("n", "instances"),
        Column("all s", "all_s"),
        Column("ms/instance", "ms_per_instance"),
        Column("MB/s", "mb_per_s"),
        Column("÷ ref.", "ms_per_instance", ratio=True),
        Column("first ms", "first_ms"),
        Column("CPU s/1000: origin", "origin_cpu_s_per_1000"),
        Column("server", "server_cpu_s_per_1000"),
        Column("gateway", "gateway_cpu_s_per_1000"),
        Column("peak MB: origin", "origin_peak_mb"),
        Column("server", "server_peak_mb"),
        Column("worker", "worker_peak_mb"),
        Column("forwarder", "forwarding_peak_mb"),
        Column("supervisor", "supervisor_peak_mb"),
        Column("client", "client_peak_mb"),
    ),
}


def _amounts(group: str, sizes: Sizes) -> str:
    """What the cases of a group do how often."""
    samples = f"{sizes.queries} in a case, or as many as begin within {sizes.samples_s:g} s"
    return {
        "store": f"{sizes.instances} instances in a store case, but {sizes.slow_instances} per association where one "
        "side has Nagle's algorithm on.",
        "filter": f"{sizes.instances} instances in a case.",
        "find": f"{sizes.studies} studies; queries: {samples}.",
        "retrieve": f"{sizes.retrieved} instances of 525 KB, {2 * sizes.retrieved} of 33 KB, but "
        f"{sizes.slow_instances} where one side has Nagle's algorithm on.",
        "worklist": f"Queries: {samples}.",
        "proxy": f"{sizes.retrieved} instances of 525 KB, one study.",
        "orders": f"{sizes.orders} orders in a case, on all connections together.",
        "commitment": f"{sizes.commitments} transactions of {sizes.committed} instances of 33 KB in a case.",
    }[group]


@dataclass(frozen=True)
class Report:
    """All results of one call of the benchmark.

    `machine` describes what it ran on; `flushes`: files made durable in a second, by size, one per round;
    `durations_s`: of the measurements of each group, all rounds together.
    """

    command: str
    machine: list[str]
    rounds: int
    sizes: Sizes
    flushes: dict[str, list[float]]
    results: list[Result]
    cases: Sequence[Case]
    began: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M"))
    durations_s: dict[str, float] = field(default_factory=dict)

    def add_duration(self, group: str, seconds: float) -> None:
        self.durations_s[group] = self.durations_s.get(group, 0.0) + seconds

    def _groups(self) -> list[str]:
        return list(dict.fromkeys(case.group for case in self.cases))

    def _cases_of(self, group: str) -> list[Case]:
        return [case for case in self.cases if case.group == group]

    def failures(self) -> list[str]:
        return [failure for group in self._groups() for failure in self._failures_of(group)]

    def _failures_of(self, group: str) -> list[str]:
        names = {case.name for case in self._cases_of(group)}
        failed = (result for result in self.results if result.failure and result.case in names)
        return [f"{r.case}, {r.peer}, round {r.round + 1}: {r.failure}" for r in failed]

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

    def tables(self, group: str) -> list[tuple[str, list[str], list[list[str]]]]:
        """For each kind of case in a group a title, headings and rows."""
        tables = []
        for title, columns in COLUMNS.items():
            rows = []
            for case in self._cases_of(group):
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

    def notes(self, group: str) -> list[str]:
        """What a reader must know to judge the tables: machine, disk, noise, peers."""
        flushes = "; ".join(f"{size}: {spread(values)}" for size, values in self.flushes.items())
        names = {case.name for case in self._cases_of(group)}
        shown = {result.peer for result in self.results if result.case in names}
        peers = "; ".join(f"**{name}** {kind.description}" for name, kind in PEERS.items() if name in shown)
        minutes = number(self.durations_s.get(group, 0.0) / 60)
        return [
            f"Measured {self.began} with `{self.command}`; {minutes} minutes.",
            *self.machine,
            f"Rounds: {self.rounds}, each peer once in each, median [min-max]. {_amounts(group, self.sizes)}",
            f"Files per second that one thread makes durable (write, fsync, rename, fsync of the folder): {flushes}.",
            self._noise(group),
            f"Peers: {peers}.",
            "÷ ref.: median divided by the median of the case's first peer.",
        ]

    def _noise(self, group: str) -> str:
        differences = []
        for case in self._cases_of(group):
            key = next((column.key for column in COLUMNS[case.title] if column.ratio), "")
            first, again = self._values(case, "orthanc-nd", key), self._values(case, "orthanc-nd-again", key)
            if first and again:
                differences.append(abs(statistics.median(again) / statistics.median(first) - 1) * 100)
        if not differences:
            return "The machine's noise was not measured (no case in which orthanc-nd runs twice)."
        typical, most = number(statistics.median(differences)), number(max(differences))
        return f"Noise: orthanc-nd measured twice differed by {typical} % in the median of the cases, {most} % at most."

    def print(self, console: Console) -> None:
        for group in self._groups():
            for title, headings, rows in self.tables(group):
                _print_table(console, title, headings, rows)
            for note in self.notes(group):
                console.print(note.replace("**", ""), highlight=False, markup=False)
            console.print()
        for failure in self.failures():
            console.print(f"FAILED {failure}", style="bold red", highlight=False, markup=False)

    def markdown(self, group: str) -> str:
        lines: list[str] = []
        for title, headings, rows in self.tables(group):
            lines += [f"### {title}", "", _row(headings), _row("---" for _ in headings)]
            lines += [_row(row) for row in rows] + [""]
        lines += [f"- {note}" for note in self.notes(group)]
        lines += [f"- FAILED: {failure}" for failure in self._failures_of(group)]
        return "\n".join(lines) + "\n"

    def write_markdown(self, path: Path) -> None:
        """Write each group's tables to `path`: between the group's marks, or at the end of a file without them."""
        text = path.read_text() if path.exists() else ""
        for group in self._groups():
            begin, end = MARKDOWN_BEGIN.format(group=group), MARKDOWN_END.format(group=group)
            section = f"{begin}\n\n{self.markdown(group)}\n{end}"
            if begin in text and end in text:
                head, rest = text.split(begin, 1)
                text = head + section + rest.split(end, 1)[1]
            else:
                text += f"{section}\n"
        path.write_text(text)

    def write_json(self, path: Path) -> None:
        content = {
            "machine": self.machine,
            "command": self.command,
            "sizes": asdict(self.sizes),
            "flushes_per_s": self.flushes,
            "results": [asdict(result) for result in self.results],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def _print_table(console: Console, title: str, headings: list[str], rows: list[list[str]]) -> None:
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


def _keep(cells: Sequence[str], used: Sequence[bool]) -> list[str]:
    return [cell for cell, keep in zip(cells, used, strict=True) if keep]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """A count as it is, anything else with about three significant digits."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def spread(values: Sequence[float], show: Callable[[float], str] = number) -> str:
    """The median, with [smallest-largest] behind it where they differ."""
    if not values:
        return NOTHING
    low, middle, high = show(min(values)), show(statistics.median(values)), show(max(values))
    return middle if low == high else f"{middle} [{low}-{high}]"
