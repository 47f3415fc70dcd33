"""Encoders by name: the library's own ResNets, and networks of torchvision and timm."""

from __future__ import annotations

import importlib

from torch import nn

from ..models import FeatureEncoder, ResNetEncoder, ResUNet

IMAGENET = "imagenet"


def make_encoder(name: str, *, width: int, imagenet: bool = False) -> ResNetEncoder | FeatureEncoder:
    """The encoder of a name, for gray images.

    Args:
        name: of a `ResNetEncoder`, as resnet18; or torchvision/NAME or timm/NAME.
        width: channels of a `ResNetEncoder`'s first map; the others keep their own.
        imagenet: start from the library's ImageNet weights, which it fetches; else at random.

    Raises:
        ValueError: an unknown name, a library that is not installed, or weights that cannot be fetched.
    """
    library, _, network = name.rpartition("/")
    if not library:
        if imagenet:
            raise ValueError(
                f"--weights {IMAGENET} needs an encoder of torchvision or timm, as torchvision/{name}, got {name}; or "
                "give a file of weights"
            )
        return ResNetEncoder(network, width=width)
    if library not in ("torchvision", "timm"):
        raise ValueError(f"the encoder {name} must be of torchvision or timm, as torchvision/resnet18, got {library}")
    try:
        return FeatureEncoder(
            _of_torchvision(network, imagenet) if library == "torchvision" else _of_timm(network, imagenet)
        )
    except ImportError as error:
        raise ValueError(
            f"the encoder {name} needs {library}, which is not installed: pip install {library}"
        ) from error
    except Exception as error:  # of the network: each library and each way of failing has its own
        if not imagenet or isinstance(error, ValueError):
            raise ValueError(f"the encoder {name} cannot be made: {error}") from error
        raise ValueError(
            f"the ImageNet weights of {name} cannot be fetched ({error}); fetch them elsewhere and give the file with "
            "--weights FILE, or start at random with --weights none"
        ) from error


def make_unet(encoder: str, *, width: int, imagenet: bool = False) -> ResUNet:
    """The U-Net for gray images on the encoder of a name; the arguments are those of `make_encoder`.

    `width` is that of the decoder too.
    """
    made = make_encoder(encoder, width=width, imagenet=imagenet)
    return ResUNet(made, standardise=True, **({} if isinstance(made, ResNetEncoder) else {"width": width}))


def _of_torchvision(name: str, imagenet: bool) -> nn.Module:
    from torchvision.models import get_model

    network: nn.Module = get_model(name, weights="DEFAULT" if imagenet else None)
    return network


def _of_timm(name: str, imagenet: bool) -> nn.Module:
    timm = importlib.import_module("timm")
    network: nn.Module = timm.create_model(name, pretrained=imagenet, features_only=True)
    return network
