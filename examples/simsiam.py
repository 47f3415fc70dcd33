"""SimSiam on a folder of your own images: a flat training loop to copy into your own code.

    python examples/simsiam.py --data my_scans --out runs/simsiam

Without --data it trains on synthetic ultrasound. Rerun the same command to resume. At the end `encoder.pt` holds a
`ResNetEncoder("resnet18", width=32)`, for `sslmed.models.load_encoder`. Chen and He, CVPR 2021.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from sslmed.augment import views
from sslmed.data import Phantom, UnlabelledImages
from sslmed.losses import negative_cosine
from sslmed.metrics import feature_std
from sslmed.models import PredictionHead, ProjectionHead, ResNetEncoder, pooled_features


def main() -> None:
    """Train, with a checkpoint after each epoch."""
    parser = argparse.ArgumentParser(description="SimSiam on a folder of images.")
    parser.add_argument("--data", type=Path, help="a folder of images (default: synthetic ultrasound)")
    parser.add_argument("--out", type=Path, default=Path("runs/simsiam"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=64, help="side of a view in pixels (64)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images (0)")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    side = args.size * 3 // 2  # crops of a larger image keep their detail
    data = UnlabelledImages(args.data, size=side) if args.data else Phantom(256, size=side)
    loader = DataLoader(data, args.batch_size, shuffle=True, drop_last=True, num_workers=args.workers)

    encoder = ResNetEncoder("resnet18", width=32).to(device)
    head = ProjectionHead(encoder.channels[-1], 512, 512, layers=3, batch_norm=True).to(device)
    predictor = PredictionHead(512, 128).to(device)
    two_views = views.moco_v2(args.size)
    learning = [*encoder.parameters(), *head.parameters(), *predictor.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)

    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint, first = args.out / "last.pt", 0
    parts = {
        "encoder": encoder,
        "head": head,
        "predictor": predictor,
        "optimizer": optimizer,
        "schedule": schedule,
    }
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        first = saved["epoch"]

    for epoch in range(first, args.epochs):
        for batch in loader:
            x0, x1 = two_views(batch["image"].to(device))
            z0 = head(pooled_features(encoder, x0))  # (B, 512)
            z1 = head(pooled_features(encoder, x1))
            # The loss stops the gradient of its second argument.
            loss = (negative_cosine(predictor(z0), z1) + negative_cosine(predictor(z1), z0)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, feature std {feature_std(z0).item():.3f}")
        torch.save({k: v.state_dict() for k, v in parts.items()} | {"epoch": epoch + 1}, checkpoint)
    torch.save(encoder.state_dict(), args.out / "encoder.pt")
    print(f"encoder: {args.out / 'encoder.pt'}")


if __name__ == "__main__":
    main()
