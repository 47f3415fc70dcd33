r"""Masked regression against contrastive pretraining, for MR segmentation with 1, 2, 4 or 8 labelled volumes.

Umapathy et al., "Learning to segment with limited annotations: Self-supervised pretraining with regression and
contrastive loss in MRI": a U-Net learns to fill in hidden pixels, or its contracting path is trained to tell images
apart and then its expanding path to tell places apart; then it is fine-tuned on a few volumes.

    python examples/mr_masked_vs_contrastive.py --preset small --out runs/mr
    python examples/mr_masked_vs_contrastive.py --data Task05_Prostate --unlabelled Task05_Prostate --preset paper \
        --seeds 0 1 2 --out runs/prostate

Rerun the same command to resume a run that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kornia.augmentation import (
    AugmentationSequential,
    RandomAffine,
    RandomElasticTransform,
    RandomResizedCrop,
)
from kornia.constants import DataKey, Resample
from torch import nn

from sslmed.augment import MultiView, RandomPixelMask, views
from sslmed.data import MRPhantom
from sslmed.methods import LocalContrast, MaskedPixels, SimCLR
from sslmed.models import ProjectionHead, UNet, UNetFeatures
from sslmed.studies import cli, tables
from sslmed.studies.cells import SEGMENTATION, SUPERVISED, Cell, Target
from sslmed.studies.experiment import Experiment
from sslmed.studies.galleries import masked_gallery
from sslmed.studies.manifest import PretextEntry
from sslmed.studies.material import TRAIN, Wanted
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.plan import Paper, shown_cases
from sslmed.studies.pretext import Pretext, pretrain
from sslmed.studies.seeding import derived_seed
from sslmed.studies.segmentation import Segmentation, soft_dice
from sslmed.studies.sets import PHANTOM, Source
from sslmed.studies.training import Fit
from sslmed.studies.tuning import Tuning

METHODS = ("supervised", "masked", "contrastive")
POOL = "unlabelled"


@dataclasses.dataclass(frozen=True)
class Constants:
    """The paper's numbers, each with its place; [ours] where the paper leaves it open."""

    # II.D: the liver's 21, 2 and 8 of 31 (the prostate's 15, 3 and 15 are more than there are); that the pretexts, too,
    # learn from the first part alone is [ours].
    fractions: tuple[float, float, float] = (0.68, 0.06, 0.26)
    ratio: float = 0.1  # II.E: "10% of the pixels"
    sigma: float = 0.01  # II.B: N(0, sigma = 0.01)
    temperature: float = 0.1  # II.C
    head: tuple[int, int] = (1024, 128)  # [ours] Chaitanya et al.'s, to whom II.C refers
    blocks: int = 3  # [ours] Chaitanya et al.'s l: decoder blocks trained in the local stage
    local_dim: int = 16  # [ours] width of the maps compared in the local stage
    region: int = 3  # [ours] Chaitanya et al.'s regions of 3 x 3
    negatives: int = 5  # [ours] of each map; II.C: "random local patches"
    crop_scale: tuple[float, float] = (0.5, 1.0)  # [ours] of the global views; II.C: "image crop"
    jitter: float = 0.3  # [ours] Chaitanya et al.'s contrast; II.C: "contrast, and brightness adjustments"
    patience: int = 10  # [ours] II.E: halved "whenever the validation loss plateaued"
    shift: float = 0.1  # [ours] II.E: "random translation", as a share of the side
    zoom: tuple[float, float] = (0.8, 1.0)  # [ours] II.E: "crops"
    likely: float = 0.5  # [ours] probability of each of these and of II.E's "elastic deformations"


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a run is."""

    size: int  # pixels a side of the slices, a multiple of 16
    width: int  # of the U-Net
    phantoms: int
    labels: tuple[int, ...]
    pretext: Fit
    finetune: Fit
    lr: float = 1e-3  # II.E: Adam, of both stages
    constants: Constants = Constants()


PRESETS = {
    "smoke": Preset(
        size=48, width=4, phantoms=12, labels=(1, 2),
        pretext=Fit(epochs=2, batch_size=16), finetune=Fit(epochs=2, batch_size=8),
        constants=Constants(fractions=(0.6, 0.2, 0.2), blocks=3, region=2),
    ),
    "small": Preset(
        size=48, width=8, phantoms=80, labels=(1, 2, 4, 8),
        pretext=Fit(epochs=10, batch_size=32, precision="bf16-mixed"),
        finetune=Fit(epochs=50, batch_size=8, precision="bf16-mixed"),
        # [ours] Of 200 volumes eight do for validation; maps of 48-px slices are small.
        constants=Constants(fractions=(0.76, 0.04, 0.2), region=2),
    ),
    "paper": Preset(
        # II.D: base resolution, subjects; II.E: volumes. [ours] width and batch, the first author's later code's.
        size=256, width=16, phantoms=138, labels=(1, 2, 4, 8),
        pretext=Fit(epochs=1000, batch_size=12, checkpoint_every=10),  # II.E
        finetune=Fit(epochs=500, batch_size=12),  # II.E
    ),
}  # fmt: skip


def make_views(preset: Preset) -> tuple[MultiView, MultiView]:
    """The global stage's crops with brightness and contrast, and the local stage's without crops (II.C)."""
    c = preset.constants
    jitter = {"brightness": c.jitter, "contrast": c.jitter}
    whole = views.simclr(preset.size, modality="mr", scale=c.crop_scale, hflip=0.0, blur=0.0, **jitter)
    return whole, views.intensity_only(modality="mr", **jitter)


def make_augmentation(preset: Preset) -> nn.Module:
    """Translation, crop and elastic deformation of slices and label maps alike (II.E)."""
    c, side = preset.constants, (preset.size, preset.size)
    # [ours] kornia's own 63 and 32, which are those of 256 pixels, in proportion; a field of about one pixel.
    kernel, sigma = 2 * (preset.size // 8) + 1, preset.size / 8
    return AugmentationSequential(
        RandomAffine(degrees=0.0, translate=(c.shift, c.shift), p=c.likely),
        RandomResizedCrop(side, scale=c.zoom, ratio=(1.0, 1.0), p=c.likely),
        RandomElasticTransform((kernel, kernel), (sigma, sigma), p=c.likely, align_corners=False),
        data_keys=["input", "mask"],
        # The nearest pixel, so that numbers of structures do not mix; None, kornia's default, warns.
        extra_args={DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": False}},
    )


WORDS = {
    "supervised": ("Random start", "No pretext learning: the same network, trained on the labelled volumes alone."),
    "masked": ("Masked regression", "Some pixels are hidden, and the network learns to fill them in."),
    "contrastive": ("Global and local contrast", "First the network learns to tell altered copies of a slice from "
                    "other slices; then, in finer maps, to tell a place from other places of the slice."),
}  # fmt: skip
FIGURES = {  # Figures 3A and 3B, in the text of III.A: the liver, for which alone numbers are printed
    ("8 volumes", "contrastive"): "0.89",
    ("4 volumes", "contrastive"): "0.86",
}


class MaskedAgainstContrastive(Experiment):
    """The paper's two pretexts and none, at each number of volumes; seeds are draws of the volumes."""

    paper = Paper(
        citation="Umapathy et al., Learning to segment with limited annotations: Self-supervised pretraining with "
        "regression and contrastive loss in MRI",
        title="Masked regression against contrastive pretraining for MR segmentation",
        display={method: words[0] for method, words in WORDS.items()},
        words=WORDS,
        proposed="contrastive",
        baselines=("supervised", "masked"),
        unit="volumes",
    )

    def check(self) -> None:
        """Options that need another."""
        if self.args.leave_out_copies and self.args.unlabelled is None:
            raise ValueError("--leave-out-copies is about --unlabelled, which was not given")

    def arguments(self) -> dict[str, Any]:
        """What was read."""
        material = self.materials[""]
        pool = material.pools.get(POOL)
        return {
            "data": material.large.source,
            "all_volumes": self.args.all_volumes,
            "unlabelled": pool and pool.source,
            # None without a pool, as runs have it that were begun before there were pools.
            "leave_out_copies": pool and self.args.leave_out_copies,
        }

    def wanted(self) -> Sequence[Wanted]:
        """One set of volumes, whose parts are the same for all draws, and perhaps more without labels."""
        args, p = self.args, self.preset
        phantoms = [partial(_phantom, p.phantoms, seed) for seed in (0, 1)]
        pools = {} if args.unlabelled is None else {
            POOL: Source("--unlabelled", args.unlabelled, phantoms[1], unlabelled=True)
        }  # fmt: skip
        return [
            Wanted(
                Source("--data", args.data, phantoms[0]), crop=p.size, size=p.size, fit="pad",
                fractions=p.constants.fractions, labels=args.labels, unit="volumes", seeds=args.seeds, pools=pools,
                mixes={"": (TRAIN, *pools)}, everything=args.all_volumes, parts_seed=0,
                leave_out_copies=args.leave_out_copies,
            )
        ]  # fmt: skip

    def targets(self) -> Sequence[Target]:
        """The mean Dice of the structures, and each structure's."""
        structures = self.materials[""].large.structures
        if not structures:
            raise ValueError(f"--data {self.args.data} has no numbered structures; give a Decathlon task")
        metrics = ("dice", "hausdorff", *(f"dice_{name}" for name in structures))
        return [Target(SEGMENTATION, "Segmentation by volume", "volumes", "dice", metrics)]

    def cells(self) -> list[Cell]:
        """With --all-volumes also the supervised baseline of all labels (II.E)."""
        found = super().cells()
        if self.args.all_volumes:
            for seed in self.args.seeds:
                most = max(self.materials[""].splits[seed].labelled)
                found.append(Cell(SUPERVISED, int(most), seed))
        return list(dict.fromkeys(found))

    def pretext(self, cell: Cell) -> str | None:
        """All draws share a pretext, since they share its images."""
        return None if cell.method == SUPERVISED else f"{cell.method}-s0"

    def pretexts(self, cell: Cell) -> list[PretextEntry]:
        """The contrastive pretext has two stages."""
        if cell.method != "contrastive":
            return [dataclasses.replace(entry, seed=0) for entry in super().pretexts(cell)]
        title = self.paper.display[cell.method]
        return [
            PretextEntry("pretext/contrastive_global-s0", cell.method, 0, f"{title}, global"),
            PretextEntry("pretext/contrastive-s0", cell.method, 0, f"{title}, local"),
        ]

    def pretrain(self, cell: Cell, folder: Path) -> Path:
        """Masked regression of the whole U-Net, or the global and then the local stage."""
        p, c, data = self.preset, self.preset.constants, self.materials[""].pretext(cell.seed)
        adam = Optimiser("adam", lr=p.lr, schedule="plateau", patience=c.patience)
        torch.manual_seed(derived_seed(0, "pretext model"))
        if cell.method == "masked":
            masked = MaskedPixels(UNet(width=p.width), mask=RandomPixelMask(ratio=c.ratio, sigma=c.sigma))
            return pretrain(
                Pretext(masked, adam), data, p.pretext, folder=folder, seed=0, title="pretext masked"
            )
        network, (whole, alike) = UNet(width=p.width), make_views(p)
        encoder = UNetFeatures(network, flat_size=p.size)
        head = ProjectionHead(encoder.features, *c.head)
        simclr = SimCLR(encoder, views=whole, head=head, temperature=c.temperature)
        weights = pretrain(
            Pretext(simclr, adam), data, p.pretext, folder=folder.with_name("contrastive_global-s0"), seed=0,
            title="pretext contrastive, global",
        )  # fmt: skip
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        # Anew, since a global stage that was done before has drawn nothing.
        torch.manual_seed(derived_seed(0, "local pretext model"))
        local = LocalContrast(
            network, views=alike, blocks=c.blocks, dim=c.local_dim, temperature=c.temperature, region=c.region,
            negatives=c.negatives,
        )  # fmt: skip
        return pretrain(
            Pretext(local, adam), data, p.pretext, folder=folder, seed=0, title="pretext contrastive, local"
        )

    def module(self, cell: Cell, weights: Path | None) -> Segmentation:
        """A U-Net with the multi-label Dice loss, the rate halved on a plateau (II.E)."""
        p = self.preset
        model = UNet(classes=len(self.materials[""].large.structures) + 1, width=p.width)
        if weights is not None:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            own = model.state_dict()
            # The last layer is of the task; all else is the pretext's.
            model.load_state_dict(state | {name: own[name] for name in ("out.weight", "out.bias")})
        tuning = Tuning(lr=p.lr, schedule="plateau", patience=p.constants.patience)
        return Segmentation(
            model, loss=soft_dice, tuning=tuning, epochs=p.finetune.epochs, augment=make_augmentation(p)
        )

    def gallery(self) -> dict[str, np.ndarray]:
        """What is hidden, and what the two views are."""
        c = self.preset.constants
        return masked_gallery(
            shown_cases(self.materials[""]),
            RandomPixelMask(ratio=c.ratio, sigma=c.sigma),
            make_views(self.preset)[0],
        )

    def published(self) -> Mapping[tuple[str, str, str], tables.Published]:
        """The liver's Dice, where the text prints it."""
        return {
            (SEGMENTATION, labels, method): tables.Published("liver, Figure 3", {"dice": (value, "")})
            for (labels, method), value in FIGURES.items()
        }

    def comparability_note(self, target: str) -> str:
        """What differs from the paper."""
        p, data = self.preset, self.materials[""].large
        reasons = [f"{data.name} ({', '.join(data.structures)}) instead of the liver, which is private"]
        if p.pretext.epochs != 1000:
            reasons.append(f"{p.pretext.epochs} and {p.finetune.epochs} epochs (paper 1000 and 500)")
        reasons.append(f"slices of {p.size} px")
        return "; ".join(reasons)


