"""Image and mask files to tensors, each fault an error that names the file."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ._reading import reading

if TYPE_CHECKING:
    from PIL.Image import Image

# Of the formats that Pillow opens, those whose decoders check what they read and which hold one plain image.
_ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm", ".pfm"),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
}
FORMATS: dict[str, str] = {ending: name for name, endings in _ENDINGS.items() for ending in endings}

_GRAY = ("1", "L", "LA", "La")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FAINT = 16  # of 255: what compression makes of masks of 0 and 1
_BMP_BITS = {"1": 1, "L": 8}
_LOSSY = ("JPEG", "MPO", "WEBP")
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = (
    256,
    257,
    258,
    259,
    262,
)  # tags of TIFF headers
_ORIENTATION, _SAMPLES, _PLANAR, _COLOUR_MAP, _SAMPLE_FORMAT = 274, 277, 284, 320, 339
_WHITE_IS_ZERO, _RGB, _UNCOMPRESSED, _SEPARATE_PLANES, _SIGNED, _FLOAT = 0, 2, 1, 2, 2, 3  # their values


def read_image(path: str | os.PathLike[str]) -> torch.Tensor:
    """Read an image as gray values.

    Colours (palettes too) become luma (ITU-R 601), which leaves gray pixels as they are; transparent pixels are
    laid over black. 8-bit values are divided by 255, 16-bit ones by 65535, whatever the largest value in the
    file; floating point files must hold [0, 1] already. Pillow reads 16-bit colour as 8-bit.

    Pixels come as they are stored: an orientation in the header (EXIF, TIFF) is applied neither to images nor to masks,
    in no format, so that both keep one pixel grid whatever program wrote either header. A mask that was drawn on the
    turned image must be turned back.

    Args:
        path: a PNG, JPEG, BMP, TIFF, PGM, PPM, PBM, PFM, WebP or JPEG 2000 file with one frame.

    Returns:
        (1, H, W) float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is corrupt, truncated or empty, of another format than its ending says or of an
            unsupported one, holds several frames, signed or 32-bit integers, or floats outside [0, 1] such as NaN, or
            is a TIFF that Pillow would misread: with 12 bits, white as 0 in more than 8 bits, the samples of a pixel in
            separate planes (but 8-bit RGB), or compressed big-endian floats.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 3), 51).save(f"{folder}/scan.png")
        ...     image = read_image(f"{folder}/scan.png")
        >>> image.shape, image[0, 0, 0].item()
        (torch.Size([1, 3, 4]), 0.20000000298023224)
    """
    with _reading(path):
        return _gray_values(path)


def _gray_values(path: str | os.PathLike[str]) -> torch.Tensor:
    pixels = _decode(Path(path))
    if pixels.info["signed"] and pixels.mode == "L":
        raise ValueError(f"{path}: signed values have no agreed black; save the image with unsigned ones")
    if pixels.mode == "F":
        values = np.asarray(pixels, dtype=np.float32)
        if not ((values >= 0) & (values <= 1)).all():
            found = f"from {values.min():g} to {values.max():g}" if np.isfinite(values).all() else "NaN or infinity"
            raise ValueError(f"{path}: floating point pixels must lie in [0, 1], found {found}")
    elif pixels.mode in _DEEP:
        values = _sixteen_bit(pixels, path).astype(np.float32) / np.float32(65535)
    else:
        values = np.asarray(_gray(pixels), dtype=np.float32) / np.float32(255)
    return torch.tensor(values, device="cpu")[None]


def read_mask(path: str | os.PathLike[str]) -> torch.Tensor:
    """Read a mask.

    Whatever is not zero in some colour channel is foreground, be it 1, 255, or a colour; the alpha channel does
    not count, and a mask drawn in it alone is refused. Two exceptions, where values between black and the mask's own
    are no structures:

    - A mask in JPEG, JPEG 2000 or WebP is cut at half of its largest value, of any channel: compression surrounds the
      outline by weak values. Do not save label maps like this, nor masks with colours of very different brightness.
    - A gray mask with more than two values of which the largest is white is taken as anti-aliased and cut at half of
      white. A label map that numbers a class 255 therefore loses its low classes: renumber it.

    Args:
        path: a file as for `read_image`, read in the same orientation.

    Returns:
        (1, H, W) bool.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `read_image`; a mask with JPEG compression has no value above 15; or one is black all over and
            transparent in parts.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGBA", (4, 3), (0, 0, 0, 255)).save(f"{folder}/normal_mask.png")
        ...     read_mask(f"{folder}/normal_mask.png").any()
        tensor(False)
    """
    with _reading(path):
        return _foreground(path)


def _foreground(path: str | os.PathLike[str]) -> torch.Tensor:
    pixels = _decode(Path(path))
    lossy = pixels.format in _LOSSY or pixels.info.get("compression") in ("jpeg", "tiff_jpeg")
    if pixels.mode == "F":
        values = np.asarray(pixels, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: the mask holds NaN or infinity")
        return torch.tensor(values != 0, device="cpu")[None]
    if pixels.mode in _DEEP:
        values, white = _sixteen_bit(pixels, path), 65535
    elif pixels.mode in _GRAY:
        values, white = np.asarray(pixels.getchannel(0).convert("L")), 255
    else:
        channels = np.asarray(pixels.convert("RGBA"))[..., :3]
        values, white = channels.max(axis=2), 255
        if not lossy and pixels.format != "JPEG2000" and (channels != channels[..., :1]).any():
            return torch.tensor(values != 0, device="cpu")[None]
    if not values.any() and _partly_transparent(pixels):
        raise ValueError(f"{path}: black all over, but transparent in parts; save the mask as white on black")
    if pixels.format == "JPEG2000":  # lossless or not, which its mode does not tell: compression adds values
        lossy = len(np.unique(values)) > 2
    if lossy:
        if 0 < values.max(initial=0) < _FAINT:
            raise ValueError(
                f"{path}: the largest value is {values.max()}, which lossy compression does not keep; save the mask "
                "with 255, or as PNG"
            )
        return torch.tensor(values > values.max(initial=0) / 2, device="cpu")[None]
    graded = values.max(initial=0) == white and ((values != 0) & (values != white)).any()
    return torch.tensor(values > white // 2 if graded else values != 0, device="cpu")[None]


def image_size(path: Path) -> tuple[int, int]:
    """Return (H, W) from the file's header, without decoding its pixels; raise as `read_image`."""
    with _reading(path), _opened(path) as image:
        return image.height, image.width


