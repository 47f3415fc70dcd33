"""FeatureEncoder: any convolutional network as an encoder that returns its feature maps.

Networks that return a list of maps, as timm's with `features_only=True` and the encoders of MONAI and of
segmentation-models-pytorch, are called as they are. Of a classifier, as torchvision's, the forward pass is traced down
to its blocks, which stay unchanged, and the layers after the last map are left out.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from .. import _checks
from .resnet import StridedConv

_SIDE = 128  # of the image on which a network shows its maps
_COARSEST = 32  # a coarser map was pooled, so it is not a feature map
_HINT = "give one that returns a list of maps, as timm.create_model(..., features_only=True)"


class FeatureEncoder(nn.Module):
    """The feature maps of a network: of each size the last one, finest first.

    The network is copied. A first convolution for RGB is summed over its three channels where the encoder gets gray
    images, which is the same as repeating the gray image three times; one for gray is expanded to three channels if it
    gets RGB images, which is the same as averaging them. This holds for a plain `torch.nn.Conv2d` only. Any other first
    convolution, such as timm's `StdConv2d`, which normalises its weight, is left as it is: `forward` repeats gray
    images to its three channels, or averages three channels for one. Parameters on which no map depends are frozen.

    Args:
        network: takes (B, C, H, W), with C = 3 or 1, and returns a list of feature maps, as
            `timm.create_model(name, features_only=True)`; or a classifier such as `torchvision.models.resnet18()`,
            whose blocks return maps (B, F, h, w).
        in_channels: channels of the images, 1 or 3.

    Attributes:
        network: the copy, without what follows the last map. Its names are those of the network's own state dict, and
            `load_encoder` loads checkpoints of the network into it.
        channels: channels of the maps, finest first.
        strides: pixels of the image per pixel of each map, from 2 to 32. Maps of the image's own size are left out.

    Raises:
        TypeError: `network` is not a module.
        ValueError: its first convolution has another number of channels, its forward pass cannot be traced, or no maps
            of a half to a 32nd of the image's size are found.

    Example:
        >>> import torch
        >>> from sslmed.models import ResUNet
        >>> from torchvision.models import mobilenet_v3_small
        >>> encoder = FeatureEncoder(mobilenet_v3_small())
        >>> [tuple(f.shape) for f in encoder(torch.rand(2, 1, 64, 64))]
        [(2, 16, 32, 32), (2, 16, 16, 16), (2, 24, 8, 8), (2, 48, 4, 4), (2, 576, 2, 2)]
        >>> ResUNet(encoder, width=16)(torch.rand(2, 1, 45, 50)).shape
        torch.Size([2, 1, 45, 50])
    """

    def __init__(self, network: nn.Module, *, in_channels: int = 1) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}")
        self.in_channels: int = _checks.integer("in_channels", in_channels, low=1, high=3)
        kind, network = type(network).__name__, copy.deepcopy(network)
        self._stem_channels = _set_in_channels(network, in_channels)
        training, like = network.training, next(network.parameters())
        image = torch.zeros(2, self._stem_channels, _SIDE, _SIDE, dtype=like.dtype, device=like.device)
        network.eval()
        with torch.no_grad():
            try:
                found = network(image)
            except Exception as error:
                raise ValueError(
                    f"network {kind} must take images (B, {self._stem_channels}, {_SIDE}, {_SIDE}): {error}"
                ) from error
            if not isinstance(found, list | tuple):
                network = _with_maps(network, image)
                found = network(image)
        self.network = network
        self.maps: list[tuple[int, bool]] = _finest_first(list(found))
        if len(self.maps) < 2:
            raise ValueError(
                f"network {kind} must have feature maps (B, F, h, w) of at least two sizes from a half to a 32nd of the"
                f" image's, got {len(self.maps)}; {_HINT}"
            )
        with torch.enable_grad():
            maps = self(image[:, :1].expand(-1, in_channels, -1, -1))
            self._freeze_unused(maps)
        self.channels: tuple[int, ...] = tuple(m.shape[1] for m in maps)
        self.strides: tuple[int, ...] = tuple(_SIDE // m.shape[2] for m in maps)
        self.network.train(training)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Encode a batch.

        Args:
            x: (B, in_channels, H, W) floating point.

        Returns:
            As many maps as there are `channels`, finest first.
        """
        expected = f"(B, {self.in_channels}, H, W)"
        _checks.shaped("x", x, expected, ndim=4)
        _checks.floating("x", x)
        if x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape {expected}, got {tuple(x.shape)}")
        if x.shape[1] < self._stem_channels:
            x = x.expand(-1, self._stem_channels, -1, -1)
        elif x.shape[1] > self._stem_channels:
            x = x.mean(dim=1, keepdim=True)
        found = self.network(x)
        return [found[k].permute(0, 3, 1, 2) if last else found[k] for k, last in self.maps]

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"in_channels={self.in_channels}, channels={self.channels}, strides={self.strides}"

    def _freeze_unused(self, maps: list[Tensor]) -> None:
        """Freeze unused parameters: DistributedDataParallel would wait for their gradients."""
        learning = [p for p in self.network.parameters() if p.requires_grad]
        total = torch.stack([m.sum() for m in maps]).sum()
        if learning and total.requires_grad:
            gradients = torch.autograd.grad(total, learning, allow_unused=True)
            for p, gradient in zip(learning, gradients, strict=True):
                p.requires_grad_(gradient is not None)


