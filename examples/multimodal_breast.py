r"""SimCLR, MoCo and BYOL on breast ultrasound, mammograms, or both, for classification and segmentation.

Dourado da Silva, "Benchmarking Contrastive Learning for Multimodal Medical Imaging", thesis, Universidade de Lisboa: a
ResNet-18 is pretrained on images of one modality, or of the two mixed, and fine-tuned on other images of the same; a
network from a random start is compared with it.

    python examples/multimodal_breast.py --preset small --out runs/multimodal
    python examples/multimodal_breast.py --domains us --data us=Dataset_BUSI_with_GT --pretext-data us=BUSBRA \
        --preset paper --methods all --out runs/ultrasound

Rerun the same command to resume a run that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sslmed.augment import MultiView, views
from sslmed.data import MammogramPhantom, Phantom
from sslmed.methods import BYOL, Method, MoCo, SimCLR
from sslmed.models import PredictionHead, ProjectionHead, ResNetEncoder, ResUNet, load_encoder
from sslmed.studies import cli, options, program
from sslmed.studies.data_spec import TRAIN, DataSpec
from sslmed.studies.engine import Fit
from sslmed.studies.galleries import pair_gallery
from sslmed.studies.image_set import ImageSet
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.runs import read_csv
from sslmed.studies.sources import PHANTOM, Source
from sslmed.studies.study import SUPERVISED, Recipe, Stage, Study
from sslmed.studies.tables import Published
from sslmed.tasks import Classification, Classifier, Segmentation, Task, dice_bce

METHODS = (SUPERVISED, "simclr", "moco", "byol")
DOMAINS = {"us": "Ultrasound", "mg": "Mammography", "usmg": "Both"}  # the thesis' US1, MG2 and USMG3
TASKS = ("classification", "segmentation")


@dataclasses.dataclass(frozen=True)
class Constants:
    """The thesis' numbers, each with its place; [ours] where it leaves one open."""

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)  # Table 5.3: 237, 81 and 81 of 399
    dim: int = 128  # [ours] output of the heads: the methods' own
    hidden: int = 512  # [ours] of the heads: the encoder's width
    temperature: float = 0.07  # 5.2
    # 5.2, or as many as there are images, if fewer [ours]: the rest would be older keys of the same images.
    queue: int = 16384
    momentum: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"moco": 0.999, "byol": 0.99})  # 5.2
    weight_decay: float = 1e-6  # 5.2: of the pretexts
    # 5.1 names what the views do, and no numbers.
    crop_scale: tuple[float, float] = (0.08, 1.0)  # [ours] SimCLR's
    flip: float = 0.5  # [ours] SimCLR's
    jitter: float = 0.4  # [ours] SimCLR's at half strength, of brightness and of contrast
    blur: float = 0.5  # [ours] SimCLR's probability
    sigma: tuple[float, float] = (0.1, 2.0)  # [ours] SimCLR's, in pixels
    predictor_hidden: int = 512  # [ours]


TUNING = Optimiser("adam", lr=1e-4, weight_decay=1e-6)  # 5.3: as 5.2 "except for the learning rate", which is [ours]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a run is."""

    size: int  # pixels a side of views and fine-tuning images
    crop: int  # pixels a side of the images that views are cut from
    encoder: str
    width: int
    phantoms: int
    labels: tuple[float, ...]
    pretext: Fit
    finetune: Fit
    lr: float  # of the pretexts
    tuning: Optimiser = TUNING
    constants: Constants = Constants()

    def at(self, size: int) -> Preset:
        """The preset at another size; the images that views are cropped from change in proportion."""
        return dataclasses.replace(self, size=size, crop=round(self.crop * size / self.size))


