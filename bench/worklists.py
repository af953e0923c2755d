"""Worklist items: the same ones as .wl files for Orthanc's plugin and wlmscpfs, and in a gateway's store."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

from bench.encoding import Values, encode, part10
from bench.find_client import Question
from bench.peers import CALLED_AE_TITLE, OrthancPeer, PeerFailed, Setting

# What Orthanc's plugin and DCMTK's tools call the SOP class of such files.
WORKLIST_FILE = "1.2.276.0.7230010.3.1.0.1"
UID_ROOT = "1.2.826.0.1.3680043.8.498.78"
ITEMS_PER_DAY = 100
STATIONS = 10
IMPORT_TIMEOUT_S = 900.0

# fmt: off
STEP_COLUMNS = (
    "Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime",
    "ScheduledPerformingPhysicianName", "ScheduledProcedureStepDescription", "ScheduledStationName",
    "ScheduledProcedureStepLocation", "ScheduledProcedureStepID",
)
ITEM_COLUMNS = (
    "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "PatientWeight", "MedicalAlerts", "Allergies", "StudyInstanceUID", "RequestingPhysician",
    "RequestedProcedureDescription", "RequestedProcedureID", "RequestedProcedurePriority", "AdmissionID",
)
# fmt: on


class Worklist:
    """So many items, a hundred to a day from today on, ten to a station and day; whatever their number, a query of
    one kind has as many matches."""

    def __init__(self, folder: Path, items: int) -> None:
        self.items = items
        self._folder = folder
        # wlmscpfs looks into the folder of the called AE title, which must have a file of this name.
        self.files = folder / CALLED_AE_TITLE
        self.files.mkdir(parents=True)
        (self.files / "lockfile").touch()
        for number in range(items):
            file = part10(WORKLIST_FILE, f"{UID_ROOT}.1.{number + 1}", _item(number))
            (self.files / f"{number:06}.wl").write_bytes(file)

    @cached_property
    def gateway_database(self) -> Path:
        """The database of a gateway that has imported them. Raises PeerFailed."""
        folder = self._folder / "imported"
        folder.mkdir()
        with OrthancPeer(folder, Setting(gateway={"Worklist": {}}), gateway={}) as orthanc:
            command = [str(Path(sys.executable).parent / "dicom-gateway"), "worklist", "import", str(self.files)]
            imported = subprocess.run(
                [*command, "--config", str(orthanc.configuration)],
                capture_output=True,
                text=True,
                timeout=IMPORT_TIMEOUT_S,
                check=False,
            )
            if imported.returncode:
                raise PeerFailed(f"worklist import: {imported.stdout[-500:]}{imported.stderr[-500:]}")
        return orthanc.gateway_database


def _item(number: int) -> Values:
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "AccessionNumber": accession_number(number),
        "ReferringPhysicianName": "REFERRER^ROBERT",
        "PatientName": f"FAMILY{number:05}^GIVEN",
        "PatientID": patient_id(number),
        "PatientBirthDate": f"19{number % 90 + 10}0{number % 9 + 1}15",
        "PatientSex": "FM"[number % 2],
        "PatientWeight": str(50 + number % 50),
        "MedicalAlerts": "PACEMAKER" if number % 20 == 0 else "",
        "Allergies": "",
        "StudyInstanceUID": f"{UID_ROOT}.2.{number + 1}",
        "RequestingPhysician": "WARD^WENDY",
        "RequestedProcedureDescription": "CHEST PA AND LATERAL",
        "RequestedProcedureID": f"RP{number:06}",
        "RequestedProcedurePriority": "ROUTINE",
        "AdmissionID": f"V{number:06}",
        "ScheduledProcedureStepSequence": [
            {
                "Modality": "CR",
                "ScheduledStationAETitle": station(number),
                "ScheduledProcedureStepStartDate": day(number // ITEMS_PER_DAY),
                "ScheduledProcedureStepStartTime": f"{8 + number % 10:02}{number % 60:02}00",
                "ScheduledPerformingPhysicianName": "PERFORMER^PAULA",
                "ScheduledProcedureStepDescription": "CHEST",
                "ScheduledStationName": f"ROOM{number % STATIONS}",
                "ScheduledProcedureStepLocation": "FLOOR 1",
                "ScheduledProcedureStepID": f"SPS{number:06}",
            }
        ],
    }


def day(days_from_now: int) -> str:
    return (date.today() + timedelta(days=days_from_now)).strftime("%Y%m%d")


def station(number: int) -> str:
    return f"STATION{number % STATIONS}"


def patient_id(number: int) -> str:
    return f"W{number:06}"


def accession_number(number: int) -> str:
    return f"WA{number:06}"


def question(matches: int, step: Values, keys: Values) -> Question:
    """A query as modalities send it, that asks for what they show."""
    steps = [{**dict.fromkeys(STEP_COLUMNS, ""), **step}]
    empty = dict.fromkeys(ITEM_COLUMNS, "")
    return Question(encode({**empty, **keys, "ScheduledProcedureStepSequence": steps}), matches)


# By name: what is asked for about the item with a number.
QUERIES: dict[str, Callable[[int], Question]] = {
    "station": lambda number: question(
        ITEMS_PER_DAY // STATIONS,
        {"ScheduledStationAETitle": station(number), "ScheduledProcedureStepStartDate": day(0)},
        {},
    ),
    "patient": lambda number: question(1, {}, {"PatientID": patient_id(number)}),
    "accession": lambda number: question(1, {}, {"AccessionNumber": accession_number(number)}),
    "today": lambda number: question(ITEMS_PER_DAY, {"ScheduledProcedureStepStartDate": day(0)}, {}),
}
