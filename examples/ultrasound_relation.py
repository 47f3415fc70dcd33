r"""Relation contrastive pretraining for breast ultrasound segmentation, from raw images to a report.

Ellis et al., "A Self-Supervised Framework for Improved Generalisability in Ultrasound B-mode Image Segmentation".
Any cell of its grid, {jig, jig+freq, cp-jig, cp-jig+freq} x {pirl, pirl+percep, rcl, rcl+percep}, and the supervised
baseline:

    python examples/ultrasound_relation.py --data phantom --preset small --out runs/phantom
    python examples/ultrasound_relation.py --data Dataset_BUSI_with_GT --labels 1.0 0.5 0.2 --preset paper \
        --weights resnet50.pth \
        --methods supervised cp-jig+freq/rcl+percep --out runs/busi

Rerun the same command to resume a run that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop, MultiView, views
from sslmed.augment.functional import band_stop_mask
from sslmed.data import Phantom
from sslmed.losses import NCE, Perceptual
from sslmed.methods import PIRL, RelationContrast
from sslmed.models import ResNetEncoder, ResUNet, load_encoder
from sslmed.studies import cli, options, program
from sslmed.studies.data_spec import TRAIN, DataSpec
from sslmed.studies.engine import Fit
from sslmed.studies.image_set import ImageSet
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.runs import read_csv, sha256
from sslmed.studies.sources import Source
from sslmed.studies.study import SUPERVISED, Recipe, Stage, Study
from sslmed.studies.tables import Published
from sslmed.tasks import Segmentation, Task

JIGSAWS = ("jig", "jig+freq", "cp-jig", "cp-jig+freq")
LOSSES = ("pirl", "pirl+percep", "rcl", "rcl+percep")
METHODS = (SUPERVISED, *(f"{jigsaw}/{loss}" for loss in LOSSES for jigsaw in JIGSAWS))


@dataclasses.dataclass(frozen=True)
class Constants:
    """The paper's numbers, each with its place; [ours] where the paper leaves it open."""

    grid: tuple[int, int] = (6, 6)  # III-A2: 36 patches; that the plain jigsaw has as many is [ours], PIRL's is 3 x 3
    radius: tuple[float, float] = (10, 100)  # III-A1; the cross's width, 0 to 10, is FrequencyBandStop's default
    unit: str = "bin"  # III-A1: of the crop's own DFT
    dim: int = 128  # III-B
    hidden: int = 64  # III-C: relation network
    input_scale: float = 128.0  # [ours] the raw product of unit 128-vectors is near 1/128, too small to learn from
    momentum: float = 0.5  # III-B: m_w of the memory bank
    most_negatives: int = 4096  # [ours] all other rows, as III-B's "memory bank" suggests; beyond this number, drawn
    level_weight: float = 0.5  # Eq. 10, IV-B: image level against patch level
    lam_rcl: float = 0.1  # Eq. 13, IV-B: RCL against perceptual
    lam_pirl: float = 0.75  # Eq. 13, IV-B: NCE against perceptual
    temperature: float = 0.07  # of the NCE loss: PIRL's, to which III-E refers
    patch_head: str = "concat_linear"  # III-B: "features from each patch" concatenated, then linear
    batch_norm: bool = False  # [ours] in both heads; with it the relation loss leaves 0.5 from a random start
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)  # Table I: training, validation, test
    sgd_momentum: float = 0.9  # [ours] PIRL's
    weight_decay: float = 1e-4  # [ours] PIRL's


TUNING = Optimiser("adam", lr=1e-3, end=1e-6, power=0.9, schedule="poly")  # IV-B


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a run is."""

    size: int  # fine-tuning images, pixels a side
    crop: int  # pretext crops (t2), pixels a side, a multiple of the grid
    encoder: str
    width: int
    phantoms: int
    labels: tuple[float, ...]
    pretext: Fit
    finetune: Fit
    pretext_lr: dict[str, float]
    tuning: Optimiser = TUNING
    constants: Constants = Constants()

    @property
    def whole(self) -> int:
        """Side of the pretext's images, whole in t1: no smaller than what fine-tuning sees, nor than a crop."""
        return max(self.size, self.crop)

    def at(self, size: int) -> Preset:
        """The preset at another size, its crops in proportion and a multiple of the grid."""
        grid = self.constants.grid[0]
        return dataclasses.replace(self, size=size, crop=max(1, round(self.crop * size / self.size / grid)) * grid)


