"""What the augmentations of Ellis et al. do to an image: band-stop filter and patch jigsaw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._inputs import Array, array, gray, same_length
from ._panels import panels
from ._style import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STOPPED = np.array([0.835, 0.369, 0.0], dtype=np.float32)
_FOCAL = "#3d9bff"


@styled
def filter_gallery(images: Array, filtered: Array, kept: Array, *, titles: Sequence[str] | None = None) -> Figure:
    """One row for each image: original, band-stopped, difference, spectrum with the stopped bins in orange.

    Args:
        images: (N, H, W) or (N, 1, H, W), about [0, 1].
        filtered: same shape. The display saturates at 0 and 1; the difference is drawn on its own scale.
        kept: (N, H, W//2+1) or (N, 1, H, W//2+1) bool, the bins that pass, in the layout of `rfft2`.
        titles: N texts beside the rows.

    Returns:
        The figure; spectra are centred and show log(1 + |F|) of the original.

    Raises:
        TypeError, ValueError: wrong dtypes, shapes or lengths.

    Reference:
        Ellis et al. (relation contrastive loss for ultrasound), Fig. 2.

    Example:
        >>> import numpy as np
        >>> figure = filter_gallery(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), np.ones((1, 8, 5), dtype=bool))
        >>> len(figure.axes)
        4
    """
    before, after, passes = (list(array(x)) for x in (images, filtered, kept))
    count = same_length(images=before, filtered=after, kept=passes)
    _titled(titles, count)
    originals = [gray("images", x) for x in before]
    results = [gray("filtered", x) for x in after]
    aspects = [x.shape[0] / x.shape[1] for x in originals]
    heads = ("original", "band-stopped", "difference", "spectrum, stopped bins")
    figure, rows = panels(aspects, heads, titles, width=2.05)
    for axes, original, result, keep in zip(rows, originals, results, passes, strict=True):
        if result.shape != original.shape:
            raise ValueError(f"filtered must have the images' shape {original.shape}, got {result.shape}")
        difference = result - original
        scale = max(float(np.abs(difference).max()), 1e-6)
        _show(axes[0], original)
        _show(axes[1], result)
        axes[2].imshow(difference, cmap="PuOr", vmin=-scale, vmax=scale, interpolation="bilinear")
        _corner(axes[2], f"±{scale:.2f}")
        axes[3].imshow(_spectrum(original, keep), interpolation="nearest")
    return figure


@styled
def jigsaw_gallery(
    images: Array,
    patched: Array,
    grid: tuple[int, int],
    focal: Array | None = None,
    *,
    titles: Sequence[str] | None = None,
) -> Figure:
    """One row for each image: original and rearranged, with the patch grid and the focal strips in blue.

    Args:
        images: (N, H, W) or (N, 1, H, W), about [0, 1]; the display saturates.
        patched: same shape.
        grid: rows and columns (R, S) of patches.
        focal: (N, R*S) bool, the patches of the focal row and column in row-major order, or None.
        titles: N texts beside the rows.

    Returns:
        The figure.

    Raises:
        TypeError, ValueError: wrong dtypes, shapes or lengths.

    Reference:
        Ellis et al. (relation contrastive loss for ultrasound), Fig. 3.

    Example:
        >>> import numpy as np
        >>> len(jigsaw_gallery(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)), (2, 2)).axes)
        4
    """
    before, after = (list(array(x)) for x in (images, patched))
    count = same_length(images=before, patched=after)
    _titled(titles, count)
    r, s = grid
    if r < 1 or s < 1:
        raise ValueError(f"grid must be two positive integers, got {grid!r}")
    strips = None if focal is None else array(focal)
    if strips is not None and (strips.dtype != np.bool_ or strips.shape != (count, r * s)):
        raise ValueError(f"focal must be bool of shape ({count}, {r * s}), got {strips.dtype} {strips.shape}")
    originals = [gray("images", x) for x in before]
    results = [gray("patched", x) for x in after]
    aspects = [x.shape[0] / x.shape[1] for x in originals]
    figure, rows = panels(aspects, ("original with patch grid", "rearranged"), titles, width=2.6)
    for i, (axes, original, result) in enumerate(zip(rows, originals, results, strict=True)):
        if result.shape != original.shape:
            raise ValueError(f"patched must have the images' shape {original.shape}, got {result.shape}")
        for panel, picture in zip(axes, (original, result), strict=True):
            _show(panel, picture)
            _grid_lines(panel, picture.shape, (r, s), None if strips is None else strips[i].reshape(r, s))
    return figure


def _titled(titles: Sequence[str] | None, count: int) -> None:
    if titles is not None and len(titles) != count:
        raise ValueError(f"titles must have {count} entries, one for each image, got {len(titles)}")


def _show(axes: Axes, picture: npt.NDArray[np.float32]) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")


def _corner(axes: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axes.text(0.97, 0.03, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, bbox=box)


def _spectrum(image: npt.NDArray[np.float32], keep: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(H, W, 3): the centred log spectrum in gray, stopped bins tinted."""
    h, w = image.shape
    keep = keep[0] if keep.ndim == 3 and keep.shape[0] == 1 else keep
    if keep.dtype != np.bool_ or keep.shape != (h, w // 2 + 1):
        raise ValueError(
            f"kept must be bool of shape {(h, w // 2 + 1)} for images {(h, w)}, got {keep.dtype} {keep.shape}"
        )
    power = np.log1p(np.abs(np.fft.fft2(image)))
    # A real image's spectrum is Hermitian: bin (u, v) beyond the half is bin (-u, -v) of it.
    whole = np.empty((h, w), dtype=bool)
    whole[:, : w // 2 + 1] = keep
    columns = np.arange(w // 2 + 1, w)
    whole[:, columns] = keep[(-np.arange(h) % h)[:, None], w - columns]
    level = np.fft.fftshift(power / max(float(power.max()), 1e-6)).astype(np.float32)[..., None]
    return np.where(np.fft.fftshift(whole)[..., None], level, 0.35 * level + 0.65 * _STOPPED).astype(np.float32)


def _grid_lines(axes: Axes, shape: tuple[int, ...], grid: tuple[int, int], focal: npt.NDArray[np.bool_] | None) -> None:
    """White lines between patches; blue where a focal patch meets another one or the border."""
    y, x = (np.linspace(-0.5, n - 0.5, k + 1) for n, k in zip(shape, grid, strict=True))
    axes.hlines(y[1:-1], x[0], x[-1], color="white", linewidth=0.6, alpha=0.75)
    axes.vlines(x[1:-1], y[0], y[-1], color="white", linewidth=0.6, alpha=0.75)
    if focal is None:
        return
    f = np.pad(focal, 1)
    for r, c in np.argwhere(f[1:, 1:-1] != f[:-1, 1:-1]):
        axes.plot(x[[c, c + 1]], y[[r, r]], color=_FOCAL, linewidth=2.2, solid_capstyle="projecting")
    for r, c in np.argwhere(f[1:-1, 1:] != f[1:-1, :-1]):
        axes.plot(x[[c, c]], y[[r, r + 1]], color=_FOCAL, linewidth=2.2, solid_capstyle="projecting")
