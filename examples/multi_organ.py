r"""SimCLR, MoCo v2 and SimSiam on ultrasound of several organs, for breast ultrasound segmentation with few labels.

Figueiras et al., "Multi-organ Self-supervised Contrastive Learning for Breast Lesion Segmentation": an encoder, or a
whole U-Net, is pretrained on breast ultrasound alone (BUS), on several organs, on natural images, or on breast and
natural images, then fine-tuned with 100, 50, 25 and 10 % of the labels.

    python examples/multi_organ.py --data phantom --preset small --out runs/organs
    python examples/multi_organ.py --data Dataset_BUSI_with_GT --organs heart=CAMUS lung=COVID-LUS \
        --preset paper --network unet --methods all --repeats 10 --out runs/unet

Rerun the same command to resume a run that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from sslmed.augment import MultiView, views
from sslmed.data import Phantom
from sslmed.methods import Method, MoCo, SimCLR, SimSiam
from sslmed.models import (
    PredictionHead,
    ProjectionHead,
    ResNetEncoder,
    ResUNet,
    UNet,
    UNetFeatures,
    load_encoder,
)
from sslmed.studies import cli, options, program
from sslmed.studies.data_spec import TRAIN, DataSpec
from sslmed.studies.engine import Fit
from sslmed.studies.galleries import pair_gallery
from sslmed.studies.image_set import ImageSet
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.pretext import load_all_but_last
from sslmed.studies.runs import read_csv, read_json, write_csv
from sslmed.studies.sources import PHANTOM, Source
from sslmed.studies.study import SUPERVISED, Recipe, Stage, Study
from sslmed.studies.tables import Published
from sslmed.tasks import Segmentation, Task, dice_bce

SSL = ("moco", "simclr", "simsiam")
MIXES = ("natural", "BUS", "BUS+natural", "multi-organ")
METHODS = (SUPERVISED, *(f"{ssl}/{mix}" for mix in MIXES for ssl in SSL))
DECODER = "+decoder"  # 3.3: a ResNet whose U-Net decoder is pretrained too
NETWORKS = ("resnet50", "resnet18", "unet", f"resnet50{DECODER}")
ORGANS = ("heart", "lung")  # 3.1: CAMUS and COVID-LUS beside BUSI


@dataclasses.dataclass(frozen=True)
class Constants:
    """The paper's numbers, each with its place; [ours] where the paper leaves it open."""

    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)  # 3.1: 546, 78 and 156 of 780
    dim: int = 128  # 3.2: "a 128-dimensional embedding"
    layers: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"moco": 2, "simclr": 2, "simsiam": 3}
    )  # 3.2: of the heads
    hidden: int = 2048  # [ours] of the projections: MoCo v2's for a ResNet-50
    simsiam_dim: int = 2048  # [ours] SimSiam's own
    predictor_hidden: int = 512  # [ours] SimSiam's own
    temperature: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"moco": 0.07, "simclr": 0.5}
    )  # [ours] the methods' own
    # [ours] rate of those that use Adam: SimCLR's usual code for small batches
    adam: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"simclr": 3e-4})
    rate: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"moco": 0.03, "simsiam": 0.05}
    )  # [ours] rate of the others, which use SGD, for 256 images a batch: the methods' own
    weight_decay: float = 1e-4  # [ours] of the pretexts: the methods' own
    momentum: float = 0.999  # [ours] MoCo's own; Eq. 2
    queue: int = 65536  # [ours] MoCo's own, or as many as there are images, if fewer
    # 2.1: views "are the same as those in MoCo V2", whose numbers these are.
    crop_scale: tuple[float, float] = (0.2, 1.0)
    flip: float = 0.5
    jitter: float = 0.4  # of brightness and of contrast
    blur: float = 0.5  # probability
    sigma: tuple[float, float] = (0.1, 2.0)  # of the blur, in pixels
    pool_at: str = "decoder"  # [ours] where a U-Net is pooled for the head


