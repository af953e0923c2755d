"""The worklist's options: `DicomGateway.Worklist`, and Orthanc's `Worklists`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.durations import read_duration
from gateway.section import Section

MAXIMUM_EXPIRY_S: Final = 10 * 365 * 24 * 3600
DEFAULT_EXPIRY: Final = "7d"


def _check_expiry(value: str) -> str:
    if read_duration(value) > MAXIMUM_EXPIRY_S:
        raise ValueError("expected ten years at most")
    return value


Expiry = Annotated[str, AfterValidator(_check_expiry)] | None
FolderName = Annotated[str, Field(min_length=1)]


class ExpirySection(Section):
    """`DicomGateway.Worklist.Expiry`: how long an item is kept in each status (PS3.3 C.4.10); null is for ever."""

    scheduled: Expiry = Field(default=DEFAULT_EXPIRY, alias="SCHEDULED")
    arrived: Expiry = Field(default=DEFAULT_EXPIRY, alias="ARRIVED")
    ready: Expiry = Field(default=DEFAULT_EXPIRY, alias="READY")
    started: Expiry = Field(default=DEFAULT_EXPIRY, alias="STARTED")
    departed: Expiry = Field(default=DEFAULT_EXPIRY, alias="DEPARTED")
    canceled: Expiry = Field(default=DEFAULT_EXPIRY, alias="CANCELED")
    discontinued: Expiry = Field(default=DEFAULT_EXPIRY, alias="DISCONTINUED")
    completed: Expiry = Field(default=DEFAULT_EXPIRY, alias="COMPLETED")

    def seconds(self) -> dict[str, int | None]:
        """By status: after how many seconds; None is never."""
        kept: dict[str, Any] = self.model_dump(by_alias=True)
        return {status: None if text is None else read_duration(text) for status, text in kept.items()}


@dataclass(frozen=True, slots=True)
class WorklistFolder:
    """A folder of `.wl` files. `partitions`: those in a subfolder are for the called AE title that it is named by."""

    path: Path
    partitions: bool


class WorklistSection(Section):
    """`DicomGateway.Worklist`."""

    folders: list[FolderName] = Field(default_factory=list)
    expiry: ExpirySection = Field(default_factory=ExpirySection)


class OrthancWorklists(BaseModel):
    """Orthanc's section `Worklists`, of its sample plugin and of the plugin that has replaced it since 2025."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    enable: bool = Field(default=False, alias="Enable")
    # The newer plugin calls it Directory and takes Database as well.
    database: FolderName | None = Field(default=None, alias="Database")
    directory: FolderName | None = Field(default=None, alias="Directory")
    filter_issuer_aet: bool = Field(default=False, alias="FilterIssuerAet")
    limit_answers: Annotated[int, Field(ge=0)] = Field(default=0, alias="LimitAnswers")
    save_in_orthanc_database: bool = Field(default=False, alias="SaveInOrthancDatabase")

    @property
    def folder(self) -> str | None:
        """Where its files are, if it is enabled and has any."""
        return (self.directory or self.database) if self.enable else None
