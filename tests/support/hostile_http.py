"""An HTTP server in Orthanc's place that does what a test tells it: it refuses, lies, hangs up or says nothing.

It stands for an Orthanc in trouble and for what may be between us and Orthanc, which cannot be had at will.
Without orders it behaves as Orthanc does.
"""

import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from gateway.dicom.part10 import orthanc_id
from tests.support.http_server import HttpServer


class Fault(Enum):
    """What is no answer."""

    CLOSE_BEFORE_ANSWER = auto()
    CLOSE_WITHIN_ANSWER = auto()
    SILENCE = auto()


@dataclass(frozen=True)
class Answer:
    """A status and a body."""

    status: int = 200
    body: bytes = b""


@dataclass(frozen=True)
class Instance:
    """One posted instance."""

    sop_instance_uid: str
    orthanc_id: str
    file: bytes = field(repr=False)


@dataclass(frozen=True)
class Request:
    """What was asked, and when (time.monotonic())."""

    method: str
    path: str
    headers: dict[str, str]
    instances: tuple[Instance, ...]
    at: float

    @property
    def uids(self) -> list[str]:
        return [instance.sop_instance_uid for instance in self.instances]


Rule = Callable[[Request], Answer | Fault]


def orthanc_error(status: int, code: int) -> Answer:
    """An error as Orthanc describes it."""
    return Answer(status, json.dumps({"HttpStatus": status, "OrthancStatus": code}).encode())


class HostileHttp(HttpServer):
    """The server. `rule` decides each answer and may be changed at any time; `requests` is what came, in order.

    With a `certificate` (a PEM file with its key) it speaks TLS.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.rule: Rule = self.as_orthanc
        self.requests: list[Request] = []
        self.stored: dict[str, bytes] = {}
        super().__init__(certificate)

    @property
    def posts(self) -> list[Request]:
        """The requests to POST /instances."""
        return [request for request in self.requests if (request.method, request.path) == ("POST", "/instances")]

    def posts_of(self, uid: str) -> list[Request]:
        """The posts that held this instance, alone or with others."""
        return [request for request in self.posts if uid in request.uids]

    def as_orthanc(self, request: Request) -> Answer:
        """Store what is posted; answer for what is stored."""
        if request.method == "POST":
            return Answer(200, self.store_answer(request))
        identifier = request.path.split("/")[2]
        file = self.stored.get(identifier)
        if file is None:
            return orthanc_error(404, 17)
        return Answer(200, file if request.path.endswith("/file") else b"{}")

    def store_answer(self, request: Request, status: str = "Success", leave_out: str = "") -> bytes:
        """Store the instances but that of the UID `leave_out`, and return the body that says so."""
        answers = []
        for instance in request.instances:
            if instance.sop_instance_uid != leave_out:
                self.stored[instance.orthanc_id] = instance.file
                answers.append({"ID": instance.orthanc_id, "Status": status})
        return json.dumps(answers if len(request.instances) > 1 else answers[0]).encode()

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        request = Request(handler.command, handler.path, dict(handler.headers), _instances(body), time.monotonic())
        self.requests.append(request)
        action = self.rule(request)
        if isinstance(action, Answer):
            handler.send_response(action.status)
            handler.send_header("Content-Length", str(len(action.body)))
            handler.end_headers()
            handler.wfile.write(action.body)
            return
        if action is Fault.SILENCE:
            self.over.wait()
        elif action is Fault.CLOSE_WITHIN_ANSWER:
            handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"Status"')
        handler.close_connection = True


def _instances(body: bytes) -> tuple[Instance, ...]:
    if body[:2] == b"PK":
        with zipfile.ZipFile(BytesIO(body)) as archive:
            return tuple(_instance(archive.read(name)) for name in archive.namelist())
    return (_instance(body),) if body[128:132] == b"DICM" else ()


def _instance(file: bytes) -> Instance:
    content = dcmread(BytesIO(file), stop_before_pixels=True, force=True)
    keywords = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    values = [str(content.get(keyword, "")) for keyword in keywords]
    return Instance(values[3], orthanc_id(*values), file)