TUNING = Optimiser("adam", lr=1e-4, weight_decay=1e-6)  # 3.3; Adam is [ours]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a run is."""

    size: int  # 3.2: images of both stages, pixels a side
    network: str
    width: int
    phantoms: int
    labels: tuple[float, ...]
    pretext: Fit
    finetune: Fit
    batch: Mapping[str, int]
    tuning: Optimiser = TUNING
    constants: Constants = Constants()
    larger: Mapping[str, int] | None = None  # batch sizes at other image sizes than the preset's

    def at(self, size: int) -> Preset:
        """The preset at another size."""
        batch = self.batch if size == self.size or self.larger is None else self.larger
        return dataclasses.replace(self, size=size, batch=batch)


LABELS = (1.0, 0.5, 0.25, 0.1)  # 3.3
LARGER = {"moco": 64, "simclr": 256, "simsiam": 512}  # 3.2: batches at 50 and 64 px
# [ours] In so few steps a key network with a momentum of 0.999, and SGD, would hardly change the weights.
SMALL = Constants(
    hidden=128,
    simsiam_dim=128,
    predictor_hidden=64,
    queue=1024,
    adam={"simclr": 1e-3, "moco": 1e-3},
    momentum=0.99,
)
PRESETS = {
    "smoke": Preset(
        size=32, network="resnet18", width=8, phantoms=40, labels=(0.5,), batch=dict.fromkeys(SSL, 8),
        pretext=Fit(epochs=2, batch_size=8), finetune=Fit(epochs=2, batch_size=8), constants=SMALL,
    ),
    "small": Preset(
        size=32, network="resnet18", width=32, phantoms=400, labels=LABELS, batch=dict.fromkeys(SSL, 64),
        pretext=Fit(epochs=60, batch_size=64, checkpoint_every=5, precision="bf16-mixed"),
        finetune=Fit(epochs=60, batch_size=16, precision="bf16-mixed"),
        tuning=Optimiser("adam", lr=1e-3, weight_decay=1e-6), constants=SMALL,  # [ours] 60 epochs are few for 1e-4
    ),
    "gpu": Preset(
        size=224, network="resnet18", width=64, phantoms=780, labels=LABELS, batch=dict.fromkeys(SSL, 128),
        pretext=Fit(epochs=200, batch_size=128, checkpoint_every=5, precision="bf16-mixed"),
        finetune=Fit(epochs=100, batch_size=32, precision="bf16-mixed"),
        constants=dataclasses.replace(SMALL, hidden=512, simsiam_dim=512, predictor_hidden=128),
    ),
    "paper": Preset(
        size=32, network="resnet50", width=64, phantoms=780, labels=LABELS,
        batch={"moco": 256, "simclr": 512, "simsiam": 512}, larger=LARGER,  # 3.2, at 32 px and beyond
        pretext=Fit(epochs=200, batch_size=256, checkpoint_every=5),  # [ours] epochs: MoCo v2's
        finetune=Fit(epochs=100, batch_size=32),  # [ours]
    ),
}  # fmt: skip


def make_views(preset: Preset) -> MultiView:
    """MoCo v2's pair for all three methods (2.1); hue, saturation and graying have no effect on gray images."""
    c = preset.constants
    return views.moco_v2(
        preset.size,
        scale=c.crop_scale,
        hflip=c.flip,
        brightness=c.jitter,
        contrast=c.jitter,
        blur=c.blur,
        sigma=c.sigma,
    )


def make_segmenter(preset: Preset) -> UNet | ResUNet:
    """The plain U-Net, or a U-Net decoder on a ResNet."""
    if preset.network == "unet":
        return UNet(width=preset.width)
    return ResUNet(preset.network.removesuffix(DECODER), width=preset.width)


def with_decoder(preset: Preset) -> bool:
    """Whether the decoder is pretrained too."""
    return preset.network == "unet" or preset.network.endswith(DECODER)


