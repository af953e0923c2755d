"""An HTTP server in Orthanc's place that does what a test tells it: it refuses, lies, hangs up or says nothing.

It stands for an Orthanc in trouble and for what may be between us and Orthanc, which cannot be had at will.
Without orders it behaves as Orthanc does.
"""

import json
import ssl
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread

from gateway.dicom.part10 import orthanc_id


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


class HostileHttp:
    """The server. `rule` decides each answer and may be changed at any time; `requests` is what came, in order.

    With a `certificate` (a PEM file with its key) it speaks TLS.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self._certificate = certificate
        self.rule: Rule = self.as_orthanc
        self.requests: list[Request] = []
        self.stored: dict[str, bytes] = {}
        self._over = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    def start(self) -> None:
        """Listen; on the same port as before."""
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hostile._serve(self, b"")

            def do_POST(self) -> None:
                hostile._serve(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *arguments: Any) -> None:
                """Nothing on standard error."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            allow_reuse_address = True

            def handle_error(self, *arguments: Any) -> None:
                """Whoever hangs up on us is none of the test's trouble."""

        self._server = Quiet(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections until the next `start`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        """The end, also of connections that are kept waiting."""
        self._over.set()
        self.stop()

    @property
    def url(self) -> str:
        return f"{'http' if self._certificate is None else 'https'}://127.0.0.1:{self._port}"

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

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
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
            self._over.wait()
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