# The paper's bins on 224 pixels as fractions of Nyquist, for crops of other sizes.
SMALL_CROPS = Constants(radius=(10 / 112, 100 / 112), unit="nyquist")

PRESETS = {
    "smoke": Preset(
        size=32, crop=48, encoder="resnet18", width=8, phantoms=40, labels=(0.5,),
        pretext=Fit(epochs=2, batch_size=8), finetune=Fit(epochs=3, batch_size=8),
        pretext_lr=dict.fromkeys(LOSSES, 1e-2), constants=SMALL_CROPS,
    ),
    "small": Preset(
        size=64, crop=96, encoder="resnet18", width=32, phantoms=400, labels=(0.2,),
        pretext=Fit(epochs=40, batch_size=16, precision="bf16-mixed"),
        finetune=Fit(epochs=120, batch_size=16, precision="bf16-mixed", patience=40, patience_from=40),
        # [ours] From a random start: Table II's rate for RCL; PIRL's own 0.03, at which its features spread.
        pretext_lr={"pirl": 0.03, "pirl+percep": 0.03, "rcl": 0.01, "rcl+percep": 0.01}, constants=SMALL_CROPS,
    ),
    "gpu": Preset(
        size=224, crop=216, encoder="resnet18", width=64, phantoms=780, labels=(1.0, 0.5, 0.2),
        pretext=Fit(epochs=200, batch_size=64, checkpoint_every=10, precision="bf16-mixed"),
        finetune=Fit(epochs=200, batch_size=16, precision="bf16-mixed", patience=50, patience_from=50),
        pretext_lr={"pirl": 0.03, "pirl+percep": 0.03, "rcl": 0.01, "rcl+percep": 0.01},
    ),
    "paper": Preset(
        size=224, crop=216, encoder="resnet50", width=64, phantoms=780, labels=(1.0, 0.5, 0.2),
        # IV-B; Table I: batches of BUSI, for other sets see BATCH_SIZES
        pretext=Fit(epochs=2000, batch_size=16, checkpoint_every=10),
        finetune=Fit(epochs=500, batch_size=16, patience=50, patience_from=100),
        pretext_lr={"pirl": 1e-4, "pirl+percep": 1e-3, "rcl": 1e-2, "rcl+percep": 1e-3},  # Table II
    ),
}  # fmt: skip


def make_views(jigsaw: str, preset: Preset) -> MultiView:
    """t1 of the whole image and t2 of a crop: band-stop filter, jigsaw, jitter of each patch (III-A, III-B)."""
    c = preset.constants
    return views.pirl(
        preset.crop,
        grid=c.grid,
        frequency="freq" in jigsaw,
        cross_patch=jigsaw.startswith("cp"),
        radius=c.radius,
        unit=c.unit,
    )


def make_method(method: str, preset: Preset, weights: Path | None, count: int) -> PIRL:
    """The method of a grid cell, for `count` images; its encoder starts from `weights`."""
    c = preset.constants
    jigsaw, loss = method.split("/")
    perceptual = "percep" in loss
    encoder = ResNetEncoder(preset.encoder, width=preset.width)
    shared: dict[str, Any] = {
        "views": make_views(jigsaw, preset),
        "grid": c.grid,
        "dim": c.dim,
        "patch_head": c.patch_head,
        "batch_norm": c.batch_norm,
        "level_weight": c.level_weight,
        "most_negatives": c.most_negatives,
        "momentum": c.momentum,
    }
    pretext: PIRL
    if loss.startswith("rcl"):
        pretext = RelationContrast(
            encoder,
            count,
            hidden=c.hidden,
            input_scale=c.input_scale,
            perceptual=perceptual,
            lam=c.lam_rcl,
            **shared,
        )
    else:
        pretext = PIRL(
            encoder,
            count,
            contrast=NCE(temperature=c.temperature),  # III-E; InfoNCE is the method's other choice
            perceptual=Perceptual() if perceptual else None,
            lam=c.lam_pirl,
            **shared,
        )
    if weights is not None:
        load_encoder(encoder, weights)
    return pretext