def make_encoder(preset: Preset) -> ResNetEncoder | UNetFeatures:
    """The ResNet that becomes a contracting path, or the whole U-Net, "pre-trained end-to-end" (3.2, 3.3)."""
    if with_decoder(preset):
        return UNetFeatures(make_segmenter(preset), at=preset.constants.pool_at)
    return ResNetEncoder(preset.network, width=preset.width)


def make_method(name: str, preset: Preset, count: int) -> Method:
    """SimCLR, MoCo v2 or SimSiam on the encoder, for `count` images."""
    c, encoder, pair = preset.constants, make_encoder(preset), make_views(preset)
    features = encoder.features if isinstance(encoder, UNetFeatures) else encoder.channels[-1]
    if name == "simsiam":
        head = nn.Sequential(
            ProjectionHead(features, c.simsiam_dim, c.simsiam_dim, layers=c.layers[name], batch_norm=True),
            nn.BatchNorm1d(c.simsiam_dim, affine=False),
        )
        predictor = PredictionHead(c.simsiam_dim, c.predictor_hidden)
        return SimSiam(encoder, views=pair, head=head, predictor=predictor)
    projection = ProjectionHead(features, c.hidden, c.dim, layers=c.layers[name])
    if name == "simclr":
        return SimCLR(encoder, views=pair, head=projection, temperature=c.temperature["simclr"])
    return MoCo(
        encoder,
        views=pair,
        head=projection,
        queue_size=min(c.queue, count),
        temperature=c.temperature["moco"],
        momentum=c.momentum,
    )


def make_recipe(method: str, preset: Preset) -> Recipe | None:
    """Each method with its own batch (3.2) and optimiser, on the mix in its name; the baseline has no pretext."""
    if method == SUPERVISED:
        return None
    name, _, mix = method.partition("/")
    c, batch = preset.constants, preset.batch[name]
    kind, lr = ("adam", c.adam[name]) if name in c.adam else ("sgd", c.rate[name] * batch / 256)
    optimiser = Optimiser(kind, lr=lr, weight_decay=c.weight_decay, schedule="cosine")

    def build(count: int, _: Path | None) -> Method:
        return make_method(name, preset, count)

    return Recipe((Stage(build, optimiser, dataclasses.replace(preset.pretext, batch_size=batch)),), mix)


def make_network(preset: Preset, outputs: int, weights: Path | None) -> nn.Module:
    """The encoder with a new decoder, or the whole network."""
    model = make_segmenter(preset)
    if weights is None:
        return model
    if with_decoder(preset):
        load_all_but_last(model, weights)
    else:
        load_encoder(model, weights)
    return model


NAMES = {"moco": "MoCo v2", "simclr": "SimCLR", "simsiam": "SimSiam"}
WORDS = {
    "supervised": ("Supervised only", "No pretext learning: the same network, trained on the outlined images alone."),
    "moco": (NAMES["moco"], "Two altered copies of an image must get similar descriptions, and other images different "
             "ones; those others come from a queue of recent images (contrastive loss)."),
    "simclr": (NAMES["simclr"], "As MoCo v2, but the other images are those of the same batch."),
    "simsiam": (NAMES["simsiam"], "Each altered copy must predict the description of the other; no other images take "
                "part."),
    "natural": ("natural", "Pretrained on photographs alone."),
    "BUS": ("BUS", "Pretrained on the breast ultrasound of the training part alone, without its labels."),
    "BUS+natural": ("BUS+natural", "Pretrained on breast ultrasound and photographs."),
    "multi-organ": ("multi-organ", "Pretrained on ultrasound of the breast and of other organs."),
}  # fmt: skip
RESULTS = Path(__file__).parent / "papers" / "multi_organ.csv"
MEANS = RESULTS.with_name("multi_organ_means.csv")


def nearest(network: str, size: int) -> tuple[str, int]:
    """The network and the size of the paper's table that is printed beside ours."""
    network = "unet" if network == "unet" else "resnet50"
    sizes = {int(row["size"]) for row in read_csv(RESULTS) if row["network"] == network}
    return network, min(sizes, key=lambda other: abs(other - size))


