r"""Few labels: a better segmentation from few outlines and many scans without outlines, against a strong baseline.

A U-Net is trained on scans into which lesions were drawn, then fine-tuned on the outlined images, then trained on with
scans without outlines as a mean teacher. The baseline is the same network with the same augmentation, fine-tuned for
at least as many steps; of both, the network of the best validation loss is kept. Reported are the overlap on test
images, and the false alarms on images without a lesion.

    sslmed few-labels --data my_labelled --unlabelled my_scans --weights imagenet --out RUN

The images of --data are divided into folds by patient, so that each of them is tested once.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm

from ..augment import RandomPatchMask, SyntheticLesions, views
from ..data import Phantom
from ..methods import BYOL, PIRL, MaskedPixels, MeanTeacher, Method, RelationContrast, SelfTraining, SimCLR
from ..methods import SyntheticLesions as LesionPretext
from ..models import ResUNet, UNetFeatures, load_encoder
from ..tasks import Segmentation, Task, dice_bce
from . import cli, options, program
from .data_spec import TRAIN, DataSpec
from .encoders import IMAGENET, make_unet
from .engine import Fit
from .image_set import ImageSet
from .optimisers import Optimiser
from .outlook import write_outlook
from .prediction import write_model
from .pretext import load_all_but_last
from .processes import rank
from .report import write_report
from .runs import sha256
from .sources import PHANTOM, Source
from .study import SUPERVISED, Recipe, Refinement, Stage, Study

Start = Path | str | None  # a file, IMAGENET, or None for a random start
NO_WEIGHTS = "none"
POOL = "unlabelled"
RECIPE = "lesions+teacher"
METHODS = (
    *(SUPERVISED, "lesions", "teacher", RECIPE, "selftraining", "lesions+selftraining"),
    *("simclr", "byol", "pirl", "relation", "masked"),
)


@dataclasses.dataclass(frozen=True)
class Constants:
    """Numbers of the recipe, from an early trial on BUSI and BUS-BRA; docs/evidence.md has what they give."""

    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)  # of training, validation and test cases, without folds
    bias: float = -2.0  # of the last layer: few pixels are of a lesion
    last_layer: float = 10.0  # how many times as fast the last layer learns
    decay: float = 0.98  # of the teacher
    confidence: float = 0.6  # of the mean teacher's outline, for a scan to count
    kept: float = 0.6  # share of the scans that self-training learns from
    smallest: float = 0.003  # share of a scan that the outline covers, for a scan to count
    labelled: int = 8  # labelled images of a step with the teacher
    grid: int = 3  # rows and columns of the jigsaw of PIRL and of relation contrast


TUNING = Optimiser("adamw", lr=2e-3, weight_decay=1e-2, schedule="cosine")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a run is."""

    size: int
    encoder: str
    width: int
    phantoms: int
    labels: tuple[float, ...]
    folds: int
    pretext: Fit
    baseline: Fit
    finetune: Fit
    teacher: Fit
    tuning: Optimiser = TUNING
    pretext_lr: float = 2e-3
    teacher_lr: float = 1e-3
    constants: Constants = Constants()

    def at(self, size: int) -> Preset:
        """The preset at another size."""
        return dataclasses.replace(self, size=size)


def _steps(epochs: int, batches: int, *, precision: str = "32-true", batch_size: int = 16, **more: Any) -> Fit:
    return Fit(epochs=epochs, batch_size=batch_size, batches=batches, precision=precision, **more)