PRESETS = {
    "smoke": Preset(
        size=32, crop=48, encoder="resnet18", width=8, phantoms=60, labels=(1.0,), lr=1e-3,
        pretext=Fit(epochs=2, batch_size=16), finetune=Fit(epochs=2, batch_size=16),
        constants=Constants(hidden=32, queue=64, predictor_hidden=32),
    ),
    "small": Preset(
        size=64, crop=110, encoder="resnet18", width=32, phantoms=400, labels=(1.0,),
        pretext=Fit(epochs=40, batch_size=64, checkpoint_every=5, precision="bf16-mixed"),
        finetune=Fit(epochs=40, batch_size=32, precision="bf16-mixed"),
        # [ours] the thesis' 0.014 makes its curves "unstable"
        lr=1e-3, tuning=Optimiser("adam", lr=5e-4, weight_decay=1e-6),
        # [ours] Few steps: a key network with a momentum of 0.999 would hardly change.
        constants=Constants(hidden=256, predictor_hidden=256, momentum={"moco": 0.99, "byol": 0.99}),
    ),
    "gpu": Preset(
        size=224, crop=256, encoder="resnet18", width=64, phantoms=780, labels=(1.0,),
        pretext=Fit(epochs=200, batch_size=128, checkpoint_every=5, precision="bf16-mixed"),
        finetune=Fit(epochs=100, batch_size=32, precision="bf16-mixed"),
        lr=1e-3, tuning=Optimiser("adam", lr=5e-4, weight_decay=1e-6),
    ),
    "paper": Preset(
        size=64, crop=110, encoder="resnet18", width=64, phantoms=780, labels=(1.0,),
        pretext=Fit(epochs=100, batch_size=64, checkpoint_every=5), finetune=Fit(epochs=100, batch_size=64),  # 5.2
        lr=0.014,  # 5.2: high for Adam
    ),
}  # fmt: skip


def make_views(preset: Preset) -> MultiView:
    """Crop of the 110 x 110 image, flip, jitter, blur (5.1); hue and saturation have no effect on gray images."""
    c = preset.constants
    return views.simclr(
        preset.size,
        scale=c.crop_scale,
        hflip=c.flip,
        brightness=c.jitter,
        contrast=c.jitter,
        blur=c.blur,
        sigma=c.sigma,
    )


def make_method(name: str, preset: Preset, count: int, _: Path | None = None) -> Method:
    """SimCLR, MoCo or BYOL on the encoder; the batch norm in the heads is the thesis' addition (5.2)."""
    c, pair = preset.constants, make_views(preset)
    encoder = ResNetEncoder(preset.encoder, width=preset.width)
    head = ProjectionHead(encoder.channels[-1], c.hidden, c.dim, batch_norm=True)
    if name == "simclr":
        return SimCLR(encoder, views=pair, head=head, temperature=c.temperature)
    if name == "moco":
        return MoCo(
            encoder,
            views=pair,
            head=head,
            queue_size=min(c.queue, count),
            temperature=c.temperature,
            momentum=c.momentum["moco"],
        )
    predictor = PredictionHead(c.dim, c.predictor_hidden)
    return BYOL(encoder, views=pair, head=head, predictor=predictor, momentum=c.momentum["byol"])


def make_recipe(method: str, preset: Preset) -> Recipe | None:
    """The pretext of a method; None for the baseline."""
    if method == SUPERVISED:
        return None
    adam = Optimiser("adam", lr=preset.lr, weight_decay=preset.constants.weight_decay)  # 5.2: no schedule
    return Recipe((Stage(partial(make_method, method, preset), adam, preset.pretext),))


def make_encoder(preset: Preset, weights: Path | None) -> ResNetEncoder:
    """The encoder, from a pretext's weights or at random."""
    encoder = ResNetEncoder(preset.encoder, width=preset.width)
    if weights is not None:
        load_encoder(encoder, weights)
    return encoder


def make_task(domain: str, task: str, preset: Preset) -> Task:
    """ResNet-18 and a linear layer with cross-entropy, or a U-Net decoder with Dice and cross-entropy (5.3)."""
    names = {"name": f"{domain}/{task}", "title": f"{DOMAINS[domain]}: {task}", "domain": domain}
    if task == "classification":

        def classifier(classes: int, weights: Path | None) -> nn.Module:
            return Classifier(make_encoder(preset, weights), classes)

        return Classification(network=classifier, metric="mcc", **names)

    def network(_: int, weights: Path | None) -> nn.Module:
        return ResUNet(make_encoder(preset, weights))

    return Segmentation(network=network, loss=dice_bce, metric="pooled_dice", **names)


