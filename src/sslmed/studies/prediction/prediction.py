"""Outline the scans of a folder with the networks of a run: masks, a table, and a page to review them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...data.formats._nifti_mask import nifti_mask
from ...data.names import readable
from ..locks import folder_lock
from ..processes import world_size
from ..progress import track
from ..runs import RunFolder, read_json, sha256, write_bytes, write_csv, write_json
from .ensemble import MODEL, Ensemble, load_model, write_model
from .outlines import outlines
from .review import write_review
from .scan_files import ScanFile, scan_files
from .table import Table

SHOWN = 10  # left-out files that are printed
SETTINGS, TABLE, SKIPPED = "predict.json", "predictions.csv", "skipped.csv"


class Prediction:
    """The outlines of a folder, all input read and checked; `run` does the work.

    Args:
        model: a run folder, whose model.pt is written first if it is missing, or a model.pt.
        data: a folder of scans.
        out: the folder of the masks. What an earlier command with the same model finished there is not done again.
        skip_broken: leave out files that cannot be read.

    Raises:
        ValueError, OSError, ImportError: anything in the input that would stop the work later.
    """

    def __init__(self, model: Path, *, data: str, out: Path, skip_broken: bool) -> None:
        if world_size() > 1:
            raise ValueError("sslmed predict runs in one process; start it without torchrun")
        self.out: Path = out
        self.table: Table = Table(out / TABLE)
        if not Path(data).is_dir():
            raise ValueError(f"--data {data} is not a folder")
        if out.resolve().is_relative_to(Path(data).resolve()):
            raise ValueError(f"--out {out} lies inside --data {data}, where masks would be taken for scans")
        file = _model_file(model)
        self.ensemble: Ensemble = load_model(file)
        self.settings: dict[str, str] = {"model": file.resolve().parent.name, "model_sha256": sha256(file)}
        self._check_out()
        self.broken: dict[str, str]
        self.masks: list[str]
        files, self.broken, self.masks = scan_files(data, skip_broken=skip_broken)
        self.done: set[str] = self._finished(files)
        self._check_files([scan for scan in files if scan.name not in self.done], skip_broken)
        self.files: list[ScanFile] = [scan for scan in files if scan.name not in self.broken]
        if not self.files:
            raise ValueError(f"--data {data} holds no scan that can be read")
        RunFolder(out)  # makes it, or says why it cannot be written

    def _check_out(self) -> None:
        """Raise ValueError where the output folder holds anything but masks of this model."""
        file = self.out / SETTINGS
        if file.is_file():
            if read_json(file) != self.settings:
                raise ValueError(f"--out {self.out} holds the masks of another model; choose another folder")
        elif self.out.exists() and not (self.out.is_dir() and all(e.name.startswith(".") for e in self.out.iterdir())):
            raise ValueError(f"--out {self.out} is not an empty folder; choose another one")

    def _finished(self, files: Sequence[ScanFile]) -> set[str]:
        """Names of the files whose rows and masks are all there; of files that are no longer in --data, too."""
        known = {scan.name: scan for scan in files}
        done = set()
        for name, rows in self.table.groups():
            scan = known.get(name)
            if scan is not None:
                if len(rows) < scan.frames or not all((self.out / mask).is_file() for mask in scan.masks):
                    continue
                if rows[0]["sha256"] != scan.digest():
                    raise ValueError(
                        f"--out {self.out} holds the mask of another {name}; choose another folder, or delete that mask"
                    )
            done.add(name)
        return done

    def _check_files(self, files: Sequence[ScanFile], skip_broken: bool) -> None:
        """Decode all files, so that a broken one is found before the work."""
        for scan in track(files, "checking", len(files), unit="files"):
            try:
                scan.read()
            except (ValueError, OSError) as error:
                self.broken[scan.name] = str(error)
        if self.broken and not skip_broken:
            first, others = next(iter(self.broken.values())), len(self.broken) - 1
            more = f", and {others} more cannot be read" if others else ""
            raise ValueError(f"{first}{more}; --skip-broken leaves out what cannot be read")

    def run(self) -> int:
        """Outline what is not finished, and write the pages about all; returns the exit status."""
        try:
            with folder_lock(self.out):
                self._run()
        except (ValueError, OSError) as error:  # a file has changed meanwhile, or the disk is full
            print(f"failed: {error}\nrerun the same command to resume", flush=True)
            return 1
        return 0

    def _run(self) -> None:
        write_json(self.out / SETTINGS, self.settings)
        self.table.keep(self.done)
        files = [scan for scan in self.files if scan.name not in self.done]
        before = f", {len(self.files) - len(files)} done before" if self.done else ""
        print(f"{len(files)} files to outline{before}", flush=True)
        self._name_left_out()
        model = self.ensemble.to("cuda" if torch.cuda.is_available() else "cpu")
        for scan, found in groupby(outlines(files, model), key=attrgetter("scan")):
            frames = list(found)
            self._write_masks(scan, [outline.mask for outline in frames])
            content = scan.digest()
            self.table.append(
                outline.row() | {"mask": readable(scan.mask_of(outline.frame)), "sha256": content} for outline in frames
            )
        print(f"masks: {self.out}\ntable: {self.table.path}")
        for title, page in write_review(self.out, self.table, self.files, model, broken=self.broken).items():
            print(f"{title}: {page}")

    def _name_left_out(self) -> None:
        for title, names in (("masks, by their names", self.masks), ("files that cannot be read", list(self.broken))):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                print(f"left out {len(names)} {title}: {', '.join(names[:SHOWN])}{more}", flush=True)
        rows = [{"file": name, "reason": reason} for name, reason in self.broken.items()]
        if rows or (self.out / SKIPPED).is_file():
            write_csv(self.out / SKIPPED, rows, columns=("file", "reason"))

    def _write_masks(self, scan: ScanFile, masks: Sequence[Tensor]) -> None:
        """Write the masks of all frames of a file, before its rows."""
        if scan.kind == "nifti":
            write_bytes(self.out / scan.masks[0], nifti_mask(scan.path, torch.stack(list(masks))))
            return
        for name, mask in zip(scan.masks, masks, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(mask.byte().mul(255).numpy()).save(buffer, "PNG")
            write_bytes(self.out / name, buffer.getvalue())


def _model_file(model: Path) -> Path:
    """The file of a model, written if it is that of a run without one."""
    if not model.is_dir():
        return model
    return model / MODEL if (model / MODEL).is_file() else write_model(model)
