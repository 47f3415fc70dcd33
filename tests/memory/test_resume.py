"""A training with queue, bank and moving average goes on bit for bit after it was saved in the middle of a wrap."""

from __future__ import annotations

import copy
import io

import torch
from torch import Tensor, nn

from sslmed.losses import info_nce, nce
from sslmed.memory import MemoryBank, MomentumQueue, cosine_decay, update_ema

STEPS, IMAGES = 9, 20


class Pretext(nn.Module):
    """Everything that a checkpoint has to hold, in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
        self.target = copy.deepcopy(self.online)
        self.queue = MomentumQueue(10, 5, with_ids=True)
        self.bank = MemoryBank(IMAGES, 5)


def step(model: Pretext, optimizer: torch.optim.Optimizer, number: int) -> Tensor:
    draw = torch.Generator().manual_seed(number)
    index = torch.randperm(IMAGES, generator=draw)[:7]
    x0, x1 = torch.randn(2, 7, 6, generator=draw)
    update_ema(model.target, model.online, decay=cosine_decay(number, STEPS, start=0.9))
    query = model.online(x0)
    with torch.no_grad():
        keys = model.target(x1)
    loss = nce(query, model.bank[index], model.bank.negatives(index, 4, generator=draw), population=IMAGES)
    if len(model.queue):
        loss = loss + info_nce(query, keys, model.queue.negatives(), ids=index // 2, negative_ids=model.queue.ids())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.queue.enqueue(keys, index // 2)
    model.bank.update(index, query)
    return loss.detach()


def start(seed: int) -> tuple[Pretext, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = Pretext()
    return model, torch.optim.SGD(model.online.parameters(), lr=0.1, momentum=0.9)


def test_a_resumed_training_equals_an_unbroken_one() -> None:
    whole, optimizer = start(0)
    expected = [step(whole, optimizer, number) for number in range(STEPS)]

    first, optimizer = start(0)
    losses = [step(first, optimizer, number) for number in range(4)]
    assert len(first.queue) == 10
    assert first.queue.count % 10 == 8  # in the middle of a wrap
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    held = torch.load(file, weights_only=True)
    second, optimizer = start(1)
    second.load_state_dict(held["model"])
    optimizer.load_state_dict(held["optimizer"])
    losses += [step(second, optimizer, number) for number in range(4, STEPS)]

    assert losses == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_memories_follow_their_module_to_another_device(device: torch.device) -> None:
    model = start(0)[0].to(device)
    x, index = torch.randn(7, 6, device=device), torch.arange(7)
    for _ in range(2):
        keys = model.target(x)
        model.queue.enqueue(keys, index.to(device))
        model.bank.update(index, keys)
    moved = copy.deepcopy(model).cpu()
    assert {b.device.type for b in moved.buffers()} == {"cpu"}
    assert len(moved.queue) == 10
    for there, here in ((model.queue.keys, moved.queue.keys), (model.bank.vectors, moved.bank.vectors)):
        assert there.device.type == device.type
        assert torch.equal(there.cpu(), here)
    moved.queue.enqueue(keys.cpu(), index)
    model.queue.enqueue(keys, index.to(device))
    assert torch.equal(model.queue.ids().cpu(), moved.queue.ids())
    assert torch.equal(model.queue.negatives().cpu(), moved.queue.negatives())
    assert moved.to("meta").queue.negatives().shape == (10, 5)
