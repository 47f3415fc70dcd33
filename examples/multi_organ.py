r"""SimCLR, MoCo v2 and SimSiam on ultrasound of several organs, for breast ultrasound segmentation with few labels.

Figueiras et al., "Multi-organ Self-supervised Contrastive Learning for Breast Lesion Segmentation": an encoder, or a
whole U-Net, is pretrained on breast ultrasound alone (BUS), on several organs, on natural images, or on breast and
natural images, then fine-tuned with 100, 50, 25 and 10 % of the labels.

    python examples/multi_organ.py --data phantom --preset small --out runs/organs
    python examples/multi_organ.py --data Dataset_BUSI_with_GT --organs heart=CAMUS lung=COVID-LUS \
        --preset paper --network unet --methods all --seeds 0 1 2 3 4 5 6 7 8 9 --out runs/unet

Rerun the same command to resume a run that was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

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
from sslmed.studies import cli, tables
from sslmed.studies.cells import SEGMENTATION, Cell
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

SSL = ("moco", "simclr", "simsiam")
MIXES = ("natural", "BUS", "BUS+natural", "multi-organ")
METHODS = ("supervised", *(f"{ssl}/{mix}" for mix in MIXES for ssl in SSL))
NETWORKS = ("resnet50", "resnet18", "unet")
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
    adam: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"simclr": 3e-4}
    )  # [ours] rate of those that use Adam: SimCLR's usual code for small batches
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


TUNING = Tuning(lr=1e-4, weight_decay=1e-6)  # 3.3; Adam is [ours]


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
    tuning: Tuning = TUNING
    constants: Constants = Constants()


LABELS = (1.0, 0.5, 0.25, 0.1)  # 3.3
# [ours] Few steps, in which a key network that follows at 0.999 and SGD would hardly leave their start.
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
        tuning=Tuning(lr=1e-3, weight_decay=1e-6), constants=SMALL,  # [ours] 60 epochs are few for 1e-4
    ),
    "paper": Preset(
        size=32, network="resnet50", width=64, phantoms=780, labels=LABELS,
        batch={"moco": 256, "simclr": 512, "simsiam": 512},  # 3.2, at 32 px; beyond: `LARGER`
        pretext=Fit(epochs=200, batch_size=256, checkpoint_every=5),  # [ours] epochs: MoCo v2's
        finetune=Fit(epochs=100, batch_size=32),  # [ours]
    ),
}  # fmt: skip
LARGER = {"moco": 64, "simclr": 256, "simsiam": 512}  # 3.2: batches at 50 and 64 px


def make_views(preset: Preset) -> MultiView:
    """MoCo v2's pair for all three methods (2.1); hue, saturation and graying do nothing to gray images."""
    c = preset.constants
    return views.moco_v2(
        preset.size, scale=c.crop_scale, hflip=c.flip, brightness=c.jitter, contrast=c.jitter, blur=c.blur,
        sigma=c.sigma,
    )  # fmt: skip


def make_encoder(preset: Preset) -> ResNetEncoder | UNetFeatures:
    """The ResNet that becomes a contracting path, or the whole U-Net, "pre-trained end-to-end" (3.2)."""
    if preset.network == "unet":
        return UNetFeatures(UNet(width=preset.width), at=preset.constants.pool_at)
    return ResNetEncoder(preset.network, width=preset.width)


def make_method(name: str, preset: Preset, count: int) -> Pretext:
    """SimCLR, MoCo v2 or SimSiam on the encoder, each with its own optimiser."""
    c, encoder, pair = preset.constants, make_encoder(preset), make_views(preset)
    features = encoder.features if isinstance(encoder, UNetFeatures) else encoder.channels[-1]
    epochs, batch = preset.pretext.epochs, preset.batch[name]
    kind, lr = ("adam", c.adam[name]) if name in c.adam else ("sgd", c.rate[name] * batch / 256)
    optimiser = Optimiser(kind, lr=lr, weight_decay=c.weight_decay, schedule="cosine", epochs=epochs)
    method: Method
    if name == "simsiam":
        head = nn.Sequential(
            ProjectionHead(features, c.simsiam_dim, c.simsiam_dim, layers=c.layers[name], batch_norm=True),
            nn.BatchNorm1d(c.simsiam_dim, affine=False),
        )
        predictor = PredictionHead(c.simsiam_dim, c.predictor_hidden)
        return Pretext(SimSiam(encoder, views=pair, head=head, predictor=predictor), optimiser)
    projection = ProjectionHead(features, c.hidden, c.dim, layers=c.layers[name])
    if name == "simclr":
        method = SimCLR(encoder, views=pair, head=projection, temperature=c.temperature["simclr"])
    else:
        method = MoCo(
            encoder, views=pair, head=projection, queue_size=min(c.queue, count),
            temperature=c.temperature["moco"], momentum=c.momentum,
        )  # fmt: skip
    return Pretext(method, optimiser)


