"""Every layer of a model, a head or a loss is called as a module: hooks, weight norm, pruning and replacements act."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import pieces
from sslmed import losses, models

rows, maps, images = (torch.rand(*size) + 0.1 for size in ((6, 8), (6, 8, 3, 3), (2, 1, 32, 32)))
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "FeatureEncoder": (lambda: models.FeatureEncoder(pieces.two_convolutions()), (images,)),
    "ImageHead": (lambda: models.ImageHead(8, 4), (maps,)),
    "PatchHead": (lambda: models.PatchHead(8, 4, patches=3, style="two_stage"), (torch.rand(6, 3, 8),)),
    "PredictionHead": (lambda: models.PredictionHead(8, 5), (rows,)),
    "ProjectionHead": (lambda: models.ProjectionHead(8, 5, 4, layers=3, batch_norm=True), (rows,)),
    "RelationContrastive": (lambda: losses.RelationContrastive(8, hidden=5), (rows, rows.flip(0), rows[:4])),
    "RelationHead": (lambda: losses.RelationHead(8, hidden=5), (rows, rows.flip(0))),
    "ResNetEncoder": (lambda: models.ResNetEncoder(width=4), (images,)),
    "ResUNet": (lambda: models.ResUNet(width=4), (images,)),
    "UNet": (lambda: models.UNet(width=4), (images,)),
}


def learned() -> set[str]:
    """Public modules with parameters: losses without any take settings alone, so they can be made from none."""
    names = set()
    for room in (models, losses):
        for name in room.__all__:
            kind = getattr(room, name)
            if inspect.isclass(kind) and issubclass(kind, nn.Module):
                arguments = inspect.signature(kind).parameters.values()
                required = [p for p in arguments if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
                required = [p for p in required if p.kind is not p.VAR_KEYWORD]
                if required or next(kind().parameters(), None) is not None:
                    names.add(name)
    return names


def test_all_modules_with_parameters_are_swept() -> None:
    assert learned() - {"UNetFeatures"} == CASES.keys()  # which runs a U-Net's layers, but for the last


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(0)
    make, inputs = CASES[request.param]
    return make().double().eval(), tuple(x.double() for x in inputs)


def layers_of(module: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))}


def values(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    with torch.no_grad():
        result = module(*inputs)
    return torch.cat([x.flatten() for x in ([result] if isinstance(result, Tensor) else result)])


def test_every_layer_runs_its_hooks(case: tuple[nn.Module, tuple[Any, ...]]) -> None:
    module, inputs = case
    called = set()
    for name, layer in module.named_modules():
        if next(layer.children(), None) is None:
            layer.register_forward_hook(lambda *_, name=name: called.add(name))
    values(module, inputs)
    assert {name for name, layer in module.named_modules() if not [*layer.children()]} == called


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("how", ["weight norm", "parametrised weight norm", "pruning"])
def test_layers_with_derived_weights(case: tuple[nn.Module, tuple[Any, ...]], how: str) -> None:
    module, inputs = case
    derived = copy.deepcopy(module)
    for name, layer in layers_of(derived).items():
        if how == "pruning":
            prune.random_unstructured(layer, "weight", 0.5)
        else:
            (nn.utils.weight_norm if how == "weight norm" else parametrizations.weight_norm)(layer)
            scale = layer.parametrizations.weight.original0 if how != "weight norm" else layer.weight_g
            scale.data *= 1.5
        plain = module.get_submodule(name)
        factor = 1.5 if how != "pruning" else layer.weight_mask
        plain.weight.data *= factor
    torch.testing.assert_close(values(derived, inputs), values(module, inputs))


class Adapted(nn.Module):
    """A replacement as LoRA's: the layer with an addition, and no attribute `weight`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * self.layer(x) + 0.7


def test_layers_can_be_replaced(case: tuple[nn.Module, tuple[Any, ...]]) -> None:
    module, inputs = case
    before = values(module, inputs)
    for name in layers_of(module):
        changed = copy.deepcopy(module)
        changed.set_submodule(name, Adapted(changed.get_submodule(name)))
        assert bool((values(changed, inputs) != before).any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_relation_network_works_in_float32_or_wider_whatever_its_layers_are(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = losses.RelationHead(8, hidden=5).to(dtype)
    pruned, hooked = copy.deepcopy(plain), copy.deepcopy(plain)
    prune.random_unstructured(pruned.hidden, "weight", 0.0)
    for layer in (hooked.hidden, hooked.score):
        layer.register_forward_hook(lambda layer, inputs, output: (seen.append(output.dtype), 2 * output)[1])
    for x in (rows, rows.to(dtype)):
        seen: list[torch.dtype] = []
        wide = torch.promote_types(dtype, torch.float32)
        expected = copy.deepcopy(plain).to(wide)(x.to(wide), x.to(wide))
        for head in (plain, pruned):
            with torch.autocast("cpu", torch.bfloat16):
                torch.testing.assert_close(head(x, x), expected)
        assert hooked(x, x).dtype == wide
        assert seen == [wide, wide]
