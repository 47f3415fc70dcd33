"""Draw docs/images/overview.png: python docs/pictures.py (needs the extra `plots`)."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sslmed import plots
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop
from sslmed.data import Phantom

IMAGES = Path(__file__).parent / "images"
SIZE, GRID = 216, (6, 6)


def overview(case: int = 1) -> Figure:
    """One phantom through the pretext task of the relation contrastive paper, and its mask."""
    item = Phantom(case + 1, size=SIZE, seed=3)[case]
    image = item["image"][None]
    band = {
        "inner": torch.tensor([15]),
        "outer": torch.tensor([40]),
        "cross": torch.tensor([5]),
    }  # Fig. 2, filter 2
    filtered = FrequencyBandStop()(image, params=band)
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


if __name__ == "__main__":
    plots.save(overview(), IMAGES / "overview.png", dpi=100)