NAMES = {"moco": "MoCo v2", "simclr": "SimCLR", "simsiam": "SimSiam"}
WORDS = {
    "supervised": ("Supervised only", "No pretext learning: the same network, trained on the outlined images alone."),
    "moco": (NAMES["moco"], "Two altered copies of an image must get similar descriptions, and other images different "
             "ones; those others come from a queue of recent images (contrastive loss)."),
    "simclr": (NAMES["simclr"], "As MoCo v2, but the other images are those of the same batch."),
    "simsiam": (NAMES["simsiam"], "Each altered copy must predict the description of the other; no other images take "
                "part."),
    "natural": ("natural", "Learnt from photographs alone."),
    "BUS": ("BUS", "Learnt from the breast ultrasound of the training part alone, without its labels."),
    "BUS+natural": ("BUS+natural", "Learnt from breast ultrasound and photographs."),
    "multi-organ": ("multi-organ", "Learnt from breast ultrasound and that of other organs."),
}  # fmt: skip
RESULTS = Path(__file__).parent / "papers" / "multi_organ.csv"


class MultiOrgan(Experiment):
    """The paper's grid of methods and mixes on one set of breast ultrasound."""

    paper = Paper(
        citation="Figueiras et al., Multi-organ Self-supervised Contrastive Learning for Breast Lesion Segmentation",
        title="Multi-organ pretraining for breast ultrasound segmentation",
        display={"supervised": "Supervised only"}
        | {m: f"{NAMES[m.partition('/')[0]]} · {m.partition('/')[2]}" for m in METHODS[1:]},
        words=WORDS,
        baselines=("supervised", *(f"{ssl}/BUS" for ssl in SSL)),
    )

    def check(self) -> None:
        """Mixes need their images, and organs names of their own."""
        names = [name for name, _ in self.args.organs]
        cli.unique("--organs", names)
        if self.args.leave_out_copies and not self.args.organs and self.args.natural is None:
            raise ValueError("--leave-out-copies is about --organs or --natural, which were not given")
        taken = [name for name in names if name in ("data", "natural", TRAIN)]
        if taken:
            raise ValueError(f"--organs {taken[0]}=: that name stands for other images here; choose another")
        used = {m.partition("/")[2] for m in self.args.methods}
        if any("natural" in mix for mix in used) and self.args.natural is None:
            raise ValueError("--methods asks for natural images; name their folder with --natural")
        if "multi-organ" in used and not self.args.organs and self.args.data != PHANTOM:
            raise ValueError(
                "--methods asks for multi-organ; name the other organs' folders, as --organs heart=CAMUS, or "
                "methods that learn from --data alone, as --methods supervised moco/BUS"
            )

    def arguments(self) -> dict[str, Any]:
        """What was read."""
        material = self.materials[""]
        return {"data": material.large.source} | {name: pool.source for name, pool in material.pools.items()}

    def wanted(self) -> Sequence[Wanted]:
        """One labelled set, the other organs, and the photographs."""
        args, p = self.args, self.preset
        organs = dict(args.organs) or (dict.fromkeys(ORGANS, PHANTOM) if args.data == PHANTOM else {})
        pools = {
            name: Source(f"--organs {name}=", place, _phantom(p.phantoms // 2, name))
            for name, place in organs.items()
        }
        mixes: dict[str, tuple[str, ...]] = {"BUS": (TRAIN,)}
        if pools:
            mixes["multi-organ"] = (TRAIN, *pools)
        if args.natural is not None:
            pools["natural"] = Source("--natural", args.natural)
            mixes |= {"natural": ("natural",), "BUS+natural": (TRAIN, "natural")}
        return [
            Wanted(
                Source("--data", args.data, _phantom(p.phantoms, "breast")), crop=p.size, size=p.size,
                fractions=p.constants.fractions, labels=args.labels, seeds=args.seeds, pools=pools,
                mixes=mixes, leave_out_copies=args.leave_out_copies,
            )
        ]  # fmt: skip

    def mix(self, cell: Cell) -> str:
        """The second half of a method's name."""
        return cell.method.partition("/")[2] or "BUS"

    def fit_of(self, cell: Cell) -> Fit:
        """Each method has its own batch (3.2)."""
        batch = self.preset.batch[cell.method.partition("/")[0]]
        return dataclasses.replace(self.preset.pretext, batch_size=batch)

    def method(self, cell: Cell, data: TensorDataset) -> Pretext:
        """The first half of a method's name."""
        return make_method(cell.method.partition("/")[0], self.preset, len(data))

    def module(self, cell: Cell, weights: Path | None) -> Segmentation:
        """A fresh decoder on the encoder, or the whole U-Net; Dice and binary cross-entropy are [ours]."""
        p = self.preset
        model: nn.Module
        if p.network == "unet":
            model = UNet(width=p.width)
            if weights is not None:
                state = torch.load(weights, map_location="cpu", weights_only=True)
                own = model.state_dict()
                # No pretext trains the last layer: all methods of a seed share its random start.
                model.load_state_dict(state | {name: own[name] for name in ("out.weight", "out.bias")})
        else:
            model = ResUNet(p.network, width=p.width)
            if weights is not None:
                load_encoder(model, weights)
        return Segmentation(model, loss=dice_bce, tuning=p.tuning, epochs=p.finetune.epochs)

    def gallery(self) -> dict[str, np.ndarray]:
        """Pairs of views."""
        return pair_gallery(shown_cases(self.materials[""]), make_views(self.preset))

    def published(self) -> Mapping[tuple[str, str, str], tables.Published]:
        """Tables 1 to 4: the rows of this network and size, else those of the nearest size."""
        rows, (network, size) = read_csv(RESULTS), self._nearest()
        return {
            (SEGMENTATION, f"{row['labels_percent']} %", row["method"]): tables.Published(
                f"Table {row['table']}" + (f", {row['natural_images']}" if row["natural_images"] else ""),
                {"dice": (row["dice"], row["dice_sd"])},
            )
            for row in rows
            if (row["network"], int(row["size"])) == (network, size)
        }

    def _nearest(self) -> tuple[str, int]:
        """The network and the size of the paper's table that ours stand beside."""
        network = "unet" if self.preset.network == "unet" else "resnet50"
        sizes = {int(row["size"]) for row in read_csv(RESULTS) if row["network"] == network}
        return network, min(sizes, key=lambda size: abs(size - self.preset.size))

    def comparability_note(self, target: str) -> str:
        """What differs from the paper."""
        p, data = self.preset, self.materials[""].large
        reasons = ["the paper's SD is over ten repetitions: compare it with our SD over seeds"]
        if self._nearest()[1] != p.size:
            reasons.append(f"images of {p.size} px (paper {self._nearest()[1]})")
        if data.name != "BUSI":
            reasons.append(f"{data.name} instead of BUSI")
        elif data.published and len(data) != sum(data.published.values()):
            reasons.append(
                f"{len(data)} of {sum(data.published.values())} images, split by near-duplicate group"
            )
        if p.network == "resnet18" or p.width != 64:
            wanted = "paper the vanilla U-Net" if p.network == "unet" else "paper ResNet-50"
            reasons.append(f"{p.network} of width {p.width} ({wanted})")
        pools = ", ".join(f"{pool.name} ({len(pool)})" for pool in self.materials[""].pools.values())
        if pools:
            reasons.append(f"other images of the pretext: {pools} (paper CAMUS and COVID-LUS)")
        reasons.append("the paper leaves optimisers, epochs, losses and temperatures open")
        return "; ".join(reasons)


def _phantom(count: int, organ: str) -> Any:
    if organ not in ("breast", *ORGANS):
        return None
    return lambda size: Phantom(count, size=size, seed=0, organ=organ)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="multi_organ.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=cli.filled, default=PHANTOM, help="phantom (default), or the folder of a "
                        "breast ultrasound set with masks: BUSI or the like, or your own")  # fmt: skip
    parser.add_argument("--organs", nargs="+", type=cli.named, default=[], metavar="NAME=FOLDER",
                        help="images of other organs, without labels (with the phantom: heart and lung)")  # fmt: skip
    parser.add_argument("--natural", type=cli.filled, metavar="FOLDER", help="photographs, as CIFAR-10 or "
                        "mini-ImageNet saved as images")  # fmt: skip
    parser.add_argument("--leave-out-copies", action="store_true", help="leave out images of --organs and --natural "
                        "that copy a validation or test image, instead of refusing the folder")  # fmt: skip
    parser.add_argument("--network", choices=NETWORKS, help="a ResNet that gets a fresh U-Net decoder, or a whole "
                        "U-Net (default: the preset's)")  # fmt: skip
    parser.add_argument("--size", type=cli.count, choices=(32, 50, 64), help="pixels a side, of both stages (3.2; "
                        "default: the preset's)")  # fmt: skip
    cli.add_study(parser, PRESETS, methods=METHODS, usual=["supervised", *(f"{s}/multi-organ" for s in SSL)],
                  out="runs/multi_organ", words=f"METHOD/IMAGES with METHOD in {{{', '.join(SSL)}}} and IMAGES in "
                  f"{{{', '.join(MIXES)}}}")  # fmt: skip
    return cli.parsed(parser, arguments, PRESETS, METHODS)


def chosen(args: argparse.Namespace) -> Preset:
    """The preset with the network and size of the command line; the paper's batches depend on the size."""
    preset = PRESETS[args.preset]
    changes = {name: getattr(args, name) for name in ("network", "size") if getattr(args, name)}
    if args.preset == "paper" and changes.get("size", 32) > 32:
        changes["batch"] = LARGER
    return dataclasses.replace(preset, **changes)


def main() -> None:
    """Run the program."""
    args = parse()
    cli.run_as_program(lambda: MultiOrgan(args, chosen(args)).run, prog="multi_organ.py")


if __name__ == "__main__":
    main()
