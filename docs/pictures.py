"""Draw the pictures of docs/images: python docs/pictures.py (needs the extra `plots`)."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from sslmed import augment, plots
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop
from sslmed.data import MammogramPhantom, MRPhantom, Phantom

IMAGES = Path(__file__).parent / "images"
SIZE, GRID = 216, (6, 6)
BAND = {
    "inner": torch.tensor([15]),
    "outer": torch.tensor([40]),
    "cross": torch.tensor([5]),
}  # Fig. 2, filter 2

# A head in Shepp and Logan's manner with the contrast of a T1-weighted slice: gray level, half axes, centre, tilt in
# degrees, in halves of the field of view; a later ellipse replaces what lies under it.
HEAD = (
    (0.90, 0.70, 0.92, 0.0, 0.0, 0),  # scalp
    (0.05, 0.655, 0.88, 0.0, 0.0, 0),  # skull
    (0.22, 0.615, 0.835, 0.0, 0.0, 0),  # fluid
    (0.50, 0.60, 0.82, 0.0, 0.0, 0),  # gray matter
    (0.72, 0.235, 0.62, 0.28, -0.02, -6),  # white matter
    (0.72, 0.235, 0.62, -0.28, -0.02, 6),
    (0.15, 0.065, 0.25, 0.11, -0.16, -14),  # ventricles
    (0.15, 0.065, 0.25, -0.11, -0.16, 14),
    (0.55, 0.10, 0.13, 0.20, 0.10, 0),  # basal ganglia
    (0.55, 0.10, 0.13, -0.20, 0.10, 0),
    (0.18, 0.008, 0.78, 0.0, 0.0, 0),  # the fissure between the halves
    (0.95, 0.05, 0.06, 0.33, -0.38, 20),  # an enhancing lesion
    (0.30, 0.03, 0.03, -0.34, 0.42, 0),  # small ones in a row
    (0.30, 0.02, 0.02, -0.24, 0.46, 0),
    (0.30, 0.012, 0.012, -0.16, 0.48, 0),
)


def head(size: int = 192, *, noise: float = 0.012, seed: int = 0) -> Tensor:
    """The head (1, 1, size, size) in [0, about 1], of pixels averaged over 16 places, with Rician noise."""
    t = (torch.arange(4 * size) + 0.5) / (2 * size) - 1
    y, x = t[:, None], t[None, :]
    image = torch.zeros(4 * size, 4 * size)
    for level, a, b, x0, y0, degrees in HEAD:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        u, v = (x - x0) * c + (y - y0) * s, (y - y0) * c - (x - x0) * s
        image = torch.where((u / a) ** 2 + (v / b) ** 2 <= 1, level, image)
    image = torch.nn.functional.avg_pool2d(image[None, None], 4)
    real, imaginary = noise * torch.randn(2, *image.shape, generator=torch.Generator().manual_seed(seed))
    return ((image + real) ** 2 + imaginary**2).sqrt()


def overview(case: int = 1) -> Figure:
    """One phantom through the pretext task of the relation contrastive paper, and its mask."""
    item = Phantom(case + 1, size=SIZE, seed=3)[case]
    image = item["image"][None]
    filtered = FrequencyBandStop()(image, params=BAND)
    jigsaw = CrossPatchJigsaw(grid=GRID, generator=torch.Generator().manual_seed(4))
    pieces = jigsaw.forward_parameters(image.shape)
    puzzled = jigsaw(filtered, params=pieces)
    power = torch.fft.fftshift(torch.fft.fft2(filtered[0, 0])).abs().add(1e-2).log()

    panels = {
        "B-mode image (phantom)": image[0, 0],
        "spectrum: band and X stopped": power,
        "filtered": filtered[0, 0],
        "cross-patch jigsaw": puzzled[0, 0],
        "lesion mask": torch.from_numpy(plots.overlay(item["image"][0], item["mask"][0], item["mask"][0])),
    }
    figure = Figure(figsize=(15, 3.2), dpi=100, layout="constrained")
    for axes, (title, pixels) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        gray = {} if "spectrum" in title else {"vmin": 0, "vmax": 1}
        axes.imshow(pixels, cmap="gray", **gray)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    cell = SIZE // GRID[0]
    for k in pieces["focal"][0].nonzero().flatten().tolist():
        row, column = divmod(k, GRID[1])
        figure.axes[3].add_patch(
            Rectangle((column * cell, row * cell), cell, cell, fill=False, edgecolor="#4aa3ff", linewidth=0.8)
        )
    return figure


def phantoms(*cases: int) -> Tensor:
    """Ultrasound phantoms (B, 1, 216, 216)."""
    items = Phantom(max(cases) + 1, size=SIZE, seed=3)
    return torch.stack([items[case]["image"] for case in cases])


def family(changes: Mapping[str, Callable[[Tensor], Tensor]], images: Tensor) -> Figure:
    """Preview one augmentation a row, each on an image of its own."""

    def each(x: Tensor) -> Tensor:
        return torch.cat([change(x[i : i + 1]) for i, change in enumerate(changes.values())])

    torch.manual_seed(1)
    return plots.preview(each, images.expand(len(changes), -1, -1, -1), titles=list(changes))


def pretext() -> Figure:
    """Frequency filter, the second of the paper's Fig. 2, and jigsaws."""
    stop = FrequencyBandStop()
    return family(
        {
            "FrequencyBandStop\n15 to 40, X of 5": lambda x: stop(x, params=BAND),
            "PatchJigsaw\n3 x 3": augment.PatchJigsaw(),
            "CrossPatchJigsaw\n6 x 6": CrossPatchJigsaw(),
        },
        phantoms(1, 4, 8),
    )


