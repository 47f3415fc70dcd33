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
from functools import partial
from pathlib import Path

import numpy as np
import torch
from kornia.augmentation import (
    AugmentationSequential,
    RandomAffine,
    RandomElasticTransform,
    RandomResizedCrop,
)
from kornia.constants import DataKey, Resample
from torch import Tensor, nn

from sslmed.augment import MultiView, RandomPixelMask, views
from sslmed.data import MRPhantom
from sslmed.methods import LocalContrast, MaskedPixels, Method, SimCLR
from sslmed.models import ProjectionHead, UNet, UNetFeatures
from sslmed.studies import cli, options, program
from sslmed.studies.data_spec import TRAIN, DataSpec
from sslmed.studies.engine import Fit
from sslmed.studies.galleries import masked_gallery
from sslmed.studies.image_set import ImageSet
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.pretext import load_all_but_last
from sslmed.studies.sources import Source
from sslmed.studies.study import SUPERVISED, Recipe, Stage, Study
from sslmed.studies.tables import Published
from sslmed.tasks import Task, Volumes, soft_dice

METHODS = (SUPERVISED, "masked", "contrastive")
POOL = "unlabelled"


@dataclasses.dataclass(frozen=True)
class Constants:
    """The paper's numbers, each with its place; [ours] where the paper leaves it open."""

    # II.D: the liver's 21, 2 and 8 of 31. The prostate's 15 + 3 + 15 is one more than the set has: --split 15/2/15.
    # [ours] The pretexts also learn from the training part only.
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
    # II.E: "In all experiments", so for the pretexts too; [ours] false: these watch the training loss.
    validate_pretext: bool = False
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

    def at(self, size: int) -> Preset:
        """The preset at another size."""
        if size % 16:
            raise ValueError(f"--size must be a multiple of 16, got {size}")
        return dataclasses.replace(self, size=size)


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
    "gpu": Preset(
        size=224, width=16, phantoms=138, labels=(1, 2, 4, 8),
        pretext=Fit(epochs=200, batch_size=32, checkpoint_every=10, precision="bf16-mixed"),
        finetune=Fit(epochs=200, batch_size=12, precision="bf16-mixed"),
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
FIGURES = {  # Figures 3A and 3B: the three numbers that the text prints (results, part A), all for the liver
    ("8 volumes", "contrastive"): "0.89",
    ("4 volumes", "contrastive"): "0.86",
    # The baseline of all labelled training volumes, the dotted line of Figure 3. Figure 5 has such a line for each
    # structure of the prostate, whose values are not printed. Another set has another number of training volumes; then
    # comparability_note names the baseline.
    ("21 volumes", "supervised"): "0.89",
}


def make_masked(preset: Preset, count: int, _: Path | None) -> Method:
    """Masked regression of the whole U-Net (II.B)."""
    c = preset.constants
    return MaskedPixels(UNet(width=preset.width), mask=RandomPixelMask(ratio=c.ratio, sigma=c.sigma))


def make_global(preset: Preset, count: int, _: Path | None) -> Method:
    """Contrast of whole slices (II.C)."""
    encoder = UNetFeatures(UNet(width=preset.width), flat_size=preset.size)
    head = ProjectionHead(encoder.features, *preset.constants.head)
    return SimCLR(encoder, views=make_views(preset)[0], head=head, temperature=preset.constants.temperature)


def make_local(preset: Preset, count: int, weights: Path | None) -> Method:
    """Contrast of the locations in a slice, on the network of the global stage (II.C)."""
    c = preset.constants
    with torch.random.fork_rng(devices=[]):  # it starts from the global stage, so it must not use random numbers
        network = UNet(width=preset.width)
    if weights is not None:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return LocalContrast(
        network,
        views=make_views(preset)[1],
        blocks=c.blocks,
        dim=c.local_dim,
        temperature=c.temperature,
        region=c.region,
        negatives=c.negatives,
    )


def make_recipes(preset: Preset) -> dict[str, Recipe | None]:
    """One stage of masked regression, or the global and then the local one (II.C)."""
    adam = Optimiser("adam", lr=preset.lr, schedule="plateau", patience=preset.constants.patience)
    masked = Stage(partial(make_masked, preset), adam, preset.pretext)
    whole = Stage(partial(make_global, preset), adam, preset.pretext, name="global")
    local = Stage(partial(make_local, preset), adam, preset.pretext, name="local")
    validated = preset.constants.validate_pretext
    return {
        SUPERVISED: None,
        "masked": Recipe((masked,), validated=validated),
        "contrastive": Recipe((whole, local), validated=validated),
    }


def make_network(preset: Preset, outputs: int, weights: Path | None) -> nn.Module:
    """A U-Net with an output for each structure and the background."""
    model = UNet(classes=outputs, width=preset.width)
    if weights is not None:
        load_all_but_last(model, weights)
    return model


def gallery(preset: Preset, images: Tensor) -> dict[str, np.ndarray]:
    """Images with hidden pixels, and pairs of views."""
    c = preset.constants
    return masked_gallery(images, RandomPixelMask(ratio=c.ratio, sigma=c.sigma), make_views(preset)[0])


def published(name: str) -> dict[tuple[str, str, str], Published]:
    """The numbers of Figure 3, all for the liver."""
    return {
        ("segmentation", labels, method): Published("liver, Figure 3", {"dice": (value, "")})
        for (labels, method), value in FIGURES.items()
    }


def comparability_note(preset: Preset, task: Task, images: ImageSet) -> str:
    """What differs from the paper."""
    reasons = [f"{images.name} ({', '.join(images.structures)}) instead of the liver, which is private"]
    if preset.pretext.epochs != 1000:
        reasons.append(f"{preset.pretext.epochs} and {preset.finetune.epochs} epochs (paper 1000 and 500)")
    reasons.append(f"slices of {preset.size} px")
    reasons.append("the paper's baseline has 0.89 with all 21 labelled volumes (Figure 3, dotted line)")
    return "; ".join(reasons)


def declare(args: argparse.Namespace, preset: Preset) -> Study:
    """The paper's two pretexts and the baseline, at each number of volumes; each seed draws other volumes."""
    phantoms = [partial(_phantom, preset.phantoms, seed) for seed in (0, 1)]
    pools = (
        {} if args.unlabelled is None else {POOL: Source("--unlabelled", args.unlabelled, phantoms[1], unlabelled=True)}
    )
    data = DataSpec(
        **options.sets(args, phantoms[0], partial(_phantom, preset.phantoms // 2, 2)),
        size=preset.size,
        fit="pad",
        fractions=preset.constants.fractions,
        labels=args.labels,
        unit="volumes",
        seeds=args.seeds,
        pools=pools,
        mixes={"": (TRAIN, *pools)},
        everything=args.all_volumes,
        volumes=args.split,
        parts_seed=0,
        modality="mr",
        **options.reading(args),
    )
    volumes = Volumes(
        network=partial(make_network, preset),
        loss=soft_dice,
        augment=make_augmentation(preset),
        title="Segmentation by volume",
    )
    return Study(
        citation="Umapathy et al., Learning to segment with limited annotations: Self-supervised pretraining with "
        "regression and contrastive loss in MRI",
        title="Masked regression against contrastive pretraining for MR segmentation",
        preset=preset,
        arguments={
            "all_volumes": args.all_volumes,
            "split": args.split,
        },
        data=[data],
        methods=make_recipes(preset),
        tasks=[volumes],
        size=preset.size,
        finetune=preset.finetune,
        # II.E: the rate is halved on a plateau.
        tuning=Optimiser("adam", lr=preset.lr, schedule="plateau", patience=preset.constants.patience),
        display={method: words[0] for method, words in WORDS.items()},
        words=WORDS,
        proposed="contrastive",
        baselines=(SUPERVISED, "masked"),
        published=published,
        comparability_note=partial(comparability_note, preset),
        gallery=partial(gallery, preset),
    )


def _phantom(count: int, seed: int, size: int) -> MRPhantom:
    return MRPhantom(count, size=size, seed=seed)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(prog="mr_masked_vs_contrastive.py", description=(__doc__ or "").split("\n\n")[0])
    options.add_sets(
        parser,
        "phantom (default), or the folder of a task of the Medical Segmentation Decathlon",
        pools=["--unlabelled"],
    )
    parser.add_argument(
        "--all-volumes",
        action="store_true",
        help="also fine-tune the methods, and supervised training as the baseline, on all training volumes",
    )
    parser.add_argument(
        "--split",
        type=cli.split,
        metavar="TRAIN/VAL/TEST",
        help="numbers of training, validation and test volumes, as the paper's 15/2/15 of the prostate (default: the "
        "preset's shares)",
    )
    parser.add_argument(
        "--unlabelled",
        type=cli.filled,
        metavar="FOLDER",
        help="more volumes for the pretexts "
        "to learn from: a folder of NIfTI or DICOM files, or a Decathlon task, whose unlabelled volumes "
        "are read",
    )
    options.add_study(
        parser,
        PRESETS,
        methods=METHODS,
        usual=METHODS,
        out="runs/mr",
        labels=cli.count,
        amounts="numbers of labelled volumes",
    )
    return parser


def main() -> None:
    """Run the program."""
    program.run_study(make_parser(), declare, presets=PRESETS, methods=METHODS)


if __name__ == "__main__":
    main()
