from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sslmed.models import ImageHead, PatchHead, PredictionHead, ProjectionHead


def kinds(mlp: nn.Sequential) -> list[str]:
    return [type(part).__name__ for part in mlp]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_projection_layers():
    assert kinds(ProjectionHead(8, 4, 2).mlp) == ["Linear", "ReLU", "Linear"]
    deep = ProjectionHead(8, 4, 2, layers=3, batch_norm=True)
    assert kinds(deep.mlp) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [p.out_features for p in deep.mlp if isinstance(p, nn.Linear)] == [4, 4, 2]
    assert count(ProjectionHead(8, 4, 2)) == (8 * 4 + 4) + (4 * 2 + 2)


def test_prediction_layers():
    assert kinds(PredictionHead(8, 4).mlp) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_projection_is_the_written_formula():
    head = ProjectionHead(5, 7, 3).double()
    x = torch.rand(4, 5, dtype=torch.float64)
    first, _, last = head.mlp
    hidden = (x @ first.weight.T + first.bias).clamp_min(0)
    torch.testing.assert_close(head(x), hidden @ last.weight.T + last.bias)


def test_parameter_counts_of_the_paper():
    with torch.device("meta"):
        assert count(PatchHead(2048, patches=36)) == 9_437_312
        assert count(PatchHead(2048, patches=36, style="two_stage")) == 852_224
        assert count(ImageHead(2048)) == 2048 * 128 + 128


def test_image_head_averages_a_map():
    head = ImageHead(6, 4).double()
    features = torch.rand(3, 6, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(head(features), head(features.mean(dim=(2, 3))))
    expected = head.linear(features.mean(dim=(2, 3)))
    torch.testing.assert_close(head(features), expected / expected.square().sum(1, keepdim=True).sqrt())


@pytest.mark.parametrize("head", [ImageHead(6, 4, batch_norm=True), PatchHead(2, 4, patches=3, batch_norm=True)])
def test_batch_norm_removes_what_all_images_share(head: nn.Module) -> None:
    torch.manual_seed(0)
    head = copy.deepcopy(head).double()
    linear = head.linear if isinstance(head, ImageHead) else head.all
    with torch.no_grad():
        linear.bias.fill_(50)
    x = torch.rand(8, 6, dtype=torch.float64)
    z = linear(x)
    expected = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
    features = x if isinstance(head, ImageHead) else x.view(8, 3, 2)
    torch.testing.assert_close(head(features), expected / expected.norm(dim=1, keepdim=True))
    assert sum(p.numel() for p in head.norm.parameters()) == 0


def test_patch_head_concatenates_in_order():
    head = PatchHead(3, 4, patches=5).double()
    x = torch.rand(2, 5, 3, dtype=torch.float64)
    rows = []
    for image in x:
        y = head.all.bias.clone()
        for k, patch in enumerate(image):
            y = y + head.all.weight[:, 3 * k : 3 * k + 3] @ patch
        rows.append(y / y.norm())
    torch.testing.assert_close(head(x), torch.stack(rows))
    assert not torch.allclose(head(x), head(x.flip(1)))


def test_two_stage_patch_head_maps_each_patch_alike():
    head = PatchHead(3, 4, patches=5, style="two_stage").double()
    x = torch.rand(2, 5, 3, dtype=torch.float64)
    joined = torch.cat([head.each(x[:, k]) for k in range(5)], dim=1)
    torch.testing.assert_close(head(x), nn.functional.normalize(head.all(joined)))


@pytest.mark.parametrize("style", ["concat_linear", "two_stage"])
def test_rows_are_unit_and_wide_under_autocast(style, device):
    image, patch = ImageHead(8).to(device), PatchHead(8, patches=4, style=style).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        rows = [image(torch.rand(5, 8, device=device)), patch(torch.rand(5, 4, 8, device=device))]
    for v in rows:
        assert v.dtype == torch.float32
        torch.testing.assert_close(v.norm(dim=1), torch.ones(5, device=device), rtol=0, atol=1e-6)


def test_a_zero_row_stays_finite():
    head = ImageHead(4)
    nn.init.zeros_(head.linear.weight)
    nn.init.zeros_(head.linear.bias)
    v = head(torch.rand(2, 4))
    v.sum().backward()
    assert torch.equal(v, torch.zeros(2, 128))
    assert head.linear.weight.grad.isfinite().all()


def test_bad_settings():
    with pytest.raises(ValueError, match="layers must be at least 2, got 1"):
        ProjectionHead(8, 4, 2, layers=1)
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        PredictionHead(8, 0)
    with pytest.raises(ValueError, match="style must be one of 'concat_linear', 'two_stage', got 'pirl'"):
        PatchHead(8, style="pirl")
    with pytest.raises(TypeError, match="in_dim must be an integer"):
        ImageHead(8.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (ProjectionHead(8, 4, 2), (3, 8)),
        (ProjectionHead(8, 4, 2, batch_norm=True), (3, 8)),
        (PredictionHead(8, 4), (3, 8)),
        (ImageHead(8), (3, 8)),
        (ImageHead(8), (3, 8, 2, 2)),
        (PatchHead(8, patches=4), (3, 4, 8)),
        (PatchHead(8, patches=4, style="two_stage"), (3, 4, 8)),
    ],
)
def test_features_that_are_not_floating_point(head, shape, dtype):
    name = "projection" if isinstance(head, PredictionHead) else "features"
    with pytest.raises(TypeError, match=f"{name} must be a floating point tensor, got {dtype}"):
        head(torch.ones(shape).to(dtype))


def test_bad_input():
    with pytest.raises(ValueError, match=r"features must have shape \(N, 8\), got \(3, 9\)"):
        ProjectionHead(8, 4, 2)(torch.rand(3, 9))
    with pytest.raises(ValueError, match=r"projection must have shape \(N, 8\), got \(3, 8, 1\)"):
        PredictionHead(8, 4)(torch.rand(3, 8, 1))
    with pytest.raises(ValueError, match=r"features must have shape \(N, 8\) or \(N, 8, h, w\), got"):
        ImageHead(8)(torch.rand(3, 9, 2, 2))
    with pytest.raises(ValueError, match=r"features must have shape \(N, 36, 8\), got \(3, 35, 8\)"):
        PatchHead(8)(torch.rand(3, 35, 8))
