"""What all sections of `DicomGateway` have in common."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.peers import parse_network

Port = Annotated[int, Field(ge=1, le=65535)]


def _check_network(value: Any) -> Any:
    if isinstance(value, str):
        parse_network(value)
    return value


# An address, or a network with its prefix.
NetworkText = Annotated[str, BeforeValidator(_check_network)]


class Section(BaseModel):
    """A section of ours: PascalCase keys, nothing unknown, no silent conversion."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=lambda name: "".join(part.capitalize() for part in name.split("_")),
    )