WORDS = {
    "supervised": ("Random start", "No pretext learning: the same network, trained on the labelled images alone."),
    "simclr": ("SimCLR", "Two altered copies of an image must get similar descriptions, and the other images of the "
               "batch different ones (contrastive loss)."),
    "moco": ("MoCo", "As SimCLR, but the other images come from a queue of recent ones."),
    "byol": ("BYOL", "The description of one altered copy must predict that of the other, which a slowly following "
             "copy of the network gives; no other images take part."),
}  # fmt: skip
RESULTS = Path(__file__).parent / "papers" / "multimodal_breast.csv"


COLUMNS = {"train": "training", "val": "validation", "test": "value"}


def published(name: str, part: str = "test") -> dict[tuple[str, str, str], Published]:
    """Tables 6.1 and 6.2, the columns of a part; one run each, hence no SD."""
    found: dict[tuple[str, str, str], dict[str, tuple[str, str]]] = {}
    for row in read_csv(RESULTS):
        values = found.setdefault((row["target"], "100 %", row["method"]), {})
        if row[COLUMNS[part]]:
            values[row["metric"]] = (row[COLUMNS[part]], "")
    return {key: Published("thesis, " + key[0].partition("/")[0], values) for key, values in found.items()}


def comparability_note(preset: Preset, task: Task, images: ImageSet) -> str:
    """What differs from the thesis."""
    reasons = [f"{images.name}, {len(images)} images (thesis: parts of BUSI, INbreast and CBIS-DDSM, 390 to 399)"]
    if preset.width != 64:
        reasons.append(f"{preset.encoder} of width {preset.width} (thesis 64)")
    if preset.pretext.epochs != 100:
        reasons.append(f"{preset.pretext.epochs} pretext epochs at a rate of {preset.lr:g} (thesis 100 at 0.014)")
    reasons.append("the thesis ran each model once")
    if task.name.endswith("segmentation"):
        reasons.append("its Dice and IoU are pooled over the test set: compare them with our pooled ones")
        reasons.append("its pixel accuracy is of an uncertain column of Table 6.2, probably validation")
    return "; ".join(reasons)


def check(args: argparse.Namespace) -> None:
    """Check that folders are given only for the domains of the run."""
    for option in ("domains", "tasks"):
        cli.unique(f"--{option}", getattr(args, option))
    named = {"--data": args.data, "--pretext-data": args.pretext_data, "--test-data": args.test_data}
    for option, given in named.items():
        cli.unique(option, ["=".join(pair) for pair in given])
        for name, _ in given:
            if name not in ("us", "mg"):
                raise ValueError(f"{option}: unknown {name!r}; give us=FOLDER or mg=FOLDER")
            if not {name, "usmg"} & {*args.domains}:
                raise ValueError(f"{option} {name}= would not be used with --domains {' '.join(args.domains)}")
    real = dict(args.data)
    for name in real:
        if len(places := [place for domain, place in args.data if domain == name]) > 1 and PHANTOM in places:
            raise ValueError(f"--data {name}=phantom cannot be combined with other sets of {name}")
    if "usmg" in args.domains and len(real) == 1:
        raise ValueError(
            f"--domains usmg would mix {'='.join(args.data[0])} with synthetic images; give both us= and mg= with "
            "--data"
        )


