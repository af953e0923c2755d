"""The two ways to retrieve: C-MOVE to DCMTK's storescp, asked for by a raw client, and C-GET by DCMTK's getscu."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.client import COMPLETED, FAILED, STUDY_ROOT_MOVE, WARNING, Association, association_request
from bench.encoding import encode
from bench.machine import program
from bench.peers import Peer, Setting
from bench.senders import LOG_CONFIGURATION, log_time

DESTINATION = "RECEIVER"
RETRIEVE_TIMEOUT_S = 600.0
GET_REQUESTED = "Sending C-GET Request"
GET_FIRST = "Received C-STORE Request"
GET_STORED = "Sending C-STORE Response (Success)"
GET_DONE = "Received C-GET Response (Success)"


class RetrieveFailed(RuntimeError):
    """Not every instance arrived."""


@dataclass(frozen=True)
class Retrieved:
    """From the request: when the first pending response or instance was seen, and the final response."""

    first_s: float
    all_s: float


class Receiver(Peer):
    """storescp as Debian ships it, which reads what it is sent and drops it."""

    def __init__(self, folder: Path, port: int, *, nodelay: bool) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, Setting(), [program("storescp"), "--ignore", str(port)], port, nodelay)

    def count(self) -> int:
        return 0


def move(port: int, study_uid: str, instances: int, *, may_be_one: bool = False) -> Retrieved:
    """C-MOVE of a study to DESTINATION; `may_be_one`: all its instances may count as one sub-operation.

    Raises RetrieveFailed, AssociationFailed.
    """
    identifier = encode({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid})
    request = association_request([STUDY_ROOT_MOVE])
    with Association(port, request, timeout_s=RETRIEVE_TIMEOUT_S) as association:
        answered, response = association.move(identifier, DESTINATION)
        association.release()
    counters = [response.get(element, 0) for element in (COMPLETED, FAILED, WARNING)]
    if counters != [instances, 0, 0] and not (may_be_one and counters == [1, 0, 0]):
        raise RetrieveFailed(f"completed, failed, warning: {counters} of {instances}")
    return Retrieved(answered.first_s, answered.last_s)


def get(folder: Path, port: int, study_uid: str, instances: int, *, nodelay: bool) -> Retrieved:
    """C-GET of a study by getscu, which drops what it is sent; timed by its log. Raises RetrieveFailed."""
    log = folder / "getscu.log"
    log.unlink(missing_ok=True)
    configuration = folder / "getscu.cfg"
    configuration.write_text(LOG_CONFIGURATION.format(log=log))
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"} | {"TZ": "UTC"}
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    command = [program("getscu"), "--log-config", str(configuration), "--study", "-aec", "ORTHANC", "--ignore"]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_uid}", "127.0.0.1", str(port)]
    try:
        process = subprocess.run(command, env=environment, capture_output=True, timeout=RETRIEVE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RetrieveFailed(f"getscu does not end within {RETRIEVE_TIMEOUT_S:.0f} s") from error
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    stored = sum(GET_STORED in line for line in lines)
    if process.returncode or stored != instances or not any(GET_DONE in line for line in lines):
        end = " | ".join(lines[-3:])
        raise RetrieveFailed(f"getscu ended with {process.returncode}, {stored} of {instances} stored: {end}")
    asked, first, done = (_first(lines, text) for text in (GET_REQUESTED, GET_FIRST, GET_DONE))
    return Retrieved(first - asked, done - asked)


def _first(lines: list[str], text: str) -> float:
    return next(log_time(line) for line in lines if text in line)