def published(preset: Preset, name: str) -> dict[tuple[str, str, str], Published]:
    """Tables 1 to 4: the rows of this network and size, else those of the nearest size; none of a ResNet's decoder."""
    return {
        ("segmentation", f"{row['labels_percent']} %", row["method"]): Published(
            f"Table {row['table']}" + (f", {row['natural_images']}" if row["natural_images"] else ""),
            {"dice": (row["dice"], row["dice_sd"])},
        )
        for row in read_csv(RESULTS)
        if (row["network"], int(row["size"])) == nearest(preset.network, preset.size)
        and not preset.network.endswith(DECODER)
    }


def comparability_note(preset: Preset, others: Mapping[str, Source], task: Task, images: ImageSet) -> str:
    """What differs from the paper."""
    reasons = ["the paper's SD is over ten repetitions: compare it with our SD over repeats (--repeats 10)"]
    if nearest(preset.network, preset.size)[1] != preset.size:
        reasons.append(f"images of {preset.size} px (paper {nearest(preset.network, preset.size)[1]})")
    if images.name != "BUSI":
        reasons.append(f"{images.name} instead of BUSI")
    elif images.published and len(images) != sum(images.published.values()):
        reasons.append(f"{len(images)} of {sum(images.published.values())} images, split by near-duplicate group")
    if preset.network == "resnet18" or preset.width != 64:
        expected = "paper the vanilla U-Net" if preset.network == "unet" else "paper ResNet-50"
        reasons.append(f"{preset.network} of width {preset.width} ({expected})")
    if others:
        shown = ", ".join(f"{name} ({Path(source.place).name})" for name, source in others.items())
        reasons.append(f"other images of the pretext: {shown} (paper CAMUS and COVID-LUS)")
    reasons.append("the paper leaves optimisers, epochs, losses and temperatures open")
    return "; ".join(reasons)


def check(args: argparse.Namespace) -> None:
    """Check that mixes have their images, and that organs have unique names."""
    names = [name for name, _ in args.organs]
    cli.unique("--organs", names)
    taken = [name for name in names if name in ("data", "natural", TRAIN)]
    if taken:
        raise ValueError(f"--organs {taken[0]}=: that name is used for other images; choose another")
    used = {method.partition("/")[2] for method in args.methods}
    if any("natural" in mix for mix in used) and args.natural is None:
        raise ValueError("--methods asks for natural images; name their folder with --natural")
    if "multi-organ" in used and not args.organs and args.data != [PHANTOM]:
        raise ValueError(
            "--methods asks for multi-organ; name the other organs' folders, as --organs heart=CAMUS, or "
            "methods that learn from --data alone, as --methods supervised moco/BUS"
        )


