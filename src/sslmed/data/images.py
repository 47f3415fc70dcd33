"""Image and mask files to tensors: PNG, JPEG, BMP and TIFF, each fault an error that names the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}

_GRAY = ("1", "L", "LA", "La")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FAINT = 16  # of 255: what compression makes of masks of 0 and 1
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF headers
_BMP_BITS = {"1": 1, "L": 8}
_WHITE_IS_ZERO, _SIGNED = 0, 2  # values of the last two


def read_image(path: str | os.PathLike[str]) -> torch.Tensor:
    """Read an image as gray values.

    Colours (palettes too) become luma (ITU-R 601), which leaves gray pixels as they are; transparent pixels are
    laid over black. 8-bit values are divided by 255, 16-bit ones by 65535, whatever the largest value in the
    file; floating point TIFFs must hold [0, 1] already. Pillow reads 16-bit colour as 8-bit. An EXIF orientation
    is not applied, so that an image keeps the pixel grid of its mask.

    Args:
        path: a PNG, JPEG, BMP or TIFF file with one frame.

    Returns:
        (1, H, W) float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is corrupt, truncated or empty, of another format than its ending says or of an
            unsupported one, holds several frames, signed or 32-bit integers, 12 bits, white as 0 in more than 8 bits,
            or floats outside [0, 1] such as NaN.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 3), 51).save(f"{folder}/scan.png")
        ...     image = read_image(f"{folder}/scan.png")
        >>> image.shape, image[0, 0, 0].item()
        (torch.Size([1, 3, 4]), 0.20000000298023224)
    """
    pixels = _decode(Path(path))
    if _SIGNED in getattr(pixels, "tag_v2", {}).get(_SAMPLE_FORMAT, ()) and pixels.mode == "L":
        raise ValueError(f"{path}: signed values have no agreed black; save the image with unsigned ones")
    if pixels.mode == "F":
        values = np.asarray(pixels, dtype=np.float32)
        if not ((values >= 0) & (values <= 1)).all():
            found = (
                f"from {values.min():g} to {values.max():g}"
                if np.isfinite(values).all()
                else "NaN or infinity"
            )
            raise ValueError(f"{path}: floating point pixels must lie in [0, 1], found {found}")
    elif pixels.mode in _DEEP:
        values = _sixteen_bit(pixels, path).astype(np.float32) / np.float32(65535)
    else:
        values = np.asarray(_gray(pixels), dtype=np.float32) / np.float32(255)
    return torch.tensor(values)[None]


def read_mask(path: str | os.PathLike[str]) -> torch.Tensor:
    """Read a mask.

    Whatever is not zero in some colour channel is foreground, be it 1, 255, or a colour; the alpha channel does
    not count. Two exceptions, where values between black and the mask's own are no structures:

    - A mask with JPEG compression is cut at half of its largest value, of any channel: compression surrounds the
      outline by weak values. Do not save label maps as JPEG, nor masks with colours of very different brightness.
    - A gray mask with more than two values of which the largest is white is taken as anti-aliased and cut at half of
      white. A label map that numbers a class 255 therefore loses its low classes: renumber it.

    Args:
        path: a PNG, JPEG, BMP or TIFF file with one frame.

    Returns:
        (1, H, W) bool.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `read_image`, or a mask with JPEG compression has no value above 15.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGBA", (4, 3), (0, 0, 0, 255)).save(f"{folder}/normal_mask.png")
        ...     read_mask(f"{folder}/normal_mask.png").any()
        tensor(False)
    """
    pixels = _decode(Path(path))
    lossy = pixels.format == "JPEG" or pixels.info.get("compression") in ("jpeg", "tiff_jpeg")
    if pixels.mode == "F":
        values = np.asarray(pixels, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: the mask holds NaN or infinity")
        return torch.tensor(values != 0)[None]
    if pixels.mode in _DEEP:
        values, white = _sixteen_bit(pixels, path), 65535
    elif pixels.mode in _GRAY:
        values, white = np.asarray(pixels.convert("LA" if "A" in pixels.mode else "L").getchannel(0)), 255
    else:
        channels = np.asarray(pixels.convert("RGBA"))[..., :3]
        values, white = channels.max(axis=2), 255
        if not lossy and (channels != channels[..., :1]).any():
            return torch.tensor(values != 0)[None]
    if lossy:
        if 0 < values.max(initial=0) < _FAINT:
            raise ValueError(
                f"{path}: the largest value is {values.max()}, which JPEG compression does not keep; save the mask "
                "with 255, or as PNG"
            )
        return torch.tensor(values > values.max(initial=0) / 2)[None]
    graded = values.max(initial=0) == white and ((values != 0) & (values != white)).any()
    return torch.tensor(values > white // 2 if graded else values != 0)[None]


def image_size(path: Path) -> tuple[int, int]:
    """Return (H, W) from the file's header, without decoding its pixels; raise as `read_image`."""
    with _opened(path) as image:
        return image.height, image.width


