"""What this library and its neighbours have, found by trying each feature on the installed versions.

    python benchmarks/comparison.py

It writes `benchmarks/results/comparison.json`, and the tables of README.md and docs/comparison.md. Where no call is
tried for a library, the names of all its classes and functions are searched instead: a match stops the script, so that
somebody looks. The libraries are in the extra `peers`, but for stable-pretraining (`pip install stable-pretraining`); a
library that cannot be imported is "not checked".
"""

from __future__ import annotations

import importlib
import json
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.multiprocessing import start_processes

import sslmed
from pages import put
from sslmed import augment, data, distributed, losses, memory, metrics

ROOT = Path(__file__).parents[1]
LIBRARIES = {
    "sslmed": "sslmed",
    "lightly": "lightly",
    "MONAI": "monai",
    "kornia": "kornia",
    "torchmetrics": "torchmetrics",
    "stable-pretraining": "stable_pretraining",
}
Pair = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Feature:
    """A row: its words, the calls that try it, and a pattern of the names it would have in the other libraries."""

    group: str
    words: str
    tried: dict[str, Callable[[], bool]] = field(default_factory=dict)
    names: str = ""
    front: bool = False


def _has(*names: str) -> Callable[[], bool]:
    """Whether these can be imported: "package.module:name"."""

    def check() -> bool:
        for name in names:
            module, _, attribute = name.partition(":")
            if not hasattr(importlib.import_module(module), attribute):
                return False
        return True

    return check


def _no() -> bool:
    """A name matched, somebody looked, and it is something else."""
    return False


@cache
def _defined(library: str) -> frozenset[str]:
    """Public classes, functions and methods of a library, without its own tests."""
    spec = find_spec(LIBRARIES[library])
    assert spec is not None
    assert spec.origin is not None
    found: set[str] = set()
    for path in Path(spec.origin).parent.rglob("*.py"):
        if "tests" not in path.parts:
            found |= set(re.findall(r"^(?:    )?(?:class|def) ([A-Za-z]\w*)", path.read_text(errors="ignore"), re.M))
    return frozenset(found)


# Losses and memories


def _random(rows: int, seed: int) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 16, generator=generator), torch.randn(rows, 16, generator=generator)


def _nt_xent(library: str, temperature: float = 0.5, *, gathered: bool = False) -> Loss:
    if library == "sslmed":
        if gathered:
            return lambda a, b: losses.nt_xent(distributed.gather(a), distributed.gather(b), temperature=temperature)
        return lambda a, b: losses.nt_xent(a, b, temperature=temperature)
    if library == "lightly":
        from lightly.loss import NTXentLoss

        loss: Loss = NTXentLoss(temperature=temperature, gather_distributed=gathered)
        return loss
    if library == "MONAI":
        from monai.losses import ContrastiveLoss

        loss = ContrastiveLoss(temperature=temperature)
        return loss
    from stable_pretraining.losses import NTXEntLoss

    loss = NTXEntLoss(temperature=temperature)
    return loss


def _is_nt_xent(library: str) -> Callable[[], bool]:
    def check() -> bool:
        z0, z1 = (torch.nn.functional.normalize(z) for z in _random(32, 0))
        z = torch.cat([z0, z1])
        logits = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
        truth = torch.nn.functional.cross_entropy(logits, torch.arange(64).roll(32))
        return bool(torch.isclose(_nt_xent(library)(z0, z1), truth, rtol=1e-4))

    return check


def _finite_when_cold(library: str) -> Callable[[], bool]:
    return lambda: bool(torch.isfinite(_nt_xent(library, 0.01)(*_random(256, 0))))