def declare(args: argparse.Namespace, preset: Preset) -> Study:
    """The paper's grid of methods and mixes on one set of breast ultrasound."""
    check(args)
    organs = dict(args.organs) or (dict.fromkeys(ORGANS, PHANTOM) if args.data == [PHANTOM] else {})
    pools = {
        name: Source(f"--organs {name}=", place, _phantom(preset.phantoms // 2, name)) for name, place in organs.items()
    }
    mixes: dict[str, tuple[str, ...]] = {"BUS": (TRAIN,)}
    if pools:
        mixes["multi-organ"] = (TRAIN, *pools)
    if args.natural is not None:
        pools["natural"] = Source("--natural", args.natural)
        mixes |= {"natural": ("natural",), "BUS+natural": (TRAIN, "natural")}
    data = DataSpec(
        **options.sets(args, _phantom(preset.phantoms, "breast"), _phantom(preset.phantoms // 2, "breast", seed=2)),
        size=preset.size,
        fractions=preset.constants.fractions,
        labels=args.labels,
        seeds=args.seeds,
        pools=pools,
        mixes=mixes,
        **options.reading(args),
    )
    return Study(
        citation="Figueiras et al., Multi-organ Self-supervised Contrastive Learning for Breast Lesion Segmentation",
        title="Multi-organ pretraining for breast ultrasound segmentation",
        preset=preset,
        data=[data],
        methods={method: make_recipe(method, preset) for method in METHODS},
        tasks=[Segmentation(network=partial(make_network, preset), loss=dice_bce)],  # [ours]: the loss
        size=preset.size,
        finetune=preset.finetune,
        tuning=preset.tuning,
        display={SUPERVISED: WORDS[SUPERVISED][0]}
        | {m: f"{NAMES[m.partition('/')[0]]} · {m.partition('/')[2]}" for m in METHODS[1:]},
        words=WORDS,
        baselines=(SUPERVISED, *(f"{ssl}/BUS" for ssl in SSL)),
        published=partial(published, preset),
        comparability_note=partial(comparability_note, preset, pools),
        gallery=partial(pair_gallery, views=make_views(preset)),
    )


def _phantom(count: int, organ: str, seed: int = 0) -> Any:
    if organ not in ("breast", *ORGANS):
        return None
    return lambda size: Phantom(count, size=size, seed=seed, organ=organ)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(prog="multi_organ.py", description=(__doc__ or "").split("\n\n")[0])
    options.add_sets(
        parser,
        "phantom (default), or a folder of breast ultrasound with masks, such as BUSI or your own",
        pools=["--organs", "--natural"],
    )
    parser.add_argument(
        "--organs",
        nargs="+",
        type=cli.named,
        default=[],
        metavar="NAME=FOLDER",
        help="images of other organs, without labels (with the phantom: heart and lung)",
    )
    parser.add_argument(
        "--natural",
        type=cli.filled,
        metavar="FOLDER",
        help="photographs, read as gray images: CIFAR-10 or mini-ImageNet, saved as image files in any folders",
    )
    parser.add_argument(
        "--network",
        dest="encoder",
        choices=NETWORKS,
        help="a ResNet, which gets a new U-Net decoder for fine-tuning; or a U-Net or a ResNet with a decoder, which "
        "is pretrained as a whole; the same as --encoder",
    )
    options.add_study(
        parser,
        PRESETS,
        methods=METHODS,
        usual=[SUPERVISED, *(f"{s}/multi-organ" for s in SSL)],
        out="runs/multi_organ",
        words=f"METHOD/IMAGES with METHOD in {{{', '.join(SSL)}}} and IMAGES in {{{', '.join(MIXES)}}}",
    )
    return parser


def write_means(folder: Path) -> None:
    """Tables A.5 to A.8 as means.csv: Dice averaged over the three methods on the same images, beside the paper's."""
    if not (folder / "table.csv").exists():  # images without masks
        return
    preset = read_json(folder / "config.json")["preset"]
    network, size = nearest(preset["network"], preset["size"])
    paper: dict[tuple[str, str], list[str]] = {}
    for row in read_csv(MEANS):
        if (row["network"], int(row["size"])) == (network, size):
            words = " ".join(filter(None, (row["mean_dice"], row["natural_images"])))
            paper.setdefault((row["images"], f"{row['labels_percent']} %"), []).append(words)
    found: dict[tuple[str, str], list[float]] = {}
    for row in read_csv(folder / "table.csv"):
        if row["metric"] == "dice" and not row["test_set"] and row["method"] != SUPERVISED:
            found.setdefault((row["method"].partition("/")[2], row["labels"]), []).append(float(row["mean"]))
    means = [
        {"images": images, "labels": labels, "dice": f"{fmean(dice):.3f}", "paper": ", ".join(paper.get(key, []))}
        for key, dice in found.items()
        for images, labels in (key,)
        if len(dice) == len(SSL)
    ]
    write_csv(folder / "means.csv", means, columns=["images", "labels", "dice", "paper"])


def main() -> None:
    """Run the program."""
    program.run_study(make_parser(), declare, presets=PRESETS, methods=METHODS, finish=write_means)


if __name__ == "__main__":
    main()
