"""QIDO-RS (PS3.18 10.6): searches, page by page until nothing new comes.

Servers cap pages without a word, ignore the offset, repeat themselves. What cannot be told completely is an error,
never a short answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.dicomweb.client import Answer, DicomWebClient, Request
from gateway.dicomweb.errors import BadAnswer, DicomWebError, ServerUnreachable
from gateway.dicomweb.json_model import data_sets
from gateway.matching.attributes import Attributes

# Orthanc's plugin takes a single media type only.
ACCEPT: Final = {"Accept": "application/dicom+json"}
# No search ends later than this, whatever a server makes up.
MAXIMUM_MATCHES: Final = 500_000
MAXIMUM_PAGE_BYTES: Final = 512 * 1024 * 1024
# Of a server that does not know the offset all is wanted at once.
PAGE_GROWTH: Final = 10
MAXIMUM_PAGE_SIZE: Final = 100_000

Parameters = Sequence[tuple[str, str]]


class TooManyMatches(DicomWebError):
    """More than the server tells, or than we take."""


class Qido:
    """Searches on one server."""

    def __init__(self, client: DicomWebClient) -> None:
        self._client = client

    def search(
        self, resource: str, parameters: Parameters, identity: Sequence[int], page_size: int | None = None
    ) -> Iterator[Attributes]:
        """Yield each match once, as it comes. `identity`: the tags whose values together tell one from another.
        `page_size`: instead of QidoPageSize, for a caller that does not want all.

        Raises HttpStatusError, ServerUnreachable, BadAnswer, TooManyMatches, also after some matches.
        """
        seen: set[int] = set()
        size = page_size or self._client.section.qido_page_size
        offset = broken = 0
        while True:
            page = _Page()
            fresh = 0
            try:
                for match in self._page(resource, parameters, size, offset, page):
                    key = hash(tuple(_value(match, tag) for tag in identity))
                    if key in seen:
                        continue
                    seen.add(key)
                    fresh += 1
                    if len(seen) > MAXIMUM_MATCHES:
                        raise TooManyMatches(f"more than {MAXIMUM_MATCHES} matches")
                    yield match
            except ServerUnreachable:
                broken += 1
                if not page.count or broken == self._client.section.attempts:
                    raise
                continue  # what was in it already is known
            if not page.count:
                return
            if fresh:
                offset += page.count
                continue
            # The same again: the offset is ignored. It was all, unless the page was full, or lacks what is known.
            if page.count < size and not page.is_incomplete and (offset or page.count >= len(seen)):
                return
            if not offset or size * PAGE_GROWTH > MAXIMUM_PAGE_SIZE:
                raise TooManyMatches(f"the server tells no more than {len(seen)} matches")
            size, offset = size * PAGE_GROWTH, 0

    def _page(self, resource: str, parameters: Parameters, size: int, offset: int, page: _Page) -> Iterator[Attributes]:
        query = [*parameters, ("limit", str(size))]
        if offset:
            query.append(("offset", str(offset)))
        request = Request("GET", self._client.qido(resource), query, {**ACCEPT, "Accept-Encoding": "gzip, identity"})
        with self._client.open(request) as answer:
            if answer.status == 204:
                return
            if answer.status not in (200, 206):
                raise answer.error()
            page.is_incomplete = _is_incomplete(answer)
            try:
                for match in data_sets(_limited(answer)):
                    page.count += 1
                    yield match
            except BadAnswer as error:
                raise BadAnswer(f"the answer to {request.what}: {error}") from error


class _Page:
    """What was learned of one page."""

    def __init__(self) -> None:
        self.count = 0
        self.is_incomplete = False


def _is_incomplete(answer: Answer) -> bool:
    """PS3.18 8.3.4.4: a Warning with code 299 says that there is more."""
    return answer.status == 206 or "299" in answer.headers.get("Warning", "").split()[:1]


def _limited(answer: Answer) -> Iterator[bytes]:
    total = 0
    for piece in answer.pieces():
        total += len(piece)
        if total > MAXIMUM_PAGE_BYTES:
            raise BadAnswer(f"more than {MAXIMUM_PAGE_BYTES} bytes")
        yield piece
    if not total and not answer.is_delimited:
        raise ServerUnreachable("the answer has no body, and nothing says so")


def _value(match: Attributes, tag: int) -> str:
    element = match.get(tag)
    return element.value.strip() if element is not None and isinstance(element.value, str) else ""
