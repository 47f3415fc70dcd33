r"""Few labels: a better segmentation from few outlines and many scans without outlines, against a strong baseline.

A U-Net is trained on scans into which lesions were drawn, then fine-tuned on the outlined images, then trained on with
scans without outlines as a mean teacher. The baseline is the same network with the same augmentation, fine-tuned for
at least as many steps; of both, the network with the higher Dice on validation images is kept. Reported are the overlap
on test images, and the false alarms on images without a lesion.

    sslmed few-labels --data my_labelled --unlabelled my_scans --weights imagenet --out RUN

The images of --data are divided into folds by patient, so that each of them is tested once.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from ..augment import SyntheticLesions, views
from ..data import Phantom
from ..methods import Method
from ..tasks import Segmentation, Task, dice_bce
from . import cli, options, program
from .data_spec import TRAIN, DataSpec
from .encoders import IMAGENET
from .few_labels_networks import REFINEMENTS, Start, make_network, make_pretext, make_segmenter
from .few_labels_presets import PRESETS, Preset
from .image_set import ImageSet
from .optimisers import Optimiser
from .outlook import write_outlook
from .prediction import write_model
from .processes import rank
from .report import write_report
from .runs import sha256
from .sources import PHANTOM, Source
from .study import SUPERVISED, Recipe, Refinement, Stage, Study

NO_WEIGHTS = "none"
POOL = "unlabelled"
RECIPE = "lesions+teacher"
CHOICE = "chosen"
METHODS = (
    *(SUPERVISED, "lesions", "teacher", RECIPE, "selftraining", "lesions+selftraining"),
    *("simclr", "byol", "pirl", "relation", "masked"),
)


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
    CHOICE: ("Chosen on validation", "Not a training of its own: the network with the highest Dice on the validation "
             "part of all methods, chosen anew for each split. These networks are in model.pt."),
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
        mirrored=preset.constants.mirrored,
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
        choice=CHOICE,
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
    """Write the outlook, and the networks chosen on validation as one model, if this run has trained them all."""
    if rank() == 0 and (found := write_outlook(folder)):
        for one in found["methods"].values():
            print(one["sentence"])
        write_report(folder)
    try:
        write_model(folder)
    except ValueError as error:
        print(f"no model.pt: {error}")
