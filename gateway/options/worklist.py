"""The worklist's options: `DicomGateway.Worklist`, and Orthanc's `Worklists`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.options.durations import read_duration
from gateway.options.section import AeTitle, EncodingName, Section

MAXIMUM_EXPIRY_S: Final = 10 * 365 * 24 * 3600
DEFAULT_EXPIRY: Final = "7d"


def _check_expiry(value: str) -> str:
    if read_duration(value) > MAXIMUM_EXPIRY_S:
        raise ValueError("expected ten years at most")
    return value


Expiry = Annotated[str, AfterValidator(_check_expiry)] | None
StatusName = Literal["SCHEDULED", "ARRIVED", "READY", "STARTED", "DEPARTED", "CANCELED", "DISCONTINUED", "COMPLETED"]
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
    # What dcm4chee hides too: steps that have begun, and those that will not be.
    hidden_statuses: list[StatusName] = Field(default=["STARTED", "DEPARTED", "CANCELED", "DISCONTINUED", "COMPLETED"])
    partition_by_called_aet: bool = True
    filter_issuer_aet: bool | None = None
    limit_answers: Annotated[int, Field(ge=0)] | None = None
    warn_unsupported_keys: bool = True
    character_sets: dict[AeTitle, EncodingName] = Field(default_factory=dict)
    start_on_first_instance: bool = False
    complete_on_stable_study: bool | None = None

    def filters_issuer_aet(self, orthanc: "OrthancWorklists") -> bool:
        """FilterIssuerAet: ours, or Orthanc's where its worklists are enabled."""
        if self.filter_issuer_aet is not None:
            return self.filter_issuer_aet
        return orthanc.enable and orthanc.filter_issuer_aet

    def limit(self, orthanc: "OrthancWorklists") -> int:
        """LimitAnswers, in the same way; 0 for no limit."""
        if self.limit_answers is not None:
            return self.limit_answers
        return orthanc.limit_answers if orthanc.enable else 0

    def completes_on_stable_study(self, orthanc: "OrthancWorklists") -> bool:
        """CompleteOnStableStudy, in the same way: where Orthanc's plugin would delete the item, it is done."""
        if self.complete_on_stable_study is not None:
            return self.complete_on_stable_study
        return orthanc.enable and orthanc.delete_worklists_on_stable_study


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
    # The newer plugin's own default is true; the older one does nothing of the kind.
    delete_worklists_on_stable_study: bool = Field(default=False, alias="DeleteWorklistsOnStableStudy")

    @property
    def folder(self) -> str | None:
        """Where its files are, if it is enabled and has any."""
        return (self.directory or self.database) if self.enable else None
