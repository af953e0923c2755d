"""Matching as Orthanc's worklist plugin and CreateFindMatcher do it (HierarchicalMatcher)."""

from __future__ import annotations

from gateway.dicom.character_sets import CharacterSet
from gateway.matching.attributes import Attributes, Element
from gateway.matching.identifier import SPECIFIC_CHARACTER_SET, read_keys
from gateway.matching.keys import InvalidQuery, Key
from gateway.matching.matcher import Matcher
from gateway.script_host.api.errors import BAD_FILE_FORMAT, OrthancException


class FindMatcher:
    """The keys of a query, to be compared with DICOM files."""

    def __init__(self, keys: tuple[Key, ...], default: CharacterSet, *, case_sensitive_pn: bool) -> None:
        """Raises OrthancException for a value that is none of its VR."""
        self._keys = keys
        self._default = default
        self._case_sensitive_pn = case_sensitive_pn
        try:
            self._tests = _Tests(keys, case_sensitive_pn=case_sensitive_pn)
        except InvalidQuery as error:
            raise OrthancException(BAD_FILE_FORMAT[0], str(error)) from error

    @classmethod
    def of_identifier(
        cls, identifier: bytes, transfer_syntax_uid: str, default: CharacterSet, *, case_sensitive_pn: bool
    ) -> FindMatcher:
        """From an encoded identifier. Raises OrthancException."""
        try:
            keys = read_keys(identifier, transfer_syntax_uid, default)
        except InvalidQuery as error:
            raise OrthancException(BAD_FILE_FORMAT[0], str(error)) from error
        return cls(keys, default, case_sensitive_pn=case_sensitive_pn)

    def FindMatcherIsMatch(self, dicom: bytes) -> int:
        """1 if a DICOM file matches, else 0: also for what is no such file, as in the plugin."""
        from gateway.script_host.api.queries import read_answer

        try:
            attributes = read_answer(dicom, self._default)
        except OrthancException:
            return 0
        return int(self._tests.match(attributes))

    # Its name since plugin 4.1.
    IsMatch = FindMatcherIsMatch

    def extract(self, attributes: Attributes) -> Attributes:
        """What the query asks for, of sequences the items that match."""
        return self._tests.extract(attributes)


class _Tests:
    """One level of keys."""

    def __init__(self, keys: tuple[Key, ...], *, case_sensitive_pn: bool) -> None:
        flat = [key for key in keys if key.vr != "SQ" and key.tag != SPECIFIC_CHARACTER_SET and key.tag & 0xFFFF]
        self._tags = frozenset(key.tag for key in keys)
        self._matcher = Matcher(flat, case_sensitive_pn=case_sensitive_pn)
        self._sequences = {
            key.tag: _Tests(key.items, case_sensitive_pn=case_sensitive_pn)
            for key in keys
            if key.vr == "SQ" and key.items
        }

    def match(self, attributes: Attributes) -> bool:
        """A sequence that is not there matches, as in Orthanc and unlike PS3.4: so do templates without one."""
        return self._matcher.matches(attributes) and all(
            tests.matching(attributes[tag]) for tag, tests in self._sequences.items() if tag in attributes
        )

    def matching(self, element: Element) -> list[Attributes]:
        """The items that match."""
        return [] if isinstance(element.value, str) else [item for item in element.value if self.match(item)]

    def extract(self, attributes: Attributes) -> Attributes:
        """See FindMatcher."""
        found: Attributes = {}
        for tag, element in attributes.items():
            if tag in self._sequences:
                tests = self._sequences[tag]
                found[tag] = Element("SQ", tuple(tests.extract(item) for item in tests.matching(element)))
            elif tag in self._tags:
                found[tag] = element
        return found


FindMatcher.__module__ = "orthanc"