def _reading(path: str | os.PathLike[str]) -> AbstractContextManager[None]:
    path = Path(path)
    return reading(path, f"{FORMATS.get(path.suffix.lower(), 'supported')} image")


def _opened(path: Path) -> Image:
    """Open an image file: its header only, checked against its ending."""
    from PIL import Image as pillow

    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: unsupported ending {path.suffix!r}; supported are {', '.join(FORMATS)}")
    image: Any = pillow.open(path)
    if image.format != FORMATS[path.suffix.lower()]:
        image.close()
        raise ValueError(f"{path}: the file holds {image.format} data, which its ending denies; rename it")
    if getattr(image, "n_frames", 1) != 1:
        image.close()
        raise ValueError(f"{path}: the file holds {image.n_frames} frames, one was expected; save each as a file")
    if image.format == "TIFF":
        if unread := _unread(image.tag_v2):
            image.close()
            raise ValueError(f"{path}: {unread}; save the image with 8 or 16 bits, black as 0")
        # Pillow applies the orientation of TIFFs alone; without it, it decodes the rows and columns as stored.
        image.getexif().pop(_ORIENTATION, None)
        image._size = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    if (
        image.format in ("BMP", "DIB")
        and image.mode in _BMP_BITS
        and (bits := _bmp_bits(path, image.format)) != _BMP_BITS[image.mode]
    ):
        image.close()
        raise ValueError(f"{path}: a gray palette with {bits} bits a pixel, which would be misread; save it as PNG")
    return image  # type: ignore[no-any-return]


