"""HTTP connections to Orthanc whose answers are awaited as gateway.waiting says."""

from __future__ import annotations

import math
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import EmptyPoolError
from urllib3.response import HTTPResponse

from gateway import waiting


class _Connection(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        waiting.until_readable(self.sock, self.timeout)
        return super().getresponse()


class _TlsConnection(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        waiting.until_readable(self.sock, self.timeout)
        return super().getresponse()


class _Patient(HTTPConnectionPool):
    """Who waits for a connection that others use listens too."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            try:
                return super()._get_conn(min(left_s, waiting.LISTEN_INTERVAL_S))
            except EmptyPoolError:
                if not left_s:
                    raise
                waiting.listen()


class OrthancPool(_Patient):
    """Connections that are not encrypted."""

    ConnectionCls = _Connection


class OrthancTlsPool(_Patient, HTTPSConnectionPool):
    """Connections over TLS."""

    ConnectionCls = _TlsConnection
