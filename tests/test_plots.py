from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch

from sslmed import augment, metrics, plots
from sslmed.plots.galleries import _spectrum


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image of 0.5, a target and a prediction that overlap in one 4 x 4 block."""
    target, pred = np.zeros((16, 12), bool), np.zeros((16, 12), bool)
    target[2:10, 2:8], pred[6:14, 4:10] = True, True
    return np.full((16, 12), 0.5, np.float32), target, pred


def pixels(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=50)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def test_overlay_colours_each_region_and_keeps_the_rest(case):
    image, target, pred = case
    rgb = plots.overlay(image, target, pred)
    assert rgb.shape == (16, 12, 3)
    assert rgb.dtype == np.uint8
    assert rgb[6, 4].tolist() == list(plots.TP)
    assert rgb[13, 9].tolist() == list(plots.FP)
    assert rgb[2, 2].tolist() == list(plots.FN)
    assert (rgb[~(target | pred)] == 128).all()
    inside = rgb[4, 5]  # inside the false negatives: 0.6 of the gray, 0.4 of the colour
    assert inside.tolist() == [round(0.6 * 127.5 + 0.4 * value) for value in plots.FN]


def test_overlay_marks_region_borders_against_a_slow_loop(case):
    image, target, pred = case
    rgb = plots.overlay(image, target, pred, alpha=0.0)
    region = target & ~pred
    for y, x in np.argwhere(region):
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        border = any(not (0 <= a < 16 and 0 <= b < 12) or not region[a, b] for a, b in near)
        assert rgb[y, x].tolist() == (list(plots.FN) if border else [128, 128, 128])


def test_overlay_takes_bytes_floats_tensors_and_a_channel(case):
    _, target, pred = case
    expected = plots.overlay(np.full((16, 12), 128, np.uint8), target, pred)
    as_tensors = (torch.full((1, 16, 12), 128 / 255), torch.tensor(target)[None], torch.tensor(pred)[None])
    np.testing.assert_array_equal(plots.overlay(*as_tensors), expected)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"target": np.zeros((16, 12), np.uint8)}, TypeError, "target must be bool, got uint8"),
        (
            {"pred": np.zeros((8, 12), bool)},
            ValueError,
            r"pred must have the image's shape \(16, 12\), got \(8, 12\)",
        ),
        ({"image": np.full((16, 12), 1.5)}, ValueError, r"image must lie in \[0, 1\]"),
        ({"image": np.full((16, 12), np.nan)}, ValueError, r"image must lie in \[0, 1\]"),
        (
            {"image": np.zeros((16, 12), np.int64)},
            TypeError,
            "image must be uint8 or floating point, got int64",
        ),
        ({"image": np.zeros((3, 16, 12))}, ValueError, r"image must have shape \(H, W\)"),
        ({"alpha": 1.2}, ValueError, "alpha must lie in"),
    ],
)
def test_overlay_refuses(case, change, error, match):
    image, target, pred = case
    arguments = {"image": image, "target": target, "pred": pred} | change
    with pytest.raises(error, match=match):
        plots.overlay(**arguments)


def test_overlay_grid_draws_empty_full_and_differently_sized_cases(case):
    image, target, pred = case
    empty, full = np.zeros((20, 20), bool), np.ones((20, 20), bool)
    black = np.zeros((20, 20), np.float32)
    images, targets = [image, black, black], [target, empty, full]
    figure = plots.overlay_grid(images, targets, [pred, full, empty], ["a", "b $x_", "c\nDice 0.0"])
    assert len(figure.axes) == 12
    assert len(pixels(figure))
    words = [text.get_text() for text in figure.texts]
    assert words[:5] == ["image", "ground truth", "prediction", "overlay", "a"]
    assert "b $x_" in words  # never read as mathematics


def test_overlay_grid_refuses_unequal_lengths(case):
    image, target, pred = case
    with pytest.raises(ValueError, match="targets has 2"):
        plots.overlay_grid([image], [target, target], [pred])
    with pytest.raises(ValueError, match="titles must have 1 entries"):
        plots.overlay_grid([image], [target], [pred], ["a", "b"])
    with pytest.raises(ValueError, match="at least 1"):
        plots.overlay_grid([], [], [])


def test_prediction_grid_sets_methods_side_by_side(case):
    image, target, pred = case
    empty = np.zeros((16, 12), bool)
    preds = {"SimCLR": [pred, None], "a long name of a method": [empty, pred]}
    scores = {"SimCLR": ["Dice 0.50", ""], "a long name of a method": ["Dice 0.00", "Dice 0.00"]}
    figure = plots.prediction_grid([image, image], [target, empty], preds, ["a", "b $x_"], scores=scores)
    assert len(figure.axes) == 8
    assert len(pixels(figure))
    words = [text.get_text() for text in figure.texts]
    assert words[:4] == ["image", "reference", "SimCLR", "a long name of a\nmethod"]
    assert [text.get_text() for axes in figure.axes[2:4] for text in axes.texts] == ["Dice 0.50", "Dice 0.00"]
    assert not figure.axes[6].images  # no prediction
    shown = figure.axes[2].images[0].get_array()
    size = shown.shape[0] // 16
    np.testing.assert_array_equal(shown, plots.overlay(*(x.repeat(size, 0).repeat(size, 1) for x in case)))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts][-1] == "reference outline"


def test_prediction_grid_gives_each_structure_its_colour():
    image = np.full((4, 6), 0.5, np.float32)
    numbers = np.zeros((4, 6), np.uint8)
    numbers[:2, :3], numbers[2:, 3:] = 1, 2
    figure = plots.prediction_grid([image], [numbers], {"SimCLR": [numbers]}, structures=("anterior", "posterior"))
    shown = figure.axes[2].images[0].get_array()[::50, ::50]
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 3
    np.testing.assert_allclose(shown[numbers == 0], 0.5)
    np.testing.assert_allclose(shown, figure.axes[1].images[0].get_array())
    assert [text.get_text() for text in figure.legends[0].texts] == ["anterior", "posterior", "reference outline"]


def test_prediction_grid_refuses(case):
    image, target, pred = case
    with pytest.raises(ValueError, match=r"preds\['MoCo'\] has 2"):
        plots.prediction_grid([image], [target], {"MoCo": [pred, pred]})
    with pytest.raises(ValueError, match=r"scores\['MoCo'\] must have 1 entries"):
        plots.prediction_grid([image], [target], {"MoCo": [pred]}, scores={"MoCo": []})
    with pytest.raises(ValueError, match="numbers from 0 to 1, one for each structure, got 2"):
        plots.prediction_grid([image], [target], {"MoCo": [pred * 2]})
    with pytest.raises(TypeError, match="must be bool or integers, got float"):
        plots.prediction_grid([image], [target], {"MoCo": [pred * 0.5]})
    with pytest.raises(ValueError, match=r"must have the image's shape"):
        plots.prediction_grid([image], [target], {"MoCo": [pred[:4]]})


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (6, 11)])
def test_spectrum_tints_exactly_the_stopped_bins(size):
    rng = np.random.default_rng(0)
    h, w = size
    image = rng.random(size).astype(np.float32)
    keep = rng.random((h, w // 2 + 1)) > 0.5
    # The columns u = 0 (and the Nyquist one) hold both of a Hermitian pair: keep them consistent.
    for column in {0, w // 2} if w % 2 == 0 else {0}:
        keep[:, column] &= keep[-np.arange(h) % h, column]
    tinted = np.ptp(_spectrum(image, keep), axis=2) > 1e-6
    whole = np.empty(size, bool)
    for u in range(h):
        for v in range(w):
            whole[u, v] = keep[u, v] if v <= w // 2 else keep[-u % h, w - v]
    np.testing.assert_array_equal(tinted, ~np.fft.fftshift(whole))


def test_filter_gallery_shows_difference_and_its_scale():
    image = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    filtered = image + np.float32(0.25)
    figure = plots.filter_gallery(image, filtered, np.ones((1, 8, 5), bool))
    shown = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(shown, 0.25, atol=1e-6)
    assert [text.get_text() for text in figure.axes[2].texts] == ["±0.25"]
    assert len(pixels(figure))


def test_filter_gallery_refuses_masks_of_another_size():
    x = np.zeros((1, 8, 8), np.float32)
    with pytest.raises(ValueError, match=r"kept must be bool of shape \(8, 5\)"):
        plots.filter_gallery(x, x, np.ones((1, 8, 8), bool))
    with pytest.raises(ValueError, match="filtered must have the images' shape"):
        plots.filter_gallery(x, np.zeros((1, 8, 6), np.float32), np.ones((1, 8, 5), bool))


def test_jigsaw_gallery_outlines_the_focal_area_only():
    x = np.zeros((1, 12, 12), np.float32)
    focal = np.zeros((3, 3), bool)
    focal[1], focal[:, 0] = True, True
    figure = plots.jigsaw_gallery(x, x, (3, 3), focal.reshape(1, 9))
    for axes in figure.axes:
        segments = {
            tuple(sorted(zip(*map(np.ndarray.tolist, map(np.asarray, line.get_data())), strict=True)))
            for line in axes.lines
        }
        # The perimeter of an area of 5 patches in this shape: 12 patch edges.
        assert len(segments) == 12
        assert ((-0.5, -0.5), (-0.5, 3.5)) in segments  # left border of the focal corner
        assert ((3.5, 3.5), (7.5, 3.5)) in segments  # top of the focal row
        assert ((3.5, 3.5), (3.5, 7.5)) not in segments  # between two focal patches
    assert not plots.jigsaw_gallery(x, x, (3, 3)).axes[0].lines
    with pytest.raises(ValueError, match=r"focal must be bool of shape \(1, 9\)"):
        plots.jigsaw_gallery(x, x, (3, 3), focal)


class Counted(torch.nn.Module):
    """A wave added to every image; counts its calls."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        assert not torch.is_grad_enabled()
        wave = torch.cos(2 * torch.pi * 3 * torch.arange(x.shape[3]) / x.shape[3]).to(x)
        return x + 0.25 * wave


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1000.0, -500.0)])
def test_preview_shows_originals_results_differences_and_spectra(channels, scale, shift):
    images = scale * torch.rand(2, channels, 16, 24, generator=torch.Generator().manual_seed(0)) + shift
    wave = Counted()
    before = images.clone()
    figure = plots.preview(wave, images, titles=["first", "second"])
    assert wave.calls == 1
    assert torch.equal(images, before)
    assert len(figure.axes) == 10
    for row in range(2):
        original, result, difference, *spectra = (axes.get_images()[0] for axes in figure.axes[5 * row : 5 * row + 5])
        expected = images[row].double().mean(0).numpy()
        np.testing.assert_allclose(original.get_array(), expected, rtol=1e-6)
        np.testing.assert_allclose(difference.get_array(), result.get_array() - expected)
        assert original.get_clim() == result.get_clim() == (expected.min(), expected.max())
        assert difference.get_clim() == pytest.approx((-0.25, 0.25), rel=1e-3)
        assert figure.axes[5 * row + 2].texts[0].get_text() == "±0.25"
        magnitude = np.abs(np.fft.fft2(expected - expected.mean()))
        level = 20 * np.log10(np.maximum(magnitude / magnitude.max(), 1e-4))
        np.testing.assert_allclose(spectra[0].get_array(), np.fft.fftshift(level), atol=1e-3)
        changed = np.argwhere(np.abs(spectra[1].get_array() - spectra[0].get_array()) > 1e-3)
        assert {tuple(place) for place in changed} <= {(8, 9), (8, 15)}
        assert len(changed) or scale > 1


