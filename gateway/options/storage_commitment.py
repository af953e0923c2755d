"""`DicomGateway.StorageCommitment` as it stands in the configuration."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from gateway.options.durations import read_duration
from gateway.options.section import AeTitle, Section

LONGEST_S: Final = 365 * 24 * 3600


def _check_duration(value: str) -> str:
    if read_duration(value) > LONGEST_S:
        raise ValueError("expected a year at most")
    return value


Duration = Annotated[str, AfterValidator(_check_duration)]


class StorageCommitmentSection(Section):
    """How requests for commitment are verified and reported."""

    # None: if any known modality may use it.
    enable: bool | None = None
    # "File": Orthanc reads each file and compares its MD5. "Index": what Orthanc's index has counts.
    verify: Literal["File", "Index"] = "File"
    # How long instances that are not there may still come, from the request on.
    grace_period: Duration = "30s"
    maximum_retries: Annotated[int, Field(ge=0, le=10_000)] = 20
    # Before the second attempt; it doubles from one to the next, up to MaximumRetryDelay.
    retry_delay: Duration = "30s"
    maximum_retry_delay: Duration = "30m"
    # Calling AE titles whose requests may be answered on their own association; "*" is all.
    same_association: list[AeTitle] = Field(default_factory=list)
    # How long what is over is remembered.
    retention: Duration = "30d"
