r"""SimCLR, MoCo and BYOL on breast ultrasound, mammograms, or both, for classification and segmentation.

Dourado da Silva, "Benchmarking Contrastive Learning for Multimodal Medical Imaging", thesis, Universidade de Lisboa: a
ResNet-18 is pretrained on images of one modality, or of the two mixed, and fine-tuned on other images of the same; a
network from a random start stands beside it.

    python examples/multimodal_breast.py --preset small --out runs/multimodal
    python examples/multimodal_breast.py --domains us --data us=Dataset_BUSI_with_GT --pretext-data us=BUSBRA \
        --preset paper --methods all --out runs/ultrasound

Rerun the same command to resume a run that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import TensorDataset

from sslmed.augment import MultiView, views
from sslmed.data import MammogramPhantom, Phantom
from sslmed.methods import BYOL, Method, MoCo, SimCLR
from sslmed.models import PredictionHead, ProjectionHead, ResNetEncoder, ResUNet, load_encoder
from sslmed.studies import cli, tables
from sslmed.studies.cells import SUPERVISED, Cell, Target
from sslmed.studies.classification import Classification, Classifier
from sslmed.studies.experiment import Experiment
from sslmed.studies.galleries import pair_gallery
from sslmed.studies.material import TRAIN, Wanted
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.plan import Paper, shown_cases
from sslmed.studies.pretext import Pretext
from sslmed.studies.runs import read_csv
from sslmed.studies.segmentation import Segmentation, dice_bce
from sslmed.studies.sets import PHANTOM, Source
from sslmed.studies.training import Fit
from sslmed.studies.tuning import Tuning
from sslmed.tasks.metrics import table_metrics

METHODS = ("supervised", "simclr", "moco", "byol")
DOMAINS = {"us": "Ultrasound", "mg": "Mammography", "usmg": "Both"}  # the thesis' US1, MG2 and USMG3
TASKS = {"classification": "mcc", "segmentation": "pooled_dice"}


@dataclasses.dataclass(frozen=True)
class Constants:
    """The thesis' numbers, each with its place; [ours] where it leaves one open."""

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)  # Table 5.3: 237, 81 and 81 of 399
    dim: int = 128  # [ours] output of the heads: the methods' own
    hidden: int = 512  # [ours] of the heads: the encoder's width
    temperature: float = 0.07  # 5.2
    # 5.2, or as many as there are images, if fewer [ours]: the rest would be older keys of the same images.
    queue: int = 16384
    momentum: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"moco": 0.999, "byol": 0.99}
    )  # 5.2
    weight_decay: float = 1e-6  # 5.2: of the pretexts
    # 5.1 names what the views do, and no numbers.
    crop_scale: tuple[float, float] = (0.08, 1.0)  # [ours] SimCLR's
    flip: float = 0.5  # [ours] SimCLR's
    jitter: float = 0.4  # [ours] SimCLR's at half strength, of brightness and of contrast
    blur: float = 0.5  # [ours] SimCLR's probability
    sigma: tuple[float, float] = (0.1, 2.0)  # [ours] SimCLR's, in pixels
    predictor_hidden: int = 512  # [ours]


TUNING = Tuning(lr=1e-4, weight_decay=1e-6)  # 5.3: as 5.2 "except for the learning rate", which is [ours]


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
    tuning: Tuning = TUNING
    constants: Constants = Constants()


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
        lr=1e-3, tuning=Tuning(lr=5e-4, weight_decay=1e-6),  # [ours] the thesis' 0.014 makes its curves "unstable"
        # [ours] Few steps: a key network that follows at 0.999 would hardly leave its start.
        constants=Constants(hidden=256, predictor_hidden=256, momentum={"moco": 0.99, "byol": 0.99}),
    ),
    "paper": Preset(
        size=64, crop=110, encoder="resnet18", width=64, phantoms=780, labels=(1.0,),
        pretext=Fit(epochs=100, batch_size=64, checkpoint_every=5), finetune=Fit(epochs=100, batch_size=64),  # 5.2
        lr=0.014,  # 5.2: high for Adam
    ),
}  # fmt: skip


def make_views(preset: Preset) -> MultiView:
    """Crop of the 110 x 110 image, flip, jitter, blur (5.1); hue and saturation do nothing to gray images."""
    c = preset.constants
    return views.simclr(
        preset.size, scale=c.crop_scale, hflip=c.flip, brightness=c.jitter, contrast=c.jitter, blur=c.blur,
        sigma=c.sigma,
    )  # fmt: skip


