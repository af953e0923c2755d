"""What HTTP servers of the tests have in common: they start, stop, start again on one port, over TLS if asked."""

import ssl
import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class HttpServer(ABC):
    """A server that listens from its beginning. With a `certificate` (a PEM file with its key) it speaks TLS."""

    def __init__(self, certificate: Path | None = None) -> None:
        # Set at the end: what waits ends then.
        self.over = threading.Event()
        self._certificate = certificate
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @abstractmethod
    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""

    @property
    def url(self) -> str:
        return f"{'http' if self._certificate is None else 'https'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; on the same port as before."""
        serve = self.serve

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                serve(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

            do_POST = do_GET

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
        self.over.set()
        self.stop()
