"""What stands between a workstation and a DICOMweb server, each before an origin of its own."""

import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Self

from bench.machine import free_port
from bench.peers import CALLED_AE_TITLE, ORTHANC_PYTHON_PLUGIN, PEERS, REPOSITORY, Kind, OrthancPeer, Peer, Setting

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
REFERENCE = REPOSITORY / "bench" / "reference_proxy.py"
# `make bench PROXY=FILE`: somebody's own script for Orthanc's Python plugin.
OWN = os.environ.get("PROXY")


class Origin(OrthancPeer):
    """Orthanc with its DICOMweb plugin, which holds an archive."""

    def __init__(self, folder: Path, options: Mapping[str, object]) -> None:
        folder.mkdir()
        super().__init__(folder, Setting(orthanc={**options, "Plugins": [str(DICOMWEB_PLUGIN)]}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"


class BehindProxy:
    """Part of a peer: the origin starts before it and ends after it."""

    origin: Origin

    def __enter__(self) -> Self:
        self.origin.__enter__()
        try:
            return super().__enter__()  # type: ignore[misc]
        except BaseException:
            self.origin.__exit__()
            raise

    def __exit__(self, *exception: object) -> None:
        try:
            super().__exit__(*exception)  # type: ignore[misc]
        finally:
            self.origin.__exit__()


class ScriptPeer(BehindProxy, OrthancPeer):
    """Orthanc with a script that answers C-MOVE, and its DICOMweb client."""

    def __init__(self, folder: Path, setting: Setting, *, script: Path) -> None:
        self.origin = Origin(folder / "origin", setting.origin)
        options = {
            **setting.orthanc,
            "Plugins": [str(DICOMWEB_PLUGIN), str(ORTHANC_PYTHON_PLUGIN)],
            "PythonScript": str(script.resolve()),
            "DicomWeb": {"Servers": {CALLED_AE_TITLE: [f"{self.origin.url}/"]}},
        }
        super().__init__(folder, Setting(orthanc=options, receiver_port=setting.receiver_port), nodelay=True)


class GatewayProxyPeer(BehindProxy, Peer):
    """This gateway without any Orthanc. Who calls it calls the server."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.origin = Origin(folder / "origin", setting.origin)
        server = {"Url": self.origin.url, "AlwaysAllowEcho": True, "AlwaysAllowMove": True, "AlwaysAllowStore": True}
        port = free_port()
        options = {
            **setting.orthanc,
            "DicomAet": "GATEWAY",
            "DicomPort": port,
            "DicomGateway": {"StateDirectory": str(folder / "state"), "DicomWebServers": {CALLED_AE_TITLE: server}},
        }
        configuration = folder / "gateway.json"
        configuration.write_text(json.dumps(options, indent=2))
        command = [str(Path(sys.executable).parent / "dicom-gateway"), "serve", str(configuration)]
        super().__init__(folder, setting, command, port, nodelay=False)

    def count(self) -> int:
        return self.origin.count()


class DownloadPeer(BehindProxy, OrthancPeer):
    """Nothing: the origin is asked itself. An Orthanc that does nothing stands where the others have theirs."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self.origin = Origin(folder / "origin", setting.origin)
        super().__init__(folder, Setting())


PROXY_PEERS = {
    "reference": Kind(
        partial(ScriptPeer, script=REFERENCE),
        "Orthanc with `bench/reference_proxy.py`: per instance a retrieve and a store job, `TCP_NODELAY=1`",
    ),
    "gateway-proxy": Kind(GatewayProxyPeer, "this gateway without any Orthanc"),
    "wado": Kind(DownloadPeer, "no proxy: a plain WADO-RS download of the study from the same origin"),
}
if OWN:
    PROXY_PEERS["own"] = Kind(partial(ScriptPeer, script=Path(OWN)), f"Orthanc with {Path(OWN).name}")
PEERS.update(PROXY_PEERS)
