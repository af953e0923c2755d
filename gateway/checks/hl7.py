"""What `dicom-gateway check` says about the HL7 port."""

import ipaddress
from collections.abc import Iterator

from gateway.checks.lines import Line, describe_certificates
from gateway.options.config import Configuration
from gateway.options.hl7_receivers import ReceiverSection
from gateway.receiver_connection import ConnectError, connect
from gateway.tls.context import files_of_hl7


def describe_hl7(configuration: Configuration) -> Iterator[Line]:
    """Yield who may send messages to which port; nothing without the section."""
    section = configuration.gateway.hl7
    if section is None:
        return
    senders = ", ".join(section.allowed_hosts or ["everybody"])
    yield Line(f"HL7 port {section.port} on {section.host}, from {senders}; {section.maximum_connections} connections")
    yield Line(
        f"HL7 messages of up to {section.maximum_message_size} bytes, kept for {section.retention} days; "
        f"without MSH-18 they are {section.default_character_set}"
    )
    files = files_of_hl7(configuration, section)
    if files is not None:
        asked = "must have a certificate" if files.trusted is not None else "are not asked for one"
        yield Line(f"TLS on the HL7 port; senders {asked}")
        yield from describe_certificates(files)
    elif not _is_loopback(section.host):
        yield Line("WARNING: the HL7 port is not encrypted, and not on this computer only")
    if _is_loopback(section.host) and section.allowed_hosts is not None:
        yield Line("WARNING: AllowedHosts means nothing for an HL7 port that only this computer reaches: set Host")
    for receiver in section.receivers:
        yield from _describe_receiver(configuration, receiver)


def _describe_receiver(configuration: Configuration, receiver: ReceiverSection) -> Iterator[Line]:
    """Yield what a receiver is told, and whether it can be called now."""
    name, where = receiver.name, f"{receiver.host} port {receiver.port}"
    encrypted = " over TLS" if receiver.use_tls else ""
    changes = ", ".join(receiver.changes)
    yield Line(f"HL7 receiver {name}: {receiver.message} {receiver.version} to {where}{encrypted}: {changes}")
    if not receiver.use_tls and not _is_loopback(receiver.host):
        yield Line(f"WARNING: what HL7 receiver {name} is told is not encrypted, and not on this computer only")
    try:
        connect(configuration, receiver).close()
    except ConnectError as error:
        yield Line(f"HL7 receiver {name} cannot be reached: {error}", ok=False)
    else:
        yield Line(f"HL7 receiver {name} answers at {where}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
