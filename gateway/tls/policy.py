"""Which TLS the DICOM port speaks: protocol versions and cipher suites, by Orthanc's options.

The default is what BCP 195 recommends (RFC 9325 3.1 and 4.2, RFC 8996): TLS 1.2 and 1.3, forward secrecy, AEAD.
PS3.15 annex B has it as the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ssl import TLSVersion
from typing import Final

# DicomTlsMinimumProtocolVersion. Orthanc's 1 is SSL 3.0, which OpenSSL does not have any more (RFC 7568).
MINIMUM_VERSIONS: Final = {
    0: TLSVersion.TLSv1_2,
    1: TLSVersion.TLSv1,
    2: TLSVersion.TLSv1,
    3: TLSVersion.TLSv1_1,
    4: TLSVersion.TLSv1_2,
    5: TLSVersion.TLSv1_3,
}

# RFC 9325 4.2, and ChaCha20 (RFC 7905), which is as good and faster without AES instructions.
RECOMMENDED: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)

# Always on where TLS 1.3 is: Python's ssl cannot choose among them.
TLS_1_3_SUITES: Final = frozenset({"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"})

# What DicomTlsCiphersAccepted may name: IANA's name, which DCMTK uses, to OpenSSL's, which Orthanc uses. Without
# encryption, certificate or elliptic curves (RFC 9325 4.1), DSS, 3DES, RC4, Camellia and ARIA nothing is lost that
# a modality with a certificate needs.
SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384": "ECDHE-ECDSA-AES256-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384": "ECDHE-RSA-AES256-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA256": "AES256-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
}

_OPENSSL_NAMES: Final = frozenset(SUITES.values())


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What is negotiated: the least version, and the suites of TLS 1.2 and before as OpenSSL's cipher string."""

    minimum_version: TLSVersion
    ciphers: str


def policy(minimum_protocol_version: int, ciphers_accepted: Sequence[str]) -> TlsPolicy:
    """Return what DicomTlsMinimumProtocolVersion and DicomTlsCiphersAccepted ask for.

    Raises ValueError with the option's name and what was expected.
    """
    minimum = MINIMUM_VERSIONS[minimum_protocol_version]
    if not ciphers_accepted:
        if minimum < TLSVersion.TLSv1_2:
            raise ValueError(
                "DicomTlsCiphersAccepted: expected cipher suites, for the defaults are those of TLS 1.2 and later"
            )
        return TlsPolicy(minimum, ":".join(RECOMMENDED))
    if minimum_protocol_version == 0:
        raise ValueError(
            "DicomTlsCiphersAccepted: expected DicomTlsMinimumProtocolVersion from 1 to 5 with it, 0 stands for BCP 195"
        )
    suites = [_openssl_name(name) for name in ciphers_accepted if name not in TLS_1_3_SUITES]
    if not suites:
        return TlsPolicy(TLSVersion.TLSv1_3, ":".join(RECOMMENDED))
    if minimum < TLSVersion.TLSv1_2:
        # These versions sign with SHA-1, which OpenSSL 3 has at its lowest security level only.
        suites.append("@SECLEVEL=0")
    return TlsPolicy(minimum, ":".join(suites))


def _openssl_name(name: str) -> str:
    if name in _OPENSSL_NAMES:
        return name
    if name in SUITES:
        return SUITES[name]
    raise ValueError(f"DicomTlsCiphersAccepted: {name} is no cipher suite that the gateway offers")
