"""A DICOMweb server of the tests that stores what it is sent (STOW-RS), and otherwise does what a test tells it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from pydicom import dcmread

from tests.support.http_server import HttpServer

Rule = Callable[["StowRequest"], "StowReply | None"]


@dataclass(frozen=True)
class StowRequest:
    """A POST: SOP Instance UIDs, studies and files by UID, and when it came (time.monotonic())."""

    headers: dict[str, str]
    uids: list[str]
    studies: set[str]
    files: dict[str, bytes] = field(repr=False)
    size: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class StowReply:
    """An answer; `body` None: none at all, the connection is closed. `cut`: only so much of it, then the same."""

    status: int = 200
    body: bytes | None = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None


def stow_json(stored: list[str], failed: dict[str, int | None] | None = None) -> bytes:
    """The Store Instances Response Module in the JSON model."""
    return json.dumps(
        {
            "00081198": {"vr": "SQ", "Value": [_item(uid, reason) for uid, reason in (failed or {}).items()]},
            "00081199": {"vr": "SQ", "Value": [_item(uid) for uid in stored]},
        }
    ).encode()


def stow_xml(stored: list[str], failed: dict[str, int | None] | None = None) -> bytes:
    """The same as Native DICOM Model."""
    root = ElementTree.Element("NativeDicomModel", xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM")
    for tag, items in (("00081198", failed or {}), ("00081199", dict.fromkeys(stored))):
        sequence = ElementTree.SubElement(root, "DicomAttribute", tag=tag, vr="SQ")
        for number, (uid, reason) in enumerate(items.items(), 1):
            item = ElementTree.SubElement(sequence, "Item", number=str(number))
            for member, vr, value in (("00081155", "UI", uid), ("00081197", "US", reason)):
                if value is not None:
                    attribute = ElementTree.SubElement(item, "DicomAttribute", tag=member, vr=vr)
                    ElementTree.SubElement(attribute, "Value", number="1").text = str(value)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root)


def _item(uid: str, reason: int | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    if reason is not None:
        item["00081197"] = {"vr": "US", "Value": [reason]}
    return item


class StowOrigin(HttpServer):
    """The server. `rule` decides about each POST (None: store and say so); `requests` is what was posted, in order."""

    def __init__(self) -> None:
        self.rule: Rule = lambda _request: None
        self.requests: list[StowRequest] = []
        self.stored: dict[str, bytes] = {}
        # What GET of QIDO-RS and WADO-RS answers instead: a status.
        self.get_status: int | None = None
        self.gets: list[str] = []
        super().__init__()

    def posts_of(self, uid: str) -> list[StowRequest]:
        return [request for request in self.requests if uid in request.uids]

    def keep(self, request: StowRequest) -> None:
        """Store what was posted, without an answer."""
        self.stored.update(request.files)

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """See HttpServer."""
        if handler.command == "POST":
            self._post(handler, body)
        else:
            self._get(handler)

    def _post(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if handler.path.startswith("/token"):
            token = f"token{len(self.gets)}"
            self.gets.append(handler.path)
            _send(handler, StowReply(200, json.dumps({"access_token": token, "expires_in": 3600}).encode()))
            return
        files = _parts(handler.headers["Content-Type"], body)
        data_sets = {uid: dcmread(BytesIO(file), stop_before_pixels=True) for uid, file in files.items()}
        request = StowRequest(
            dict(handler.headers),
            list(files),
            {str(data_set.StudyInstanceUID) for data_set in data_sets.values()},
            files,
            len(body),
            time.monotonic(),
        )
        self.requests.append(request)
        reply = self.rule(request)
        if reply is None:
            self.keep(request)
            reply = StowReply(200, stow_json(request.uids))
        _send(handler, reply)

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        self.gets.append(handler.path)
        url = urlsplit(handler.path)
        if self.get_status is not None:
            _send(handler, StowReply(self.get_status))
        elif match := re.fullmatch(r"/studies/[^/]+/series/[^/]+/instances/([^/]+)", url.path):
            file = self.stored.get(match[1])
            _send(handler, StowReply(404) if file is None else StowReply(200, file))
        else:
            self._search(handler, url.path, parse_qs(url.query))

    def _search(self, handler: BaseHTTPRequestHandler, path: str, query: dict[str, list[str]]) -> None:
        wanted = {uid for value in query.get("SOPInstanceUID", []) for uid in value.split(",")}
        study = path.split("/")[2] if path.startswith("/studies/") else None
        found = []
        for uid, file in self.stored.items():
            data_set = dcmread(BytesIO(file), stop_before_pixels=True)
            if (not wanted or uid in wanted) and study in (None, data_set.StudyInstanceUID):
                tags = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
                found.append({f"{data_set[tag].tag:08X}": {"vr": "UI", "Value": [data_set[tag].value]} for tag in tags})
        offset = int(query.get("offset", ["0"])[0])
        _send(handler, StowReply(200, json.dumps(found[offset : offset + int(query["limit"][0])]).encode()))


def _parts(content_type: str, body: bytes) -> dict[str, bytes]:
    boundary = re.fullmatch(r'multipart/related; type="application/dicom"; boundary=(\w+)', content_type)
    assert boundary is not None, content_type
    delimiter = b"--" + boundary[1].encode()
    assert body.startswith(delimiter) and body.endswith(b"\r\n" + delimiter + b"--\r\n")
    files = {}
    for part in body[: -len(delimiter) - 4].split(delimiter + b"\r\n")[1:]:
        head, _, file = part.partition(b"\r\n\r\n")
        assert head == b"Content-Type: application/dicom"
        file = file.removesuffix(b"\r\n")
        files[str(dcmread(BytesIO(file), stop_before_pixels=True).SOPInstanceUID)] = file
    return files


def _send(handler: BaseHTTPRequestHandler, reply: StowReply) -> None:
    if reply.body is not None:
        handler.send_response(reply.status)
        for name, value in reply.headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body[: reply.cut])
    if reply.body is None or reply.cut is not None:
        handler.close_connection = True
