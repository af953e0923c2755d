"""DCMTK's command line tools as modalities.

Debian's programs are named by path: pynetdicom installs applications of the same names.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

TIMEOUT_S: Final = 60

# storescu proposes one compressed transfer syntax at a time, named by an option.
TRANSFER_SYNTAX_OPTION: Final = {
    ExplicitVRLittleEndian: "-xe",
    ExplicitVRBigEndian: "-xb",
    ImplicitVRLittleEndian: "-xi",
    DeflatedExplicitVRLittleEndian: "-xd",
    JPEGLosslessSV1: "-xs",
    JPEGLossless: "-xs",
    JPEGBaseline8Bit: "-xy",
    JPEGExtended12Bit: "-xx",
    JPEGLSLossless: "-xt",
    JPEGLSNearLossless: "-xu",
    JPEG2000Lossless: "-xv",
    JPEG2000: "-xw",
    RLELossless: "-xr",
}


def transfer_syntax_option(path: Path) -> str:
    """The option with which storescu proposes the transfer syntax of the file."""
    meta = dcmread(path, specific_tags=[]).file_meta
    return TRANSFER_SYNTAX_OPTION[UID(meta.TransferSyntaxUID)]


def storescu(
    port: int,
    files: Sequence[Path],
    *options: str,
    env_nodelay: bool = False,
    called: str = "ORTHANC",
    calling: str = "STORESCU",
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Sends the files on one association and waits for its end.

    `env_nodelay`: without Nagle's algorithm (DCMTK reads TCP_NODELAY from the environment). The exit
    status is 0 if all were answered with success or a warning.
    """
    return subprocess.run(
        _storescu_command(port, files, options, called, calling),
        env=_environment(env_nodelay),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def start_storescu(
    port: int,
    files: Sequence[Path],
    *options: str,
    env_nodelay: bool = False,
    called: str = "ORTHANC",
    calling: str = "STORESCU",
) -> subprocess.Popen[str]:
    """As storescu, but returns while it sends. The caller must communicate() with it or kill it."""
    return subprocess.Popen(
        _storescu_command(port, files, options, called, calling),
        env=_environment(env_nodelay),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def echoscu(
    port: int,
    *options: str,
    called: str = "ORTHANC",
    calling: str = "ECHOSCU",
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """One C-ECHO on one association."""
    return subprocess.run(
        ["/usr/bin/echoscu", "-v", *options, "-aet", calling, "-aec", called, "127.0.0.1", str(port)],
        env=_environment(nodelay=False),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _storescu_command(port: int, files: Sequence[Path], options: Sequence[str], called: str, calling: str) -> list[str]:
    peer = ["-aet", calling, "-aec", called, "127.0.0.1", str(port)]
    return ["/usr/bin/storescu", "-v", *options, *peer, *map(str, files)]


def _environment(nodelay: bool) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    return environment | {"TCP_NODELAY": "1"} if nodelay else environment
