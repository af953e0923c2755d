"""The signature of what is asked about an arriving instance. The list of them is in scp.policies."""

from typing import TYPE_CHECKING

from scp.statuses import Answer

if TYPE_CHECKING:
    from scp.storage import IncomingInstance


class Policy:
    """Base of the policies: has nothing against anything."""

    def on_command(self, instance: "IncomingInstance") -> Answer | None:
        """The refusal of an instance of which only the command is known, or None."""

    def on_data_set(self, instance: "IncomingInstance") -> Answer | None:
        """The refusal of an instance that is complete in its file, or None."""

    def on_end(self, instance: "IncomingInstance", *, stored: bool) -> None:
        """It was stored, or somebody refused it, or it never came to an end. Called once, behind the response."""
