"""Orthanc's REST API for scripts: the calls that the plugin makes within Orthanc, here over HTTP.

All of them see what other plugins add or replace: HTTP has no way past them. The time that a call may take is what
remains of its callback's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from gateway.forwarding.transports import Endpoint, HttpTransport, Unreachable
from gateway.script_host.api.errors import INTERNAL_ERROR, NETWORK_PROTOCOL, UNKNOWN_RESOURCE, OrthancException

CONNECTIONS: Final = 8
# A synchronous C-STORE of a study answers when it is sent.
TIMEOUT_S: Final = 600.0
_OK: Final = 200


class RestApi:
    """Used by all threads of a script."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._transport = HttpTransport(replace(endpoint, timeout_s=TIMEOUT_S), CONNECTIONS)

    def get(self, uri: str) -> bytes:
        """RestApiGet, RestApiGetAfterPlugins. Raises OrthancException, as the others."""
        return self._call("GET", _text(uri), None)

    def post(self, uri: str, body: bytes | str) -> bytes:
        """RestApiPost, RestApiPostAfterPlugins."""
        return self._call("POST", _text(uri), _body(body))

    def put(self, uri: str, body: bytes | str) -> bytes:
        """RestApiPut, RestApiPutAfterPlugins."""
        return self._call("PUT", _text(uri), _body(body))

    def delete(self, uri: str) -> None:
        """RestApiDelete, RestApiDeleteAfterPlugins."""
        self._call("DELETE", _text(uri), None)

    def look_up(self, value: str, resource_type: str) -> str:
        """Orthanc's identifier of the one resource that has `value` as its identifying tag.

        None, or several, are INTERNAL_ERROR: so the plugin says it.
        """
        found = [one["ID"] for one in json.loads(self.post("/tools/lookup", value)) if one["Type"] == resource_type]
        if len(found) != 1:
            raise OrthancException(*INTERNAL_ERROR)
        return str(found[0])

    def look_up_accession_number(self, value: str) -> str:
        """Orthanc's identifier of the one study that has this Accession Number."""
        query = {"Level": "Study", "CaseSensitive": True, "Query": {"AccessionNumber": value}}
        found = json.loads(self.post("/tools/find", json.dumps(query)))
        if len(found) != 1:
            raise OrthancException(*INTERNAL_ERROR)
        return str(found[0])

    def authorization(self) -> str:
        """What opens the REST API in the header Authorization. Raises OrthancException if nothing is needed."""
        value = self._transport.authorization
        if value is None:
            raise OrthancException(*INTERNAL_ERROR)
        return value

    def _call(self, method: str, uri: str, body: bytes | None) -> bytes:
        # Imported here: whoever inspects a script has no calls.
        from gateway.script_host.running import remaining_s

        try:
            with self._transport.request(method, uri, body, remaining_s(TIMEOUT_S)) as response:
                content = response.read(decode_content=True)
        except Unreachable as error:
            raise OrthancException(NETWORK_PROTOCOL, f"Orthanc at {self.endpoint.url}: {error}") from error
        if response.status != _OK:
            raise OrthancException(*_error(content))
        return content


def _error(body: bytes) -> tuple[int, str]:
    """What Orthanc says is wrong; for the plugin all that it does not describe is an unknown resource."""
    try:
        described: Any = json.loads(body)
        return int(described["OrthancStatus"]), str(described["OrthancError"])
    except (ValueError, KeyError, TypeError):
        return UNKNOWN_RESOURCE


def _text(uri: str) -> str:
    if not isinstance(uri, str):
        raise TypeError("Bad types for the arguments: the URI must be a string")
    return uri if uri.startswith("/") else f"/{uri}"


def _body(body: bytes | str) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError("Bad types for the arguments: the body must be bytes or a string")
    return bytes(body)
