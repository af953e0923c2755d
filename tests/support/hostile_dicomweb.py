"""A DICOMweb server that breaks the rules that a test names: such servers exist, and cannot be had at will.

Without orders it behaves well. It has one study with series of CT images.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from tests.support.data_sets import PIXEL_DATA, element
from tests.support.rawdicom import image
from tests.support.scripted_http import ScriptedHttp, answer

STUDY: Final = "1.2.3"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
JPEG: Final = "1.2.840.10008.1.2.4.70"
BOUNDARY: Final = b"=-boundary 'x'"
MULTIPART: Final = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY.decode()}"'

Hook = Callable[["HostileDicomWeb", socket.socket, str, int], bool | None]


def part10(sop_instance_uid: str, data_set: bytes, transfer_syntax: str = EXPLICIT) -> bytes:
    """A file (PS3.10 7.1)."""
    meta = b"".join(
        element(tag, "UI", value.encode() + b"\0" * (len(value) % 2))
        for tag, value in ((0x00020002, CT), (0x00020003, sop_instance_uid), (0x00020010, transfer_syntax))
    )
    length = element(0x00020000, "UL", len(meta).to_bytes(4, "little"))
    return bytes(128) + b"DICM" + length + meta + data_set


@dataclass
class HostileDicomWeb:
    """The server. `hook` sees each request first and may answer it: then it says whether the connection stays open."""

    series: int = 1
    instances: int = 10
    pixel_bytes: int = 1000
    # QIDO-RS
    cap: int = 1_000_000
    ignores_offset: bool = False
    ignores_limit: bool = False
    ignores_keys: bool = False
    warns: bool = False
    lacks: frozenset[str] = frozenset()
    told_syntax: str = EXPLICIT
    # Whether it tells how many instances a series has, and by how many it is wrong.
    counts: bool = False
    miscounts: int = 0
    # WADO-RS
    syntax: str = EXPLICIT
    leaves_out: frozenset[str] = frozenset()
    hook: Hook | None = None
    paths: list[str] = field(default_factory=list)

    def __enter__(self) -> HostileDicomWeb:
        self.http = ScriptedHttp(self._script)
        self.http.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.http.__exit__(*exception)

    @property
    def url(self) -> str:
        return self.http.url

    def uids(self) -> list[str]:
        return [f"{STUDY}.{s}.{n}" for s in range(1, self.series + 1) for n in range(1, self.instances + 1)]

    def data_set(self, uid: str) -> bytes:
        pixels = element(PIXEL_DATA, "OW", uid.encode().ljust(self.pixel_bytes, b"\0"))
        return image(uid, study=STUDY, series=uid.rpartition(".")[0], rest=pixels)

    def file(self, uid: str) -> bytes:
        return part10(uid, self.data_set(uid), self.syntax)

    def parts(self, uids: list[str], headers: bytes = b"Content-Type: application/dicom\r\n\r\n") -> Iterator[bytes]:
        for uid in uids:
            yield b"\r\n--" + BOUNDARY + b"\r\n" + headers + self.file(uid)
        yield b"\r\n--" + BOUNDARY + b"--\r\n"

    def count(self, pattern: str) -> int:
        """How many requests were for paths that match."""
        return sum(1 for path in self.paths if re.fullmatch(pattern, path.partition("?")[0]))

    def _script(self, connection: socket.socket, path: str, number: int) -> bool:
        self.paths.append(path)
        if self.hook is not None:
            done = self.hook(self, connection, path, number)
            if done is not None:
                return done
        resource, _mark, query = path.partition("?")
        if query or resource.endswith(("studies", "series", "instances")):
            connection.sendall(self._qido(resource, dict(parse_qsl(query))))
            return True
        uids = self.uids_of(resource)
        if not uids:
            connection.sendall(answer(b"", "404 Not Found"))
            return True
        uids = [uid for uid in uids if uid not in self.leaves_out]
        send_chunked(connection, MULTIPART, self.parts(uids))
        return True

    def uids_of(self, resource: str) -> list[str]:
        """The instances of a resource of WADO-RS."""
        last = resource.rpartition("/")[2]
        return [uid for uid in self.uids() if last in (uid, uid.rpartition(".")[0], STUDY)]

    def _qido(self, resource: str, query: dict[str, str]) -> bytes:
        if resource in self.lacks:
            return answer(b"no such resource", "404 Not Found")
        found = list(self._matches(resource, query))
        limit = len(found) if self.ignores_limit else min(int(query.get("limit", 100)), self.cap)
        offset = 0 if self.ignores_offset else int(query.get("offset", 0))
        page = found[offset : offset + limit]
        warning = ['Warning: 299 server: "there is more"'] if self.warns and len(found) > offset + len(page) else []
        return answer(json.dumps(page).encode(), "200 OK", "Content-Type: application/dicom+json", *warning)

    def _matches(self, resource: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        places = dict(re.findall(r"/(studies|series)/([^/]+)", resource))
        if resource.endswith("studies"):
            yield {
                "0020000D": {"vr": "UI", "Value": [STUDY]},
                "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
                "00100020": {"vr": "LO", "Value": ["P1"]},
            }
            return
        for uid in self.uids():
            series = uid.rpartition(".")[0]
            if places.get("series", series) != series:
                continue
            match = {"0020000D": {"vr": "UI", "Value": [STUDY]}, "0020000E": {"vr": "UI", "Value": [series]}}
            if resource.endswith("series"):
                if uid.endswith(".1"):
                    count = {"00201209": {"vr": "IS", "Value": [self.instances + self.miscounts]}}
                    yield match | (count if self.counts else {})
                continue
            if not self.ignores_keys and unquote(query.get("SOPInstanceUID", uid)) != uid:
                continue
            told = {"00083002": {"vr": "UI", "Value": [self.told_syntax]}} if self.told_syntax else {}
            yield (
                match
                | told
                | {
                    "00080016": {"vr": "UI", "Value": [CT]},
                    "00080018": {"vr": "UI", "Value": [uid]},
                    "00200013": {"vr": "IS", "Value": [int(uid.rpartition(".")[2])]},
                }
            )


def send_chunked(connection: socket.socket, content_type: str, pieces: Iterator[bytes]) -> None:
    """An answer whose length is not said in advance."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode())
    for piece in pieces:
        connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
    connection.sendall(b"0\r\n\r\n")


def drip(connection: socket.socket, body: bytes, delay_s: float) -> None:
    """Byte after byte."""
    for number in range(len(body)):
        connection.sendall(body[number : number + 1])
        time.sleep(delay_s)
