"""Addresses of peers, and AllowedHosts."""

from typing import Any

import pytest

from gateway.access.peers import AddressFilter, parse_network, plain_address


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        (("192.0.2.1", 104), ("192.0.2.1", 104)),
        (("::ffff:192.0.2.1", 104, 0, 0), ("192.0.2.1", 104)),
        (("::FFFF:c000:201", 104, 0, 0), ("192.0.2.1", 104)),
        (("2001:db8::1", 104, 0, 0), ("2001:db8::1", 104, 0, 0)),
        (("fe80::1%eth0", 104, 0, 2), ("fe80::1%eth0", 104, 0, 2)),
        (("::1", 104, 0, 0), ("::1", 104, 0, 0)),
    ],
)
def test_ipv4_mapped_address_is_written_as_ipv4(address: tuple[Any, ...], plain: tuple[Any, ...]) -> None:
    assert plain_address(address) == plain


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (["192.0.2.1"], ["192.0.2.1"], ["192.0.2.2", "2001:db8::1"]),
        (["192.0.2.0/24", "10.0.0.0/8"], ["192.0.2.255", "10.255.0.1"], ["192.0.3.0", "11.0.0.0", "::1"]),
        (["0.0.0.0/0"], ["0.0.0.0", "255.255.255.255"], ["::1", "2001:db8::1"]),
        (["2001:db8::/32"], ["2001:db8::1", "2001:db8:ffff::"], ["2001:db9::", "192.0.2.1"]),
        (["::/0"], ["::1", "fe80::1%eth0"], ["192.0.2.1"]),
        (["fe80::/10"], ["fe80::1%eth0", "fe80::1"], ["2001:db8::1"]),
        (["::ffff:192.0.2.1"], ["192.0.2.1"], ["192.0.2.2"]),
        (["::ffff:10.0.0.0/104"], ["10.1.2.3"], ["11.0.0.0"]),
    ],
)
def test_only_addresses_in_the_list_are_allowed(allowed: list[str], inside: list[str], outside: list[str]) -> None:
    hosts = AddressFilter(allowed)
    assert [host for host in inside + outside if hosts.allows(host)] == inside


def test_without_a_list_everybody_is_allowed() -> None:
    assert all(map(AddressFilter(None).allows, ["192.0.2.1", "::1", "fe80::1%eth0"]))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "localhost",
            "ct1.example.org",
            "",
            " ",
            "*",
            "10.1",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1/",
            "/8",
            "10.0.0.256",
        ),
        *("10.0.0.0/-1", "10.0.0.0/255.0.0.0", "10.0.0.1 ", "010.0.0.1", "10.0.0.0/8/8", "fe80::1%eth0", "167772161"),
    ],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an IP address, or a network such as"):
        parse_network(text)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "2001:db8::1/32", "::ffff:10.0.0.1/104"])
def test_address_with_bits_behind_its_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bits are set behind its prefix"):
        parse_network(text)