def _phantom(count: int, seed: int, size: int) -> MRPhantom:
    return MRPhantom(count, size=size, seed=seed)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="mr_masked_vs_contrastive.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=cli.filled, default=PHANTOM, help="phantom (default), or the folder of a task "
                        "of the Medical Segmentation Decathlon")  # fmt: skip
    parser.add_argument("--all-volumes", action="store_true", help="also train the supervised baseline on all "
                        "training volumes")  # fmt: skip
    parser.add_argument("--unlabelled", type=cli.filled, metavar="FOLDER", help="volumes that the pretexts learn from "
                        "too: any folder of NIfTI or DICOM files, or a Decathlon task, of which those without labels "
                        "are read")  # fmt: skip
    parser.add_argument("--leave-out-copies", action="store_true", help="leave out volumes of --unlabelled that copy a "
                        "validation or test volume, instead of refusing the folder")  # fmt: skip
    cli.add_study(parser, PRESETS, methods=METHODS, usual=METHODS, out="runs/mr", labels=cli.count,
                  amounts="numbers of labelled volumes")  # fmt: skip
    return cli.parsed(parser, arguments, PRESETS, METHODS)


def main() -> None:
    """Run the program."""
    args = parse()
    cli.run_as_program(
        lambda: MaskedAgainstContrastive(args, PRESETS[args.preset]).run, prog="mr_masked_vs_contrastive.py"
    )


if __name__ == "__main__":
    main()
