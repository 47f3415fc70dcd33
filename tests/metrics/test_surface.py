from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed.metrics import _distance, average_surface_distance, dice, hausdorff, surface_dice
from sslmed.metrics._distance import boundary_points, farthest, nearest
from sslmed.metrics._grid import squares_within


def dots(*points: tuple[int, ...], size: tuple[int, ...] = (32, 32)) -> torch.Tensor:
    mask = torch.zeros(1, *size, dtype=torch.bool)
    for point in points:
        mask[(0, *point)] = True
    return mask


def noise(share: float, *shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def blobs(count: int, *size: int, seed: int) -> torch.Tensor:
    """Ellipsoids, some cut by the image's border."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, n) for n in size], indexing="ij"))
    shape = (count, len(size), *[1] * len(size))
    centre, radius = (
        torch.rand(shape, generator=generator),
        0.1 + 0.3 * torch.rand(shape, generator=generator),
    )
    return (((grid - centre) / radius) ** 2).sum(1) < 1


def slow_boundary(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Pixels of the mask with a direct neighbour that is outside the mask or outside the image."""
    found = []
    for index in itertools.product(*map(range, mask.shape)):
        if not mask[index]:
            continue
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(index)
            other[axis] += step
            if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                found.append(index)
                break
    return found


def slow_distances(pred: torch.Tensor, target: torch.Tensor, spacing) -> tuple[list[float], list[float]]:
    """Of each boundary point the distance to the other boundary, point by point."""
    a, b = slow_boundary(pred.numpy()), slow_boundary(target.numpy())

    def distance(p, q):
        return math.sqrt(sum(((x - y) * s) ** 2 for x, y, s in zip(p, q, spacing, strict=True)))

    return [min(distance(p, q) for q in b) for p in a], [min(distance(p, q) for q in a) for p in b]


def slow_hausdorff(pred: torch.Tensor, target: torch.Tensor, spacing, percentile: float) -> float:
    return max(float(np.percentile(d, percentile)) for d in slow_distances(pred, target, spacing))


@pytest.mark.parametrize(("move", "distance"), [((0, 5), 5.0), ((3, 4), 5.0), ((1, 1), math.sqrt(2)), ((0, 0), 0.0)])
def test_single_pixels(device, move, distance):
    pred, target = dots((10, 10)).to(device), dots((10 + move[0], 10 + move[1])).to(device)
    for percentile in (100.0, 95.0):
        result = hausdorff(pred, target, percentile=percentile)
        assert result.dtype == torch.float32
        assert result.device.type == device.type
        assert result.item() == pytest.approx(distance)


def test_two_pixel_masks():
    pred, target = dots((0, 0), (0, 10)), dots((0, 0), (3, 0))
    # pred -> target: 0 and 10; target -> pred: 0 and 3
    assert hausdorff(pred, target).item() == 10
    assert hausdorff(pred, target, percentile=95).item() == pytest.approx(9.5)
    assert hausdorff(pred, target, percentile=50).item() == pytest.approx(5)
    assert hausdorff(pred, target, spacing_mm=(2.0, 0.1)).item() == pytest.approx(6)


def test_a_moved_rectangle():
    pred, target = torch.zeros(2, 1, 64, 64, dtype=torch.bool).unbind()
    pred[:, 10:30, 20:45] = True
    target[:, 13:33, 24:49] = True
    assert hausdorff(pred, target).item() == 5
    assert hausdorff(pred, target, spacing_mm=(0.2, 0.2)).item() == pytest.approx(1)


def test_only_the_boundary_counts():
    solid, ring = torch.zeros(2, 1, 20, 20, dtype=torch.bool).unbind()
    solid[:, 2:18, 2:18] = True
    ring[:, 2:18, 2:18] = True
    ring[:, 4:16, 4:16] = False
    # the boundary of the ring has an inner circle, one pixel inside the outer one
    assert hausdorff(solid, ring).item() == pytest.approx(1)
    ring[:, 3, 3:17] = ring[:, 16, 3:17] = ring[:, 3:17, 3] = ring[:, 3:17, 16] = False
    assert hausdorff(solid, ring).item() == 0


@pytest.mark.parametrize("size", [(7,), (9, 8), (5, 6, 7)])
def test_boundary_is_the_mask_minus_its_erosion(size):
    from scipy.ndimage import binary_erosion

    for share in (0.2, 0.8, 1.0):
        mask = noise(share, *size, seed=3).numpy()
        points = boundary_points(mask)
        assert [tuple(p) for p in points.tolist()] == slow_boundary(mask)
        assert np.array_equal(points, np.argwhere(mask & ~binary_erosion(mask)))


@pytest.mark.parametrize("percentile", [100.0, 95.0, 37.5])
@pytest.mark.parametrize("spacing", [None, (0.3, 1.7)])
def test_equals_the_literal_loops(percentile, spacing):
    pred, target = blobs(6, 18, 21, seed=4), blobs(6, 18, 21, seed=5)
    expected = [slow_hausdorff(p, t, spacing or (1, 1), percentile) for p, t in zip(pred, target, strict=True)]
    result = hausdorff(pred, target, percentile=percentile, spacing_mm=spacing)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-6)