@pytest.mark.parametrize("make", [augment.GrayJitter, augment.PatchJigsaw, augment.GibbsRinging, augment.BiasField])
def test_preview_takes_the_augmentations(make):
    images = torch.randn(2, 3, 48, 36) * 1000
    assert len(plots.preview(make(), images).axes) == 10


def test_preview_takes_constants_and_what_changes_nothing():
    figure = plots.preview(lambda x: x, torch.full((1, 1, 8, 8), -3.0).bfloat16())
    assert figure.axes[2].texts[0].get_text() == "±0"
    assert pixels(figure).size


@pytest.mark.parametrize(
    ("change", "images", "error", "match"),
    [
        (None, np.zeros((1, 1, 8, 8)), TypeError, r"images must be a torch\.Tensor, got ndarray"),
        (
            None,
            torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
            TypeError,
            "images must be a floating point tensor",
        ),
        (None, torch.zeros(1, 8, 8), ValueError, r"images must have shape \(B, C, H, W\), got \(1, 8, 8\)"),
        (None, torch.zeros(0, 1, 8, 8), ValueError, "images must hold at least one image"),
        (None, torch.full((1, 1, 8, 8), np.nan), ValueError, "images must be finite"),
        (
            lambda x: x[..., 1:],
            torch.zeros(1, 1, 8, 8),
            ValueError,
            "images and what augment gives must have the",
        ),
        (lambda x: x / 0, torch.ones(1, 1, 8, 8), ValueError, "what augment gives must be finite"),
        (lambda x: [x, x], torch.ones(1, 1, 8, 8), TypeError, r"what augment gives must be a torch\.Tensor"),
    ],
)
def test_preview_refuses(change, images, error, match):
    with pytest.raises(error, match=match):
        plots.preview(change or (lambda x: x), images)
    with pytest.raises(ValueError, match="titles must have 1 entries"):
        plots.preview(lambda x: x, torch.zeros(1, 1, 8, 8), titles=[])


