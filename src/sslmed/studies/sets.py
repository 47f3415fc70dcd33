"""Which data set a folder holds, told by its layout, or the synthetic images where no folder is given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import data
from ..data.names import named_as_mask

PHANTOM = "phantom"


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        option: what the user gave `place` to, for messages.
        place: a folder, or `phantom`.
        phantom: (size) -> the synthetic set that stands for a folder; None where there is none.
        unlabelled: of a set that comes in two parts, read the one without labels.
    """

    option: str
    place: str
    phantom: Callable[[int], Any] | None = None
    unlabelled: bool = False


@dataclass(frozen=True)
class Known:
    """A data set that its folder gives away.

    Attributes:
        fits: whether a folder is of this set.
        open: its reader.
        unlabelled: the reader of its part without labels, where it has one.
    """

    name: str
    fits: Callable[[Path], Any]
    open: Callable[..., Any]
    unlabelled: Callable[..., Any] | None = None


def _bears(*names: str) -> Callable[[Path], bool]:
    return lambda folder: any((folder / name).exists() for name in names)


def _matches(*patterns: str) -> Callable[[Path], bool]:
    return lambda folder: any(any(folder.glob(pattern)) for pattern in patterns)


def _has(*names: str) -> Callable[[Path], bool]:
    # In the letters given: BUS-BRA has Images and Masks, QAMEBI Benign, which are not told apart on every system.
    return lambda folder: set(names) <= set(os.listdir(folder))


def _holds_only(*names: str) -> Callable[[Path], bool]:
    """Class folders of pictures and nothing else: of any other set, masks would be images, or a class left out."""
    has = _has(*names)

    def fits(folder: Path) -> bool:
        if not has(folder):
            return False
        scans = _unlabelled(folder)
        return not scans.masks and all(Path(name).parent.as_posix() in names for name in scans.ids)

    return fits


def _unlabelled(folder: Path, **settings: Any) -> data.UnlabelledImages:
    with warnings.catch_warnings():  # about masks, which are an error here
        warnings.simplefilter("ignore", UserWarning)
        return data.UnlabelledImages(folder, **settings)


def _uncounted(reader: Callable[..., Any]) -> Callable[..., Any]:
    def opened(root: Path, *, size: int, fit: str, allow_partial: bool) -> Any:
        del allow_partial  # nobody published how many there are
        return reader(root, size=size, fit=fit)

    return opened


# Each set before those whose marks it bears too.
KNOWN = (
    Known("BUSI", _matches(*(f"{name}/*_mask*.png" for name in data.BUSI.classes)), data.BUSI),
    Known("BUS-BRA", _bears("bus_data.csv"), data.BUSBRA),
    Known("UDIAT", _bears("DatasetB.xlsx"), data.UDIAT),
    Known("BrEaST", _matches("BrEaST-Lesions-USG-clinical-data*.xlsx"), data.BrEaST),
    Known("QAMEBI", _matches("Benign/* Benign *.bmp", "Malignant/* Malignant *.bmp"), data.QAMEBI),
    Known("CAMUS", _matches("patient0*", "training/patient0*"), data.CAMUS),
    Known("COVID-LUS", _bears("dataset_metadata.csv", "sources.csv"), data.CovidLUS),
    Known("INbreast", _bears("AllDICOMs"), data.INbreast),
    Known("CBIS-DDSM", _matches("*_case_description_*_set.csv"), data.CBISDDSM),
    Known("Decathlon", _bears("dataset.json"), data.Decathlon, partial(data.Decathlon, part="test")),
    Known(
        "MBUD",
        lambda folder: folder.resolve().name == "originals" and (folder / "benign").is_dir(),
        data.MBUD,
    ),
    Known("TBUD", _holds_only("benign", "malignant"), _uncounted(data.TBUD)),
    Known(
        "labelled images",
        lambda folder: _has("images", "masks")(folder) or _has("images", "cases.csv")(folder),
        _uncounted(data.LabelledImages),
    ),
)


def open_set(source: Source, *, size: int, fit: str = "stretch") -> tuple[str, str, Any]:
    """Find out what a source is and open it, without decoding an image.

    Returns:
        The set's name, the source as results may print it (no folder of this machine), and the data set.

    Raises:
        ValueError, OSError: the folder is missing or empty, holds several sets, or holds masks without being a set
            with masks.
    """
    if source.place == PHANTOM and source.phantom is not None:
        synthetic = source.phantom(size)
        return type(synthetic).__name__, _described(synthetic), synthetic
    root = Path(source.place)
    if not root.exists():
        other = ", or `phantom` for synthetic images" if source.phantom is not None else ""
        raise FileNotFoundError(f"{source.option} {source.place}: no such folder (give a folder{other})")
    if not root.is_dir():
        raise NotADirectoryError(f"{source.option} {source.place} is a file; a folder was expected")
    shown = Path(os.path.abspath(root)).name  # the same from wherever the command is given
    inner = (entry for entry in sorted(root.iterdir()) if entry.is_dir())
    fitting = _fitting([root]) or _fitting(inner)
    if len(fitting) > 1:
        raise ValueError(
            f"{source.option} {source.place} holds several sets, {' and '.join(k.name for k in fitting)}; name one"
        )
    for known in fitting:
        part = known.unlabelled if source.unlabelled else None
        reader = part or known.open
        found = reader(root, size=size, fit=fit, allow_partial=True)
        if not len(found):
            raise ValueError(
                f"{source.option} {source.place}, read as {known.name}, holds no images"
                + (" without labels" if part else "")
            )
        return known.name, shown, found
    scans = _unlabelled(root, size=size, fit=fit)
    masks = scans.ids if named_as_mask(Path(shown, "0")) else scans.masks
    if masks:
        raise ValueError(
            f"{source.option} {source.place} would be read as unlabelled images, but holds {len(masks)} mask"
            f"{'s' * (len(masks) > 1)}, as {masks[0]}; name the whole folder of a known set, one with images/ and "
            "masks/ under the same names, or a folder without masks"
        )
    return "unlabelled images", shown, scans


def _fitting(folders: Iterable[Path]) -> list[Known]:
    found = (next((known for known in KNOWN if known.fits(folder)), None) for folder in folders)
    return list(dict.fromkeys(known for known in found if known is not None))


def _described(synthetic: Any) -> str:
    organ = getattr(synthetic, "organ", None)
    kind = {"MammogramPhantom": "mammograms", "MRPhantom": "MR volumes"}.get(
        type(synthetic).__name__, "B-mode" + (f" of the {organ}" if organ not in (None, "breast") else "")
    )
    return f"synthetic {kind}, seed {synthetic.seed}"