def make_recipe(method: str, preset: Preset, weights: Path | None) -> Recipe | None:
    """The pretext of a grid cell; None for the baseline."""
    if method == SUPERVISED:
        return None
    c, rate = preset.constants, preset.pretext_lr[method.split("/")[1]]
    sgd = Optimiser("sgd", lr=rate, momentum=c.sgd_momentum, weight_decay=c.weight_decay)

    def build(count: int, _: Path | None) -> PIRL:
        return make_method(method, preset, weights, count)

    return Recipe((Stage(build, sgd, preset.pretext),))


def make_network(preset: Preset, start: Path | None, outputs: int, weights: Path | None) -> nn.Module:
    """Res-UNet of two classes (IV-B), its encoder from the pretext's weights, else from `start`."""
    model = ResUNet(preset.encoder, in_channels=1, classes=2, width=preset.width)
    if (weights or start) is not None:
        load_encoder(model.encoder, weights or start)
    return model


def gallery(preset: Preset, images: Tensor) -> dict[str, np.ndarray]:
    """The paper's Fig. 2 and 3 on images (N, 1, H, W): filtered, with the bins kept, and shuffled."""
    c = preset.constants
    inset = (images.shape[-1] - preset.crop) // 2  # the middle, of a size that the grid divides
    images = images[..., inset : inset + preset.crop, inset : inset + preset.crop]
    generator = torch.Generator().manual_seed(0)
    stop = FrequencyBandStop(radius=c.radius, unit=c.unit, generator=generator)
    params = stop.forward_parameters(images.shape)
    filtered = stop(images, params=params)
    size = (images.shape[-2], images.shape[-1])
    bins = min(size) / 2 if c.unit == "nyquist" else 1
    lengths = (params[name] * bins for name in ("inner", "outer", "cross"))
    kept = band_stop_mask(size, *lengths, cross_from=stop.cross_from * bins)
    jigsaw = CrossPatchJigsaw(grid=c.grid, generator=generator)
    pieces = jigsaw.forward_parameters(images.shape)
    return {
        "original": images[:, 0].numpy(),
        "filtered": filtered[:, 0].numpy(),
        "kept": kept[:, 0].numpy(),
        "jigsaw": jigsaw(filtered, params=pieces)[:, 0].numpy(),
        "grid": np.array(c.grid),
        "focal": pieces["focal"].numpy(),
    }


WORDS = {
    "supervised": ("Supervised only", "No pretext learning: the same network, trained on the outlined images alone."),
    "jig": ("Jig", "The image is cut into square patches, which are shuffled."),
    "jig+freq": ("Jig+Freq", "Before cutting, a ring of spatial frequencies is removed (band-stop filter); then the "
                 "patches are shuffled."),
    "cp-jig": ("CP-Jig", "Cross-patch jigsaw: one row and one column of patches, a cross, stay where they are as "
               "context, at most mirrored along their strip; the other patches are shuffled among themselves."),
    "cp-jig+freq": ("CP-Jig+Freq", "Cross-patch jigsaw after the band-stop filter."),
    "pirl": ("PIRL", "The network learns to give an image and its shuffled version the same description, and other "
             "images another one (contrastive loss with a memory of all training images)."),
    "pirl+percep": ("PIRL+percep", "As PIRL, and features inside the network must agree as well (perceptual loss)."),
    "rcl": ("RCL", "Relation contrastive loss: a second small network learns to judge whether two descriptions "
            "belong to the same image."),
    "rcl+percep": ("RCL+percep", "As RCL, and features inside the network must agree as well (perceptual loss)."),
}  # fmt: skip
DISPLAY = {"supervised": WORDS["supervised"][0]} | {
    method: " · ".join(WORDS[part][0] for part in method.split("/")) for method in METHODS[1:]
}
RESULTS = Path(__file__).parent / "papers" / "ultrasound_relation.csv"
COLUMNS = {"dice": "dsc", "jaccard": "jc", "hausdorff": "hd", "precision": "ppv", "recall": "rec"}
POOL = "pretext-data"
NO_WEIGHTS = "none"  # instead of a file


