"""What Orthanc's answer to a posted instance means. One table; docs/operations.md is tested against it.

Source: OrthancEnumerations (1.10.1) and the behaviour of POST /instances, which answers 200 with a `Status` in the body
even when it stored nothing.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final


class Verdict(Enum):
    """What becomes of the instance."""

    DELIVERED = "it has arrived, or Orthanc chose not to keep it"
    ALREADY_STORED = "there is an instance of this name: compare before it counts as delivered"
    REFUSED = "it will never be taken: move it to failed"
    RETRY = "trouble with this instance for now: try it again later, others go on"
    HOLD = "trouble on the way: the whole queue waits"


@dataclass(frozen=True, slots=True)
class Reply:
    """Orthanc's answer. `http_status` is None where the plugin was asked: success, or an error code."""

    http_status: int | None
    body: bytes = b""
    orthanc_status: int | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, why, and the identifier that Orthanc gave to the instance; whether Orthanc has kept it."""

    verdict: Verdict
    reason: str = ""
    orthanc_id: str = ""
    is_kept: bool = True


# By Lua's ReceivedInstanceFilter or a Python callback, which discards it.
FILTERED_OUT: Final = "FilteredOut"

# `Status` in the answer to POST /instances.
STORE_STATUSES: Final = {
    "Success": Verdict.DELIVERED,
    "AlreadyStored": Verdict.ALREADY_STORED,
    FILTERED_OUT: Verdict.DELIVERED,
    # Any exception of Orthanc's database but FullStorage; the built-in SCP calls this a success.
    "Failure": Verdict.RETRY,
}

# Orthanc's error codes that speak of the instance itself. Refusals count only with Orthanc's own HTTP status for them,
# or from the plugin.
REFUSAL_HTTP_STATUSES: Final = frozenset({400, 404, None})
REFUSALS: Final = {
    3: "ParameterOutOfRange",  # an unknown VR in the file meta information
    5: "BadParameterType",  # an identifier (UID, Patient ID) whose VR is OB or unknown
    15: "BadFileFormat",
    21: "InexistentTag",
}
TROUBLES: Final = {
    14: ("CannotWriteFile", Verdict.HOLD),
    19: ("FullStorage", Verdict.HOLD),
    42: ("DatabaseCannotSerialize", Verdict.RETRY),
}

# 500 is about what Orthanc was doing, which was this instance; the others come from what is before it.
SERVER_ERRORS_OF_THE_PATH: Final = frozenset({502, 503, 504})


def error_code(body: bytes) -> int | None:
    """`OrthancStatus` of an error answer's JSON body (HttpDescribeErrors)."""
    content = _parse(body)
    code = content.get("OrthancStatus") if isinstance(content, dict) else None
    return code if isinstance(code, int) else None


def judge(reply: Reply) -> Judgement:
    """Judge the answer to an instance that was posted alone."""
    if reply.http_status == 200 or (reply.http_status is None and reply.orthanc_status is None):
        return judge_status(_parse(reply.body))
    code = reply.orthanc_status
    if code in REFUSALS and reply.http_status in REFUSAL_HTTP_STATUSES:
        return Judgement(Verdict.REFUSED, f"Orthanc refuses it: {REFUSALS[code]} ({code})")
    if code in TROUBLES:
        name, verdict = TROUBLES[code]
        return Judgement(verdict, f"Orthanc answers {name} ({code})")
    if reply.http_status is None:
        return Judgement(Verdict.HOLD, f"Orthanc's plugin answers error {code}")
    text = f"Orthanc answers HTTP {reply.http_status}" + (f", OrthancStatus {code}" if code is not None else "")
    if reply.http_status >= 500 and reply.http_status not in SERVER_ERRORS_OF_THE_PATH:
        return Judgement(Verdict.RETRY, text)
    return Judgement(Verdict.HOLD, text)


def judge_status(answer: Any) -> Judgement:
    """Judge one entry of Orthanc's answer to POST /instances."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, dict):
        return Judgement(Verdict.HOLD, "the answer is not Orthanc's")
    status = answer.get("Status")
    verdict = STORE_STATUSES.get(status) if isinstance(status, str) else None
    if verdict is None:
        return Judgement(Verdict.HOLD, f"Orthanc answers the unknown status {status!r}")
    is_kept = status != FILTERED_OUT
    return Judgement(verdict, f"Orthanc's status is {status}", str(answer.get("ID", "")), is_kept)


def judge_batch(reply: Reply) -> dict[str, Judgement]:
    """Judge the answer to a ZIP of instances: by Orthanc's identifier. What is missing is to be sent alone."""
    if reply.http_status not in (200, None) or reply.orthanc_status is not None:
        return {}
    answers = _parse(reply.body)
    if not isinstance(answers, list):
        return {}
    judgements = [judge_status(answer) for answer in answers if isinstance(answer, dict)]
    return {
        judgement.orthanc_id: judgement
        for judgement in judgements
        if judgement.orthanc_id and judgement.verdict in (Verdict.DELIVERED, Verdict.ALREADY_STORED)
    }


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
