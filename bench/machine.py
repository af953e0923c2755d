"""What the figures were measured on: versions, the disk and its flush rate."""

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

FLUSHED_FILES = 200
APPENDED_BLOCKS, APPENDED_BYTES = 500, 4096


def program(name: str) -> str:
    """Path of a system program, not of the virtual environment's: pynetdicom has a storescu of its own.

    Raises FileNotFoundError if it is not installed.
    """
    ours = {str(Path(sys.executable).parent), str(Path(sys.prefix) / "bin")}
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder not in ours]
    path = shutil.which(name, path=os.pathsep.join([*folders, "/usr/bin", "/usr/sbin"]))
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: apt-get install orthanc orthanc-python dcmtk")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def describe(directory: Path) -> list[str]:
    """A few lines: processor, kernel, disk, load, versions."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory_kb = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    versions = [
        f"Orthanc {_version('Orthanc', '--version')}",
        f"DCMTK {_version('storescu', '--version')}",
        f"Python {platform.python_version()}",
        *(f"{name} {_installed(name)}" for name in ("pynetdicom", "dicom-gateway")),
    ]
    return [
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), "
        f"{int(memory_kb[1]) / 1e6 if memory_kb else 0:.0f} GB, Linux {platform.release()}, "
        f"{file_system(directory)}; load before the run {os.getloadavg()[0]:.1f}",
        ", ".join(versions),
    ]


def _version(name: str, option: str) -> str:
    try:
        output = subprocess.run([program(name), option], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return "not installed"
    match = re.search(r"\d+\.\d+\.\d+", output)
    return match[0] if match else "?"


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def file_system(directory: Path) -> str:
    """Type of the file system that holds `directory`, as /proc/mounts names it."""
    path = str(directory.resolve())
    best, kind = "", "?"
    for line in Path("/proc/mounts").read_text().splitlines():
        point, this = line.split()[1:3]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, this
    return kind


def flushes_per_s(directory: Path, size_bytes: int) -> float:
    """Files per second that one thread makes durable: write, fsync, rename, fsync of the directory."""
    folder = directory / "flush"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    content = os.urandom(size_bytes)
    started = time.perf_counter()
    for index in range(FLUSHED_FILES):
        temporary = folder / f"{index}.part"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / f"{index}.dcm")
        os.fsync(handle)
    elapsed_s = time.perf_counter() - started
    os.close(handle)
    shutil.rmtree(folder)
    return FLUSHED_FILES / elapsed_s


def appends_per_s(directory: Path) -> float:
    """Blocks of 4 KB per second that one thread makes durable at the end of a file, as a database's log does."""
    path = directory / "appended"
    block = os.urandom(APPENDED_BYTES)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(APPENDED_BLOCKS):
            file.write(block)
            os.fdatasync(file.fileno())
    return APPENDED_BLOCKS / (time.perf_counter() - started)