# Table I: images of a step of pretext learning and of fine-tuning, for each set of Tables III to V, and for Table VI.
GENERAL = "BUSI+BrEaST->UDIAT"
BATCH_SIZES = {"BUSI": 16, "BrEaST": 8, "UDIAT": 4, GENERAL: 32}


def rows_of(dataset: str, note: str = "") -> dict[tuple[str, str, str], Published]:
    """The paper's rows for one of its sets."""
    return {
        ("segmentation", f"{row['labels_percent']} %", row["method"]): Published(
            f"Table {row['table']}, {row['dataset']}",
            {ours: (row[theirs], row[f"{theirs}_sd"]) for ours, theirs in COLUMNS.items() if row[theirs]},
            note,
        )
        for row in read_csv(RESULTS)
        if row["dataset"] == dataset
    }


def published_set(name: str) -> str:
    """The paper's set to compare the set `name` with: the same one, else its largest, BUSI."""
    return name if name in BATCH_SIZES else "BUSI"


def published(name: str) -> dict[tuple[str, str, str], Published]:
    """The rows of Tables III to V to print beside ours for the set `name`."""
    return rows_of(published_set(name))


def published_external(
    preset: Preset, start: Path | None, images: ImageSet, test_set: str
) -> dict[tuple[str, str, str], Published]:
    """Table VI, to print beside the results of networks that learned from `images` on any external test set."""
    same = set(images.name.split(" and ")) == {"BUSI", "BrEaST"} and test_set == "UDIAT"
    ours = f"ours were trained on {images.name} and tested on {test_set}"
    reasons = [] if same else [f"the paper trained on BUSI and BrEaST and tested on UDIAT, {ours}"]
    return rows_of(GENERAL, "; ".join([*reasons, *differences(preset, start, GENERAL)]))


def comparability_note(preset: Preset, start: Path | None, task: Task, images: ImageSet) -> str:
    """What differs from the paper's Tables III to V."""
    theirs = published_set(images.name)
    reasons = [] if images.name == theirs else [f"the paper's numbers are for {theirs}, ours for {images.name}"]
    if images.name == theirs and images.published and len(images) != sum(images.published.values()):
        reasons.append(f"{len(images)} of {sum(images.published.values())} images, split by near-duplicate group")
    return "; ".join([*reasons, *differences(preset, start, theirs)])


def differences(preset: Preset, start: Path | None, theirs: str) -> list[str]:
    """What differs from the paper's settings for one of its sets."""
    reasons = list[str]()
    batches = {preset.pretext.batch_size, preset.finetune.batch_size}
    if batches != {BATCH_SIZES[theirs]}:
        used = " and ".join(map(str, sorted(batches)))
        where = "Table VI" if theirs == GENERAL else theirs
        reasons.append(f"batches of {used} (paper {BATCH_SIZES[theirs]} for {where})")
    if preset.size != 224:
        reasons.append(f"{preset.size} px (Hausdorff in these pixels; paper 224)")
    if (preset.encoder, preset.width) != ("resnet50", 64):
        reasons.append(f"{preset.encoder} at width {preset.width} (paper resnet50 at 64)")
    if preset.pretext.epochs != 2000:
        reasons.append(f"{preset.pretext.epochs} pretext epochs (paper 2000)")
    if start is None:
        reasons.append("random start (paper ImageNet)")
    # For any mean over images, mean(D - J) >= (m - m^2 - s^2) / 2, which no row of the paper meets.
    reasons.append("the paper's Dice and Jaccard cannot both be means over images, as ours are")
    return reasons


