"""Frames of an instance: as they are in its file, and decompressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydicom.encaps import get_frame
from pydicom.uid import UID

from gateway.script_host.api.errors import (
    BAD_FILE_FORMAT,
    INTERNAL_ERROR,
    NOT_IMPLEMENTED,
    PARAMETER_OUT_OF_RANGE,
    OrthancException,
)
from gateway.script_host.api.files import DicomFile, little_endian

# PixelFormat
GRAYSCALE_8: Final = 1
GRAYSCALE_16: Final = 2
SIGNED_GRAYSCALE_16: Final = 3
RGB_24: Final = 4
RGB_48: Final = 7
GRAYSCALE_32: Final = 8

MAXIMUM_FRAMES: Final = 1_000_000


@dataclass(frozen=True)
class Image:
    """A frame, decompressed: lines of pixels without gaps between them."""

    _width: int
    _height: int
    _format: int
    _pixels: bytes

    def GetImageWidth(self) -> int:
        """Columns."""
        return self._width

    def GetImageHeight(self) -> int:
        """Rows."""
        return self._height

    def GetImagePitch(self) -> int:
        """Bytes from one line to the next."""
        return len(self._pixels) // self._height if self._height else 0

    def GetImagePixelFormat(self) -> int:
        """One of PixelFormat."""
        return self._format

    def GetImageBuffer(self) -> bytes:
        """The pixels, little endian."""
        return self._pixels

    def ConvertPixelFormat(self, targetFormat: int) -> Image:
        """Raises OrthancException: not offered."""
        raise OrthancException(
            NOT_IMPLEMENTED, "Image.ConvertPixelFormat is not offered here; instead: NumPy or Pillow"
        )

    def DrawText(self, *_arguments: Any) -> None:
        """Raises OrthancException: not offered."""
        raise OrthancException(NOT_IMPLEMENTED, "Image.DrawText is not offered here; instead: Pillow")


Image.__module__ = "orthanc"


def frames_count(file: DicomFile) -> int:
    """Number of Frames (0028,0008), 1 if it is not there or none."""
    try:
        count = int(file.data_set.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1
    return count if 0 < count <= MAXIMUM_FRAMES else 1


def raw_frame(file: DicomFile, index: int) -> bytes:
    """A frame as it is in the file. Raises OrthancException."""
    count = _check(file, index)
    data = file.data_set.PixelData
    try:
        if UID(file.transfer_syntax_uid).is_encapsulated:
            return bytes(get_frame(data, index, number_of_frames=count))
        size = _frame_bytes(file)
    except (ValueError, TypeError, AttributeError, EOFError) as error:
        raise OrthancException(*BAD_FILE_FORMAT) from error
    if len(data) < size * count:
        raise OrthancException(*BAD_FILE_FORMAT)
    data = little_endian(data, str(file.data_set["PixelData"].VR), file.order)
    return bytes(data[size * index : size * (index + 1)])


def decoded_frame(file: DicomFile, index: int) -> Image:
    """A frame, decompressed, colors as RGB. Raises OrthancException for what cannot be decoded."""
    _check(file, index)
    # Imported here: most scripts decode nothing, and NumPy takes a while.
    from pydicom.pixels.utils import pixel_array

    try:
        pixels = pixel_array(file.data_set, index=index)
        if file.data_set.get("PhotometricInterpretation") == "PALETTE COLOR":
            pixels = _colored(pixels, file)
    except Exception as error:  # decoders raise whatever they like about data from outside
        raise OrthancException(INTERNAL_ERROR[0], f"{INTERNAL_ERROR[1]}: {error}") from error
    formats = {
        ("u", 1, 2): GRAYSCALE_8,
        ("i", 1, 2): GRAYSCALE_8,
        ("u", 2, 2): GRAYSCALE_16,
        ("i", 2, 2): SIGNED_GRAYSCALE_16,
        ("u", 4, 2): GRAYSCALE_32,
        ("u", 1, 3): RGB_24,
        ("u", 2, 3): RGB_48,
    }
    wanted = formats.get((pixels.dtype.kind, pixels.dtype.itemsize, pixels.ndim))
    if wanted is None:
        raise OrthancException(*INTERNAL_ERROR)
    if file.data_set.get("BitsAllocated") == 1:
        pixels = pixels * 255  # as Orthanc shows them
    height, width = pixels.shape[:2]
    return Image(int(width), int(height), wanted, pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())


def _colored(pixels: Any, file: DicomFile) -> Any:
    """The colors of a palette (PS3.3 C.7.6.3.1.5): 8 bits of each, as in Orthanc."""
    from pydicom.pixels.processing import apply_color_lut

    colors = apply_color_lut(pixels, file.data_set)
    return (colors >> 8).astype("u1") if colors.dtype.itemsize == 2 else colors


def _check(file: DicomFile, index: int) -> int:
    """The number of frames. Raises OrthancException if there is no frame `index`."""
    count = frames_count(file)
    if not file.has_pixel_data:
        raise OrthancException(NOT_IMPLEMENTED, "Not implemented yet")
    if not isinstance(index, int) or not 0 <= index < count:
        raise OrthancException(*PARAMETER_OUT_OF_RANGE)
    return count


def _frame_bytes(file: DicomFile) -> int:
    data_set = file.data_set
    samples = int(data_set.get("SamplesPerPixel", 1))
    return int(data_set.Rows) * int(data_set.Columns) * samples * int(data_set.BitsAllocated) // 8