def masking() -> Figure:
    """Masks on a z-scored head, whose mean is 0."""
    image = head()
    return family(
        {
            "RandomPixelMask\nratio=0.1": augment.RandomPixelMask(),
            "RandomPatchMask\nratio=0.5, patch=8": augment.RandomPatchMask(),
            "RandomPatchMask\nratio=0.75, patch=16": augment.RandomPatchMask(ratio=0.75, patch=16),
        },
        (image - image.mean()) / image.std(),
    )


def mri() -> Figure:
    """MR artefacts; circles around the two bins of the spike."""
    image, (u, v) = head(), (38, 14)
    wave = {"bins": torch.tensor([[[u, v]]]), "amplitude": torch.tensor([[0.4]]), "phase": torch.zeros(1, 1)}
    spike = augment.KSpaceSpike()
    figure = family(
        {
            "GibbsRinging\nheight, 0.4": augment.GibbsRinging(part=(0.4, 0.4), axis="height"),
            "GibbsRinging\nboth, 0.5": augment.GibbsRinging(part=(0.5, 0.5), axis="both"),
            "KSpaceSpike\n0.4 standard deviations": lambda x: spike(x, params=wave),
            "BiasField\nstrength 0.25": augment.BiasField(strength=(0.25, 0.25)),
        },
        image,
    )
    for sign in (1, -1):
        centre = (image.shape[3] // 2 + sign * v, image.shape[2] // 2 + sign * u)
        figure.axes[5 * 2 + 4].add_patch(Circle(centre, 6, fill=False, edgecolor="#e08214", linewidth=1.2))
    return figure


def speckle() -> Figure:
    """What interference and reverberation lay over B-mode images, and what filters take away."""
    grain = {"axial_px": (1.0, 1.0), "lateral_px": (2.0, 2.0)}
    return family(
        {
            "Speckle\nadd": augment.Speckle(mode="add", strength=(0.5, 0.5), **grain),
            "Speckle\nreduce": augment.Speckle(mode="reduce", strength=(0.6, 0.6)),
            "Haze": augment.Haze(level_db=(-22, -22), reach=(0.25, 0.25)),
        },
        phantoms(1, 4, 9),
    )


def beams() -> Figure:
    """What beams of ultrasound lose or bring too late."""
    return family(
        {
            "AcousticShadow\n18 dB": augment.AcousticShadow(strength_db=(18, 18), width=(0.2, 0.2), depth=(0.3, 0.3)),
            "DepthAttenuation\n0.2 dB / (cm MHz)": augment.DepthAttenuation(error_db_per_cm_mhz=(0.2, 0.2)),
            "Reverberation": augment.Reverberation(spacing=(0.12, 0.12), loss_db=(10, 10)),
        },
        phantoms(8, 9, 13),
    )


def lesions(size: int = 128, count: int = 8) -> Figure:
    """Lesions drawn into scans of one batch, with their masks, and the joint view that follows in training."""
    scans = torch.stack([item["image"] for item in Phantom(count, size=size, seed=5)])
    torch.manual_seed(2)
    images, masks = augment.SyntheticLesions()(scans)
    seen, outlines = augment.views.segmentation(size)(images, masks)
    rows = {
        "scan": (scans, None),
        "lesion": (images, None),
        "mask": (images, masks),
        "view": (seen, outlines),
    }
    figure = Figure(figsize=(1.3 * count, 1.3 * len(rows)), layout="constrained")
    for line, (name, (pictures, drawn)) in zip(figure.subplots(len(rows), count), rows.items(), strict=True):
        for k, ax in enumerate(line):
            ax.imshow(pictures[k, 0], cmap="gray", vmin=0, vmax=1)
            if drawn is not None and drawn[k].any():
                ax.contour(drawn[k, 0], [0.5], colors="#e08214", linewidths=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=9)
    return figure


def synthetic(size: int = 128, each: int = 3) -> Figure:
    """Synthetic images of each kind, with the outlines that come with them."""
    kinds = {
        "Phantom\nbreast": Phantom(each, size=size, seed=3),
        "Phantom\nheart": Phantom(each, size=size, seed=1, organ="heart"),
        "Phantom\nlung": Phantom(each, size=size, seed=2, organ="lung"),
        "MammogramPhantom": MammogramPhantom(each, size=size, seed=0),
        "MRPhantom\nmiddle slices": Subset(MRPhantom(each, depth=12, size=size, seed=0), range(6, 12 * each, 12)),
    }
    figure = Figure(figsize=(1.7 * len(kinds), 1.7 * each + 0.5), layout="constrained")
    axes = figure.subplots(each, len(kinds))
    for column, (title, items) in zip(axes.T, kinds.items(), strict=True):
        for ax, item in zip(column, items, strict=True):
            ax.imshow(item["image"][0], cmap="gray", vmin=0, vmax=1)
            for number in item.get("label_map", item["mask"]).unique()[1:]:
                ax.contour(item.get("label_map", item["mask"])[0] == number, [0.5], colors="#e69f00", linewidths=1)
            ax.set_axis_off()
        column[0].set_title(title, fontsize=9)
    return figure


def save_small(figure: Figure, path: Path, *, dpi: int = 90) -> None:
    """Save with 128 grays and 128 steps of the difference's colours, at a third of the bytes."""
    grays = torch.linspace(0, 255, 128)[:, None].expand(-1, 3)
    colours = torch.tensor(colormaps["PuOr"](torch.linspace(0, 1, 128).numpy())).float()[:, :3] * 255
    palette = torch.cat([grays, colours]).round()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=dpi)
    width, height = (int(inches * dpi) for inches in figure.get_size_inches())
    drawn = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).view(height, width, 4)[..., :3]
    distinct, place = drawn.reshape(-1, 3).float().unique(dim=0, return_inverse=True)
    nearest = torch.cdist(distinct, palette).argmin(dim=1)[place].view(height, width)
    picture = Image.fromarray(nearest.byte().numpy(), mode="P")
    picture.putpalette(palette.byte().flatten().tolist())
    picture.save(path, optimize=True)


if __name__ == "__main__":
    plots.save(overview(), IMAGES / "overview.png", dpi=100)
    plots.save(synthetic(), IMAGES / "synthetic.png", dpi=90)
    for picture in (speckle, beams, lesions, mri, masking, pretext):
        save_small(picture(), IMAGES / f"gallery_{picture.__name__}.png")
