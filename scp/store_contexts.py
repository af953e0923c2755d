"""Which presentation contexts are proposed for the instances of a move, and in which transfer syntax each one goes out.

For each SOP class that is there: one context for each transfer syntax in which instances are stored, so that the peer
cannot choose another one for them, and one for what they can be transcoded to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.archive.interface import InstanceReference
from gateway.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.moves.interface import Acceptance
from scp.requestor import MAXIMUM_CONTEXTS, ProposedContext

UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_SOP_CLASS_UNKNOWN: Final = "the archive does not tell its SOP class"


@dataclass(frozen=True, slots=True)
class Transcoding:
    """What instances may be transcoded to, the preferred transfer syntax first; nothing: they may not."""

    transfer_syntaxes: tuple[str, ...] = UNCOMPRESSED

    @classmethod
    def preferring(cls, transfer_syntax_uid: str) -> Transcoding:
        """To this one, or uncompressed."""
        others = (uid for uid in UNCOMPRESSED if uid != transfer_syntax_uid)
        return cls((transfer_syntax_uid, *others))

    def contexts(self, sop_class_uid: str) -> Iterable[ProposedContext]:
        """What to propose for it."""
        preferred, rest = self.transfer_syntaxes[:1], self.transfer_syntaxes[1:]
        if preferred and preferred[0] not in UNCOMPRESSED:
            # in one context with others it would hardly be chosen
            yield ProposedContext(sop_class_uid, preferred)
            preferred = ()
        if preferred or rest:
            yield ProposedContext(sop_class_uid, (*preferred, *rest))


@dataclass(frozen=True, slots=True)
class Proposal:
    """The contexts of one association, and how many of the instances they are for, from the first on."""

    contexts: tuple[ProposedContext, ...]
    count: int


def propose(instances: Sequence[InstanceReference], transcoding: Transcoding) -> Proposal:
    """Return contexts for as many of `instances` as one association has room for: one at least."""
    contexts: dict[ProposedContext, None] = {}
    seen: set[tuple[str, str]] = set()
    count = 0
    for instance in instances:
        pair = (instance.sop_class_uid, instance.transfer_syntax_uid)
        if pair not in seen:
            seen.add(pair)
            wanted = [context for context in _contexts(*pair, transcoding) if context not in contexts]
            if len(contexts) + len(wanted) > MAXIMUM_CONTEXTS:
                break
            contexts.update(dict.fromkeys(wanted))
        count += 1
    return Proposal(tuple(contexts), count)


def _contexts(sop_class_uid: str, transfer_syntax_uid: str, transcoding: Transcoding) -> Iterable[ProposedContext]:
    if not sop_class_uid:
        return
    if transfer_syntax_uid:
        yield ProposedContext(sop_class_uid, (transfer_syntax_uid,))
    yield from transcoding.contexts(sop_class_uid)


class Accepted:
    """What a peer accepted: transfer syntaxes by SOP class."""

    def __init__(self, contexts: Iterable[tuple[str, str]], transcoding: Transcoding) -> None:
        """`contexts`: abstract and transfer syntax of each accepted context in which we are SCU."""
        self._syntaxes: dict[str, set[str]] = {}
        for sop_class_uid, transfer_syntax_uid in contexts:
            self._syntaxes.setdefault(sop_class_uid, set()).add(transfer_syntax_uid)
        self._transcoding = transcoding
        self._known: dict[tuple[str, str], Acceptance] = {}

    def acceptance(self, instance: InstanceReference) -> Acceptance:
        """How the peer takes this instance."""
        pair = (instance.sop_class_uid, instance.transfer_syntax_uid)
        if pair not in self._known:
            self._known[pair] = self._decide(*pair)
        return self._known[pair]

    def _decide(self, sop_class_uid: str, stored: str) -> Acceptance:
        if not sop_class_uid:
            return Acceptance(refusal=_SOP_CLASS_UNKNOWN)
        accepted = self._syntaxes.get(sop_class_uid, set())
        if stored in accepted:
            return Acceptance()
        for transfer_syntax_uid in self._transcoding.transfer_syntaxes:
            if transfer_syntax_uid in accepted:
                return Acceptance(transfer_syntax_uid)
        if not accepted:
            return Acceptance(refusal=f"SOP class {sop_class_uid} was not accepted")
        return Acceptance(refusal=f"transfer syntax {stored or 'unknown'} of {sop_class_uid} was not accepted")
