"""Runs Orthanc with config/orthanc.json in the foreground: the second half of `make run`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parent.parent
CONFIG: Final = ROOT / "config"
VAR: Final = ROOT / "var"
LOG: Final = VAR / "orthanc.log"
ORTHANC: Final = "/usr/sbin/Orthanc"

START_TIMEOUT_S: Final = 60
POLL_S: Final = 0.05


def port_from_environment(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        sys.exit(f"{name} must be a port number from 1 to 65535, not {text!r}")
    return int(text)


def require_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except PermissionError:
            sys.exit(f"Port {port} may be used by root only; choose another: {name}={port + 10_000} make run")
        except OSError:
            sys.exit(
                f"Port {port} is taken by another program; stop it or choose another: "
                f"{name}={port % 65535 + 1} make run"
            )


def report_other_orthancs() -> None:
    running = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text() == "Orthanc\n":
                running.append(comm.parent.name)
        except OSError:  # ended meanwhile
            continue
    if running:
        print(f"An Orthanc runs already (process {' '.join(running)}); it is left alone.")


def start(arguments: list[str], ports: dict[str, int], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts Orthanc in a session of its own.

    A Ctrl-C then reaches only this script, which passes exactly one signal on: Orthanc takes a second
    one, while it stops, as an order to die at once. If this script is killed, the kernel sends that
    signal (--pdeathsig).
    """
    return subprocess.Popen(
        ["/usr/bin/setpriv", "--pdeathsig", "TERM", ORTHANC, "orthanc.json", *arguments],
        cwd=CONFIG,
        env=os.environ | {name: str(port) for name, port in ports.items()},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def dicom_accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def aet_of_system(port: int) -> str | None:
    """Orthanc's AE title as GET /system tells it, None while HTTP does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/system")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if response.status != http.client.OK:
        return "(see config/orthanc.json)"
    return str(json.loads(body)["DicomAet"])


def wait_until_up(orthanc: subprocess.Popen[bytes], dicom_port: int, http_port: int) -> str | None:
    """The AE title once HTTP and DICOM ports answer; None if Orthanc ended or the time ran out."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while orthanc.poll() is None and time.monotonic() < deadline:
        aet = aet_of_system(http_port)
        if aet is not None and dicom_accepts(dicom_port):
            return aet
        time.sleep(POLL_S)
    return None


def errors_of_log() -> list[str]:
    """The messages of Orthanc's error lines (E1121 02:17:07.134 File.cpp:153] message), or the log's end."""
    lines = LOG.read_text(errors="replace").splitlines()
    return [line.partition("] ")[2] or line for line in lines if line[:2] in ("E0", "E1")] or lines[-5:]


def main() -> int:
    dicom_port = port_from_environment("DICOM_PORT", 4242)
    http_port = port_from_environment("HTTP_PORT", 8042)
    hl7_port = port_from_environment("HL7_PORT", 2575)
    ports = {"DICOM_PORT": dicom_port, "HTTP_PORT": http_port, "HL7_PORT": hl7_port}
    report_other_orthancs()
    for name, port in ports.items():
        require_free(name, port)

    os.umask(0o077)
    for directory in (VAR, VAR / "orthanc", VAR / "gateway"):
        directory.mkdir(mode=0o700, exist_ok=True)
    if LOG.exists():
        LOG.replace(LOG.with_name("orthanc.log.1"))

    with LOG.open("wb") as log:
        orthanc = start(sys.argv[1:], ports, log)
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            orthanc.terminate()
            with contextlib.suppress(OSError):  # the terminal may be gone (SIGHUP)
                print("\nStopping: running associations may finish, then Orthanc ends.", flush=True)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)

    aet = wait_until_up(orthanc, dicom_port, http_port)
    if aet is None:
        if not stopping and orthanc.poll() is None:
            orthanc.terminate()
            print(f"Not up after {START_TIMEOUT_S} s.", file=sys.stderr)
        orthanc.wait()
        if stopping:
            return 0
        return report_end("Orthanc did not start")

    print(
        f"Orthanc with the gateway is up.\n"
        f"  DICOM  port {dicom_port}, AE title {aet}\n"
        f"  HTTP   http://localhost:{http_port} (Orthanc Explorer and REST API)\n"
        f"  HL7    port {hl7_port}, orders for the worklist, from this computer only\n"
        f"  Data   var/orthanc, spool var/gateway, log var/orthanc.log\n"
        f"Next: {overrides(dicom_port, http_port)}make demo, or: storescu localhost {dicom_port} FILE.dcm\n"
        f"Ctrl-C stops all of it. Warnings and errors follow here.",
        flush=True,
    )
    # tail ends with Orthanc, not with the Ctrl-C: its session is not the terminal's.
    follower = subprocess.Popen(
        ["tail", f"--bytes=+{LOG.stat().st_size + 1}", "--follow", f"--pid={orthanc.pid}", str(LOG)],
        start_new_session=True,
    )
    status = orthanc.wait()
    follower.wait()
    if stopping:
        with contextlib.suppress(OSError):
            print("Stopped.", flush=True)
        return 0
    return report_end(f"Orthanc ended by itself (exit status {status})")


def report_end(what: str) -> int:
    print(f"{what}; its whole log is {LOG.relative_to(ROOT)}:", file=sys.stderr)
    for line in errors_of_log():
        print(f"  {line}", file=sys.stderr)
    return 1


def overrides(dicom_port: int, http_port: int) -> str:
    """What must stand before `make demo` so that it finds these ports."""
    chosen = {"DICOM_PORT": (dicom_port, 4242), "HTTP_PORT": (http_port, 8042)}
    return "".join(f"{name}={port} " for name, (port, default) in chosen.items() if port != default)


if __name__ == "__main__":
    sys.exit(main())