def _opened(path: Path) -> Image:
    """Open an image file: its header only, checked against its ending."""
    from PIL import Image as pillow

    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: unsupported ending {path.suffix!r}; supported are {', '.join(FORMATS)}")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes)")
    try:
        image: Any = pillow.open(path)
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable {FORMATS[path.suffix.lower()]} image ({error})") from error
    if image.format != FORMATS[path.suffix.lower()]:
        image.close()
        raise ValueError(f"{path}: the file holds {image.format} data, which its ending denies; rename it")
    if getattr(image, "n_frames", 1) != 1:
        image.close()
        raise ValueError(
            f"{path}: the file holds {image.n_frames} frames, one was expected; save each as a file"
        )
    if image.format == "TIFF" and (unread := _unread(image.tag_v2)):
        image.close()
        raise ValueError(f"{path}: {unread}; save the image with 8 or 16 bits, black as 0")
    if (
        image.format == "BMP"
        and image.mode in _BMP_BITS
        and (bits := _bmp_bits(path)) != _BMP_BITS[image.mode]
    ):
        image.close()
        raise ValueError(
            f"{path}: a gray palette with {bits} bits a pixel, which would be misread; save it as PNG"
        )
    return image  # type: ignore[no-any-return]


def _bmp_bits(path: Path) -> int:
    """Return the bits a pixel of a BMP file: of a gray palette with few entries Pillow takes too few or too many."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(30)[28:], "little")


def _unread(tags: Any) -> str | None:
    """Say what a TIFF's header holds that Pillow reads over: it would take the values for others."""
    bits = tags.get(_BITS_PER_SAMPLE, (1,))[0]
    if bits not in (1, 2, 4, 8, 16, 32, 64):
        return f"values of {bits} bits"
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and bits > 8:
        return f"white is 0 in values of {bits} bits"
    return None


def _decode(path: Path) -> Image:
    """Decode all pixels; PNG checksums are verified, since Pillow reads over a damaged one."""
    try:
        if path.suffix.lower() == ".png":
            with _opened(path) as image:
                image.verify()
        with _opened(path) as image:
            image.load()
            return image
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: corrupt or truncated image ({error})") from error


def _gray(pixels: Image) -> Image:
    """Turn a decoded 8-bit image of any mode to luma, over black where it is transparent."""
    from PIL import Image as pillow

    bands = pixels.getbands()
    if "A" not in bands and "a" not in bands and "transparency" not in pixels.info:
        return (pixels if pixels.mode in ("1", "L", "RGB") else pixels.convert("RGB")).convert("L")
    colours = pixels.convert("RGBA")
    black = pillow.new("RGBA", colours.size, (0, 0, 0, 255))
    return pillow.alpha_composite(black, colours).convert("L")


def _sixteen_bit(pixels: Image, path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Return 16-bit values; Pillow hands out some 16-bit PNGs as 32-bit integers."""
    values = np.asarray(pixels)
    if pixels.mode == "I" and pixels.format != "PNG":
        raise ValueError(f"{path}: 32-bit integers have no agreed white; save the image with 8 or 16 bits")
    return values