PRESETS = {
    "smoke": Preset(
        size=32,
        encoder="resnet18",
        width=8,
        phantoms=30,
        labels=(1.0,),
        folds=3,
        pretext=Fit(epochs=1, batch_size=8),
        baseline=_steps(2, 2, batch_size=8),
        finetune=_steps(1, 2, batch_size=8),
        teacher=_steps(1, 2, batch_size=4, clip_norm=5.0),
    ),
    "demo": Preset(
        size=64,
        encoder="resnet18",
        width=16,
        phantoms=100,
        labels=(1.0,),
        folds=1,
        pretext=Fit(epochs=60, batch_size=16, checkpoint_every=10),
        baseline=_steps(20, 30),
        finetune=_steps(5, 20),
        teacher=_steps(16, 30, batch_size=8, clip_norm=5.0),
        constants=Constants(fractions=(0.2, 0.1, 0.7)),
    ),
    "small": Preset(
        size=64,
        encoder="torchvision/resnet18",
        width=32,
        phantoms=60,
        labels=(1.0,),
        folds=4,
        pretext=Fit(epochs=10, batch_size=16, precision="bf16-mixed"),
        baseline=_steps(16, 25, precision="bf16-mixed"),
        finetune=_steps(6, 25, precision="bf16-mixed"),
        teacher=_steps(6, 25, precision="bf16-mixed", batch_size=8, clip_norm=5.0),
    ),
    "gpu": Preset(
        size=224,
        encoder="torchvision/resnet34",
        width=64,
        phantoms=60,
        labels=(1.0,),
        folds=5,
        pretext=Fit(epochs=60, batch_size=32, checkpoint_every=10, precision="bf16-mixed"),
        baseline=_steps(30, 100, precision="bf16-mixed"),
        finetune=_steps(10, 100, precision="bf16-mixed"),
        teacher=_steps(10, 100, precision="bf16-mixed", batch_size=16, clip_norm=5.0),
    ),
}


def make_segmenter(preset: Preset, start: Start) -> ResUNet:
    """The U-Net on the encoder, which starts from a file, from ImageNet, or at random."""
    network = make_unet(preset.encoder, width=preset.width, imagenet=start == IMAGENET)
    if isinstance(start, Path):
        load_encoder(network, start)
    assert network.out.bias is not None
    nn.init.constant_(network.out.bias, preset.constants.bias)
    return network


def make_network(preset: Preset, start: Start, outputs: int, weights: Path | None) -> nn.Module:
    """The network for fine-tuning: from a pretext that trained all of it or its encoder, else as it starts."""
    network = make_segmenter(preset, start if weights is None else None)
    if weights is not None:
        load_all_but_last(network, weights)
    return network


class _EncoderMaps(UNetFeatures):
    """The encoder of a U-Net with all its maps, the finest first; unlike `encoder_maps` for small patches too."""

    def forward(self, x: Tensor) -> Any:
        assert isinstance(self.network, ResUNet)
        return self.network.encoder(instance_norm(x) if self.network.standardise else x)


