"""One style for all pictures, and saving them whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .._compat import install_hint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1d2733", "#5b6776", "#dde2e8"
# Okabe and Ito's palette without its yellow, which white paper swallows.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#1d2733")
# Four dashes against seven colours: 28 lines of which no two are drawn alike.
DASHES: Any = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)))

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same picture on every machine
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "white",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a "$" in a file name is a "$"
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in the house's plot style, and leave the caller's own matplotlib settings alone."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            import matplotlib
        except ImportError as error:
            raise ImportError(f"sslmed.plots needs matplotlib. {install_hint('plots')}") from error
        with matplotlib.rc_context(_STYLE):
            return function(*args, **kwargs)

    return run


def settle(figure: Figure) -> None:
    """Make the tick labels now: matplotlib would make them while saving, in whatever style is set then.

    The layout is left to the saving, which works it out in any case; it takes as long as all else.
    """
    import matplotlib

    for axes in figure.axes:
        axes.tick_params(labelsize=matplotlib.rcParams["xtick.labelsize"])
    layout = figure.get_layout_engine()
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    figure.set_layout_engine(layout)


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 150.0) -> Path:
    """Write `figure` to `path`, whole or not at all: a killed run leaves no half picture under that name.

    Args:
        figure: any matplotlib figure.
        path: its suffix names the format (png, pdf, svg); the folder must exist.
        dpi: pixels per inch of raster formats.

    Returns:
        The path.

    Raises:
        ValueError: the suffix is missing or no format that matplotlib writes.
        FileNotFoundError: the folder does not exist.

    Example:
        >>> import tempfile
        >>> from sslmed import plots
        >>> figure = plots.curves({"run": ([0, 1], [1.0, 0.5])})
        >>> plots.save(figure, Path(tempfile.mkdtemp()) / "loss.png").name
        'loss.png'
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower()
    formats = figure.canvas.get_supported_filetypes()
    if kind not in formats:
        raise ValueError(f"path must end in one of {', '.join(sorted(formats))}, got {path.name!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of path does not exist: {path.parent}")
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        figure.savefig(scratch, format=kind, dpi=dpi)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path
