"""Heart and lung: replay, shares, masks that are where the anatomy is, and signs that set the classes apart."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sslmed.data import Phantom
from sslmed.data.phantoms._heart import DIASTOLE, SYSTOLE, draw_heart
from sslmed.data.phantoms._lung import B_LINES, CONSOLIDATION, REGULAR, draw_lung
from sslmed.data.phantoms._sector import Sector
from sslmed.metrics import dice

ORGANS = ("heart", "lung")


def ring(mask: torch.Tensor, width: int) -> torch.Tensor:
    """The pixels around a mask, up to `width` away."""
    wide = torch.nn.functional.max_pool2d(mask.float(), 2 * width + 1, 1, width).bool()
    return wide & ~mask


def test_the_breast_has_not_changed() -> None:
    """Anatomy and scatterers are drawn in one order: any change of it would change every item."""
    items = [Phantom(40, size=64, seed=5)[i] for i in range(8)]
    areas = [int(item["mask"].sum()) for item in items]
    assert areas == pytest.approx([410, 210, 173, 161, 94, 161, 1075, 0], abs=2)
    means = [round(item["image"].mean().item(), 4) for item in items[:4]]
    assert means == pytest.approx([0.1978, 0.4072, 0.2589, 0.3915], abs=2e-4)


@pytest.mark.parametrize("organ", ORGANS)
def test_items_depend_on_seed_and_index_alone(organ: str) -> None:
    few, many = Phantom(4, size=48, seed=7, organ=organ), Phantom(100, size=48, seed=7, organ=organ)
    for i in reversed(range(4)):
        a, b = few[i], pickle.loads(pickle.dumps(many))[i]
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["mask"], b["mask"])
        assert (a["id"], a["label"], a["group"]) == (b["id"], b["label"], b["group"])
    assert not torch.equal(few[0]["image"], Phantom(4, size=48, seed=8, organ=organ)[0]["image"])


def test_ids_tell_the_organs_apart() -> None:
    ids = [Phantom(2, organ=organ).ids for organ in ("breast", *ORGANS)]
    assert ids[0] == ["phantom-0-000000", "phantom-0-000001"]
    assert len({name for names in ids for name in names}) == 6


@pytest.mark.parametrize("organ", ORGANS)
@pytest.mark.parametrize("size", [32, 47, 64, 130])
def test_items_at_any_size(organ: str, size: int) -> None:
    for item in Phantom(5, size=size, seed=2, organ=organ):
        image, mask = item["image"], item["mask"]
        assert image.shape == mask.shape == (1, size, size)
        assert (image.dtype, mask.dtype) == (torch.float32, torch.bool)
        assert 0 <= image.min() < 0.05 < 0.5 < image.max() <= 1
        torch.testing.assert_close((image * 255).round() / 255, image, atol=1e-6, rtol=0)
        assert mask.any() == (organ == "heart" or item["label"] == CONSOLIDATION)
        corners = image[0, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert not corners.any()  # outside the sector


@pytest.mark.parametrize("organ", ORGANS)
def test_the_anatomy_is_the_same_at_every_size(organ: str) -> None:
    small, large = Phantom(12, size=32, organ=organ), Phantom(12, size=128, organ=organ)
    for a, b in zip(small, large, strict=True):
        if a["mask"].any():
            up = a["mask"].repeat_interleave(4, 1).repeat_interleave(4, 2)
            assert dice(up, b["mask"]).item() > 0.8


def test_classes_come_in_equal_shares() -> None:
    for seed in range(3):
        heart, lung = Phantom(300, seed=seed, organ="heart"), Phantom(300, seed=seed, organ="lung")
        assert heart.classes == ("end-diastole", "end-systole")
        assert lung.classes == ("regular", "b-lines", "consolidation")
        assert all(abs(n - 150) <= 2 for n in heart.counts.values())
        assert all(abs(n - 100) <= 2 for n in lung.counts.values())
    assert Phantom.classes == Phantom(2).classes == ("benign", "malignant", "normal")


def test_the_ventricle_is_dark_and_its_wall_bright() -> None:
    contrast = []
    for item in Phantom(24, seed=1, organ="heart"):
        image, mask = item["image"], item["mask"]
        assert 0.02 < mask.float().mean() < 0.25
        contrast.append((image[ring(mask, 4)].mean() - image[mask].mean()).item())
    values = torch.tensor(contrast)
    assert (values > 0.1).float().mean() > 0.8
    assert values.min() > -0.05


def test_hearts_contract() -> None:
    areas: dict[int, list[float]] = {DIASTOLE: [], SYSTOLE: []}
    for item in Phantom(80, size=32, seed=0, organ="heart"):
        areas[item["label"]].append(item["mask"].float().mean().item())
    mean = {phase: sum(values) / len(values) for phase, values in areas.items()}
    assert 0.5 < mean[SYSTOLE] / mean[DIASTOLE] < 0.85
    assert max(areas[SYSTOLE]) > min(areas[DIASTOLE])  # size alone does not tell the phase


def test_the_cavity_ends_at_the_valve() -> None:
    heart = draw_heart(DIASTOLE, np.random.default_rng(0))
    z, x = np.meshgrid(np.arange(0, 155, 1.0), np.arange(-80, 80, 1.0), indexing="ij")
    inside = heart.cavity(z, x) < 0
    assert inside.any()
    assert (heart.ventricle.along(z, x)[0][inside] < heart.valve_mm).all()


def test_a_chambers_distance_is_in_millimetres() -> None:
    ventricle = draw_heart(DIASTOLE, np.random.default_rng(3)).ventricle
    for across in (-3.0, 0.0, 3.0):
        side = ventricle.across_mm + across
        z = np.array(ventricle.z_mm - side * np.sin(ventricle.tilt))
        x = np.array(ventricle.x_mm + side * np.cos(ventricle.tilt))
        wave = sum(h * np.cos(k * 0 + p) for k, (h, p) in zip((2, 3, 4), ventricle.waves, strict=True))
        expected = across - wave * ventricle.across_mm
        assert ventricle.distance(z, x).item() == pytest.approx(expected, abs=0.05)


def test_b_lines_are_many_in_their_class_and_few_in_regular_lungs() -> None:
    for seed in range(30):
        counts = [len(draw_lung(label, np.random.default_rng(seed)).rays) for label in range(3)]
        assert counts[REGULAR] <= 2
        assert 3 <= counts[B_LINES] <= 7


def test_wet_lungs_are_bright_below_the_pleura() -> None:
    levels: dict[int, list[float]] = {REGULAR: [], B_LINES: [], CONSOLIDATION: []}
    for item in Phantom(60, seed=0, organ="lung"):
        levels[item["label"]].append(item["image"][0, 40:52, 24:40].mean().item())
    mean = {label: sum(values) / len(values) for label, values in levels.items()}
    assert mean[B_LINES] > mean[REGULAR] + 0.08
    assert mean[CONSOLIDATION] > mean[REGULAR] + 0.08
    assert max(levels[REGULAR]) > min(levels[B_LINES])


def test_consolidations_lie_below_the_pleura() -> None:
    z, angle = np.meshgrid(np.arange(0, 98, 0.5), np.linspace(-0.5, 0.5, 101), indexing="ij")
    for seed in range(20):
        lung = draw_lung(CONSOLIDATION, np.random.default_rng(seed))
        inside = lung.consolidation(z, angle) < 0
        assert inside.any()
        assert (z > lung.pleura(angle))[inside].all()
    areas = [i["mask"].float().mean() for i in Phantom(60, organ="lung") if i["label"] == CONSOLIDATION]
    assert min(areas) > 0.002
    assert max(areas) < 0.25


def test_beams_and_screen_agree() -> None:
    sector = Sector(radius_mm=40.0, half_angle=0.5, depth_mm=98.0)
    z, x, angle = sector.beams_mm(33)
    assert angle[16] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(
        np.hypot(z + 40, x), (40 + (np.arange(33) + 0.5) * 98 / 33)[:, None].repeat(33, 1), rtol=1e-5
    )
    down, across = sector.screen_mm(100)
    assert down[0, 0] == pytest.approx(sector.side_mm / 200 - sector.top_mm)
    assert across.min() == pytest.approx(-across.max())
    assert z.max() < down.max()
    assert np.abs(x).max() < across.max()