def test_volumes_equal_the_literal_loops():
    pred, target = blobs(3, 6, 8, 9, seed=6), blobs(3, 6, 8, 9, seed=7)
    spacing = (2.5, 0.7, 0.4)
    expected = [slow_hausdorff(p, t, spacing, 95) for p, t in zip(pred, target, strict=True)]
    result = hausdorff(pred, target, percentile=95, spacing_mm=spacing)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-6)


def plain_nearest(a: np.ndarray, b: np.ndarray, spacing: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """All distances in float64, from the differences of the indices."""
    moved = (a[:, None] - b[None]) * (1.0 if spacing is None else spacing)
    squares = np.square(moved).sum(axis=-1)
    return np.sqrt(squares.min(axis=1)), np.sqrt(squares.min(axis=0))


def ellipsoid(size: tuple[int, ...], centre: float, radius: float) -> np.ndarray:
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij")
    return sum(((x - centre) / radius) ** 2 for x in grid) < 1


def lines(axis: int, first: int, *size: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[(slice(None),) * axis + (slice(first, None, 8),)] = True
    return mask


def shapes(*size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of masks that differ in how many boundary points there are, and in how far apart."""

    def pieces(seed: int) -> np.ndarray:
        smooth = noise(0.5, 1, 1, *size, seed=seed).double()
        pool = torch.nn.functional.avg_pool2d if len(size) == 2 else torch.nn.functional.avg_pool3d
        for _ in range(2):
            smooth = pool(smooth, 3, stride=1, padding=1)
        return (smooth > smooth.quantile(0.85))[0, 0].numpy()

    full, ball, first = np.ones(size, dtype=bool), ellipsoid(size, 0.1, 0.6), np.zeros(size, dtype=bool)
    first[: size[0] // 2] = True
    speckle = [noise(share, *size, seed=seed).numpy() for seed, share in ((40, 0.01), (41, 0.01), (42, 0.1), (43, 0.1))]
    last = len(size) - 1
    return {
        "ellipsoids": (ball, ellipsoid(size, -0.05, 0.5)),
        "pieces": (pieces(44), pieces(45)),
        "one per cent": (speckle[0], speckle[1]),
        "ten per cent": (speckle[2], speckle[3]),
        "one side each": (speckle[2] & first, speckle[3] & ~first),
        "speckle and a ball": (ball | speckle[0], ball),
        "lines along the first axis": (lines(0, 1, *size), lines(0, 4, *size)),
        "lines along the last axis": (lines(last, 0, *size), lines(last, 3, *size)),
        "crossing lines": (lines(0, 0, *size), lines(last, 7, *size)),
        "everything": (full, ellipsoid(size, 0.5, 0.3)),
        "everything twice": (full, full),
        "a point": (full & (np.arange(full.size).reshape(size) == 5), pieces(44)),
    }


WAYS = {
    "estimated costs": {},
    "all pairs": {"_DENSE_PAIRS": 10**9, "_SURELY_DENSE": 10**9, "_NS_A_PAIR": 0.0},
    "grid, then tree": {"_DENSE_PAIRS": 0, "_NS_A_SCAN": 1e9, "_NS_A_QUERY": {2: 1e12, 3: 1e12}},
    "grid nearby": {
        "_DENSE_PAIRS": 0,
        "_NS_A_SCAN": 1e9,
        "_NS_A_QUERY": {2: 1e12, 3: 1e12},
        "_REACHES": {2: (2,), 3: (2,)},
    },
    "tree": {"_DENSE_PAIRS": 0, "_NS_A_SCAN": 1e9, "_NS_A_REACH": 1e18},
    "scan": {"_DENSE_PAIRS": 0, "_NS_A_SCAN": 0.0, "_NS_A_SHUFFLE": 0.0},
    "scan of few pairs": {"_SURELY_DENSE": 0, "_NS_A_SCAN": 0.0, "_NS_A_SHUFFLE": 0.0},
}


@functools.cache
def plain_cases(
    *size: int,
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray | None, tuple[np.ndarray, np.ndarray]]]:
    """Each pair of shapes with each spacing: its name, boundary points, spacing and plain distances."""
    spacings = (None, np.full(3, 0.3), np.array([0.3, 1.7, 1.0]), np.array([3.0, 0.7, 0.7]), np.array([0.1, 1.0, 9.0]))
    cases = []
    for shape, masks in shapes(*size).items():
        a, b = (boundary_points(mask) for mask in masks)
        if len(a) and len(b):
            for spacing in (None if s is None else s[: len(size)] for s in spacings):
                cases.append((f"{shape}, spacing {spacing}", a, b, spacing, plain_nearest(a, b, spacing)))
    return cases


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(50, 43), (11, 15, 12), (40, 3), (3, 40), (3, 30, 3)], ids=str)
def test_all_ways_agree_for_all_shapes(monkeypatch, way, size):
    for name, value in WAYS[way].items():
        monkeypatch.setattr(_distance, name, value)
    for case, a, b, spacing, expected in plain_cases(*size):
        for ours, plain in zip(nearest(a, b, spacing), expected, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=0, err_msg=case)
            assert spacing is not None or np.array_equal(ours, plain), case  # whole numbers under the root
        assert farthest(a, b, spacing) == pytest.approx(max(d.max() for d in expected), rel=1e-12), case


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_agree_for_points_far_apart(monkeypatch, way):
    # the boxes' corners make the largest squares that the product of all pairs still takes
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 1448, (2, 300, 2))
    a[0], b[0] = (1447, 1447), (0, 0)
    for name, value in WAYS[way].items():
        if name != "_NS_A_QUERY":  # the grid of the far points would take gigabytes
            monkeypatch.setattr(_distance, name, value)
    for other in (b, a + 10_000):
        for spacing in (None, np.ones(2), np.full(2, 0.3), np.array([0.3, 1.7])):
            expected = plain_nearest(a, other, spacing)
            for ours, plain in zip(nearest(a, other, spacing), expected, strict=True):
                np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=0)
            assert farthest(a, other, spacing) == pytest.approx(max(d.max() for d in expected), rel=1e-12)


def test_points_of_many_pieces_are_looked_up_on_the_grid(monkeypatch):
    looked = []
    monkeypatch.setattr(
        _distance,
        "squares_within",
        lambda a, b, sizes, reach: (looked.append(len(a)), squares_within(a, b, sizes, reach))[1],
    )
    a, b = (boundary_points(noise(0.1, 224, 224, seed=seed).numpy()) for seed in (46, 47))
    farthest(a, b, None)
    assert looked == [len(a), len(b)]
    looked.clear()
    corner = boundary_points(np.pad(np.ones((9, 9), dtype=bool), ((215, 0), (215, 0))))
    nearest(a[a[:, 0] < 60], corner, np.array([0.5, 0.7]))
    assert not looked  # all far


@pytest.mark.parametrize("size", [(30, 37), (9, 11, 10)], ids=["image", "volume"])
def test_the_grid_tells_what_is_beyond_its_reach(size):
    masks = shapes(*size)["pieces"]
    a, b = (boundary_points(mask) for mask in masks)
    plain, _ = plain_nearest(a, b, None)
    for reach in (1, 1.5, 2, 3, 40):
        squares, beyond = squares_within(a, b, (1.0,) * len(size), reach)
        assert beyond.tolist() == np.flatnonzero(plain > reach).tolist()
        inside = np.delete(np.arange(len(a)), beyond)
        assert np.array_equal(squares[inside], np.rint(plain[inside] ** 2))


def test_equals_scipys_directed_hausdorff():
    from scipy.spatial.distance import directed_hausdorff

    pred, target = noise(0.3, 1, 40, 50, seed=8), noise(0.05, 1, 40, 50, seed=9)
    a, b = boundary_points(pred[0].numpy()), boundary_points(target[0].numpy())
    expected = max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
    assert hausdorff(pred, target).item() == pytest.approx(expected)


def test_many_scattered_pixels_take_linear_memory():
    pred, target = noise(0.3, 1, 700, 700, seed=10), noise(0.3, 1, 700, 700, seed=11)
    assert 1 < hausdorff(pred, target).item() < 20  # all pairs at once would need 80 GB


masks_ = st.integers(1, 2**25 - 1).map(lambda n: torch.tensor([bool(n >> k & 1) for k in range(25)]).view(1, 5, 5))


@given(masks_, masks_, masks_)
@settings(deadline=None, max_examples=60)
def test_it_is_a_metric_and_percentiles_are_ordered(a, b, c):
    ab = hausdorff(a, b).item()
    assert ab == hausdorff(b, a).item()
    assert hausdorff(a, a).item() == 0
    assert ab <= hausdorff(a, c).item() + hausdorff(c, b).item() + 1e-5
    assert hausdorff(a, b, percentile=95).item() <= ab
    assert hausdorff(a, b, spacing_mm=(0.5, 0.5)).item() == pytest.approx(ab / 2)
    assert hausdorff(a.mT, b.mT, spacing_mm=(3, 0.5)).item() == pytest.approx(
        hausdorff(a, b, spacing_mm=(0.5, 3)).item()
    )
    assert ab < math.hypot(5, 5)


@given(masks_, masks_, st.integers(0, 6), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_it_does_not_matter_where_in_the_image_the_masks_lie(a, b, down, right):
    # also at the border of the image, where the outside counts as background
    pads = (right, 9 - right, down, 6 - down)
    moved = [torch.nn.functional.pad(mask, pads) for mask in (a, b)]
    spacing = {"spacing_mm": (0.7, 1.9)}
    for percentile in (100, 95):
        here, there = (hausdorff(*pair, percentile=percentile, **spacing) for pair in ((a, b), moved))
        torch.testing.assert_close(here, there)
    torch.testing.assert_close(average_surface_distance(a, b, **spacing), average_surface_distance(*moved, **spacing))
    assert torch.equal(surface_dice(a, b, tolerance_mm=2, **spacing), surface_dice(*moved, tolerance_mm=2, **spacing))


def test_each_case_is_measured_alone_and_with_its_own_spacing():
    pred, target = blobs(4, 24, 30, seed=12), blobs(4, 24, 30, seed=13)
    spacing = torch.tensor([[1.0, 1.0], [0.2, 0.2], [0.1, 3.0], [2.0, 0.5]])
    together = hausdorff(pred, target, spacing_mm=spacing)
    alone = [hausdorff(pred[k : k + 1], target[k : k + 1], spacing_mm=spacing[k].tolist()) for k in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_empty_masks():
    empty, full = torch.zeros(1, 6, 8, dtype=torch.bool), dots((2, 3), size=(6, 8))
    pred, target = torch.cat([empty, empty, full, full]), torch.cat([empty, full, empty, full])
    assert hausdorff(pred, target).tolist() == [0, 10, 10, 0]
    assert hausdorff(pred, target, percentile=95, spacing_mm=(0.5, 0.5)).tolist() == [0, 5, 5, 0]
    spacing = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    assert hausdorff(pred, target, spacing_mm=spacing).tolist() == [0, 20, 30, 0]
    assert hausdorff(pred, target, empty="inf").tolist() == [0, math.inf, math.inf, 0]
    values = hausdorff(pred, target, empty="nan").tolist()
    assert [math.isnan(v) for v in values] == [True, True, True, False]
    assert hausdorff(pred[:0], target[:0]).shape == (0,)


def test_integers_count_as_masks_and_strides_do_not_matter():
    pred, target = blobs(3, 15, 12, seed=14), blobs(3, 15, 12, seed=15)
    expected = hausdorff(pred, target)
    assert torch.equal(hausdorff(pred.to(torch.uint8), target.long()), expected)
    assert torch.equal(hausdorff(pred.mT, target.mT), expected)


def test_bad_input():
    mask = dots((1, 1))
    with pytest.raises(TypeError, match=r"pred must be a bool mask, got torch.float32; threshold first"):
        hausdorff(mask.float(), mask)
    with pytest.raises(ValueError, match="pred and target must have the same shape"):
        hausdorff(mask, mask[:, :-1])
    with pytest.raises(ValueError, match=r"percentile must be a finite number in \(0, 100\], got 0"):
        hausdorff(mask, mask, percentile=0)
    with pytest.raises(ValueError, match=r"percentile must be a finite number in \(0, 100\], got 101"):
        hausdorff(mask, mask, percentile=101)
    with pytest.raises(ValueError, match=r"empty must be one of 'worst', 'inf', 'nan', got None"):
        hausdorff(mask, mask, empty=None)
    for spacing in (("a", "b"), ([0.2], [0.3, 0.4]), (None, 0.2)):
        with pytest.raises(TypeError, match=r"spacing_mm must be 2 numbers, or a tensor \(1, 2\), got [(]"):
            hausdorff(mask, mask, spacing_mm=spacing)
    with pytest.raises(TypeError, match=r"spacing_mm must be 2 numbers, or a tensor \(1, 2\), got 0.5"):
        hausdorff(mask, mask, spacing_mm=0.5)
    with pytest.raises(ValueError, match=r"spacing_mm must be 2 numbers, or a tensor \(1, 2\), got shape \(3,\)"):
        hausdorff(mask, mask, spacing_mm=(1, 1, 1))
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="spacing_mm must be positive and finite, got"):
            hausdorff(mask, mask, spacing_mm=(1.0, bad))


@pytest.mark.parametrize("spacing", [None, (0.3, 1.7)])
@pytest.mark.parametrize("size", [(18, 21), (6, 8, 9)], ids=["image", "volume"])
def test_averages_and_shares_equal_the_literal_loops(spacing, size):
    spacing = None if spacing is None else (2.5, *spacing)[-len(size) :]
    pred, target = blobs(5, *size, seed=20), blobs(5, *size, seed=21)
    pred[4], target[4] = noise(0.1, *size, seed=22), noise(0.1, *size, seed=23)
    loops = (slow_distances(p, t, spacing or (1,) * len(size)) for p, t in zip(pred, target, strict=True))
    cases = [[*there, *back] for there, back in loops]
    expected = torch.tensor([np.mean(case) for case in cases])
    result = average_surface_distance(pred, target, spacing_mm=spacing)
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)
    for tolerance in (0, 1.0, 1.5, 4):
        expected = torch.tensor([np.mean(np.array(case) <= tolerance) for case in cases])
        result = surface_dice(pred, target, tolerance_mm=tolerance, spacing_mm=spacing)
        torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)


def test_two_pixels_by_hand(device):
    # Distances to the target: 0 and 3 rows of 2 mm; back: 0 and 4 columns of 0.5 mm.
    pred, target = dots((5, 5), (8, 5)).to(device), dots((5, 5), (5, 9)).to(device)
    settings = {"spacing_mm": (2.0, 0.5)}
    result = average_surface_distance(pred, target, **settings)
    assert (result.item(), result.device, result.dtype) == ((6 + 2) / 4, pred.device, torch.float32)
    shares = {1.9: 0.5, 2: 0.75, 5.9: 0.75, 6: 1.0}
    for tolerance, share in shares.items():
        assert surface_dice(pred, target, tolerance_mm=tolerance, **settings).item() == share
    assert hausdorff(pred, target, **settings).item() == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_edge_of_the_tolerance_is_within_wherever_the_points_are(dtype):
    spacing = torch.tensor([[0.7, 0.4]], dtype=dtype)  # one row and six columns: the root of 0.49 + 5.76 is 2.5
    for row, column in itertools.product(range(0, 31, 5), range(0, 26, 5)):
        corner = (0, 0), (31, 31)
        pred, target = dots(*corner, (row, column)), dots(*corner, (row + 1, column + 6))
        assert surface_dice(pred, target, tolerance_mm=2.5, spacing_mm=spacing).item() == 1
    assert surface_dice(pred, target, tolerance_mm=2.4999, spacing_mm=spacing).item() < 1


def test_both_directions_are_pooled():
    pred, target = dots((0, 0)), dots((0, 0), (0, 3), (0, 6))
    assert average_surface_distance(pred, target).item() == (0 + 0 + 3 + 6) / 4  # not (0 + 3) / 2


@given(masks_, masks_)
@settings(deadline=None, max_examples=60)
def test_averages_and_shares_are_ordered(a, b):
    mean, worst = average_surface_distance(a, b).item(), hausdorff(a, b).item()
    assert mean == average_surface_distance(b, a).item()
    assert 0 <= mean <= worst + 1e-6
    assert (mean == 0) == (worst == 0)
    assert average_surface_distance(a, b, spacing_mm=(3, 3)).item() == pytest.approx(3 * mean)
    shares = [surface_dice(a, b, tolerance_mm=k).item() for k in (0, 0.5, 1, 1.5, 2, 3, 6)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert shares[0] == surface_dice(b, a, tolerance_mm=0).item()
    assert surface_dice(a, b, tolerance_mm=worst + 1e-6).item() == 1
    assert (
        surface_dice(a, b, tolerance_mm=1.5).item()
        == surface_dice(a, b, tolerance_mm=0.75, spacing_mm=(0.5, 0.5)).item()
    )
    thin = all(len(boundary_points(mask[0].numpy())) == mask.sum() for mask in (a, b))
    if thin:  # all boundary: without tolerance it is the Dice of the masks
        assert shares[0] == pytest.approx(dice(a, b).item())


def test_empty_masks_of_averages_and_shares():
    empty, full = torch.zeros(1, 6, 8, dtype=torch.bool), dots((2, 3), size=(6, 8))
    pred, target = torch.cat([empty, empty, full, full]), torch.cat([empty, full, empty, full])
    assert average_surface_distance(pred, target, spacing_mm=(2, 2)).tolist() == [0, 20, 20, 0]
    assert average_surface_distance(pred, target, empty="inf").tolist() == [0, math.inf, math.inf, 0]
    values = average_surface_distance(pred, target, empty="nan").tolist()
    assert [math.isnan(v) for v in values] == [True, True, True, False]
    for word in ("worst", "inf"):
        assert surface_dice(pred, target, tolerance_mm=1, empty=word).tolist() == [1, 0, 0, 1]
    values = surface_dice(pred, target, tolerance_mm=1, empty="nan").tolist()
    assert [math.isnan(v) for v in values] == [True, False, True, False]
    assert [math.isnan(v) for v in dice(pred, target, empty="nan").tolist()] == [True, False, True, False]
    assert values[1:4:2] == [0, 1]


def test_speckle_costs_what_its_points_cost():
    pred, target = noise(0.01, 1, 512, 512, seed=24), blobs(1, 512, 512, seed=25)
    there, back = hausdorff(pred, target).item(), average_surface_distance(pred, target).item()
    assert 0 < back < there
    assert 0 < surface_dice(pred, target, tolerance_mm=2).item() < 0.5


def test_bad_input_of_averages_and_shares():
    mask = dots((1, 1))
    for measure in (average_surface_distance, lambda *m, **k: surface_dice(*m, tolerance_mm=1, **k)):
        with pytest.raises(TypeError, match="threshold first"):
            measure(mask.float(), mask)
        with pytest.raises(ValueError, match="same shape"):
            measure(mask, mask[:, :-1])
        with pytest.raises(ValueError, match="empty must be one of"):
            measure(mask, mask, empty="zero")
        with pytest.raises(ValueError, match="spacing_mm must be positive"):
            measure(mask, mask, spacing_mm=(1, 0))
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="tolerance_mm must be"):
            surface_dice(mask, mask, tolerance_mm=bad)
    with pytest.raises(TypeError, match="tolerance_mm must be a number"):
        surface_dice(mask, mask, tolerance_mm="2")


def hard_cases(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Blobs, some cut by the border; sparse and dense noise; thin lines, also along the border; full images."""

    def line(axis: int, at: int) -> torch.Tensor:
        mask = torch.zeros(1, *size, dtype=torch.bool)
        mask.select(axis, at)[..., 3] = True
        return mask

    full = torch.ones(1, *size, dtype=torch.bool)
    sparse, dense = noise(0.02, 2, *size, seed=17), noise(0.3, 1, *size, seed=19)
    pairs = [
        (blobs(6, *size, seed=16), blobs(6, *size, seed=18)),
        (sparse[:1], dense),
        (sparse[:1], sparse[1:]),
        (sparse[1:], blobs(1, *size, seed=29)),
        (line(1, 2), line(1, 9)),
        (line(1, 9), line(2, 4)),
        (full, line(1, 0)),
        (full, blobs(1, *size, seed=30)),
        (full, full),
    ]
    pred, target = zip(*pairs, strict=True)
    return torch.cat(pred), torch.cat(target)


def scales(scaling: str, count: int, dims: int) -> torch.Tensor | tuple[float, ...] | None:
    """Spacing of pixels, of one grid for all cases, or of each case."""
    if scaling == "pixels":
        return None
    own = 0.2 + 2 * torch.rand(count, dims, generator=torch.Generator().manual_seed(31))
    return own if scaling == "mm of each case" else (0.7, 1.3, 0.4)[:dims]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")  # a keyword it deprecates itself
@pytest.mark.parametrize("size", [(40, 52), (12, 18, 15)], ids=["image", "volume"])
@pytest.mark.parametrize("scaling", ["pixels", "mm", "mm of each case"])
class TestEqualsMonai:
    @pytest.mark.parametrize("percentile", [None, 95, 50])
    def test_hausdorff(self, percentile, size, scaling):
        from monai.metrics import HausdorffDistanceMetric

        pred, target = hard_cases(*size)
        spacing = scales(scaling, len(pred), len(size))
        metric = HausdorffDistanceMetric(include_background=True, percentile=percentile)
        theirs = metric(pred[:, None], target[:, None], spacing=listed(spacing))[:, 0]
        ours = hausdorff(pred, target, percentile=percentile or 100, spacing_mm=spacing)
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-5)

    def test_average_surface_distance(self, size, scaling):
        from monai.metrics import SurfaceDistanceMetric

        pred, target = hard_cases(*size)
        spacing = scales(scaling, len(pred), len(size))
        metric = SurfaceDistanceMetric(include_background=True, symmetric=True)
        theirs = metric(pred[:, None], target[:, None], spacing=listed(spacing))[:, 0]
        ours = average_surface_distance(pred, target, spacing_mm=spacing)
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
    def test_surface_dice(self, tolerance, size, scaling):
        from monai.metrics import SurfaceDiceMetric

        pred, target = hard_cases(*size)
        spacing = scales(scaling, len(pred), len(size))
        metric = SurfaceDiceMetric([tolerance], include_background=True)
        theirs = metric(pred[:, None], target[:, None], spacing=listed(spacing))[:, 0]
        ours = surface_dice(pred, target, tolerance_mm=tolerance, spacing_mm=spacing)
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-5)


def listed(spacing: torch.Tensor | tuple[float, ...] | None) -> list | tuple[float, ...] | None:
    return spacing.tolist() if isinstance(spacing, torch.Tensor) else spacing