def test_curves_share_line_and_entry_within_a_group():
    runs = {
        "a0": ([0, 1], [1.0, 0.5]),
        "a1": ([0, 1], [1.1, 0.6]),
        "b0": ([0, 1, 2], [2.0, float("nan"), 1.0]),
    }
    figure = plots.curves(runs, groups={"a0": "a", "a1": "a"}, ylabel="loss $")
    (axes,) = figure.axes
    first, second, third = axes.lines
    assert (first.get_color(), first.get_linestyle()) == (second.get_color(), second.get_linestyle())
    assert first.get_color() != third.get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b0"]
    np.testing.assert_array_equal(second.get_ydata(), [1.1, 0.6])
    assert len(pixels(figure))


def test_curves_refuse_unequal_lengths_and_nothing():
    with pytest.raises(ValueError, match=r"runs\['a'\] must be two sequences of one length"):
        plots.curves({"a": ([0, 1], [1.0])})
    with pytest.raises(ValueError, match="at least one curve"):
        plots.curves({})


def test_metric_strip_draws_every_case_and_the_quartiles():
    values = np.random.default_rng(0).random(50)
    figure = plots.metric_strip({"m": values, "n": [0.5, float("inf"), float("nan")]}, xlabel="Dice")
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 0], values)
    (box,) = axes.collections[1].get_paths()
    np.testing.assert_allclose([box.vertices[:, 0].min(), box.vertices[:, 0].max()], np.quantile(values, [0.25, 0.75]))
    np.testing.assert_allclose(axes.lines[0].get_xdata(), np.median(values))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["m\nn = 50", "n\nn = 3, 2 not finite"]
    assert len(pixels(figure))
    with pytest.raises(ValueError, match=r"values\['m'\] must have shape \(N,\)"):
        plots.metric_strip({"m": []}, xlabel="Dice")


