"""What a case is, and what a measurement is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from bench.archives import QueryArchive, RetrieveArchive
from bench.figures import Figures
from bench.peers import Peer, Setting
from bench.worklists import Worklist


@dataclass(frozen=True)
class Sizes:
    """How much is done, as the command line says."""

    instances: int  # in a store case
    slow_instances: int  # on each association, where Nagle's algorithm makes each instance cost 40 ms or more
    samples: int  # timed single messages or associations
    samples_s: float  # no further sample is begun after so long
    queries: int  # in a case, of all its clients together
    studies: int  # in the archive that is queried
    retrieved: int  # instances of 525 KB in a retrieve case, and twice as many of 33 KB
    orders: int  # HL7 messages in a case, on all connections together
    commitments: int  # transactions in a case

    @property
    def committed(self) -> int:
        """Instances in a transaction."""
        return min(1000, 2 * self.retrieved)


@dataclass(frozen=True)
class Material:
    """What all measurements of one call share, each made when it is needed first: before a server starts."""

    folder: Path
    data: Mapping[str, list[Path]]  # instances to send, by shape
    warm_up: Path
    sizes: Sizes
    _worklists: dict[int, Worklist] = field(default_factory=dict)

    @cached_property
    def query_archive(self) -> QueryArchive:
        return QueryArchive(self.folder / "query-archive", self.sizes.studies)

    @cached_property
    def retrieve_archive(self) -> RetrieveArchive:
        return RetrieveArchive(self.folder / "retrieve-archive", self.sizes.retrieved, self.sizes.slow_instances)

    def worklist(self, items: int) -> Worklist:
        if items not in self._worklists:
            self._worklists[items] = Worklist(self.folder / f"worklist-{items}", items)
        return self._worklists[items]


@dataclass(frozen=True)
class Run:
    """One measurement: a running server, a scratch folder on its disk, and what to send."""

    peer: Peer
    peer_name: str
    folder: Path
    material: Material


class Case(Protocol):
    """Something to measure, usually a small dataclass.

    `group` is its section of the results, `reference` the peer to which the others are compared; `optional`: only
    run if asked for by name. Cases of one `stage` that follow each other share their servers, one start per peer
    and round; `setting` says how that server starts, `warm_up` what is done before anything is measured.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def peers(self) -> tuple[str, ...]: ...
    @property
    def reference(self) -> str: ...
    @property
    def optional(self) -> bool: ...

    def setting(self, folder: Path, material: Material) -> Setting: ...

    def warm_up(self, run: Run) -> None: ...

    def run(self, run: Run) -> Figures: ...
