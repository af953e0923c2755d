"""C-MOVE and C-GET of a study of many instances."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.archives import RetrieveArchive
from bench.case import Case, Material, Run
from bench.figures import Figures
from bench.machine import free_port
from bench.peers import PEERS, VARIANTS, Setting
from bench.processes import GATEWAY_OTHER, SERVER, Meter
from bench.retrieve_clients import DESTINATION, Receiver, Retrieved, get, move
from bench.testdata import SHAPES


@dataclass(frozen=True)
class RetrieveCase:
    """One study is moved to storescp, or fetched by getscu; `nodelay`: what receives has Nagle's algorithm off."""

    operation: str
    shape: str
    nodelay: bool
    optional: bool = False
    group: str = field(default="retrieve", init=False)
    stage: str = field(default="retrieve", init=False)
    title: str = field(default="C-MOVE and C-GET", init=False)

    @property
    def name(self) -> str:
        return f"{self.operation}-{self.shape}-{'nodelay' if self.nodelay else 'default'}"

    @property
    def peers(self) -> tuple[str, ...]:
        if self.nodelay:
            return ("orthanc-nd", "gateway", *VARIANTS, "orthanc", "orthanc-nd-again")
        return ("orthanc", "gateway", *VARIANTS, "orthanc-nd")

    @property
    def reference(self) -> str:
        return self.peers[0]

    def setting(self, folder: Path, material: Material) -> Setting:
        port = free_port()
        modalities = {"DicomModalities": {DESTINATION: [DESTINATION, "127.0.0.1", port]}}
        return Setting(orthanc=material.retrieve_archive.options(folder) | modalities, receiver_port=port)

    def warm_up(self, run: Run) -> None:
        """One instance, moved and fetched."""
        uid = run.material.retrieve_archive.study_uid("mr128", 1)
        _move(run, uid, 1, nodelay=True)
        get(run.folder, run.peer.dicom_port, uid, 1, nodelay=True)

    def run(self, run: Run) -> Figures:
        count = self._instances(run.peer_name, run.material.retrieve_archive, run.material.sizes.slow_instances)
        uid = run.material.retrieve_archive.study_uid(self.shape, count)
        with Meter(run.peer.pid) as meter:
            if self.operation == "move":
                retrieved = _move(run, uid, count, nodelay=self.nodelay)
            else:
                retrieved = get(run.folder, run.peer.dicom_port, uid, count, nodelay=self.nodelay)
            cpu_s, peak_mb = meter.cpu_s(), meter.peak_mb()
        figures = {
            "instances": count,
            "all_s": retrieved.all_s,
            "ms_per_instance": retrieved.all_s / count * 1000,
            "instances_per_s": count / retrieved.all_s,
            "mb_per_s": count * SHAPES[self.shape].pixel_bytes / retrieved.all_s / 1e6,
            "first_ms": retrieved.first_s * 1000,
            "server_cpu_s_per_1000": cpu_s[SERVER] / count * 1000,
        }
        if GATEWAY_OTHER in cpu_s:
            figures["gateway_cpu_s_per_1000"] = cpu_s[GATEWAY_OTHER] / count * 1000
        return figures | {f"{name}_peak_mb": peak for name, peak in peak_mb.items()}

    def _instances(self, peer_name: str, archive: RetrieveArchive, slow_instances: int) -> int:
        return archive.long[self.shape] if self.nodelay and not PEERS[peer_name].nagle else slow_instances


def _move(run: Run, study_uid: str, instances: int, *, nodelay: bool) -> Retrieved:
    with Receiver(run.folder / "receiver", run.peer.setting.receiver_port, nodelay=nodelay):
        return move(run.peer.dicom_port, study_uid, instances)


RETRIEVE_CASES: tuple[Case, ...] = tuple(
    RetrieveCase(operation, shape, nodelay)
    for operation in ("move", "get")
    for nodelay in (False, True)
    for shape in ("mr128", "ct512")
)
