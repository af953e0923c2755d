"""What all sections of `DicomGateway` have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of ours: PascalCase keys, nothing unknown, no silent conversion."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=lambda name: "".join(part.capitalize() for part in name.split("_")),
    )
