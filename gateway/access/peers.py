"""Addresses of peers: how they are written, and which of them may connect (`AllowedHosts`)."""

import ipaddress
from collections.abc import Iterable
from typing import Any, Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 4291 2.5.5.2: how a socket that listens on IPv6 names a peer that came over IPv4.
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def plain_address(address: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a socket address, (host, port, ...) with a numeric host, with an IPv4-mapped IPv6 host as IPv4."""
    host = str(address[0])
    if host.lower().startswith("::ffff:"):
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
        if mapped is not None:
            return str(mapped), address[1]
    return address


def parse_network(text: str) -> Network:
    """Return the network that `text` means: an address, or an address and the length of its prefix (RFC 4632).

    IPv4-mapped IPv6 counts as IPv4. Raises ValueError; host names are none of these.
    """
    address, slash, prefix = text.partition("/")
    try:
        if "%" in address or (slash and not prefix.isdecimal()):
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("expected an IP address, or a network such as 192.168.1.0/24; no host name") from None
    if network.network_address != ipaddress.ip_address(address):
        raise ValueError("expected the address of a network: bits are set behind its prefix")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return ipaddress.IPv4Network((int(mapped or 0), network.prefixlen - _MAPPED.prefixlen))
    return network


class AddressFilter:
    """Who may connect. Without a list everybody may."""

    def __init__(self, allowed: Iterable[str] | None) -> None:
        self._networks = None if allowed is None else tuple(parse_network(text) for text in allowed)

    def allows(self, host: str) -> bool:
        """Whether this numeric address, as plain_address writes it, may connect."""
        if self._networks is None:
            return True
        # The zone of a link-local address is an interface of this machine: no part of who the peer is.
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)
