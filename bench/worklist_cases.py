"""Modality worklist queries among few and many items."""

import itertools
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.case import Case, Material, Run
from bench.client import WORKLIST_FIND, AssociationFailed
from bench.figures import Figures
from bench.find_client import Asking, ask, ask_and_measure
from bench.peers import VARIANTS, Setting
from bench.worklists import QUERIES

DIFFERENT_QUESTIONS = 50
READY_TIMEOUT_S = 120.0
NOISE_UP_TO_ITEMS = 1000  # above, the peers take long enough without being measured twice


@dataclass(frozen=True)
class WorklistCase:
    """One client that asks one kind of query on one association; as many matches whatever the number of items."""

    query: str
    items: int
    optional: bool = False
    group: str = field(default="worklist", init=False)
    title: str = field(default="Modality worklist", init=False)
    reference: str = field(default="orthanc-nd", init=False)

    @property
    def name(self) -> str:
        return f"worklist-{self.query}-{self.items}"

    @property
    def stage(self) -> str:
        return f"worklist-{self.items}"

    @property
    def peers(self) -> tuple[str, ...]:
        again = ("orthanc-nd-again",) if self.items <= NOISE_UP_TO_ITEMS else ()
        return ("orthanc-nd", "gateway", *VARIANTS, "gateway-files", "wlmscpfs-nd", *again)

    def setting(self, folder: Path, material: Material) -> Setting:
        worklist = material.worklist(self.items)
        return Setting(
            gateway={"Worklist": {}},
            worklist=worklist.files,
            gateway_database=lambda: worklist.gateway_database,
        )

    def warm_up(self, run: Run) -> None:
        """Each query once, when all of them are right: a server may still be reading files."""
        questions = [question(1) for question in QUERIES.values()]
        asking = Asking(run.peer.dicom_port, WORKLIST_FIND, questions, len(questions), READY_TIMEOUT_S)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                ask([asking])
                return
            except AssociationFailed:
                if time.monotonic() > deadline:
                    raise

    def run(self, run: Run) -> Figures:
        chosen = random.Random(0)  # the same for every peer
        numbers = itertools.islice(iter(lambda: chosen.randrange(self.items), -1), DIFFERENT_QUESTIONS)
        questions = [QUERIES[self.query](number) for number in numbers]
        sizes = run.material.sizes
        client = Asking(run.peer.dicom_port, WORKLIST_FIND, questions, sizes.queries, sizes.samples_s)
        return ask_and_measure(run.peer, [client])


WORKLIST_CASES: tuple[Case, ...] = tuple(
    WorklistCase(query, items) for items in (100, 1000, 10_000) for query in QUERIES
)
