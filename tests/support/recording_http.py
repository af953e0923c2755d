"""A proxy between a client and a real HTTP server on this computer, which writes down what was asked for."""

import http.client
from http.server import BaseHTTPRequestHandler
from typing import Self

from tests.support.http_server import HttpServer

TIMEOUT_S = 60


class RecordingProxy(HttpServer):
    """`requests`: method and path of each request, in order."""

    def __init__(self, port: int) -> None:
        self.requests: list[str] = []
        self._onward_port = port
        super().__init__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """See HttpServer."""
        self.requests.append(f"{handler.command} {handler.path}")
        onward = http.client.HTTPConnection("127.0.0.1", self._onward_port, timeout=TIMEOUT_S)
        onward.request(handler.command, handler.path, body or None)
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        handler.send_response(answer.status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