def make_method(name: str, preset: Preset, count: int) -> Pretext:
    """SimCLR, MoCo or BYOL on the encoder; the batch norm in the heads is the thesis' addition (5.2)."""
    c, pair = preset.constants, make_views(preset)
    encoder = ResNetEncoder(preset.encoder, width=preset.width)
    head = ProjectionHead(encoder.channels[-1], c.hidden, c.dim, batch_norm=True)
    method: Method
    if name == "simclr":
        method = SimCLR(encoder, views=pair, head=head, temperature=c.temperature)
    elif name == "moco":
        method = MoCo(
            encoder, views=pair, head=head, queue_size=min(c.queue, count), temperature=c.temperature,
            momentum=c.momentum["moco"],
        )  # fmt: skip
    else:
        predictor = PredictionHead(c.dim, c.predictor_hidden)
        method = BYOL(encoder, views=pair, head=head, predictor=predictor, momentum=c.momentum["byol"])
    return Pretext(method, Optimiser("adam", lr=preset.lr, weight_decay=c.weight_decay))  # 5.2: no schedule


WORDS = {
    "supervised": ("Random start", "No pretext learning: the same network, trained on the labelled images alone."),
    "simclr": ("SimCLR", "Two altered copies of an image must get similar descriptions, and the other images of the "
               "batch different ones (contrastive loss)."),
    "moco": ("MoCo", "As SimCLR, but the other images come from a queue of recent ones."),
    "byol": ("BYOL", "The description of one altered copy must predict that of the other, which a slowly following "
             "copy of the network gives; no other images take part."),
}  # fmt: skip
RESULTS = Path(__file__).parent / "papers" / "multimodal_breast.csv"


class MultimodalBreast(Experiment):
    """The thesis' methods on each domain, for both tasks."""

    paper = Paper(
        citation="Dourado da Silva, Benchmarking Contrastive Learning for Multimodal Medical Imaging",
        title="Contrastive pretraining on breast ultrasound and mammograms",
        display={method: words[0] for method, words in WORDS.items()} | DOMAINS,
        words=WORDS,
        shows_features=True,
    )

    def check(self) -> None:
        """Folders are of domains that take part; only pretexts learn from several of one."""
        for option in ("domains", "tasks"):
            cli.unique(f"--{option}", getattr(self.args, option))
        if self.args.leave_out_copies and not self.args.pretext_data:
            raise ValueError("--leave-out-copies is about --pretext-data, which was not given")
        cli.unique("--data", [name for name, _ in self.args.data])
        cli.unique("--pretext-data", ["=".join(pair) for pair in self.args.pretext_data])
        for option in ("data", "pretext_data"):
            unknown = [name for name, _ in getattr(self.args, option) if name not in ("us", "mg")]
            if unknown:
                raise ValueError(
                    f"--{option.replace('_', '-')}: unknown {unknown[0]!r}; give us=FOLDER or mg=FOLDER"
                )
            idle = [
                name for name, _ in getattr(self.args, option) if not {name, "usmg"} & {*self.args.domains}
            ]
            if idle:
                raise ValueError(
                    f"--{option.replace('_', '-')} {idle[0]}= would not be used with --domains "
                    f"{' '.join(self.args.domains)}"
                )
        real = dict(self.args.data)
        if "usmg" in self.args.domains and len(real) == 1:
            raise ValueError(
                f"--domains usmg would mix {next(iter(real))}={next(iter(real.values()))} with synthetic images; give "
                "both us= and mg= with --data"
            )

    def arguments(self) -> dict[str, Any]:
        """What was read."""
        read = {name: material.large.source for name, material in self.materials.items()}
        pools = {
            f"{name}, pretext": " and ".join(pool.source for pool in material.pools.values())
            for name, material in self.materials.items()
            if material.pools
        }
        return {"domains": list(self.args.domains)} | read | pools

    def wanted(self) -> Sequence[Wanted]:
        """A set for each domain; the mixed one takes half of each."""
        return [self._wanted(domain) for domain in self.args.domains]

    def _wanted(self, domain: str) -> Wanted:
        args, p = self.args, self.preset
        members = ("us", "mg") if domain == "usmg" else (domain,)
        share = 1 / len(members)
        given, pools, without = dict(args.data), dict[str, Source](), list[str]()
        for m in members:
            folders = [folder for name, folder in args.pretext_data if name == m]
            for k, folder in enumerate(folders, 1):
                number = f" {k}" if len(folders) > 1 else ""
                pools[f"{m} pretext{number}"] = Source("--pretext-data", folder)
            without += [] if folders else [m]
        sources = [Source("--data", given.get(m, PHANTOM), _phantom(p.phantoms, m)) for m in members]
        # 5.1: pretraining images are others than those of fine-tuning; with none given, the training part serves.
        mixes = {"": (*((TRAIN,) if without else ()), *pools)}
        return Wanted(
            sources[0], crop=p.crop, size=p.size, fit="pad", fractions=p.constants.fractions, labels=args.labels,
            seeds=args.seeds, pools=pools, mixes=mixes, leave_out_copies=args.leave_out_copies, name=domain,
            outlined="segmentation" in args.tasks, joined=tuple(sources[1:]), share=share,
        )  # fmt: skip

    def targets(self) -> Sequence[Target]:
        """Both tasks of each domain."""
        return [
            Target(f"{domain}/{task}", f"{DOMAINS[domain]}: {task}", task, first, table_metrics(task))
            for domain in self.args.domains
            for task, first in TASKS.items()
            if task in self.args.tasks
        ]

    def domain(self, cell: Cell) -> str:
        """The first half of a target's name."""
        return cell.target.partition("/")[0]

    def pretext(self, cell: Cell) -> str | None:
        """Both tasks of a domain share a pretext."""
        return None if cell.method == SUPERVISED else f"{cell.method}-{self.domain(cell)}-s{cell.seed}"

    def method(self, cell: Cell, data: TensorDataset) -> Pretext:
        """SimCLR, MoCo or BYOL."""
        return make_method(cell.method, self.preset, len(data))

    def module(self, cell: Cell, weights: Path | None) -> L.LightningModule:
        """ResNet-18 and a linear layer with cross-entropy, or a U-Net decoder with Dice and cross-entropy (5.3)."""
        p, data = self.preset, self.materials[self.domain(cell)].small
        encoder = ResNetEncoder(p.encoder, width=p.width)
        if weights is not None:
            load_encoder(encoder, weights)
        if cell.target.endswith("classification"):
            model = Classifier(encoder, len(data.classes))
            return Classification(model, classes=len(data.classes), tuning=p.tuning, epochs=p.finetune.epochs)
        return Segmentation(ResUNet(encoder), loss=dice_bce, tuning=p.tuning, epochs=p.finetune.epochs)

    def gallery(self) -> dict[str, np.ndarray]:
        """Pairs of views of the first domain."""
        return pair_gallery(shown_cases(next(iter(self.materials.values()))), make_views(self.preset))

    def published(self) -> Mapping[tuple[str, str, str], tables.Published]:
        """Tables 6.1 and 6.2, test columns; one run each, hence no SD."""
        found: dict[tuple[str, str, str], dict[str, tuple[str, str]]] = {}
        for row in read_csv(RESULTS):
            values = found.setdefault((row["target"], "100 %", row["method"]), {})
            values[row["metric"]] = (row["value"], "")
        return {key: tables.Published("thesis, " + key[0].partition("/")[0], v) for key, v in found.items()}

    def comparability_note(self, target: str) -> str:
        """What differs from the thesis."""
        p, data = self.preset, self.materials[target.partition("/")[0]].large
        reasons = [
            f"{data.name}, {len(data)} images (thesis: parts of BUSI, INbreast and CBIS-DDSM, 390 to 399)"
        ]
        if p.width != 64:
            reasons.append(f"{p.encoder} of width {p.width} (thesis 64)")
        if p.pretext.epochs != 100:
            reasons.append(f"{p.pretext.epochs} pretext epochs at a rate of {p.lr:g} (thesis 100 at 0.014)")
        reasons.append("the thesis ran each model once")
        if target.endswith("segmentation"):
            reasons.append("its Dice and IoU are pooled over the test set: compare them with our pooled ones")
        return "; ".join(reasons)


