"""SimCLR on several processes of one machine, on synthetic ultrasound.

torchrun --nproc-per-node 2 examples/simclr_ddp.py [--steps 40]
"""

from __future__ import annotations

import argparse
import os

import torch
from kornia.augmentation import RandomHorizontalFlip, RandomResizedCrop
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from sslmed.augment import GrayJitter, MultiView
from sslmed.data import Phantom
from sslmed.distributed import gather
from sslmed.losses import NTXent
from sslmed.models import ProjectionHead, ResNetEncoder


class Embedder(nn.Module):
    """A narrow ResNet-18 and SimCLR's projection."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNetEncoder("resnet18", width=16)
        self.head = ProjectionHead(self.encoder.channels[-1], 128, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed images (B, 1, H, W) as (B, 64)."""
        return self.head(self.encoder(x)[-1].mean(dim=(2, 3)))


def main() -> None:
    """Train on this process's share of every batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=40, help="train at least this many steps, to the end of an epoch (40)"
    )
    steps = parser.parse_args().steps
    if "RANK" not in os.environ:
        parser.exit(2, f"{parser.prog}: error: start it with torchrun, as --help says\n")
    dist.init_process_group("gloo")
    torch.manual_seed(0)  # the same weights everywhere; the views are seeded below
    data = Phantom(256, size=64)
    sampler = DistributedSampler(data, seed=0)
    loader = DataLoader(data, batch_size=32, sampler=sampler)
    model = DistributedDataParallel(Embedder())
    optimizer, loss_of = torch.optim.Adam(model.parameters(), lr=1e-3), NTXent(temperature=0.2)
    view = nn.Sequential(RandomResizedCrop((64, 64), scale=(0.4, 1.0)), RandomHorizontalFlip(), GrayJitter())
    views = MultiView(view, view, generator=torch.Generator().manual_seed(1 + dist.get_rank()))
    step = 0
    while step < steps:
        sampler.set_epoch(step)
        for batch in loader:
            x0, x1 = views(batch["image"])
            z0, z1 = model(torch.cat([x0, x1])).chunk(2)
            loss = loss_of(gather(z0), gather(z1))  # of the samples of all processes
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if dist.get_rank() == 0 and step % 10 == 0:
                print(f"step {step}: loss {loss.item():.3f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
