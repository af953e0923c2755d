"""Orthanc's REST API as JSON: kept-alive connections, every wait bounded, every answer bounded in size."""

import contextlib
import json
from collections.abc import Iterator
from http.client import HTTPException
from typing import IO, Any, Final

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from gateway.archive.interface import ArchiveUnavailable, TooBroad
from gateway.forwarding.transports import Endpoint, HttpTransport, Unreachable
from gateway.forwarding.verdicts import Judgement, judge

# Identifiers of two million resources; a page of attributes has some MB.
MAXIMUM_ANSWER_BYTES: Final = 96 * 1024 * 1024
NOT_FOUND: Final = 404


class OrthancRest:
    """Requests of several threads over a bounded number of connections."""

    def __init__(self, endpoint: Endpoint, connections: int) -> None:
        self.endpoint = endpoint
        self.connections = connections
        self._transport = HttpTransport(endpoint, connections)

    def get(self, uri: str) -> Any:
        """The JSON that GET answers, None for what is not there. Raises ArchiveUnavailable, TooBroad."""
        return self._json(uri, None)

    def post(self, uri: str, order: dict[str, Any]) -> Any:
        """The JSON that POST answers to a JSON `order`. Raises ArchiveUnavailable, TooBroad."""
        return self._json(uri, json.dumps(order).encode())

    def store(self, file: IO[bytes], size_bytes: int) -> Judgement:
        """POST a DICOM file. Raises ArchiveUnavailable."""
        try:
            return judge(self._transport.post("/instances", file, size_bytes))
        except Unreachable as error:
            raise ArchiveUnavailable(str(error)) from error

    @contextlib.contextmanager
    def open(self, uri: str, order: bytes | None = None) -> Iterator[BaseHTTPResponse]:
        """GET, or POST of a JSON `order`, as a stream. Raises ArchiveUnavailable, while it is read too."""
        try:
            with self._transport.download(uri, order) as response:
                yield response
        except Unreachable as error:
            raise ArchiveUnavailable(str(error)) from error

    def _json(self, uri: str, order: bytes | None) -> Any:
        try:
            with self._transport.download(uri, order) as response:
                if response.status == NOT_FOUND and order is None:
                    response.drain_conn()
                    return None
                body = response.read(MAXIMUM_ANSWER_BYTES + 1, decode_content=True)
        except (Unreachable, HTTPError, HTTPException) as error:
            raise ArchiveUnavailable(str(error)) from error
        if len(body) > MAXIMUM_ANSWER_BYTES:
            raise TooBroad(f"Orthanc's answer has more than {MAXIMUM_ANSWER_BYTES} bytes")
        if response.status != 200:
            raise ArchiveUnavailable(f"Orthanc answers HTTP {response.status} to {uri}")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ArchiveUnavailable(f"Orthanc's answer to {uri} is no JSON") from error