def make_data(domain: str, args: argparse.Namespace, preset: Preset) -> DataSpec:
    """The sets of a domain, joined (Table 5.1); the mixed one takes half of each."""
    members = ("us", "mg") if domain == "usmg" else (domain,)
    pools, without = dict[str, Source](), list[str]()
    for m in members:
        folders = [folder for name, folder in args.pretext_data if name == m]
        for k, folder in enumerate(folders, 1):
            number = f" {k}" if len(folders) > 1 else ""
            pools[f"{m} pretext{number}"] = Source("--pretext-data", folder)
        without += [] if folders else [m]
    sources = [
        Source("--data", place, _phantom(preset.phantoms, m))
        for m in members
        for place in [folder for name, folder in args.data if name == m] or [PHANTOM]
    ]
    tests = [
        Source("--test-data", place, _phantom(preset.phantoms // 2, m, seed=2))
        for m in members
        for name, place in args.test_data
        if name == m
    ]
    # 5.1: pretraining uses other images than fine-tuning; if none are given, it uses the training part.
    mixes = {"": (*((TRAIN,) if without else ()), *pools)}
    return DataSpec(
        sources[0],
        size=preset.crop,
        fit="pad",
        fractions=preset.constants.fractions,
        labels=args.labels,
        seeds=args.seeds,
        pools=pools,
        mixes=mixes,
        name=domain,
        outlined="segmentation" in args.tasks,
        joined=tuple(sources[1:]),
        test_sets=tuple(tests),
        share=1 / len(members),
        modality="mammography" if domain == "mg" else "ultrasound",
        **options.reading(args),
    )


def declare(args: argparse.Namespace, preset: Preset) -> Study:
    """The thesis' methods on each domain, for both tasks."""
    if (PHANTOM, PHANTOM) in args.data:
        if len(args.data) > 1:
            raise ValueError("--data phantom cannot be combined with others; for one domain give us=phantom")
        args.data = []
    args.domains = args.domains or list(dict.fromkeys(name for name, _ in args.data)) or list(DOMAINS)
    check(args)
    return Study(
        citation="Dourado da Silva, Benchmarking Contrastive Learning for Multimodal Medical Imaging",
        title="Contrastive pretraining on breast ultrasound and mammograms",
        preset=preset,
        arguments={"domains": list(args.domains)},
        data=[make_data(domain, args, preset) for domain in args.domains],
        methods={method: make_recipe(method, preset) for method in METHODS},
        tasks=[make_task(d, task, preset) for d in args.domains for task in TASKS if task in args.tasks],
        size=preset.size,
        finetune=preset.finetune,
        tuning=preset.tuning,
        display={method: words[0] for method, words in WORDS.items()} | DOMAINS,
        words=WORDS,
        published=published,
        parts=("train", "val"),  # Tables 6.1 and 6.2
        published_parts=published,
        comparability_note=partial(comparability_note, preset),
        gallery=partial(pair_gallery, views=make_views(preset)),
        embedding=partial(make_encoder, preset),
    )


def _phantom(count: int, domain: str, seed: int = 0) -> Any:
    kind = MammogramPhantom if domain == "mg" else Phantom
    return lambda size: kind(count, size=size, seed=seed)


def _labelled(text: str) -> tuple[str, str]:
    return (PHANTOM, PHANTOM) if text == PHANTOM else cli.named(text)


def make_parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(prog="multimodal_breast.py", description=(__doc__ or "").split("\n\n")[0])
    options.add_sets(
        parser,
        "phantom (default), or labelled sets, as us=BUSI mg=INbreast; your own with images/, masks/, cases.csv",
        pools=["--pretext-data"],
        kind=_labelled,
        metavar="DOMAIN=FOLDER",
        default=(),
    )
    parser.add_argument(
        "--pretext-data",
        nargs="+",
        type=cli.named,
        default=[],
        metavar="DOMAIN=FOLDER",
        help="learn the pretext on these images instead of the training part; several folders of a domain are joined",
    )
    parser.add_argument(
        "--domains", nargs="+", choices=DOMAINS, help="us, mg, usmg (default: those of --data, or all three)"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(default: both)")
    options.add_study(parser, PRESETS, methods=METHODS, usual=METHODS, out="runs/multimodal_breast")
    return parser


def main() -> None:
    """Run the program."""
    program.run_study(make_parser(), declare, presets=PRESETS, methods=METHODS)


if __name__ == "__main__":
    main()
