"""What all methods share: the result of a step, and the interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from .._step import Step
from ..augment import MultiView, views
from ..distributed import gather
from ..metrics import feature_std
from ..models import ProjectionHead, ResNetEncoder, feature_width

N = TypeVar("N", bound=nn.Module)
Batches = Iterable[tuple[Tensor, Tensor]]
COMMANDS: dict[str, type[Method]] = {}  # by their `command`


class Method(nn.Module):
    """The interface of a pretext method; see `sslmed.methods` for a training loop.

    A subclass that names its `command` is offered by `sslmed pretrain --method` under this name.
    """

    command: ClassVar[str]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "command" in vars(cls):
            COMMANDS[cls.command] = cls

    @classmethod
    def for_images(cls, count: int, *, encoder: str, width: int, size: int, modality: str, **options: Any) -> Method:
        """The method as `sslmed pretrain` trains it.

        Args:
            count: images of the data set.
            encoder: name of a `sslmed.models.ResNetEncoder`.
            width: channels of its first stage.
            size: pixels a side of a view.
            modality: of the images, as in `sslmed.augment.views`.
            options: other arguments of the method.
        """
        return cls(ResNetEncoder(encoder, width=width), views=cls.usual_views(size, modality=modality), **options)

    @classmethod
    def usual_views(cls, size: int, *, modality: str) -> MultiView:
        """The views that `for_images` gives the method; MoCo v2's unless it overrides this."""
        return views.moco_v2(size, modality=modality)

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """Draw views of a batch and compute the loss.

        Args:
            images: (B, C, H, W) floating point.
            index: (B,) integers, the images' positions in the data set. MoCo, PIRL and RelationContrast need them.

        Returns:
            The loss and the scalars to log.
        """
        raise NotImplementedError

    def start(self, batches: Batches) -> None:
        """Prepare for the first step of a training; do not call it after loading a checkpoint.

        Args:
            batches: all images of the data set once, as pairs (images, index), as from a DataLoader.
        """

    def after_step(self) -> None:
        """Update moving averages; call it after each step of the optimizer."""

    def validate(self, batches: Batches) -> dict[str, float]:
        """The mean loss of held-out images, `val_loss`; their views are the same at every call.

        Only for methods without a memory of images: `index` counts the held-out images, which no memory holds.

        Args:
            batches: pairs (images, index).
        """
        losses, counts = [], []
        device = next(self.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)  # of all devices
            for images, index in batches:
                losses.append(self(images, index).loss.double().cpu())
                counts.append(len(images))
        weights = torch.tensor(counts, dtype=torch.float64, device="cpu") / sum(counts)
        return {"val_loss": (torch.stack(losses) * weights).sum().item()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters, as groups for an optimizer.

        A group with `fix_lr` True keeps its learning rate under any schedule, as some papers ask.
        """
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    @property
    def trained(self) -> nn.Module:
        """The network that the pretext leaves for fine-tuning."""
        encoder = self.encoder
        network = getattr(encoder, "network", encoder)
        assert isinstance(network, nn.Module)
        return network


def of_all_processes(z: Tensor) -> Tensor:
    """The rows of all processes in training; in validation every process has all images, which must count once."""
    return gather(z) if z.requires_grad else z


def channels_last(images: Tensor) -> Tensor:
    """The same images in the memory layout in which convolutions are fastest."""
    return images.contiguous(memory_format=torch.channels_last)


def head_width(head: nn.Module, encoder: nn.Module) -> int:
    """Width D of a head's output for an encoder's features."""
    with torch.no_grad():
        like = next(iter(head.parameters()), torch.empty(0))
        was_training = head.training
        width = int(head.eval()(like.new_zeros(1, feature_width(encoder))).shape[1])
        head.train(was_training)
    return width


def default_head(encoder: nn.Module) -> ProjectionHead:
    """SimCLR's and MoCo v2's: one hidden layer as wide as the features, to 128 dimensions."""
    width = feature_width(encoder)
    return ProjectionHead(width, width, 128)


def spread(embeddings: Tensor) -> Tensor:
    """`sslmed.metrics.feature_std` of a batch; nan for a batch of one."""
    return feature_std(embeddings) if len(embeddings) > 1 else embeddings.new_full((), float("nan"))


def as_channels_last(network: N) -> N:
    """The network itself, its weights in the layout of `channels_last`."""
    return network.to(memory_format=torch.channels_last)