def _process(rank: int, library: str, sizes: tuple[int, ...], folder: str) -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=len(sizes))
    first = sum(sizes[:rank])
    z0, z1 = (z[first : first + sizes[rank]] for z in _random(sum(sizes), 1))
    weight = torch.eye(16).requires_grad_()
    _nt_xent(library, gathered=True)(z0 @ weight, z1 @ weight).backward()
    assert weight.grad is not None
    dist.all_reduce(weight.grad)  # as DistributedDataParallel does: the mean over processes
    torch.save(weight.grad / len(sizes), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _exact_over_processes(library: str, sizes: tuple[int, ...]) -> Callable[[], bool]:
    """Whether processes with these batches get the gradient that one process has for all their rows."""

    def check() -> bool:
        z0, z1 = _random(sum(sizes), 1)
        weight = torch.eye(16).requires_grad_()
        _nt_xent(library)(z0 @ weight, z1 @ weight).backward()
        with tempfile.TemporaryDirectory() as folder:
            try:
                start_processes(_process, (library, sizes, folder), nprocs=len(sizes), start_method="fork")
            except Exception:  # of any kind: the library refuses, or fails
                return False
            found = torch.load(f"{folder}/0.pt")
        return bool(torch.allclose(found, weight.grad, rtol=1e-3, atol=1e-6))

    return check


def _stored(
    library: str, size: int = 10
) -> tuple[torch.nn.Module, Callable[[torch.Tensor], object], Callable[[], torch.Tensor]]:
    """A queue of keys, how to put some in, and how to get all out."""
    if library == "sslmed":
        queue = memory.MomentumQueue(size, 4)
        return queue, queue.enqueue, queue.negatives
    if library == "lightly":
        from lightly.models.modules.memory_bank import MemoryBankModule

        bank = MemoryBankModule(size=(size, 4))
        return bank, lambda keys: bank(keys, update=True), lambda: bank.bank
    from stable_pretraining.callbacks.queues import UnsortedQueue

    kept = UnsortedQueue(size, shape=(4,))
    return kept, kept.append, kept.get


def _holds(stored: torch.Tensor, keys: torch.Tensor) -> bool:
    rows = torch.nn.functional.normalize(stored, dim=1)
    return bool((torch.cdist(torch.nn.functional.normalize(keys, dim=1), rows).min(1).values < 1e-3).all())


def _queue_in_checkpoint(library: str) -> Callable[[], bool]:
    def check() -> bool:
        queue, put, _ = _stored(library)
        keys = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        put(keys)
        other, _, get = _stored(library)
        other.load_state_dict(queue.state_dict())
        return _holds(get(), keys)

    return check


def _queue_of_any_batch(library: str) -> Callable[[], bool]:
    def check() -> bool:
        _, put, get = _stored(library)
        batches = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
        for batch in batches:
            put(batch)
        return _holds(get(), batches[1])  # 10 places: the second batch must be there as a whole

    return check


# Augmentations


def _row_by_row(aug: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether equal images of a batch are changed differently."""
    torch.manual_seed(0)
    x = torch.rand(1, 1, 32, 32).repeat(4, 1, 1, 1)
    return not torch.equal(*aug(x)[:2])


def _kornia_gamma() -> torch.nn.Module:
    from kornia.augmentation import RandomGamma

    return RandomGamma(gamma=(0.5, 2.0), p=1.0)


def _kornia_replays() -> bool:
    aug, x = _kornia_gamma(), torch.rand(4, 1, 8, 8)
    return torch.equal(aug(x), aug(x, params=aug._params))


def _kornia_generator() -> bool:
    aug, x = _kornia_gamma(), torch.rand(4, 1, 8, 8)
    first, second = (aug(x, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    return torch.equal(first, second)


def _monai_gamma() -> Any:
    from monai.transforms import RandAdjustContrast

    return RandAdjustContrast(prob=1.0)


def _monai_replays() -> bool:
    aug, x = _monai_gamma(), torch.rand(1, 8, 8)
    return torch.equal(aug(x), aug(x, randomize=False))


def _monai_generator() -> bool:
    x = torch.rand(1, 8, 8)
    first, second = (_monai_gamma().set_random_state(seed=0)(x) for _ in range(2))
    return torch.equal(first, second)


def _sslmed_replays() -> bool:
    aug, x = augment.Speckle(), torch.rand(4, 1, 32, 32)
    params = aug.forward_parameters(x.shape)
    return torch.equal(aug(x, params=params), aug(x, params=params))


def _sslmed_generator() -> bool:
    x = torch.rand(4, 1, 32, 32)
    first, second = (augment.Speckle(generator=torch.Generator().manual_seed(0))(x) for _ in range(2))
    return torch.equal(first, second)


# Metrics and data


def _masks() -> Pair:
    """Two cases; the prediction of the first lies a column off, that of the second is empty."""
    target = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    target[:, :, 4:8, 4:8] = True
    pred = target.roll(1, -1)
    pred[1] = False
    return pred, target


def _hausdorff(library: str) -> torch.Tensor:
    """The distance of both cases, at the 95th percentile where it is offered; a pixel is 1 mm high and 2 mm wide."""
    pred, target = _masks()
    if library == "sslmed":
        return metrics.hausdorff(pred[:, 0], target[:, 0], spacing_mm=(1.0, 2.0), percentile=95)
    if library == "MONAI":
        from monai.metrics import compute_hausdorff_distance

        found = compute_hausdorff_distance(pred, target, include_background=True, percentile=95, spacing=[1.0, 2.0])
        return found.flatten().float()
    from torchmetrics.functional.segmentation import hausdorff_distance

    settings: dict[str, Any] = {"num_classes": 1, "include_background": True, "spacing": [1.0, 2.0]}
    return hausdorff_distance(pred.int(), target.int(), **settings).flatten().float()


def _in_mm(library: str) -> Callable[[], bool]:
    return lambda: float(_hausdorff(library)[0]) == 2.0


def _missed_is_worst(library: str) -> Callable[[], bool]:
    def check() -> bool:
        found = _hausdorff(library)
        return bool(torch.isfinite(found[1])) and float(found[1]) > float(found[0])

    return check


def _reads_dicom(library: str) -> Callable[[], bool]:
    def check() -> bool:
        from pydicom.data import get_testdata_file

        path = get_testdata_file("CT_small.dcm")
        if library == "sslmed":
            return data.read_dicom(path).shape[-2:] == (128, 128)
        from monai.transforms import LoadImage

        return tuple(LoadImage(image_only=True, reader="PydicomReader")(path).shape[:2]) == (128, 128)

    return check


def _apart_by_patient() -> bool:
    groups = [f"patient {k // 3}" for k in range(30)]
    parts = data.splits.group_split(groups, (0.6, 0.2, 0.2), seed=0)
    patients = [{groups[i] for i in part} for part in parts]
    return sum(map(len, patients)) == len(set(groups))


def _finds_copies() -> bool:
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    found = data.splits.near_duplicates([images[0], images[1], images[0].flip(-1), images[2]])
    return found[0] == found[2] and len({found[0], found[1], found[3]}) == 3


def _command(name: str) -> Callable[[], bool]:
    return lambda: name in {script.name for script in entry_points(group="console_scripts")} | {"sslmed"}


LOSSES, AUGMENT, METRICS, DATA = (
    "Losses and memories",
    "Augmentation",
    "Metrics and statistics",
    "Data, networks, training",
)
_WITH_NT_XENT = ("sslmed", "lightly", "MONAI", "stable-pretraining")
_WITH_QUEUE = ("sslmed", "lightly", "stable-pretraining")
_WITH_HAUSDORFF = ("sslmed", "MONAI", "torchmetrics")
FEATURES = (
    Feature(
        LOSSES, "NT-Xent, the loss of SimCLR", {k: _is_nt_xent(k) for k in _WITH_NT_XENT}, "nt_?xent|contrastive_?loss"
    ),
    Feature(
        LOSSES, "NT-Xent stays finite at temperature 0.01", {k: _finite_when_cold(k) for k in _WITH_NT_XENT}, "nt_?xent"
    ),
    Feature(
        LOSSES,
        "NT-Xent on two processes has the gradient of one",
        {k: _exact_over_processes(k, (8, 8)) for k in _WITH_NT_XENT},
        "nt_?xent",
    ),
    Feature(
        LOSSES,
        "NT-Xent on two processes with batches of different sizes has the gradient of one",
        {k: _exact_over_processes(k, (5, 11)) for k in _WITH_NT_XENT},
        "nt_?xent",
        front=True,
    ),
    Feature(
        LOSSES,
        "a queue of negatives that checkpoints restore",
        {k: _queue_in_checkpoint(k) for k in _WITH_QUEUE},
        "memory_?bank|Queue$",
    ),
    Feature(
        LOSSES,
        "a queue that loses no key, whatever the batch size",
        {k: _queue_of_any_batch(k) for k in _WITH_QUEUE},
        "memory_?bank|Queue$",
    ),
    Feature(
        LOSSES,
        "relation contrastive and local (pixel-wise) contrastive losses",
        {"sslmed": _has("sslmed.losses:RelationContrastive", "sslmed.losses:LocalContrastive")},
        "relation_?contrast|local_?contrast",
    ),
    Feature(
        LOSSES,
        "DINO, SwAV, VICReg and Barlow Twins",
        {
            "lightly": _has(*(f"lightly.loss:{n}" for n in ("DINOLoss", "SwaVLoss", "VICRegLoss", "BarlowTwinsLoss"))),
            "stable-pretraining": _has(
                *(f"stable_pretraining.methods:{n}" for n in ("DINO", "SwAV", "VICReg", "BarlowTwins"))
            ),
            "MONAI": _no,  # of these it has BarlowTwinsLoss
            "kornia": _no,  # DINOv2 as a network, without the training
        },
        "dino|swav|vic_?reg|barlow",
        front=True,
    ),
    Feature(
        AUGMENT,
        "a batch on its device, with one draw for each image",
        {
            "sslmed": lambda: _row_by_row(augment.Speckle()),
            "MONAI": lambda: _row_by_row(_monai_gamma()),
            "kornia": lambda: _row_by_row(_kornia_gamma()),
            "stable-pretraining": _has(
                "stable_pretraining.data.gpu_transforms:GPURandomResizedCrop"
            ),  # which wraps kornia
        },
    ),
    Feature(
        AUGMENT,
        "replay from recorded parameters",
        {"sslmed": _sslmed_replays, "kornia": _kornia_replays, "MONAI": _monai_replays},
    ),
    Feature(
        AUGMENT,
        "a generator of its own for an augmentation",
        {"sslmed": _sslmed_generator, "kornia": _kornia_generator, "MONAI": _monai_generator},
    ),
    Feature(
        AUGMENT,
        "physics of ultrasound: speckle, shadows, attenuation, haze, reverberation",
        {
            "sslmed": _has(
                *(
                    f"sslmed.augment:{n}"
                    for n in ("Speckle", "AcousticShadow", "DepthAttenuation", "Haze", "Reverberation")
                )
            ),
            "kornia": _no,  # RandomPlasmaShadow is of daylight
            "torchmetrics": _no,
        },  # a metric of reverberation in speech
        "speckle|shadow|reverb|haze",
        front=True,
    ),
    Feature(
        AUGMENT,
        "physics of MR: Gibbs ringing, spikes in k-space, bias fields",
        {
            "sslmed": _has(*(f"sslmed.augment:{n}" for n in ("GibbsRinging", "KSpaceSpike", "BiasField"))),
            "MONAI": _has(
                *(f"monai.transforms:{n}" for n in ("RandGibbsNoise", "RandKSpaceSpikeNoise", "RandBiasField"))
            ),
        },
        "gibbs|spike|bias_?field",
    ),
    Feature(
        AUGMENT,
        "band-stop filter and cross-patch jigsaw",
        {"sslmed": _has("sslmed.augment:FrequencyBandStop", "sslmed.augment:CrossPatchJigsaw")},
        "band_?stop|cross_?patch",
    ),
    Feature(
        AUGMENT,
        "transforms of 3-D volumes",
        {
            "MONAI": _has("monai.transforms:Rand3DElastic"),
            "kornia": _has("kornia.augmentation:RandomAffine3D"),
            "stable-pretraining": _no,  # layers and noise in 3-D, not transforms
            "sslmed": _no,
        },
        "3d$",
        front=True,
    ),
    Feature(
        AUGMENT,
        "boxes and keypoints transformed with the image",
        {
            "kornia": _has("kornia.augmentation:AugmentationSequential", "kornia.geometry.keypoints:Keypoints"),
            "MONAI": _has(
                "monai.apps.detection.transforms.dictionary:RandFlipBoxd", "monai.transforms:ApplyTransformToPointsd"
            ),
        },
    ),
    Feature(
        METRICS,
        "Hausdorff distance in mm where pixels are not square",
        {k: _in_mm(k) for k in _WITH_HAUSDORFF} | {"kornia": _no},
        "hausdorff",
    ),  # kornia's is a loss
    Feature(
        METRICS,
        "Hausdorff: a missed lesion counts as the largest distance, not as NaN or infinity",
        {k: _missed_is_worst(k) for k in _WITH_HAUSDORFF} | {"kornia": _no},
        "hausdorff",
        front=True,
    ),
    Feature(
        METRICS,
        "surface Dice and average surface distance",
        {
            "sslmed": _has("sslmed.metrics:surface_dice", "sslmed.metrics:average_surface_distance"),
            "MONAI": _has("monai.metrics:compute_surface_dice", "monai.metrics:compute_average_surface_distance"),
        },
        "surface_dice|average_surface",
    ),
    Feature(
        METRICS,
        "objects that collect a metric over batches and processes",
        {
            "sslmed": _has("sslmed.metrics.stateful:Dice"),
            "MONAI": _has("monai.metrics:DiceMetric"),
            "torchmetrics": _has("torchmetrics:Metric"),
        },
    ),
    Feature(
        METRICS,
        "metrics of detection, text, audio and image quality",
        {
            "torchmetrics": _has(
                "torchmetrics.detection:IntersectionOverUnion",
                "torchmetrics.text:BLEUScore",
                "torchmetrics.audio:SignalNoiseRatio",
            )
        },
        front=True,
    ),
    Feature(
        METRICS,
        "measures of collapse: effective rank and LiDAR",
        {
            "sslmed": _has("sslmed.metrics:effective_rank", "sslmed.metrics:lidar"),
            "stable-pretraining": _has("stable_pretraining.callbacks:RankMe", "stable_pretraining.callbacks:LiDAR"),
        },
        "lidar|rankme|effective_?rank",
    ),
    Feature(
        METRICS,
        "paired tests with Holm's correction, intervals, SD over cases and over seeds",
        {
            "sslmed": _has(
                "sslmed.metrics.compare:paired", "sslmed.metrics.compare:holm", "sslmed.metrics.compare:spread"
            ),
            "torchmetrics": _no,
        },  # BootStrapper gives intervals of one metric
        "wilcoxon|holm|bootstrap",
    ),
    Feature(DATA, "DICOM files", {"sslmed": _reads_dicom("sslmed"), "MONAI": _reads_dicom("MONAI")}, "dicom"),
    Feature(
        DATA,
        "splits by patient, and near duplicates found between them",
        {"sslmed": lambda: _apart_by_patient() and _finds_copies()},
        "patient|group_?split|near_?dup",
        front=True,
    ),
    Feature(
        DATA,
        "segmentation networks for 3-D volumes",
        {"MONAI": _has("monai.networks.nets:SwinUNETR", "monai.networks.nets:DynUNet")},
        "swin_?unetr|unet3d",
        front=True,
    ),
    Feature(
        DATA,
        "vision transformers for masked images (MAE)",
        {
            "lightly": _has("lightly.models.modules:MaskedVisionTransformerTIMM"),
            "MONAI": _has("monai.networks.nets:MaskedAutoEncoderViT"),
            "stable-pretraining": _has("stable_pretraining.methods:MAE"),
        },
        "mae$|masked_?auto_?encoder",
    ),
    Feature(
        DATA,
        "trained networks to download",
        {
            "MONAI": _has("monai.bundle:download"),
            "kornia": _has("kornia.feature:DISK"),
            "stable-pretraining": lambda: "from_huggingface" in _defined("stable-pretraining"),
            "sslmed": _no,
        },
        front=True,
    ),
    Feature(
        DATA,
        "kNN or linear probes while a pretext trains",
        {
            "sslmed": _has("sslmed.studies.monitor:Monitor"),
            "stable-pretraining": _has("stable_pretraining.callbacks:OnlineKNN"),
            "lightly": _has("lightly.utils.benchmarking:KNNClassifier"),
            "MONAI": _no,
        },
        "knn_?(class|pred)|online_?probe|linear_?probe",
    ),
    Feature(
        DATA,
        "training on several GPUs that resumes after a kill",
        {
            "sslmed": _has("sslmed.studies.engine:fit"),
            "MONAI": _has("monai.handlers:CheckpointLoader"),
            "stable-pretraining": lambda: "Manager" in _defined("stable-pretraining"),
        },
    ),
    Feature(
        DATA,
        "a command that trains an encoder from a folder of images",
        {"sslmed": _command("sslmed"), "lightly": _command("lightly-ssl-train")},
        front=True,
    ),
)


def measured() -> dict[str, object]:
    """Try every feature on every library."""
    versions: dict[str, str | None] = {}
    for library, package in LIBRARIES.items():
        try:
            importlib.import_module(package)
            versions[library] = sslmed.__version__ if library == "sslmed" else version(library.lower())
        except ImportError as error:
            print(f"{library} is not checked: {error}")
            versions[library] = None
    rows = [
        {"group": feature.group, "feature": feature.words, "front": feature.front}
        | {library: None if versions[library] is None else _found(feature, library) for library in LIBRARIES}
        for feature in FEATURES
    ]
    return {"versions": versions, "torch": torch.__version__, "rows": rows}


def _found(feature: Feature, library: str) -> bool:
    if library in feature.tried:
        return feature.tried[library]()
    names = sorted(
        name for name in _defined(library) if feature.names and re.search(feature.names, name, re.IGNORECASE)
    )
    if names and library != "sslmed":
        raise SystemExit(f"{library} may have {feature.words!r}: {names[:10]}; look, and add a call to FEATURES")
    return False


def table(results: dict[str, object], *, front: bool = False) -> str:
    """The Markdown table of a result; `front` takes only the rows for the README."""
    versions, rows = results["versions"], results["rows"]
    assert isinstance(versions, dict)
    assert isinstance(rows, list)
    heads = [f"{library} {known}" if known else library for library, known in versions.items()]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    group = ""
    for row in rows:
        if front and not row["front"]:
            continue
        if row["group"] != group and not front:
            group = row["group"]
            lines.append(f"| **{group}** |" + " |" * len(heads))
        words = {True: "yes", False: "no", None: "not checked"}
        lines.append(f"| {row['feature']} | {' | '.join(words[row[library]] for library in versions)} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)  # threads of a process that is forked would be missing in its children
    warnings.simplefilter("ignore")
    results = measured()
    (ROOT / "benchmarks" / "results" / "comparison.json").write_text(json.dumps(results, indent=1) + "\n")
    put(ROOT / "README.md", "comparison", table(results, front=True))
    put(ROOT / "docs" / "comparison.md", "comparison", table(results))
    print(table(results))


if __name__ == "__main__":
    main()
