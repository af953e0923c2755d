"""What all sections of `DicomGateway` have in common."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.access.peers import parse_network
from gateway.dicom.character_sets import ORTHANC_ENCODINGS

Port = Annotated[int, Field(ge=1, le=65535)]


def _check_network(value: Any) -> Any:
    if isinstance(value, str):
        parse_network(value)
    return value


# An address, or a network with its prefix.
NetworkText = Annotated[str, BeforeValidator(_check_network)]


def is_ae_title(title: str) -> bool:
    """Whether `title`, without its padding, may be an AE title (PS3.5 6.2): 1 to 16 of ASCII's graphics."""
    return 1 <= len(title) <= 16 and all(32 <= ord(c) <= 126 and c != "\\" for c in title)


def _clean_ae_title(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    title = value.strip(" ")
    if not is_ae_title(title):
        raise ValueError("expected an AE title of 1 to 16 printable ASCII characters")
    return title


AeTitle = Annotated[str, BeforeValidator(_clean_ae_title)]


class Section(BaseModel):
    """A section of ours: PascalCase keys, nothing unknown, no silent conversion."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=lambda name: "".join(part.capitalize() for part in name.split("_")),
    )


def _known_encoding(name: str) -> str:
    if name not in ORTHANC_ENCODINGS:
        raise ValueError(f"expected one of {', '.join(ORTHANC_ENCODINGS)}")
    return name


EncodingName = Annotated[str, AfterValidator(_known_encoding)]
