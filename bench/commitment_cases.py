"""Storage commitment: from the request to the report that all instances are safe."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.case import Case, Material, Run
from bench.commitments import AE_TITLE, Modality, references_of
from bench.figures import Figures, percentiles
from bench.machine import free_port
from bench.peers import VARIANTS, OrthancPeer, PeerFailed, Setting
from bench.processes import GATEWAY_OTHER, SERVER, Meter

SHAPE = "mr128"


@dataclass(frozen=True)
class CommitmentCase:
    """One modality asks for the same instances again and again; `verify` as in DicomGateway.StorageCommitment."""

    verify: str
    at_once: int
    optional: bool = False
    group: str = field(default="commitment", init=False)
    title: str = field(default="Storage commitment", init=False)

    @property
    def name(self) -> str:
        return f"commitment-{self.verify.lower()}-{self.at_once}"

    @property
    def stage(self) -> str:
        return f"commitment-{self.verify.lower()}"

    @property
    def peers(self) -> tuple[str, ...]:
        return ("orthanc", "gateway", *VARIANTS)

    @property
    def reference(self) -> str:
        return self.peers[0]

    def setting(self, folder: Path, material: Material) -> Setting:
        port = free_port()
        modalities = {"DicomModalities": {AE_TITLE: [AE_TITLE, "127.0.0.1", port]}}
        return Setting(
            orthanc=material.retrieve_archive.options(folder) | modalities,
            gateway={"StorageCommitment": {"Verify": self.verify}},
            receiver_port=port,
        )

    def warm_up(self, run: Run) -> None:
        """One transaction, after which Orthanc has the files in its cache, as far as they fit."""
        self._commit(run, 1, 1)

    def run(self, run: Run) -> Figures:
        transactions = run.material.sizes.commitments
        with Meter(run.peer.pid) as meter:
            instances, times_ms, elapsed_s = self._commit(run, transactions, self.at_once)
            cpu_s = meter.cpu_s()
        figures = {
            "transactions": transactions,
            "instances": instances,
            "transactions_per_s": transactions / elapsed_s,
            "ms_per_transaction": elapsed_s / transactions * 1000,
            **percentiles(times_ms),
            "server_cpu_s": cpu_s[SERVER] / transactions,
        }
        if GATEWAY_OTHER in cpu_s:
            figures["gateway_cpu_s"] = cpu_s[GATEWAY_OTHER] / transactions
        return figures

    def _commit(self, run: Run, transactions: int, at_once: int) -> tuple[int, list[float], float]:
        if not isinstance(run.peer, OrthancPeer):
            raise PeerFailed("only Orthanc has storage commitment")
        archive, count = run.material.retrieve_archive, run.material.sizes.committed
        study_uid = archive.study_uid(SHAPE, archive.long[SHAPE])
        references = references_of(run.peer.http_port, study_uid, count)
        with Modality(run.peer.setting.receiver_port) as modality:
            committed = modality.commit(run.peer.dicom_port, references, transactions, at_once)
        return count, committed.times_ms, committed.elapsed_s


COMMITMENT_CASES: tuple[Case, ...] = tuple(
    CommitmentCase(verify, at_once) for verify in ("File", "Index") for at_once in (1, 4)
)
