"""C-MOVE of a study that a DICOMweb server has, through whoever stands between."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.case import Case, Material, Run
from bench.figures import Figures
from bench.machine import free_port
from bench.peers import Setting
from bench.processes import GATEWAY_OTHER, SERVER, Meter, peak_mb, wait_until_quiet
from bench.proxy_peers import PROXY_PEERS, DownloadPeer, ScriptPeer
from bench.retrieve_clients import DESTINATION, RETRIEVE_TIMEOUT_S, Receiver, Retrieved, RetrieveFailed, move
from bench.testdata import SHAPES

SHAPE = "ct512"
QUIET_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ProxyCase:
    """One study to storescp."""

    name: str = "proxy"
    optional: bool = False
    group: str = field(default="proxy", init=False)
    stage: str = field(default="proxy", init=False)
    title: str = field(default="C-MOVE through a proxy", init=False)
    peers: tuple[str, ...] = tuple(PROXY_PEERS)

    @property
    def reference(self) -> str:
        return self.peers[0]

    def setting(self, folder: Path, material: Material) -> Setting:
        port = free_port()
        modalities = {"DicomModalities": {DESTINATION: [DESTINATION, "127.0.0.1", port]}}
        return Setting(orthanc=modalities, receiver_port=port, origin=material.retrieve_archive.options(folder))

    def warm_up(self, run: Run) -> None:
        """One instance; then what a server still does of its start is waited for."""
        _fetch(run, run.material.retrieve_archive.study_uid(SHAPE, 1), 1)
        for pid in (run.peer.pid, run.peer.origin.pid):
            wait_until_quiet(pid, QUIET_TIMEOUT_S)

    def run(self, run: Run) -> Figures:
        count = run.material.retrieve_archive.long[SHAPE]
        uid = run.material.retrieve_archive.study_uid(SHAPE, count)
        origin = run.peer.origin.pid
        with Meter(run.peer.pid) as meter, Meter(origin) as of_origin:
            retrieved, client_mb = _fetch(run, uid, count)
            cpu_s, peaks = meter.cpu_s(), meter.peak_mb()
            origin_cpu_s = of_origin.cpu_s()[SERVER]
        figures = {
            "instances": count,
            "all_s": retrieved.all_s,
            "ms_per_instance": retrieved.all_s / count * 1000,
            "instances_per_s": count / retrieved.all_s,
            "mb_per_s": count * SHAPES[SHAPE].pixel_bytes / retrieved.all_s / 1e6,
            "first_ms": retrieved.first_s * 1000,
            "origin_cpu_s_per_1000": origin_cpu_s / count * 1000,
            "origin_peak_mb": peak_mb(origin) or 0.0,
        }
        if isinstance(run.peer, DownloadPeer):
            return figures | {"client_peak_mb": client_mb}
        figures["server_cpu_s_per_1000"] = cpu_s[SERVER] / count * 1000
        if GATEWAY_OTHER in cpu_s:
            figures["gateway_cpu_s_per_1000"] = cpu_s[GATEWAY_OTHER] / count * 1000
        return figures | {f"{name}_peak_mb": peak for name, peak in peaks.items()}


def _fetch(run: Run, study_uid: str, instances: int) -> tuple[Retrieved, float]:
    """Move a study to storescp, or download it; with the client's peak memory in MB, if it is a process."""
    if isinstance(run.peer, DownloadPeer):
        return _download(run, study_uid, instances)
    is_script = isinstance(
        run.peer, ScriptPeer
    )  # the plugin's callback of version 3.2 calls all of it one sub-operation
    with Receiver(run.folder / "receiver", run.peer.setting.receiver_port, nodelay=True):
        return move(run.peer.dicom_port, study_uid, instances, may_be_one=is_script), 0.0


def _download(run: Run, study_uid: str, instances: int) -> tuple[Retrieved, float]:
    command = [sys.executable, "-m", "bench.wado_client", f"{run.peer.origin.url}/studies/{study_uid}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=RETRIEVE_TIMEOUT_S, check=False)
    if ran.returncode:
        raise RetrieveFailed(f"the download ended with {ran.returncode}: {ran.stderr[-200:]}")
    figures = json.loads(ran.stdout)
    if figures["bytes"] < instances * SHAPES[SHAPE].pixel_bytes:
        raise RetrieveFailed(f"the download has {figures['bytes']} bytes")
    return Retrieved(figures["first_s"], figures["all_s"]), figures["peak_mb"]


PROXY_CASES: tuple[Case, ...] = (ProxyCase(),)