def make_pretext(name: str, preset: Preset, start: Start, count: int) -> Method:
    """The pretext of a method, for `count` scans: of the whole network (lesions, masked), or of its encoder."""
    network, size = make_segmenter(preset, start), preset.size
    if name == "lesions":
        view = views.segmentation(size, degrees=0, zoom=(1, 1), hflip=0, blur=1.0, sigma=(0.3, 1.5))
        return LesionPretext(network, lesions=SyntheticLesions(), view=view)
    if name == "masked":
        return MaskedPixels(network, mask=RandomPatchMask(ratio=0.5, patch=8))
    if name == "simclr":
        return SimCLR(UNetFeatures(network), views=views.simclr(size))
    if name == "byol":
        return BYOL(UNetFeatures(network), views=views.byol(size))
    grid = (preset.constants.grid, preset.constants.grid)
    jigsaw: dict[str, Any] = {"radius": (10 / 112, 100 / 112), "unit": "nyquist"}  # of Ellis et al., at any size
    method: type[PIRL] = PIRL
    if name == "relation":
        method, jigsaw = RelationContrast, jigsaw | {"frequency": True, "cross_patch": True}
    pair = views.pirl(size // grid[0] * grid[0], grid=grid, **jigsaw)
    return method(_EncoderMaps(network), count, views=pair, grid=grid)


def make_teacher(preset: Preset, network: nn.Module, images: Tensor, masks: Tensor) -> MeanTeacher:
    """The mean teacher on a fine-tuned network."""
    c, size = preset.constants, preset.size
    return MeanTeacher(
        network,
        images,
        masks,
        augment=views.segmentation(size),
        weak=views.segmentation(size, degrees=15, zoom=(0.8, 1.25)),
        strong=views.segmentation(size, degrees=0, zoom=(1, 1), hflip=0),
        steps=preset.teacher.epochs * (preset.teacher.batches or 1),
        labelled=c.labelled,
        decay=c.decay,
        confidence=c.confidence,
        smallest=c.smallest,
    )


def make_self_training(preset: Preset, network: nn.Module, images: Tensor, masks: Tensor) -> SelfTraining:
    """Self-training from a fine-tuned network."""
    c = preset.constants
    augment = views.segmentation(preset.size)
    return SelfTraining(network, images, masks, augment=augment, labelled=c.labelled, kept=c.kept, smallest=c.smallest)


REFINEMENTS: dict[str, Callable[[Preset, nn.Module, Tensor, Tensor], Method]] = {
    "teacher": make_teacher,
    "selftraining": make_self_training,
}


def make_recipe(method: str, preset: Preset, start: Start) -> Recipe | None:
    """Before fine-tuning, a pretext; after it, a teacher. The baseline has neither, and is fine-tuned for longer."""
    if method == SUPERVISED:
        return None
    pretext = next((part for part in method.split("+") if part not in REFINEMENTS), "")
    teacher = next((part for part in method.split("+") if part in REFINEMENTS), "")

    def build(count: int, _: Path | None) -> Method:
        return make_pretext(pretext, preset, start, count)

    optimiser = Optimiser("adamw", lr=preset.pretext_lr, weight_decay=1e-2, schedule="cosine")
    learning = dataclasses.replace(preset.tuning, lr=preset.teacher_lr)
    return Recipe(
        stages=(Stage(build, optimiser, preset.pretext),) if pretext else (),
        mix=POOL,
        pretext=pretext or None,
        finetune=preset.finetune if teacher or pretext == "lesions" else None,
        refinement=Refinement(partial(REFINEMENTS[teacher], preset), learning, preset.teacher, mix=POOL)
        if teacher
        else None,
    )


WORDS = {
    SUPERVISED: ("Baseline", "The same network and augmentation, fine-tuned on the outlined images alone, for at least "
                 "as many steps."),
    "lesions": ("Synthetic lesions", "First trained to outline lesions that were drawn into scans."),
    "teacher": ("Mean teacher", "After fine-tuning, trained on with scans without outlines: a moving average of the "
                "network outlines them."),
    RECIPE: ("Synthetic lesions, then mean teacher", "Both: the recommended recipe."),
    "selftraining": ("Self-training", "After fine-tuning, trained on with the scans without outlines that the network "
                     "outlined most confidently."),
    "lesions+selftraining": ("Synthetic lesions, then self-training", "Both."),
    "simclr": ("SimCLR", "The encoder first learned to tell scans apart (contrastive loss)."),
    "byol": ("BYOL", "The encoder first learned to predict one altered copy of a scan from another."),
    "pirl": ("PIRL", "The encoder first learned to recognise a scan in a jigsaw of its parts (contrastive loss)."),
    "relation": ("Relation contrast", "The encoder first learned to recognise a scan in a harder jigsaw, by a learned "
                 "comparison."),
    "masked": ("Masked patches", "First trained to fill in patches of scans that were hidden."),
}  # fmt: skip


def comparability_note(task: Task, images: ImageSet) -> str:
    """There is no paper to compare with."""
    return ""


def gallery(preset: Preset, images: Tensor) -> Mapping[str, np.ndarray]:
    """Scans, the same with a synthetic lesion, and its outline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn, masks = SyntheticLesions()(images)
    return {
        "original": images[:, 0].numpy(),
        "view0": drawn[:, 0].numpy(),
        "view1": masks[:, 0].float().numpy(),
        "captions": np.array(("scan", "synthetic lesion", "its outline"), dtype=str),
    }


def start_weights(args: argparse.Namespace, preset: Preset) -> Start:
    """The file of --weights, `imagenet`, or None for a random start, checked.

    Raises:
        ValueError: the file does not fit the encoder, or the weights cannot be fetched.
    """
    if args.weights == NO_WEIGHTS:
        return None
    start: Start = IMAGENET if args.weights == IMAGENET else Path(args.weights)
    try:
        make_segmenter(preset, start)
    except ValueError as error:
        raise ValueError(f"--weights {args.weights} for the encoder {preset.encoder}: {error}") from error
    return start


def declare(args: argparse.Namespace, preset: Preset) -> Study:
    """The baseline and the recipe on one set, by cross-validation or by draws of labels."""
    start = start_weights(args, preset)
    folds = preset.folds if args.folds is None else args.folds
    if folds == 1:
        args.folds = None
    elif folds < 3:
        raise ValueError(f"--folds must be at least 3, or 1 for a single split, got {folds}")
    else:
        args.seeds = [seed for seed in range(folds)]
    if args.unlabelled is None and args.data != [PHANTOM]:
        raise ValueError("--unlabelled is missing: the folder of scans without outlines")
    pool = Source(
        "--unlabelled", args.unlabelled or PHANTOM, lambda size: Phantom(5 * preset.phantoms, size=size, seed=1)
    )
    data = DataSpec(
        **options.sets(
            args,
            lambda size: Phantom(preset.phantoms, size=size, seed=0),
            lambda size: Phantom(preset.phantoms, size=size, seed=2),
        ),
        size=preset.size,
        fractions=preset.constants.fractions,
        labels=args.labels,
        seeds=args.seeds,
        pools={"scans": pool},
        mixes={POOL: ("scans",) if folds > 1 else (TRAIN, "scans")},
        folds=folds if folds > 1 else None,
        parts_seed=0,
        **options.reading(args),
    )
    task = Segmentation(
        network=partial(make_network, preset, start),
        loss=dice_bce,
        augment=views.segmentation(preset.size),
        rates={"out": preset.constants.last_layer},
        decides=True,
    )
    weights = start.name if isinstance(start, Path) else start
    return Study(
        citation="",
        title="Few labels: segmentation with scans that have no outlines",
        preset=preset,
        arguments={"weights": weights, "weights_sha256": sha256(start) if isinstance(start, Path) else None},
        data=[data],
        methods={method: make_recipe(method, preset, start) for method in METHODS},
        tasks=[task],
        size=preset.size,
        finetune=preset.baseline,
        tuning=preset.tuning,
        display={method: words[0] for method, words in WORDS.items()},
        words=WORDS,
        proposed=RECIPE,
        comparability_note=comparability_note,
        gallery=partial(gallery, preset),
    )


def make_parser(presets: Mapping[str, Preset] = PRESETS) -> cli.Parser:
    """The command line, with the presets to choose from."""
    parser = cli.Parser(prog="sslmed few-labels", description=(__doc__ or "").split("\n\n")[0])
    options.add_sets(
        parser,
        "phantom (default), or a folder of scans with masks, such as BUSI, BUS-BRA or your own",
        pools=["--unlabelled"],
    )
    parser.add_argument(
        "--unlabelled", type=cli.filled, metavar="FOLDER", help="scans without outlines, in any folders"
    )
    parser.add_argument(
        "--weights",
        type=cli.filled,
        default=NO_WEIGHTS,
        metavar="FILE",
        help="what the encoder starts from: a state dict; `imagenet` for the weights that torchvision or timm fetch; "
        "`none` (default) for a random start, which costs much: use pretrained weights if you can",
    )
    parser.add_argument(
        "--folds",
        type=cli.count,
        metavar="K",
        help="folds of the cross-validation, in which each image is tested once (default: the preset's); 1 for one "
        "split, whose labels --seeds draw anew",
    )
    options.add_study(
        parser,
        presets,
        methods=METHODS,
        usual=[SUPERVISED, RECIPE],
        out="runs/few_labels",
    )
    return parser


def run(arguments: Sequence[str] | None = None, presets: Mapping[str, Preset] = PRESETS) -> NoReturn:
    """The command; None takes the arguments of the process."""
    program.run_study(
        make_parser(presets), declare, presets=presets, methods=METHODS, arguments=arguments, finish=_finish
    )


def _finish(folder: Path) -> None:
    """Write the outlook, and the networks of the recipe as one model, if this run has trained them all."""
    if rank() == 0 and (found := write_outlook(folder)):
        for one in found["methods"].values():
            print(one["sentence"])
        write_report(folder)
    try:
        write_model(folder)
    except ValueError as error:
        print(f"no model.pt: {error}")
