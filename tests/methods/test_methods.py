"""Pretext methods: their losses by hand, what learns and what does not, and the interface."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pretexts import DIM, METHODS, SIDE, Flip, KnownMask, Puzzle, fixed_views, images, method
from sslmed import methods
from sslmed.augment import MultiView, RandomPatchMask, views
from sslmed.augment.functional import split_patches
from sslmed.losses import NCE, InfoNCE, RelationContrastive
from sslmed.methods import PIRL, Method, MoCo, RelationContrast, SimCLR
from sslmed.models import ResNetEncoder, UNet, UNetFeatures

FOLLOWED = {"moco": "key", "byol": "target"}
STILL = fixed_views("simclr")


def step(module: Method, data: TensorDataset) -> tuple[Tensor, dict[str, float]]:
    """The loss of one step on all the data, and its terms."""
    loss, terms = module(*data.tensors)
    assert not any(value.requires_grad for value in terms.values())
    return loss, {key: float(value) for key, value in terms.items()}


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of what differs."""
    old, new = before.state_dict(), after.state_dict()
    return {name for name, value in old.items() if not torch.equal(value, new[name])}


def embedded(module: Method, x: Tensor, *, key: str = "") -> Tensor:
    """Projections of images."""
    encoder, head = (getattr(module, f"{key}_{part}" if key else part) for part in ("encoder", "head"))
    return head(encoder(x)[-1].mean((2, 3)))


