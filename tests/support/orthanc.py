"""Debian's Orthanc as a server under test, alone or with the gateway in it as a plugin."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import requests

from tests.support.ports import accepts, free_port
from tests.support.processes import wait_until
from tests.support.server import Server

REPOSITORY: Final = Path(__file__).resolve().parents[2]
ORTHANC: Final = "/usr/sbin/Orthanc"
PYTHON_PLUGIN: Final = "/usr/share/orthanc/plugins/libOrthancPython.so"
DICOMWEB_PLUGIN: Final = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"

REQUEST_TIMEOUT_S: Final = 60


class Orthanc(Server):
    """One Orthanc with its database in `directory`/orthanc.

    `gateway`: the gateway runs in it as plugin (DicomServerEnabled is false then, its state is in
    `directory`/state). `dicom_server`: Orthanc's own SCP listens. `verbose`: Orthanc logs at level INFO.
    `configuration`: Orthanc's options as Orthanc spells them; those of DicomGateway are merged into ours.
    All may be changed in `configuration` between two starts; the ports stay the same over restarts.
    """

    def __init__(
        self,
        directory: Path,
        *,
        gateway: bool = False,
        dicom_server: bool = False,
        verbose: bool = True,
        **configuration: Any,
    ) -> None:
        super().__init__(directory)
        self.verbose = verbose
        self.has_dicom = gateway or dicom_server
        self.state_directory = directory / "state"
        self.configuration: dict[str, Any] = {
            "Name": "test",
            "DicomAet": "ORTHANC",
            "DicomServerEnabled": dicom_server,
            "DicomPort": free_port(),
            "HttpPort": free_port(),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(directory / "orthanc"),
            "IndexDirectory": str(directory / "orthanc"),
        }
        section = configuration.pop("DicomGateway", {})
        if gateway:
            self.configuration["Plugins"] = [PYTHON_PLUGIN]
            self.configuration["PythonScript"] = str(REPOSITORY / "orthanc_glue.py")
            self.configuration["DicomGateway"] = {
                "StateDirectory": str(self.state_directory),
                "VirtualEnv": sys.prefix,
                **section,
            }
        elif section:
            self.configuration["DicomGateway"] = section
        self.configuration.update(configuration)

    def command(self) -> list[str]:
        return [ORTHANC, *(["--verbose"] if self.verbose else []), "orthanc.json"]

    def launch(self) -> None:
        (self.directory / "orthanc.json").write_text(json.dumps(self.configuration, indent=2))
        super().launch()

    def ready(self) -> bool:
        try:
            self._request("GET", "/system", timeout=1)
        except requests.RequestException:
            return False
        return not self.has_dicom or accepts(self.dicom_port)

    @property
    def http_port(self) -> int:
        return int(self.configuration["HttpPort"])

    @property
    def dicom_port(self) -> int:
        return int(self.configuration["DicomPort"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def gateway_processes(self) -> list[int]:
        """The live processes of the gateway: the supervisor and what it started."""
        return [pid for pid in self.family() if pid != self.pid]

    def get(self, path: str) -> Any:
        """The JSON that GET answers; requests.HTTPError for a status of 400 and above."""
        return self._request("GET", path).json()

    def get_bytes(self, path: str) -> bytes:
        return self._request("GET", path).content

    def post(self, path: str, data: bytes | str | None = None, *, json: Any = None) -> Any:
        """The JSON that POST answers, None if the body is empty."""
        response = self._request("POST", path, data=data, json=json)
        return response.json() if response.content else None

    def put(self, path: str, *, json: Any) -> None:
        self._request("PUT", path, json=json)

    def delete(self, path: str) -> None:
        self._request("DELETE", path)

    def instances(self) -> list[str]:
        """Orthanc's identifiers of all instances."""
        return list(self.get("/instances"))

    def statistics(self) -> dict[str, Any]:
        """GET /statistics: CountInstances, CountStudies, TotalDiskSizeMB, ..."""
        return dict(self.get("/statistics"))

    def count(self) -> int:
        """Number of instances."""
        return int(self.statistics()["CountInstances"])

    def lookup(self, sop_instance_uid: str) -> str | None:
        """Orthanc's identifier of the instance, None if it is not there."""
        found = [one["ID"] for one in self.post("/tools/lookup", sop_instance_uid) if one["Type"] == "Instance"]
        return found[0] if found else None

    def file(self, identifier: str) -> bytes:
        """The Part 10 file of an instance as Orthanc stored it."""
        return self.get_bytes(f"/instances/{identifier}/file")

    def metadata(self, identifier: str) -> dict[str, str]:
        return dict(self.get(f"/instances/{identifier}/metadata?expand"))

    def wait_for_count(self, count: int, timeout_s: float = 60) -> None:
        """Waits until Orthanc has that many instances."""
        wait_until(
            lambda: self.count() == count,
            timeout_s,
            lambda: f"Orthanc has {self.count()} instances instead of {count}",
        )

    def _request(
        self, method: str, path: str, *, timeout: float = REQUEST_TIMEOUT_S, **arguments: Any
    ) -> requests.Response:
        users = self.configuration.get("RegisteredUsers") or {}
        user = next(iter(users.items()), None)
        response = requests.request(method, self.url + path, auth=user, timeout=timeout, **arguments)
        response.raise_for_status()
        return response
