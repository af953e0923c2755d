"""The gateway without the plugin: `dicom-gateway serve FILE` as a server under test."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.support.ports import accepts, free_port
from tests.support.server import Server


class Gateway(Server):
    """One standalone gateway with its state in `directory`/state.

    `configuration`: Orthanc's options; those of the section DicomGateway are merged with ours. May be
    changed in `configuration` between two starts; the port stays the same over restarts.
    """

    def __init__(self, directory: Path, **configuration: Any) -> None:
        super().__init__(directory)
        self.file = directory / "gateway.json"
        section = configuration.pop("DicomGateway", {})
        self.configuration: dict[str, Any] = {
            "DicomAet": "ORTHANC",
            "DicomPort": free_port(),
            **configuration,
            "DicomGateway": {"StateDirectory": str(directory / "state"), **section},
        }

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gateway.cli", "serve", str(self.file)]

    def launch(self) -> None:
        self.write_configuration()
        super().launch()

    def write_configuration(self) -> None:
        """Writes the file without starting anything (for `dicom-gateway check`)."""
        self.file.write_text(json.dumps(self.configuration, indent=2))

    def ready(self) -> bool:
        return accepts(self.dicom_port)

    @property
    def dicom_port(self) -> int:
        return int(self.configuration["DicomPort"])

    @property
    def state_directory(self) -> Path:
        return Path(self.configuration["DicomGateway"]["StateDirectory"])

    def terminate(self) -> int:
        """SIGTERM, then the exit status once it has drained."""
        return self.stop()
