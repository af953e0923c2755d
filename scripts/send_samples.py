"""Sends pydicom's sample images with storescu and lists Orthanc's studies: the second half of `make demo`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any, Final

import requests
from pydicom import dcmread
from pydicom.data import get_testdata_file
from rich.console import Console
from rich.table import Table

DICOM_PORT: Final = os.environ.get("DICOM_PORT") or "4242"
HTTP_PORT: Final = os.environ.get("HTTP_PORT") or "8042"
ORTHANC: Final = f"http://127.0.0.1:{HTTP_PORT}"

# The option makes storescu propose the transfer syntax of the files. All have different SOP Instance UIDs.
SAMPLES: Final = (
    ("-xe", "Explicit VR Little Endian", ("CT_small.dcm", "examples_overlay.dcm", "examples_rgb_color.dcm")),
    ("-xi", "Implicit VR Little Endian", ("rtplan.dcm", "rtdose.dcm")),
    ("-xb", "Explicit VR Big Endian", ("ExplVR_BigEnd.dcm",)),
    ("-xd", "Deflated Explicit VR Little Endian", ("image_dfl.dcm",)),
    ("-xy", "JPEG Baseline", ("SC_rgb_jpeg_dcmtk.dcm",)),
    ("-xt", "JPEG-LS Lossless", ("MR_small_jpeg_ls_lossless.dcm",)),
    ("-xv", "JPEG 2000 Lossless", ("examples_jpeg2k.dcm",)),
    ("-xr", "RLE Lossless", ("SC_rgb_rle.dcm",)),
)

ARRIVAL_TIMEOUT_S: Final = 30
POLL_S: Final = 0.1


def send(option: str, paths: list[str]) -> None:
    sent = subprocess.run(
        ["/usr/bin/storescu", "--required", option, "localhost", DICOM_PORT, *paths],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if sent.returncode != 0:
        sys.exit(f"storescu could not send to port {DICOM_PORT}; is the gateway up (make run)?\n{sent.stderr}")


def wait_for(sop_instance_uids: list[str]) -> None:
    """The gateway answers when an instance is safe on its disk; Orthanc has it a moment later."""
    deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
    for uid in sop_instance_uids:
        while not rest("POST", "/tools/lookup", uid):
            if time.monotonic() > deadline:
                sys.exit(f"Instance {uid} was acknowledged but is not in Orthanc after {ARRIVAL_TIMEOUT_S} s.")
            time.sleep(POLL_S)


def rest(method: str, path: str, body: str | None = None) -> Any:
    try:
        response = requests.request(method, ORTHANC + path, data=body, timeout=10)
        response.raise_for_status()
    except requests.RequestException as error:
        sys.exit(f"Orthanc's REST API does not answer on port {HTTP_PORT}: {error}")
    return response.json()


def studies() -> Table:
    table = Table(title="Studies in Orthanc")
    for column in ("Patient", "Study date", "Description", "Modality", "Instances"):
        table.add_column(column, justify="right" if column == "Instances" else "left")
    for study in rest("GET", "/studies?expand"):
        series = rest("GET", f"/studies/{study['ID']}/series")
        tags = study["MainDicomTags"]
        table.add_row(
            study["PatientMainDicomTags"].get("PatientName", "").replace("^", " ").strip(),
            tags.get("StudyDate", ""),
            tags.get("StudyDescription", ""),
            "/".join(sorted({one["MainDicomTags"].get("Modality", "") for one in series})),
            str(sum(len(one["Instances"]) for one in series)),
        )
    return table


def main() -> None:
    uids = []
    for option, transfer_syntax, names in SAMPLES:
        paths = [str(get_testdata_file(name, download=False)) for name in names]
        print(f"storescu {option} localhost {DICOM_PORT} {' '.join(names)}  # {transfer_syntax}", flush=True)
        send(option, paths)
        uids += [str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in paths]
    wait_for(uids)
    Console().print(studies())


if __name__ == "__main__":
    main()
