"""What a STOW-RS server's answer means for an instance. Tables; docs/dicomweb.md is tested against them.

Sources: PS3.18 table 10.5.3-1 and I.2.2, PS3.7 annex C, conformance statements of servers.
"""

from typing import Final

from gateway.forwarding.verdicts import Judgement, Verdict

# Failure Reason (0008,1197). What is not here is tried again.
FAILURE_REASONS: Final = {
    0x0106: ("Invalid attribute value", Verdict.REFUSED),
    0x0110: ("Processing failure", Verdict.RETRY),
    0x0111: ("Duplicate SOP instance", Verdict.ALREADY_STORED),
    0x0117: ("Invalid object instance", Verdict.REFUSED),
    0x0118: ("No such SOP class", Verdict.REFUSED),
    0x0119: ("Class-instance conflict", Verdict.REFUSED),
    0x0120: ("Missing attribute", Verdict.REFUSED),
    0x0121: ("Missing attribute value", Verdict.REFUSED),
    0x0122: ("SOP class not supported", Verdict.REFUSED),
    0x0124: ("Not authorized", Verdict.RETRY),
    0x0213: ("Resource limitation", Verdict.RETRY),
    # Azure's DICOM service: the three UIDs are those of an instance that is stored.
    0xB00E: ("Already stored", Verdict.ALREADY_STORED),
}
# The same by what stands before the last two or three digits: (first, last).
FAILURE_REASON_RANGES: Final = {
    (0xA700, 0xA7FF): ("Out of resources", Verdict.RETRY),
    (0xA900, 0xA9FF): ("Data set does not match SOP class", Verdict.REFUSED),
    (0xC000, 0xCFFF): ("Cannot understand", Verdict.REFUSED),
}

# HTTP statuses of answers that do not name the instance, when it was sent alone. All others hold the queue: they
# speak of the way, of credentials, of the URL.
SUCCESSES: Final = frozenset((200, 202, 204))
STATUSES: Final = {
    400: Verdict.RETRY,
    409: Verdict.REFUSED,
    413: Verdict.REFUSED,
    415: Verdict.RETRY,
    422: Verdict.RETRY,
    500: Verdict.RETRY,
}


def judge_failure(reason: int | None) -> Judgement:
    """Judge an instance that is in the Failed SOP Sequence."""
    if reason is None:
        return Judgement(Verdict.RETRY, "the server did not store it and does not say why")
    name, verdict = FAILURE_REASONS.get(reason) or next(
        (entry for (first, last), entry in FAILURE_REASON_RANGES.items() if first <= reason <= last),
        ("an unknown reason", Verdict.RETRY),
    )
    return Judgement(verdict, f"the server's Failure Reason is {name} (0x{reason & 0xFFFF:04X})")
