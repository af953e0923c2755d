"""Whom the gateway calls, and as whom: entries of Orthanc's DicomModalities as destinations."""

import re
from typing import Final

from pydantic import ValidationError

from gateway.modalities import Modalities
from gateway.options.config import Configuration
from gateway.options.orthanc import Modality
from gateway.tls.client import client_context
from scp.requestor import Destination

# Of DicomScuTimeout and Timeout 0, which are "no timeout" in Orthanc: here each wait has an end.
LONGEST_TIMEOUT_S: Final = 3600.0

# AET@HOST:PORT, the host of IPv6 in brackets.
_ADDRESS = re.compile(r"(?P<aet>[^@]+)@(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:@\[\]]+)):(?P<port>\d+)")


class UnknownDestination(Exception):
    """There is no such modality. The text is for a person."""


def destination_of(configuration: Configuration, modality: Modality) -> Destination:
    """Return how the gateway calls `modality`: with its LocalAet or DicomAet, its Timeout or DicomScuTimeout, by TLS or
    not. Raises TlsError."""
    options = configuration.orthanc
    return Destination(
        host=modality.host,
        port=modality.port,
        called_ae_title=modality.ae_title,
        calling_ae_title=modality.local_aet or options.dicom_aet,
        timeout_s=float(modality.timeout or options.dicom_scu_timeout or LONGEST_TIMEOUT_S),
        ssl_context=client_context(configuration) if modality.use_dicom_tls else None,
    )


def find_modality(modalities: Modalities, target: str) -> Modality:
    """Return the entry of `modalities` that is named `target`, else what AET@HOST:PORT says.

    Raises UnknownDestination.
    """
    if target in modalities:
        return modalities[target]
    address = _ADDRESS.fullmatch(target)
    if address is None:
        known = ", ".join(sorted(modalities)) or "none"
        raise UnknownDestination(f"{target} is neither a known modality ({known}) nor of the form AET@HOST:PORT")
    try:
        return Modality.model_validate(
            {"AET": address["aet"], "Host": address["ipv6"] or address["host"], "Port": address["port"]}
        )
    except ValidationError as error:
        mistakes = "; ".join(f"{mistake['loc'][0]}: {mistake['msg']}" for mistake in error.errors())
        raise UnknownDestination(f"{target}: {mistakes}") from error