def train(module: Method, data: TensorDataset, *, epochs: int, batch_size: int = 8) -> list[dict[str, float]]:
    """Terms of each epoch's last step of a plain loop."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(module.parameter_groups(), lr=3e-3)
    module.start(DataLoader(data, batch_size=batch_size))
    rows = []
    for _ in range(epochs):
        for batch in DataLoader(data, batch_size=batch_size, shuffle=True):
            loss, terms = module(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            module.after_step()
        rows.append({key: float(value) for key, value in terms.items()})
    return rows


@pytest.mark.parametrize("name", METHODS)
def test_one_step_reaches_all_that_learns_and_nothing_else(name: str) -> None:
    module = method(name)
    loss, terms = step(module, images(8))
    loss.backward()
    assert loss.isfinite()
    assert terms["loss"] == pytest.approx(float(loss.detach()))
    assert ("feature_std" in terms) == (name != "masked")
    for key, p in module.named_parameters():
        assert (p.grad is not None) == p.requires_grad, key
    learning = {key.split(".")[0] for key, p in module.named_parameters() if p.requires_grad}
    assert (
        learning
        == {
            "simclr": {"encoder", "head"},
            "moco": {"encoder", "head"},
            "simsiam": {"encoder", "head", "predictor"},
            "byol": {"encoder", "head", "predictor"},
            "masked": {"network"},
            "local": {"network", "head"},
            "pirl": {"encoder", "image_head", "patch_head"},
            "relation": {"encoder", "image_head", "patch_head", "contrast"},
        }[name]
    )
    grouped = [p for group in module.parameter_groups() for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in module.parameters() if p.requires_grad}
    assert len(grouped) == len({id(p) for p in grouped})


def test_every_method_is_tested_here() -> None:
    kinds = {type(method(name)).__name__ for name in METHODS}
    of_outlines = {"MeanTeacher", "SelfTraining", "SyntheticLesions"}  # in test_outlines.py
    assert kinds == set(methods.__all__) - {"COMMANDS", "Method", "Step"} - of_outlines


def test_simclr_by_hand() -> None:
    module, data = method("simclr", views=STILL), images(5)
    x = data.tensors[0]
    with torch.no_grad():
        z = torch.cat([embedded(module, view) for view in STILL(x)])
    losses = []
    for i in range(10):
        terms = {j: math.exp(cosine(z[i], z[j]) / 0.5) for j in range(10) if j != i}
        losses.append(-math.log(terms[(i + 5) % 10] / sum(terms.values())))
    loss, logged = step(module, data)
    assert float(loss.detach()) == pytest.approx(sum(losses) / 10, rel=1e-4)
    unit = z[:5] / z[:5].norm(dim=1, keepdim=True)
    assert logged["feature_std"] == pytest.approx(float(unit.std(0).mean()), rel=1e-4)


def test_moco_by_hand_while_its_queue_fills_and_wraps() -> None:
    module, data = method("moco", views=STILL, queue_size=6), images(8)
    images_, held = data.tensors[0], []  # (id, key), the oldest first
    for index in ([0, 1, 2], [3, 4, 1], [5, 0, 3, 6]):
        batch = TensorDataset(images_[index], torch.tensor(index))
        x0, x1 = STILL(images_[index])
        with torch.no_grad():
            q, k = embedded(module, x0), embedded(module, x1, key="key")
        negatives = held or list(zip(index, k, strict=True))  # the first batch has its own other keys
        losses = []
        for i, own in enumerate(index):
            top = math.exp(cosine(q[i], k[i]) / 0.2)
            rest = sum(math.exp(cosine(q[i], key) / 0.2) for other, key in negatives if other != own)
            losses.append(-math.log(top / (top + rest)))
        loss, logged = step(module, batch)
        assert float(loss.detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
        assert logged["queue_filled"] == len(held)
        held = [*held, *zip(index, k, strict=True)][-6:]
    assert sorted(module.queue.ids().tolist()) == sorted(other for other, _ in held)


def test_simsiam_by_hand() -> None:
    module, data = method("simsiam", views=STILL), images(6)
    with torch.no_grad():
        z0, z1 = (embedded(module, view) for view in STILL(data.tensors[0]))
        p0, p1 = module.predictor(z0), module.predictor(z1)
    rows = [-(cosine(p0[i], z1[i]) + cosine(p1[i], z0[i])) / 2 for i in range(6)]
    assert float(step(module, data)[0].detach()) == pytest.approx(sum(rows) / 6, rel=1e-4)
    encoder, predictor = module.parameter_groups()
    assert predictor["fix_lr"]
    assert "fix_lr" not in encoder
    assert {id(p) for p in predictor["params"]} == {id(p) for p in module.predictor.parameters()}


def test_byol_by_hand() -> None:
    module, data = method("byol", views=STILL), images(6)
    torch.nn.init.normal_(module.target_head.mlp[-1].weight)
    x0, x1 = STILL(data.tensors[0])
    with torch.no_grad():
        p0, p1 = (module.predictor(embedded(module, x)) for x in (x0, x1))
        t0, t1 = (embedded(module, x, key="target") for x in (x0, x1))
    rows = [2 - cosine(p0[i], t1[i]) - cosine(p1[i], t0[i]) for i in range(6)]
    assert float(step(module, data)[0].detach()) == pytest.approx(sum(rows) / 6, rel=1e-4)


def test_masked_pixels_by_hand() -> None:
    mask = KnownMask(4)
    module, data = method("masked", mask=mask), images(4)
    x = data.tensors[0]
    where = mask.forward_parameters(x.shape)["mask"]
    with torch.no_grad():
        filled = module.network(x * ~where)
    expected = (filled - x)[where].abs().mean()
    loss, _ = step(module, data)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)


def test_masked_patches() -> None:
    loss, _ = step(method("masked", mask=RandomPatchMask(ratio=0.5, patch=8)), images(4))
    assert loss.isfinite()


def test_local_contrast_by_hand() -> None:
    module, data = method("local", views=STILL), images(3)
    with torch.no_grad():
        maps = [module.embed(view) for view in STILL(data.tensors[0])]
    assert maps[0].shape == (3, DIM, 8, 8)
    losses = []
    for b in range(3):
        quarters = [[m[b, :, r : r + 4, c : c + 4].reshape(-1) for r in (0, 4) for c in (0, 4)] for m in maps]
        for here, there in (quarters, quarters[::-1]):
            for i in range(4):
                top = math.exp(cosine(here[i], there[i]) / 0.2)
                rest = sum(math.exp(cosine(here[i], r[j]) / 0.2) for r in quarters for j in range(4) if j != i)
                losses.append(-math.log(top / (top + rest)))
    assert float(step(module, data)[0].detach()) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize("contrast", ["nce", "infonce", "relation"])
def test_the_two_levels_and_the_perceptual_loss_by_hand(contrast: str) -> None:
    name = "relation" if contrast == "relation" else "pirl"
    module, data = method(name, views=fixed_views(name), count=6), images(6)
    if contrast == "infonce":
        module.contrast = InfoNCE(temperature=0.07)
    module.start([tuple(data.tensors)])
    x, index = data.tensors[0][:4], torch.tensor([4, 0, 3, 1])
    bank = module.bank[torch.arange(6)].clone()
    with torch.no_grad():
        image_view, puzzle = module.views(x)
        maps = module.encoder(image_view)
        # The quarters in the order of the puzzle.
        h = SIDE // 2
        cut = torch.stack([puzzle[:, :, r : r + h, c : c + h] for r in (0, h) for c in (0, h)], dim=1)
        patch_maps = module.encoder(cut.flatten(0, 1))
        image = module.image_head(maps[-1])
        patch = module.patch_head(patch_maps[-1].mean((2, 3)).view(4, 4, -1))
        others = torch.stack([bank[[j for j in range(6) if j != i]] for i in index.tolist()])
        extra = {"population": 6} if contrast == "nce" else {}
        levels = [float(module.contrast(v, bank[index], others, **extra)) for v in (image, patch)]
        fine, fine_patches = maps[-2].mean((2, 3)), patch_maps[-2].mean((2, 3)).view(4, 4, -1)
        perceptual = float((fine[:, None] - fine_patches).square().mean())
    loss, terms = step(module, TensorDataset(x, index))
    assert [terms["image_level"], terms["patch_level"]] == pytest.approx(levels, rel=1e-4)
    expected = sum(levels) / 2
    if contrast == "relation":
        assert terms["perceptual"] == pytest.approx(perceptual, rel=1e-3)
        expected = 0.1 * expected + 0.9 * perceptual
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3)
    after = module.bank[torch.arange(6)]
    assert (after[index] != bank[index]).any(1).all()
    assert torch.equal(after[[2, 5]], bank[[2, 5]])


def test_pirls_contrast_is_its_own_by_default() -> None:
    assert isinstance(method("pirl").contrast, NCE)
    assert isinstance(method("relation").contrast, RelationContrastive)


@pytest.mark.parametrize("name", ["pirl", "relation"])
def test_batch_norm_of_the_heads_spreads_the_embeddings(name: str) -> None:
    torch.manual_seed(0)
    kind = PIRL if name == "pirl" else RelationContrast
    plain, normed = (
        kind(ResNetEncoder("resnet18", width=4), 6, views=fixed_views(name), grid=(2, 2), dim=DIM, batch_norm=b)
        for b in (False, True)
    )
    x = images(6).tensors[0]
    with torch.no_grad():
        z, standardised = plain.embed(x), normed.embed(x)
    shared, left = (float(rows.mean(0).norm()) for rows in (z, standardised))
    assert shared > 0.7  # a random network gives all images nearly one direction
    assert left < 0.5 * shared
    for batch_norm, module in ((False, plain), (True, normed)):
        kinds = {type(part.norm) for part in (module.image_head, module.patch_head)}
        assert kinds == {torch.nn.BatchNorm1d if batch_norm else torch.nn.Identity}


@pytest.mark.parametrize("name", ["pirl", "relation"])
def test_a_bank_starts_with_the_embeddings_of_the_first_view(name: str) -> None:
    views = MultiView(Flip(), Puzzle())  # the first view is not the image itself, and draws nothing
    module, data = method(name, views=views, count=6), images(6)
    module.start(DataLoader(data, batch_size=4))
    assert module.training
    with torch.no_grad():
        expected = module.eval().embed(views(data.tensors[0])[0])
    torch.testing.assert_close(module.bank[torch.arange(6)], expected, rtol=1e-4, atol=1e-5)
    assert float(expected.std(0).mean()) > 1e-3  # not all alike, though the network started without statistics


@pytest.mark.parametrize("name", ["simclr", "moco", "simsiam", "byol", "masked", "local", "relation"])
def test_a_plain_loop_learns_without_collapse(name: str) -> None:
    rows = train(method(name, queue_size=16), images(24), epochs=10)
    # The first epoch of MoCo has hardly any negatives, that of the others is the hardest.
    assert rows[-1]["loss"] < rows[0]["loss"] + (0.1 if name == "moco" else 0)
    if name != "masked":
        # 1 / sqrt(DIM) is ideal, and collapse is 0; where between them a training ends depends on rounding.
        assert rows[-1]["feature_std"] > 0.1 / math.sqrt(DIM)


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_copies_move_by_momentum_alone(name: str, momentum: float) -> None:
    module = method(name, momentum=momentum)
    before = copy.deepcopy(module)
    train(module, images(8), epochs=2, batch_size=4)
    for part in ("encoder", "head"):
        online, followed = getattr(module, part), getattr(module, f"{FOLLOWED[name]}_{part}")
        names = dict(online.named_parameters())
        assert not changed(followed, online) & set(names) if momentum == 0 else changed(followed, online)
        if momentum == 1:
            assert not changed(getattr(before, f"{FOLLOWED[name]}_{part}"), followed) & set(names)
        statistics = [key for key in changed(followed, online) if "running" in key]
        assert statistics  # each gathers its own, of other views


@pytest.mark.parametrize("blocks", [1, 3])
def test_local_contrast_changes_the_blocks_it_trains_and_not_even_the_statistics_of_others(
    blocks: int,
) -> None:
    module = method("local", blocks=blocks)
    before = copy.deepcopy(module.network)
    train(module.train(), images(8), epochs=2, batch_size=4)
    found = changed(before, module.network)
    assert {name.split(".")[0] for name in found} == {"up"}
    assert {int(name.split(".")[1]) for name in found} == set(range(blocks))
    learned = {name for name, p in module.network.named_parameters() if p.requires_grad}
    assert learned <= found
    assert not module.network.down.training
    assert module.head.training


@pytest.mark.parametrize("name", METHODS)
def test_a_state_dict_restores_a_method(name: str) -> None:
    module, data = method(name), images(8)
    train(module, data, epochs=1)
    other = method(name)
    other.load_state_dict(module.state_dict())
    losses = []
    for one in (module, other):
        torch.manual_seed(3)
        losses.append(step(one, data))
    assert losses[0][1] == losses[1][1]


@pytest.mark.parametrize("name", METHODS)
def test_what_is_left_is_the_network(name: str) -> None:
    module = method(name)
    assert isinstance(module.trained, UNet if name in ("masked", "local") else ResNetEncoder)
    assert any(part is module.trained for part in module.modules())


def test_a_unet_can_be_the_encoder() -> None:
    network = UNet(width=4)
    module = SimCLR(UNetFeatures(network), views=STILL)
    loss, _ = step(module, images(4))
    loss.backward()
    assert module.trained is network


def test_default_heads_fit_any_encoder() -> None:
    for kind in (methods.SimCLR, methods.MoCo, methods.BYOL, methods.SimSiam):
        module = kind(ResNetEncoder("resnet18", width=4), views=STILL)
        assert step(module, images(4))[0].isfinite()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 5))
    with pytest.raises(ValueError, match="Sequential does not tell its number of features"):
        SimCLR(encoder, views=STILL)
    assert step(SimCLR(encoder, views=STILL, head=nn.Linear(5, 3)), images(4))[0].isfinite()
    with pytest.raises(ValueError, match=r"encoder must return features .* got shape \(4, 1, 1024\)"):
        SimCLR(nn.Flatten(2), views=STILL, head=nn.Identity())(images(4).tensors[0])


def test_mocos_queue_takes_any_head() -> None:
    encoder = ResNetEncoder("resnet18", width=4)
    module = MoCo(encoder, views=STILL, head=nn.Identity(), queue_size=5)
    assert module.queue.keys.shape == (5, encoder.channels[-1])


def test_mistakes_are_named() -> None:
    x, index = images(4).tensors
    for name in ("moco", "pirl", "relation"):
        with pytest.raises(ValueError, match="index must be given"):
            method(name)(x)
    with pytest.raises(ValueError, match=r"blocks must be in 1\.\.4, got 5"):
        method("local", blocks=5)
    encoder = ResNetEncoder("resnet18", width=4)
    for settings, message in (
        ({"level_weight": 2.0}, "level_weight must"),
        ({"momentum": -1.0}, "momentum must"),
        ({"patch_head": "none"}, "style must"),
    ):
        with pytest.raises(ValueError, match=message):
            PIRL(encoder, 4, views=STILL, **settings)
    with pytest.raises(ValueError, match="count must be at least 2"):
        PIRL(encoder, 1, views=STILL)
    with pytest.raises(IndexError, match=r"index must be in 0\.\.23"):
        method("pirl")(x, index + 30)
    for kind in (methods.SimCLR, methods.MoCo):
        with pytest.raises(ValueError, match="temperature must"):
            kind(encoder, views=STILL, temperature=0.0)


def test_many_rows_draw_negatives() -> None:
    module = PIRL(ResNetEncoder("resnet18", width=4), 9, views=fixed_views("pirl"), grid=(2, 2), most_negatives=3)
    assert module.negatives == 3
    assert step(module, images(4))[0].isfinite()
    patches = split_patches(images(1).tensors[0], (2, 2))
    assert patches.shape[1] == 4


def test_validation_draws_the_same_views_at_every_call() -> None:
    module = SimCLR(ResNetEncoder("resnet18", width=4), views=views.simclr(SIDE)).eval()
    pictures = images(6).tensors[0]
    batches = [(pictures[:4], torch.arange(4)), (pictures[4:], torch.arange(4, 6))]
    torch.manual_seed(7)
    with torch.no_grad():
        first = module.validate(batches)
        after = torch.rand(1)
        torch.manual_seed(0)
        parts = [module(*batch).loss.double() for batch in batches]
        assert module.validate(batches) == first
    assert first["val_loss"] == pytest.approx(((4 * parts[0] + 2 * parts[1]) / 6).item())
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), after)  # the caller's random numbers are left alone