def start_weights(args: argparse.Namespace, preset: Preset) -> Path | None:
    """The file that the encoder starts from, checked; None for a random start.

    Raises:
        ValueError: the paper's preset was given no weights, or the file does not fit the encoder.
    """
    if args.weights is None and args.preset == "paper":
        raise ValueError(
            "--preset paper starts the encoder from ImageNet weights, as the paper does; give them with --weights "
            f'{preset.encoder}.pth, which this line writes (torchvision downloads them): python -c "import torch, '
            f"torchvision; torch.save(torchvision.models.{preset.encoder}(weights='DEFAULT').state_dict(), "
            f"'{preset.encoder}.pth')\"; or start at random with --weights none"
        )
    if args.weights is None or str(args.weights) == NO_WEIGHTS:
        return None
    weights: Path = args.weights
    try:
        load_encoder(ResNetEncoder(preset.encoder, width=preset.width), weights)
    except (ValueError, TypeError) as error:
        raise ValueError(f"--weights {weights} for a {preset.encoder} of width {preset.width}: {error}") from error
    return weights


def declare(args: argparse.Namespace, preset: Preset) -> Study:
    """The paper's grid of methods on one set of breast ultrasound."""
    weights = start_weights(args, preset)
    phantoms = [partial(_phantom, preset.phantoms, seed) for seed in (0, 1)]
    other = partial(_phantom, preset.phantoms // 2, 2)
    pools = {} if args.pretext_data is None else {POOL: Source("--pretext-data", args.pretext_data, phantoms[1])}
    data = DataSpec(
        **options.sets(args, phantoms[0], other),
        size=preset.whole,
        fractions=preset.constants.fractions,
        labels=args.labels,
        seeds=args.seeds,
        pools=pools,
        mixes={"": (POOL,) if pools else (TRAIN,)},
        **options.reading(args),
    )
    return Study(
        citation="Ellis et al., A Self-Supervised Framework for Improved Generalisability in Ultrasound B-mode Image "
        "Segmentation",
        title="Relation contrastive pretraining for breast ultrasound segmentation",
        preset=preset,
        arguments={
            "weights": weights and weights.name,
            "weights_sha256": weights and sha256(weights),
        },
        data=[data],
        methods={method: make_recipe(method, preset, weights) for method in METHODS},
        tasks=[Segmentation(network=partial(make_network, preset, weights), loss=cross_entropy)],
        size=preset.size,
        finetune=preset.finetune,
        tuning=preset.tuning,
        display=DISPLAY,
        words=WORDS,
        proposed=METHODS[-1],
        baselines=(SUPERVISED, "jig/pirl"),
        published=published,
        published_external=partial(published_external, preset, weights),
        comparability_note=partial(comparability_note, preset, weights),
        gallery=partial(gallery, preset),
    )


def _phantom(count: int, seed: int, size: int) -> Phantom:
    return Phantom(count, size=size, seed=seed)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(prog="ultrasound_relation.py", description=(__doc__ or "").split("\n\n")[0])
    options.add_sets(
        parser,
        "phantom (default), a BUSI or BUS-BRA folder, "
        "one of your own with images/ and masks/, or any folder of images (pretext learning only)",
        pools=["--pretext-data"],
    )
    parser.add_argument(
        "--pretext-data",
        type=cli.filled,
        metavar="FOLDER",
        help="learn the pretext on these images instead of the training part of --data; no labels needed",
    )
    parser.add_argument(
        "--weights",
        type=cli.path,
        metavar="FILE",
        help="a state dict to start the encoder from, for every method: torchvision's resnet50 for --preset paper, "
        "which requires it since the paper starts from ImageNet; an encoder.pt of the same preset for the others; "
        "`none` starts at random",
    )
    options.add_study(
        parser,
        PRESETS,
        methods=METHODS,
        usual=[SUPERVISED, "cp-jig+freq/rcl+percep"],
        out="runs/ultrasound_relation",
        words=f"JIGSAW/LOSS with JIGSAW in {{{', '.join(JIGSAWS)}}} and LOSS in {{{', '.join(LOSSES)}}}",
    )
    return parser


def main() -> None:
    """Run the program."""
    program.run_study(make_parser(), declare, presets=PRESETS, methods=METHODS)


if __name__ == "__main__":
    main()