def _phantom(count: int, domain: str) -> Any:
    kind = MammogramPhantom if domain == "mg" else Phantom
    return lambda size: kind(count, size=size, seed=0)


def _labelled(text: str) -> tuple[str, str]:
    return ("", PHANTOM) if text == PHANTOM else cli.named(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="multimodal_breast.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", nargs="+", type=_labelled, default=[], metavar="DOMAIN=FOLDER",
                        help="phantom (default), or labelled sets, as us=BUSI mg=INbreast; your own with images/, "
                        "masks/ and cases.csv")  # fmt: skip
    parser.add_argument("--pretext-data", nargs="+", type=cli.named, default=[], metavar="DOMAIN=FOLDER",
                        help="learn the pretext on these images instead of the training part; several folders of a "
                        "domain are joined")  # fmt: skip
    parser.add_argument("--leave-out-copies", action="store_true", help="leave out images of --pretext-data that "
                        "copy a validation or test image, instead of refusing the folder")  # fmt: skip
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, help="us, mg, usmg (default: those of --data, or "
                        "all three)")  # fmt: skip
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(default: both)")
    cli.add_study(parser, PRESETS, methods=METHODS, usual=METHODS, out="runs/multimodal_breast")
    args = cli.parsed(parser, arguments, PRESETS, METHODS)
    if ("", PHANTOM) in args.data:
        if len(args.data) > 1:
            parser.error(
                "argument --data: `phantom` stands alone; of one domain it is us=phantom or mg=phantom"
            )
        args.data = []
    args.domains = args.domains or list(dict.fromkeys(name for name, _ in args.data)) or list(DOMAINS)
    return args


def main() -> None:
    """Run the program."""
    args = parse()
    cli.run_as_program(lambda: MultimodalBreast(args, PRESETS[args.preset]).run, prog="multimodal_breast.py")


if __name__ == "__main__":
    main()