def can_sum_channels(layer: nn.Module) -> bool:
    """Whether summing the layer's weight over its input channels equals repeating a gray image.

    A subclass may normalise its weight first. Parametrizations and hooks, such as weight norm, keep the weight under
    another name.
    """
    if not isinstance(layer, nn.Conv2d) or type(layer) not in (nn.Conv2d, StridedConv):
        return False
    return layer.groups == 1 and "weight" in layer._parameters


def _set_in_channels(network: nn.Module, channels: int) -> int:
    """Convert the first convolution to gray images, or expand it to three channels, if that is exact.

    Returns:
        The channels that the network takes now.
    """
    stem = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if stem is None or stem.groups != 1 or (stem.in_channels, channels) not in ((1, 1), (1, 3), (3, 1), (3, 3)):
        got = "none" if stem is None else f"one for {stem.in_channels}"
        raise ValueError(
            f"network must have a first convolution for 1 or 3 channels, for in_channels={channels}, got {got}"
        )
    if stem.in_channels == channels or not can_sum_channels(stem):
        return stem.in_channels
    weight = stem.weight.detach()
    if stem.in_channels > channels:
        weight = weight.sum(dim=1, keepdim=True)
    else:
        weight = weight.expand(-1, channels, -1, -1) / channels
    stem.weight = nn.Parameter(weight, requires_grad=stem.weight.requires_grad)
    stem.in_channels = channels
    return channels


def _finest_first(outputs: list[Any]) -> list[tuple[int, bool]]:
    """Which of a network's outputs are maps to return, and which of these have their channels last.

    Of each stride the last map before a coarser one is returned.
    """
    found: dict[int, tuple[int, bool]] = {}
    for k, value in enumerate(outputs):
        if not isinstance(value, Tensor) or value.ndim != 4:
            continue
        channels_last = value.shape[2] != value.shape[3]
        side = value.shape[2]
        square = side == value.shape[1 if channels_last else 3] and side > 0
        if square and _SIDE % side == 0 and max(found, default=1) <= _SIDE // side <= _COARSEST:
            found[_SIDE // side] = k, channels_last
    return [found[stride] for stride in sorted(found) if stride > 1]


class _Blocks(fx.Tracer):
    """Traces into the network and its sequences; all other modules are leaves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return "." in module_qualified_name or not isinstance(m, nn.Sequential)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps what each module returned, in order."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.nodes: list[fx.Node] = []
        self.results: list[Any] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module":
            self.nodes.append(n)
            # A later operation may work in place.
            self.results.append(result.clone() if isinstance(result, Tensor) else None)
        return result


def _with_maps(network: nn.Module, image: Tensor) -> fx.GraphModule:
    """The network up to its last map, returning the maps."""
    try:
        graph = _Blocks().trace(network)
        traced = fx.GraphModule(network, graph)
        recorder = _Recorder(traced)
        recorder.run(image)
    except Exception as error:  # tracing fails in as many ways as there are networks
        raise ValueError(
            f"network {type(network).__name__} returns no list of feature maps, and its forward pass cannot be traced"
            f" ({error}); {_HINT}"
        ) from error
    places = _finest_first(recorder.results)
    (output,) = (node for node in graph.nodes if node.op == "output")
    output.args = (tuple(recorder.nodes[k] for k, _ in places),)
    graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
