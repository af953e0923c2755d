"""Frames are decoded as the plugin decodes them, on pydicom's files and on what DCMTK's encoders make of some of them.

What is lossless, and JPEG-LS, to the same pixels; lossy JPEG to what another decoder's rounding may differ by.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy
import pytest
from pydicom import dcmread

from gateway.script_host.api.errors import OrthancException
from gateway.script_host.api.instance import DicomInstance
from tests.support.images import SAMPLE_DIRECTORY
from tests.support.orthanc import PYTHON_PLUGIN, Orthanc
from tests.support.processes import wait_until

SAME: Final = (
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "examples_palette.dcm",
    "image_dfl.dcm",
    "rtdose_rle.dcm",
)
LOSSY: Final = (
    "JPGExtended.dcm",
    "SC_jpeg_no_color_transform.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_jpeg_app14_dcmd.dcm",
    "SC_rgb_jpeg_lossy_gdcm.dcm",
    "examples_ybr_color.dcm",
)
# Of a color, as its last rounding and that of its conversion to RGB may add up.
MAXIMUM_DIFFERENCE: Final = 3

# DCMTK's program and option, and whether what it makes is lossless.
ENCODERS: Final = {
    "baseline": ("dcmcjpeg", "+eb", False),
    "extended": ("dcmcjpeg", "+ee", False),
    "lossless": ("dcmcjpeg", "+el", True),
    "sv1": ("dcmcjpeg", "+e1", True),
    "jpegls": ("dcmcjpls", "+el", True),
    "rle": ("dcmcrle", "+e", True),
}
ENCODED: Final = ("CT_small.dcm", "MR_small.dcm", "SC_rgb_small_odd.dcm")
ENCODED_SAME: Final = tuple(f"{how} {name}" for how, (*_, same) in ENCODERS.items() if same for name in ENCODED)
ENCODED_LOSSY: Final = tuple(f"{how} {name}" for how, (*_, same) in ENCODERS.items() if not same for name in ENCODED)

PIXELS: Final = {1: "u1", 2: "<u2", 3: "<i2", 4: "u1", 7: "<u2", 8: "<u4"}

SCRIPT: Final = """
import json, os, orthanc

def decoded(image, path):
    with open(path, "wb") as file:
        file.write(image.GetImageBuffer())
    return [image.GetImageWidth(), image.GetImageHeight(), image.GetImagePitch(), image.GetImagePixelFormat()]

def on_change(change, level, resource):
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        said = {{}}
        for name in os.listdir({files!r}):
            with open(os.path.join({files!r}, name), "rb") as file:
                content = file.read()
            path = os.path.join({decoded!r}, name)
            said[name] = decoded(orthanc.CreateDicomInstance(content).GetInstanceDecodedFrame(0), path)
            assert decoded(orthanc.DecodeDicomImage(content, 0), path + ".2") == said[name]
        with open({said!r} + ".part", "w") as file:
            json.dump(said, file)
        os.rename({said!r} + ".part", {said!r})

orthanc.RegisterOnChangeCallback(on_change)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`files`; `decoded`, what the plugin makes of their first frames; `said`, what it says of these."""
    directory = tmp_path_factory.mktemp("frames")
    files, decoded, said = directory / "files", directory / "decoded", directory / "said"
    files.mkdir()
    decoded.mkdir()
    for name in (*SAME, *LOSSY):
        (files / name).symlink_to(SAMPLE_DIRECTORY / name)
    for how, (program, option, _) in ENCODERS.items():
        for name in ENCODED:
            command = [f"/usr/bin/{program}", option, SAMPLE_DIRECTORY / name, files / f"{how} {name}"]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
    script = directory / "decode.py"
    script.write_text(SCRIPT.format(files=str(files), decoded=str(decoded), said=str(said)))
    orthanc = Orthanc(directory / "orthanc", Plugins=[PYTHON_PLUGIN], PythonScript=str(script))
    try:
        orthanc.start()
        wait_until(said.exists, 60, orthanc.log_tail)
        yield directory
    finally:
        orthanc.close()


def compared(folder: Path, name: str) -> tuple[list[int], list[int], int]:
    """Width, height, pitch and format here and there, and by how much a value differs at most."""
    theirs = json.loads((folder / "said").read_text())[name]
    image = DicomInstance((folder / "files" / name).read_bytes()).GetInstanceDecodedFrame(0)
    ours = [image.GetImageWidth(), image.GetImageHeight(), image.GetImagePitch(), image.GetImagePixelFormat()]
    pixels = [image.GetImageBuffer(), (folder / "decoded" / name).read_bytes()]
    assert pixels[1] == (folder / "decoded" / f"{name}.2").read_bytes()
    here, there = (numpy.frombuffer(each, PIXELS[theirs[3]]).astype(int) for each in pixels)
    return ours, theirs, int(abs(here - there).max())


@pytest.mark.parametrize("name", [*SAME, *ENCODED_SAME])
def test_frame_has_the_pixels_that_the_plugin_decodes(folder: Path, name: str) -> None:
    ours, theirs, difference = compared(folder, name)
    assert ours == theirs
    assert difference == 0


@pytest.mark.parametrize("name", [*LOSSY, *ENCODED_LOSSY])
def test_lossy_frame_differs_by_rounding_only(folder: Path, name: str) -> None:
    ours, theirs, difference = compared(folder, name)
    assert ours == theirs
    assert difference <= MAXIMUM_DIFFERENCE


def decoded(name: str) -> Any:
    return DicomInstance((SAMPLE_DIRECTORY / name).read_bytes()).GetInstanceDecodedFrame(0)


def test_jpeg_2000_that_the_plugin_cannot_decode_has_the_pixels_of_its_source() -> None:
    assert decoded("MR_small_jp2klossless.dcm").GetImageBuffer() == dcmread(SAMPLE_DIRECTORY / "MR_small.dcm").PixelData
    assert decoded("examples_jpeg2k.dcm").GetImagePixelFormat() == 4
    assert decoded("693_J2KI.dcm").GetImageWidth() == 512


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "MR_truncated.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"])
def test_frame_that_is_damaged_raises_an_exception_of_orthanc(name: str) -> None:
    with pytest.raises(OrthancException):
        decoded(name)
