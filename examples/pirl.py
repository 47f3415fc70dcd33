"""PIRL on a folder of your own images: a flat training loop to copy into your own code.

    python examples/pirl.py --data my_scans --out runs/pirl

Without --data it trains on synthetic ultrasound. Rerun the same command to resume. At the end `encoder.pt` holds a
`ResNetEncoder("resnet18", width=32)`, for `sslmed.models.load_encoder`. Misra and van der Maaten, CVPR 2020.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader, StackDataset

from sslmed.augment import views
from sslmed.augment.functional import split_patches
from sslmed.data import Phantom, UnlabelledImages
from sslmed.losses import nce
from sslmed.memory import MemoryBank
from sslmed.metrics import feature_std
from sslmed.models import ImageHead, PatchHead, ResNetEncoder, pooled_features


def main() -> None:
    """Train, with a checkpoint after each epoch."""
    parser = argparse.ArgumentParser(description="PIRL on a folder of images.")
    parser.add_argument("--data", type=Path, help="a folder of images (default: synthetic ultrasound)")
    parser.add_argument("--out", type=Path, default=Path("runs/pirl"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=96, help="side of a view in pixels, a multiple of 6 (96)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images (0)")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    side = args.size * 3 // 2  # crops of a larger image keep their detail
    data = UnlabelledImages(args.data, size=side) if args.data else Phantom(256, size=side)
    numbered = StackDataset(data, range(len(data)))  # an image's number is its row in the memory bank
    loader = DataLoader(numbered, args.batch_size, shuffle=True, num_workers=args.workers)

    encoder = ResNetEncoder("resnet18", width=32).to(device)
    image_head = ImageHead(encoder.channels[-1], 128).to(device)
    patch_head = PatchHead(encoder.channels[-1], 128, patches=36).to(device)
    bank = MemoryBank(len(data), 128).to(device)
    image_and_jigsaw = views.pirl(args.size, frequency=False, cross_patch=False)
    learning = [*encoder.parameters(), *image_head.parameters(), *patch_head.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)

    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint, first = args.out / "last.pt", 0
    parts = {
        "encoder": encoder,
        "image_head": image_head,
        "patch_head": patch_head,
        "bank": bank,
        "optimizer": optimizer,
        "schedule": schedule,
    }
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        first = saved["epoch"]
    else:  # the bank starts with the images as the network sees them
        with torch.no_grad():
            for batch, index in loader:
                bank.fill(index, image_head(pooled_features(encoder, batch["image"].to(device))))

    for epoch in range(first, args.epochs):
        for batch, index in loader:
            image, jigsaw = image_and_jigsaw(batch["image"].to(device))
            patches = split_patches(jigsaw, (6, 6))  # (B, 36, 1, h, w)
            v_image = image_head(pooled_features(encoder, image))  # (B, 128)
            features = pooled_features(encoder, patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
            v_patches = patch_head(features)  # (B, 128)
            own, others = bank[index], bank.negatives(index)
            image_loss = nce(v_image, own, others, population=len(bank))
            patch_loss = nce(v_patches, own, others, population=len(bank))
            loss = (image_loss + patch_loss) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bank.update(index, v_image.detach())
        schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, feature std {feature_std(v_image).item():.3f}")
        torch.save({k: v.state_dict() for k, v in parts.items()} | {"epoch": epoch + 1}, checkpoint)
    torch.save(encoder.state_dict(), args.out / "encoder.pt")
    print(f"encoder: {args.out / 'encoder.pt'}")


if __name__ == "__main__":
    main()