def _bmp_bits(path: Path, kind: str) -> int:
    """Return the bits a pixel of a BMP file: of a gray palette with few entries Pillow takes too few or too many."""
    start = 28 if kind == "BMP" else 14  # DIB lacks the file header
    with path.open("rb") as file:
        return int.from_bytes(file.read(start + 2)[start:], "little")


def _unread(tags: Any) -> str | None:
    """Say what a TIFF's header holds that Pillow reads over: it would take the values for others."""
    bits = tags.get(_BITS_PER_SAMPLE, (1,))[0]
    photometric, compressed = tags.get(_PHOTOMETRIC), tags.get(_COMPRESSION, 1) != _UNCOMPRESSED
    if bits not in (1, 2, 4, 8, 16, 32, 64):
        return f"values of {bits} bits"
    if photometric == _WHITE_IS_ZERO and bits > 8:
        return f"white is 0 in values of {bits} bits"
    samples = tags.get(_SAMPLES, 1)
    separate = tags.get(_PLANAR) == _SEPARATE_PLANES and samples > 1
    if separate and (bits, photometric, samples) != (8, _RGB, 3):
        return f"each pixel's {samples} values of {bits} bits lie in separate planes"
    if compressed and _FLOAT in tags.get(_SAMPLE_FORMAT, ()) and tags.prefix == b"MM":
        return "compressed big-endian floats"
    return None


def _decode(path: Path) -> Image:
    """Decode all pixels as they are stored; PNG checksums are verified, since Pillow reads over a damaged one."""
    if path.suffix.lower() == ".png":
        with _opened(path) as image:
            image.verify()
    with _opened(path) as image:
        tags = getattr(image, "tag_v2", {})
        signed, colours = _SIGNED in tags.get(_SAMPLE_FORMAT, ()), tags.get(_COLOUR_MAP, ())
        image.load()
        if image.mode == "P" and 0 < max(colours, default=0) < 256:  # 8 of the 16 bits of each entry
            thirds = len(colours) // 3
            image.putpalette([colours[k % 3 * thirds + k // 3] for k in range(len(colours))])
        image.info["signed"] = signed
        return image


def _partly_transparent(pixels: Image) -> bool:
    """Whether an image of at most 8 bits is transparent in some places more than in others."""
    last = pixels.getbands()[-1]
    if last not in "Aa":
        if "transparency" not in pixels.info or pixels.mode in _DEEP:
            return False
        pixels, last = pixels.convert("RGBA"), "A"
    least, greatest = pixels.getchannel(last).getextrema()
    return least != greatest


def _gray(pixels: Image) -> Image:
    """Turn a decoded 8-bit image of any mode to luma, over black where it is transparent."""
    from PIL import Image as pillow

    bands = pixels.getbands()
    if pixels.mode == "La":  # multiplied by its alpha: over black already
        return pixels.getchannel(0)
    if "A" not in bands and "a" not in bands and "transparency" not in pixels.info:
        return (pixels if pixels.mode in ("1", "L", "RGB") else pixels.convert("RGB")).convert("L")
    colours = pixels.convert("RGBA")
    black = pillow.new("RGBA", colours.size, (0, 0, 0, 255))
    return pillow.alpha_composite(black, colours).convert("L")


def _sixteen_bit(pixels: Image, path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Return 16-bit values; Pillow hands out some 16-bit PNGs, and PGMs, as 32-bit integers."""
    values = np.asarray(pixels)
    if pixels.mode == "I" and pixels.format not in ("PNG", "PPM"):
        raise ValueError(f"{path}: 32-bit integers have no agreed white; save the image with 8 or 16 bits")
    return values