CLASSES = ["benign", "malignant", "normal"]


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and classes."""
    rng = np.random.default_rng(1)
    target = rng.choice(3, 60, p=[0.5, 0.4, 0.1])
    return np.round(rng.random((60, 3)) + 0.4 * np.eye(3)[target], 1), target


def slow_rates(scores, positive):
    """(false positive rate, true positive rate, precision) at every threshold, by counting."""
    points = []
    for threshold in [np.inf, *sorted(set(scores), reverse=True)]:
        called = scores >= threshold
        hits, alarms = int((called & positive).sum()), int((called & ~positive).sum())
        precision = hits / (hits + alarms) if hits + alarms else np.nan
        points.append((alarms / (~positive).sum(), hits / positive.sum(), precision))
    return np.array(points).T


def test_roc_and_precision_recall_lines_against_counting(scored):
    scores, target = scored
    roc, pr = (f(scores, target, classes=CLASSES) for f in (plots.roc_curves, plots.precision_recall_curves))
    lines = roc.axes[0].lines[1:], pr.axes[0].lines[1::2]
    for k in range(3):
        alarms, hits, precision = slow_rates(scores[:, k], target == k)
        np.testing.assert_allclose(lines[0][k].get_data(), (alarms, hits))
        np.testing.assert_allclose(lines[1][k].get_xdata(), hits)
        np.testing.assert_allclose(lines[1][k].get_ydata()[1:], precision[1:])
    assert len(pixels(roc))
    assert len(pixels(pr))


def test_areas_under_the_lines_are_those_of_the_metrics(scored):
    scores, target = scored
    roc, pr = (f(scores, target, classes=CLASSES) for f in (plots.roc_curves, plots.precision_recall_curves))
    x, y = torch.tensor(scores), torch.tensor(target)
    for k, (area, step) in enumerate(zip(metrics.roc_auc(x, y), metrics.average_precision(x, y), strict=True)):
        alarms, hits = roc.axes[0].lines[1 + k].get_data()
        assert (np.diff(alarms) * (hits[1:] + hits[:-1]) / 2).sum() == pytest.approx(float(area))
        recall, precision = pr.axes[0].lines[1 + 2 * k].get_data()
        assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(float(step))


def test_infinite_scores_are_ties_like_any_others():
    logits = np.array([[np.inf, 0.0], [np.inf, 0.0], [-np.inf, 1.0], [-np.inf, 1.0]])
    figure = plots.roc_curves(logits, np.array([0, 1, 0, 1]), classes=["benign", "malignant"])
    alarms, hits = figure.axes[0].lines[1].get_data()
    assert (alarms.tolist(), hits.tolist()) == ([0, 0.5, 1], [0, 0.5, 1])


def test_classes_without_cases_have_no_line_and_say_so(scored):
    scores, target = scored
    kept = target < 2
    for f in (plots.roc_curves, plots.precision_recall_curves):
        figure = f(scores[kept], target[kept], classes=CLASSES, areas=[0.5, 0.25, None])
        words = [text.get_text() for text in figure.legends[0].get_texts()]
        assert words == ["benign, area 0.500", "malignant, area 0.250", "normal: no line"]
        assert len(figure.legends[0].legend_handles) == 3
    only = plots.roc_curves(scores[:2], np.array([0, 0]), classes=CLASSES)
    assert only.legends[0].get_texts()[0].get_text() == "benign: no line"


@pytest.mark.parametrize("draw", [plots.roc_curves, plots.precision_recall_curves])
@pytest.mark.parametrize(
    ("scores", "target", "words", "error", "match"),
    [
        (np.zeros((2, 3), int), [0, 1], {}, TypeError, "scores must be floating point"),
        (np.zeros((2, 3)), [0.0, 1.0], {}, TypeError, "target must be integers"),
        (np.zeros((2, 2)), [0, 1], {}, ValueError, r"scores must have shape \(N, 3\)"),
        (np.zeros((2, 3)), [0, 1, 1], {}, ValueError, "scores has 2, target has 3"),
        (np.full((2, 3), np.nan), [0, 1], {}, ValueError, "scores must be numbers, got NaN"),
        (np.zeros((2, 3)), [0, 3], {}, ValueError, r"target must lie in 0\.\.2, got 0 to 3"),
        (np.zeros((2, 3)), [0, 1], {"areas": [1.0]}, ValueError, "areas must have 3 entries"),
    ],
)
def test_class_curves_refuse(draw, scores, target, words, error, match):
    with pytest.raises(error, match=match):
        draw(scores, target, classes=CLASSES, **words)


def test_confusion_matrix_shows_counts_and_shares_of_the_rows():
    counts = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    figure = plots.confusion_matrix(counts, classes=CLASSES, title="a $method_")
    (axes,) = figure.axes
    words = [text.get_text() for text in axes.texts]
    assert words == ["6\n75 %", "2\n25 %", "0\n0 %", "1\n25 %", "3\n75 %", "0\n0 %", *["0\n\N{EN DASH}"] * 3]
    np.testing.assert_allclose(axes.images[0].get_array()[:2], counts[:2] / counts[:2].sum(1, keepdims=True))
    assert axes.get_title() == "a $method_"
    assert len(pixels(figure))
    with pytest.raises(TypeError, match="counts must be integers, got float64"):
        plots.confusion_matrix(counts / 2, classes=CLASSES)
    with pytest.raises(ValueError, match=r"counts must be a \(3, 3\) table"):
        plots.confusion_matrix(counts[:2], classes=CLASSES)
    with pytest.raises(ValueError, match=r"counts must be a \(3, 3\) table"):
        plots.confusion_matrix(-counts, classes=CLASSES)


def test_embedding_draws_every_point_in_its_labels_colour():
    xy = np.random.default_rng(0).normal(size=(9, 2))
    labels = np.array(["b", "a", "", "b", "a", "b", "b", "b", "a"])
    figure = plots.embedding(torch.tensor(xy), labels)
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no label (1)", "a (3)", "b (5)"]
    for name, dots in zip(("", "a", "b"), axes.collections, strict=True):
        np.testing.assert_allclose(dots.get_offsets(), xy[labels == name])
    colours = {tuple(dots.get_facecolor()[0]) for dots in axes.collections}
    assert len(colours) == 3
    assert len(pixels(figure))
    with pytest.raises(ValueError, match=r"xy must be finite numbers of shape \(N, 2\)"):
        plots.embedding(xy[:, :1], labels)
    with pytest.raises(ValueError, match="xy must be finite"):
        plots.embedding(xy * np.nan, labels)
    with pytest.raises(ValueError, match="labels has 2"):
        plots.embedding(xy, ["a", "b"])


def test_view_gallery_takes_views_of_another_size():
    images = torch.rand(2, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    views = np.random.default_rng(0).random((2, 2, 8, 8), dtype=np.float32)
    figure = plots.view_gallery(images, *views, heads=("image", "a", "b"), titles=["one", "two"])
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(shown[3], images[1, 0])
    np.testing.assert_array_equal(shown[5], views[1, 1])
    assert {"image", "a", "b", "one", "two"} == {text.get_text() for text in figure.texts}
    assert len(pixels(figure))
    with pytest.raises(ValueError, match="view1 has 1"):
        plots.view_gallery(images, views[0], views[1, :1])
    with pytest.raises(ValueError, match="titles must have 2 entries"):
        plots.view_gallery(images, *views, titles=["one"])
    with pytest.raises(ValueError, match="heads must have 3 entries"):
        plots.view_gallery(images, *views, heads=("a", "b"))


@pytest.mark.parametrize("log2", [False, True])
def test_label_curves_draw_means_and_bars(log2):
    lines = {"a": ([8, 1, 2], [0.8, 0.1, 0.2], [0.08, 0.01, np.nan]), "b": ([4], [0.5], None)}
    figure = plots.label_curves(lines, xlabel="volumes", ylabel="Dice", log2=log2)
    (axes,) = figure.axes
    first, second = axes.containers
    np.testing.assert_allclose(first.lines[0].get_ydata(), [0.1, 0.2, 0.8])
    assert (np.abs(np.log2(first.lines[0].get_xdata()) - [0, 1, 3]) < 0.1).all() or not log2
    spans = [np.ptp(segment[:, 1]) for segment in first.lines[2][0].get_segments()]
    np.testing.assert_allclose(spans, [0.02, 0, 0.16], atol=1e-12)
    assert not second.lines[2]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "8"]
    assert len(pixels(figure))


def test_label_curves_of_test_sets_are_named():
    line = ([0, 1], [0.5, 0.4], None)
    figure = plots.label_curves({"a": line}, xlabel="tested on", ylabel="Dice", names=["BUSI", "BUS-BRA"])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["BUSI", "BUS-BRA"]
    with pytest.raises(ValueError, match="names must name each of the 2 amounts, got 1"):
        plots.label_curves({"a": line}, xlabel="", ylabel="", names=["BUSI"])


def test_label_curves_mark_a_level():
    line = ([1, 2], [0.5, 0.6], None)
    figure = plots.label_curves({"a": line}, xlabel="volumes", ylabel="Dice", level=("all labels", 0.9))
    (dotted,) = [one for one in figure.axes[0].lines if one.get_linestyle() == ":" and one.get_label() == "all labels"]
    assert list(dotted.get_ydata()) == [0.9, 0.9]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "all labels"]


def test_label_curves_refuse():
    def draw(*line, **words):
        return plots.label_curves({"a": line}, xlabel="", ylabel="", **words)

    with pytest.raises(ValueError, match="at least one method"):
        plots.label_curves({}, xlabel="", ylabel="")
    with pytest.raises(ValueError, match=r"lines\['a'\] must be sequences of one length"):
        draw([1, 2], [0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match=r"lines\['a'\] must be sequences of one length"):
        draw([], [], None)
    with pytest.raises(ValueError, match="must have amounts above 0 with log2, got 0"):
        draw([0, 1], [0.1, 0.2], None, log2=True)


@pytest.mark.parametrize("sharey", [False, True])
@pytest.mark.parametrize("count", [1, 4, 17])
def test_curve_panels_give_each_method_its_own(count, sharey):
    panels = {f"method {k}": {f"seed {s}": (range(3), [k, k + s, 2 * k]) for s in range(2)} for k in range(count)}
    figure = plots.curve_panels(panels, ylabel="loss", sharey=sharey)
    assert [axes.get_title() for axes in figure.axes] == list(panels)
    np.testing.assert_array_equal(figure.axes[-1].lines[1].get_ydata(), [count - 1, count, 2 * count - 2])
    assert len({axes.get_ylim() for axes in figure.axes}) == (1 if sharey else count)
    assert len(pixels(figure))


def test_curve_panels_take_a_range():
    figure = plots.curve_panels({"a": {"b": ([1, 2], [0.5, 0.4])}}, ylim=(0, 1))
    assert figure.axes[0].get_ylim() == (0, 1)


def test_curve_panels_refuse():
    with pytest.raises(ValueError, match="at least one panel"):
        plots.curve_panels({})
    with pytest.raises(ValueError, match="at least one run"):
        plots.curve_panels({"a": {}})
    with pytest.raises(ValueError, match=r"panels\['a'\]\['b'\] must be two sequences of one length"):
        plots.curve_panels({"a": {"b": ([0, 1], [1.0])}})


def test_pictures_are_the_same_under_the_callers_settings():
    import matplotlib

    runs = {"a": ([0, 1], [1.0, 0.5])}
    plain = pixels(plots.curves(runs))
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20, "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        np.testing.assert_array_equal(pixels(plots.curves(runs)), plain)
        assert dict(matplotlib.rcParams) == before


def test_save_writes_whole_files_or_none(tmp_path, monkeypatch):
    figure = plots.curves({"a": ([0, 1], [1.0, 0.5])})
    path = plots.save(figure, tmp_path / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    old = path.read_bytes()

    def half(file, **_):
        file.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        plots.save(figure, path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_save_names_what_is_wrong_with_the_path(tmp_path):
    figure = plots.curves({"a": ([0, 1], [1.0, 0.5])})
    with pytest.raises(ValueError, match=r"path must end in one of .*png.*, got 'a\.docx'"):
        plots.save(figure, tmp_path / "a.docx")
    with pytest.raises(FileNotFoundError, match="the folder of path does not exist"):
        plots.save(figure, tmp_path / "no" / "a.png")


def test_no_pyplot_and_no_matplotlib_at_import():
    code = (
        "import sys, sslmed.plots as p; assert 'matplotlib' not in sys.modules; import numpy as np;"
        "p.curves({'a': ([0, 1], [1, 0])}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_matplotlib_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"python -m pip install .*matplotlib>="):
        plots.curves({"a": ([0, 1], [1.0, 0.5])})


def test_neighbour_gallery_draws_a_row_for_each_query():
    rng = np.random.default_rng(0)
    figure = plots.neighbour_gallery(rng.random((2, 8, 8)), rng.random((2, 3, 8, 8)), titles=["a", "b"])
    assert len(figure.axes) == 8
    assert {"image", "nearest", "2.", "3.", "a", "b"} <= {text.get_text() for text in figure.texts}
    with pytest.raises(ValueError, match=r"shapes \(N, H, W\) and \(N, K, H, W\), got \(2, 8, 8\) and \(1, 3, 8, 8\)"):
        plots.neighbour_gallery(rng.random((2, 8, 8)), rng.random((1, 3, 8, 8)))
