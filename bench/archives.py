"""What Orthanc holds before it is queried or retrieved from: stored once, with a copy of the index for each server."""

import http.client
import itertools
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

from pydicom.uid import CTImageStorage, generate_uid

from bench.encoding import part10
from bench.peers import OrthancPeer, Setting
from bench.testdata import study

POSTING_THREADS = 4
STUDIES_PER_DAY = 200
SERIES_PER_STUDY = 2
LARGE_SERIES_IMAGES = 100
FIRST_DAY = date(2024, 1, 1)
MODALITIES = ("CT", "MR", "US", "CR", "NM")
# fmt: off
FAMILY_NAMES = (
    "ANDERSON", "BAKER", "CLARK", "DAVIS", "EVANS", "FISHER", "GARCIA", "HUGHES", "IVANOVA", "JOHNSON", "KELLY",
    "LOPEZ", "MILLER", "NGUYEN", "OLSEN", "PARKER", "ROSSI", "SMITH",
)
# fmt: on
GIVEN_NAMES = ("ANNA", "BEN", "CARLA", "DAVID", "EMMA", "FRANK", "GRETA", "HENRY", "IDA", "JAMES")
UID_ROOT = "1.2.826.0.1.3680043.8.498.77"


class Archive:
    """Instances that one Orthanc has stored. Its files are read by all servers, its index is copied for each."""

    def __init__(self, folder: Path, instances: Iterable[bytes]) -> None:
        folder.mkdir()
        with OrthancPeer(folder, Setting()) as orthanc:
            self.instances = _post_all(orthanc, instances)
            orthanc.wait_for_count(self.instances, timeout_s=60.0)
        self._storage = folder / "storage"

    def options(self, folder: Path) -> dict[str, object]:
        """Orthanc's options for a server with this content whose state is in `folder`."""
        index = folder / "index"
        index.mkdir()
        for path in self._storage.glob("index*"):
            shutil.copy(path, index)
        return {"StorageDirectory": str(self._storage), "IndexDirectory": str(index)}


def _post_all(orthanc: OrthancPeer, instances: Iterable[bytes]) -> int:
    lock = threading.Lock()
    remaining = iter(instances)
    posted = 0
    errors: list[Exception] = []

    def post() -> None:
        nonlocal posted
        connection = http.client.HTTPConnection("127.0.0.1", orthanc.http_port, timeout=60)
        try:
            while not errors:
                with lock:
                    instance = next(remaining, None)
                if instance is None:
                    return
                orthanc.post(instance, connection)
                with lock:
                    posted += 1
        except Exception as error:  # noqa: BLE001 - it is raised again below, by the thread that waits
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=post) for _ in range(POSTING_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return posted


class QueryArchive(Archive):
    """Studies of one patient each, with two series of one small instance; the first has a series of 100 as well.

    What a query for them must find can be told from the number of a study, 0 to `studies` - 1.
    """

    def __init__(self, folder: Path, studies: int) -> None:
        self.studies = studies
        self._days = max(1, studies // STUDIES_PER_DAY)
        numbers = range(studies)
        self.studies_by_day = Counter(map(self.day, numbers))
        self.studies_by_family_name = Counter(map(family_name, numbers))
        super().__init__(folder, self._files())

    def day(self, number: int) -> str:
        return (FIRST_DAY + timedelta(days=number % self._days)).strftime("%Y%m%d")

    def _files(self) -> Iterator[bytes]:
        for number in range(self.studies):
            for series in range(SERIES_PER_STUDY):
                yield self._file(number, series, 0)
        for image in range(LARGE_SERIES_IMAGES):
            yield self._file(0, SERIES_PER_STUDY, image)

    def _file(self, number: int, series: int, image: int) -> bytes:
        modality = MODALITIES[(number + series) % len(MODALITIES)]
        sop_instance = f"{series_uid(number, series)}.{image + 1}"
        return part10(
            CTImageStorage,
            sop_instance,
            {
                "SpecificCharacterSet": "ISO_IR 100",
                "SOPClassUID": CTImageStorage,
                "SOPInstanceUID": sop_instance,
                "StudyInstanceUID": study_uid(number),
                "SeriesInstanceUID": series_uid(number, series),
                "PatientID": patient_id(number),
                "PatientName": f"{family_name(number)}^{GIVEN_NAMES[number % len(GIVEN_NAMES)]}",
                "PatientBirthDate": f"19{number % 90 + 10}0{number % 9 + 1}15",
                "PatientSex": "FM"[number % 2],
                "StudyDate": self.day(number),
                "StudyTime": f"{number % 24:02}{number % 60:02}00",
                "StudyID": str(number),
                "StudyDescription": f"{modality} EXAMINATION {number % 40}",
                "AccessionNumber": accession_number(number),
                "ReferringPhysicianName": "REFERRER^ROBERT",
                "InstitutionName": "GENERAL HOSPITAL",
                "Modality": modality,
                "SeriesNumber": str(series + 1),
                "SeriesDescription": f"SERIES {series + 1}",
                "SeriesDate": self.day(number),
                "BodyPartExamined": "CHEST",
                "InstanceNumber": str(image + 1),
            },
        )


def patient_id(number: int) -> str:
    return f"P{number:06}"


def accession_number(number: int) -> str:
    return f"A{number:06}"


def family_name(number: int) -> str:
    return FAMILY_NAMES[number % len(FAMILY_NAMES)]


def study_uid(number: int) -> str:
    return f"{UID_ROOT}.{number + 1}"


def series_uid(number: int, series: int) -> str:
    return f"{study_uid(number)}.{series + 1}"


class RetrieveArchive(Archive):
    """For each shape studies of one series: a long one, one where Nagle's algorithm is on, one of one instance."""

    def __init__(self, folder: Path, large_instances: int, slow_instances: int) -> None:
        self.long = {"ct512": large_instances, "mr128": 2 * large_instances}
        sizes = {(shape, count) for shape, long in self.long.items() for count in (long, slow_instances, 1)}
        self._studies = {size: str(generate_uid()) for size in sorted(sizes)}
        contents = [study(uid, shape, count) for (shape, count), uid in self._studies.items()]
        super().__init__(folder, itertools.chain.from_iterable(contents))

    def study_uid(self, shape: str, count: int) -> str:
        """Study Instance UID of the study with so many instances."""
        return self._studies[shape, count]
