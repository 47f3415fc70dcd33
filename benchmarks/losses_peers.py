"""The usual ways to write each loss, for benchmarks/losses_sweep.py: plain torch, solo-learn's form, and libraries."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ways = dict[str, Callable[..., Tensor]]
PACKAGES = {
    "lightly": "lightly",
    "pytorch-metric-learning": "pytorch_metric_learning",
    "stable-pretraining": "stable_pretraining",
}
INSTALLED = [name for name, module in PACKAGES.items() if importlib.util.find_spec(module)]


def nt_xent(temperature: float, n: int) -> Ways:
    def cross_entropy(a: Tensor, b: Tensor) -> Tensor:
        n, z = len(a), F.normalize(torch.cat([a, b]), dim=1)
        logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
        partner = torch.arange(n, device=a.device)
        return F.cross_entropy(logits, torch.cat([partner + n, partner]))

    def solo_learn(a: Tensor, b: Tensor) -> Tensor:
        n, z = len(a), F.normalize(torch.cat([a, b]), dim=1)
        index = torch.arange(n, device=a.device).repeat(2)[:, None]
        similar = torch.exp(torch.einsum("if, jf -> ij", z, z) / temperature)
        positive = (index == index.T).fill_diagonal_(False)
        negative = index != index.T
        chosen = torch.sum(similar * positive, 1)
        return -torch.mean(torch.log(chosen / (chosen + torch.sum(similar * negative, 1))))

    ways: Ways = {"torch: cross_entropy": cross_entropy, "torch: solo-learn's form": solo_learn}
    if "lightly" in INSTALLED:
        from lightly.loss import NTXentLoss

        ways["lightly"] = NTXentLoss(temperature=temperature)
    if "pytorch-metric-learning" in INSTALLED and n <= 64:  # its memory grows with the cube of the batch
        from pytorch_metric_learning.losses import NTXentLoss as TheirNTXent
        from pytorch_metric_learning.losses import SelfSupervisedLoss

        ways["pytorch-metric-learning"] = SelfSupervisedLoss(TheirNTXent(temperature=temperature))
    if "stable-pretraining" in INSTALLED:
        from stable_pretraining.losses import NTXEntLoss

        ways["stable-pretraining"] = NTXEntLoss(temperature=temperature)
    return ways


def in_batch(temperature: float) -> Ways:
    def cross_entropy(q: Tensor, p: Tensor) -> Tensor:
        logits = F.normalize(q, dim=1) @ F.normalize(p, dim=1).T / temperature
        return F.cross_entropy(logits, torch.arange(len(q), device=q.device))

    return {"torch: cross_entropy": cross_entropy}


def shared(temperature: float, queue: Tensor, *, ids: Tensor | None = None, negative_ids: Tensor | None = None) -> Ways:
    queue = F.normalize(queue.float() if queue.dtype.itemsize < 4 else queue, dim=1).to(queue.dtype)

    def cross_entropy(q: Tensor, p: Tensor) -> Tensor:
        q, p = F.normalize(q, dim=1), F.normalize(p, dim=1)
        others = q @ queue.T
        if ids is not None and negative_ids is not None:
            others = others.masked_fill(ids[:, None] == negative_ids, -math.inf)
        logits = torch.cat([(q * p).sum(dim=1, keepdim=True), others], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))

    ways: Ways = {"torch: MoCo's cross_entropy": cross_entropy}
    if "lightly" in INSTALLED and ids is None:
        from lightly.loss import NTXentLoss

        bank = NTXentLoss(temperature=temperature, memory_bank_size=tuple(queue.shape)).to(queue.device)
        if queue.dtype == torch.float32:
            ways["lightly"] = bank
    return ways


def own(temperature: float, negatives: Tensor) -> Ways:
    def cross_entropy(q: Tensor, p: Tensor) -> Tensor:
        q, p, n = F.normalize(q, dim=1), F.normalize(p, dim=1), F.normalize(negatives, dim=2)
        others = torch.einsum("nd,nkd->nk", q, n)
        logits = torch.cat([(q * p).sum(dim=1, keepdim=True), others], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))

    return {"torch: cross_entropy": cross_entropy}


def nce(temperature: float, negatives: Tensor, *, population: int = 9999) -> Ways:
    def usual(q: Tensor, p: Tensor) -> Tensor:
        q, p, n = F.normalize(q, dim=1), F.normalize(p, dim=1), F.normalize(negatives, dim=2)
        k = n.shape[1]
        scores = torch.exp(torch.cat([(q * p).sum(1, keepdim=True), torch.einsum("nd,nkd->nk", q, n)], 1) / temperature)
        probability = scores / (scores.mean() * population)
        noise = k / population
        return -(
            torch.log(probability[:, 0] / (probability[:, 0] + noise))
            + torch.log(noise / (probability[:, 1:] + noise)).sum(dim=1)
        ).mean()

    return {"torch: as in Wu et al.": usual}


def relation(head: nn.Module) -> Ways:
    first, second, scale = head.hidden, head.score, head.input_scale

    def score(product: Tensor) -> Tensor:
        return second(F.relu(first((product * scale).float()))).squeeze(-1).sigmoid()

    def usual(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
        return (score(a * p) - 1).square().mean() + score(a[:, None] * n).square().mean()

    return {"torch: all products": usual}


def local(temperature: float, *, region: int = 3, k: int = 5) -> Ways:
    def usual(f0: Tensor, f1: Tensor) -> Tensor:
        maps = [F.normalize(F.unfold(f, region, stride=region).mT, dim=2) for f in (f0, f1)]
        batch, count, _ = maps[0].shape
        choice = torch.rand(batch, count, count - 1, device=f0.device).topk(k, dim=2).indices
        choice = choice + (choice >= torch.arange(count, device=f0.device)[:, None])
        image = torch.arange(batch, device=f0.device)[:, None, None]
        others = torch.cat([m[image, choice] for m in maps], dim=2)
        positive = (maps[0] * maps[1]).sum(dim=2, keepdim=True)
        target = torch.zeros(batch * count, dtype=torch.int64, device=f0.device)

        def logits(m: Tensor) -> Tensor:
            return torch.cat([positive, torch.einsum("bgv,bgkv->bgk", m, others)], dim=2)

        losses = [F.cross_entropy(logits(m).flatten(0, 1) / temperature, target) for m in maps]
        return (losses[0] + losses[1]) / 2

    return {"torch: unfold, cross_entropy": usual}


def byol() -> Ways:
    ways: Ways = {
        "torch: normalize": lambda a, b: (
            2 - 2 * (F.normalize(a, dim=1) * F.normalize(b.detach(), dim=1)).sum(dim=1).mean()
        ),
        "torch: cosine_similarity": lambda a, b: 2 - 2 * F.cosine_similarity(a, b.detach(), dim=1).mean(),
    }
    if "lightly" in INSTALLED:
        from lightly.loss import NegativeCosineSimilarity

        criterion = NegativeCosineSimilarity()
        ways["lightly"] = lambda a, b: criterion(a, b.detach())
    return ways


def masked_l1(mask: Tensor) -> Ways:
    return {
        "torch: times mask": lambda a, b: ((a - b).abs() * mask).sum() / mask.sum(),
        "torch: indexed": lambda a, b: F.l1_loss(a[mask], b[mask]),
    }
