"""The three other papers' programs as a user meets them: a smoke run each, growth, shares, and mistakes."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

import mr_masked_vs_contrastive
import multi_organ
import multimodal_breast
from programs import prepared
from sslmed.data import Phantom
from sslmed.models import ResNetEncoder, UNet, load_encoder
from sslmed.studies import manifest, outputs
from sslmed.studies.cells import Cell
from sslmed.studies.features import tsne
from sslmed.studies.run import Run
from sslmed.studies.runs import read_csv, write_csv, write_json

PROGRAMS = [multi_organ, multimodal_breast, mr_masked_vs_contrastive]


def outcome(monkeypatch: pytest.MonkeyPatch, program: ModuleType, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        program.main()
    return stop.value.code  # type: ignore[return-value]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(Run, "run", lambda experiment: 0)

    def line(program: ModuleType, *arguments: object) -> str:
        assert outcome(monkeypatch, program, "--preset", "smoke", "--out", tmp_path / "run", *arguments) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1, error
        return error

    return line


def finished(folder: Path) -> list[dict[str, str]]:
    assert (folder / "report.html").stat().st_size > 10_000
    assert json.loads((folder / "failures.json").read_text()) == []
    return read_csv(folder / "table.csv")


@pytest.mark.parametrize("network", ["resnet18", pytest.param("unet", marks=pytest.mark.slow)])
def test_multi_organ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    methods = ["supervised", "moco/multi-organ", "simclr/BUS", "simsiam/multi-organ"]
    out = tmp_path / "run"
    arguments = ["--preset", "smoke", "--network", network, "--methods", *methods, "--out", out]
    assert outcome(monkeypatch, multi_organ, *arguments) == 0
    rows = [row for row in finished(out) if row["metric"] == "dice"]
    assert [row["method"] for row in rows] == methods
    table = "Table 3" if network == "unet" else "Table 1"
    assert [(row["paper"], row["paper_set"]) for row in rows][:2] == [
        ({"Table 3": "0.544", "Table 1": "0.540"}[table], table),
        ({"Table 3": "0.528", "Table 1": "0.572"}[table], table),
    ]
    pretext = json.loads((out / "splits.json").read_text())["0"]["pretext"]
    assert {name.partition("/")[0] for name in pretext if "/" in name} == {"heart", "lung"}
    weights = out / "pretext" / "simclr_BUS-s0" / ("network.pt" if network == "unet" else "encoder.pt")
    if network == "unet":
        UNet(width=8).load_state_dict(torch.load(weights, weights_only=True))
    else:
        load_encoder(ResNetEncoder("resnet18", width=8), weights, minimum=1.0)


@pytest.mark.parametrize(
    ("domains", "tasks"),
    [
        (["us"], ["segmentation"]),
        pytest.param(["us", "usmg"], list(multimodal_breast.TASKS), marks=pytest.mark.slow),
    ],
)
def test_multimodal_breast_whole_and_in_two_shares(
    domains: list[str], tasks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--preset", "smoke", "--domains", *domains, "--tasks", *tasks]
    arguments += ["--methods", "supervised", "byol"]
    whole, both = tmp_path / "whole", tmp_path / "both"
    assert outcome(monkeypatch, multimodal_breast, *arguments, "--out", whole) == 0
    rows = finished(whole)
    assert {row["target"] for row in rows} == {f"{d}/{t}" for d in domains for t in tasks}
    if "classification" in tasks:
        mcc = {(r["target"], r["method"]): r["paper"] for r in rows if r["metric"] == "mcc"}
        assert mcc["us/classification", "byol"] == "0.52399"
        assert mcc["usmg/classification", "supervised"] == "0.09646"
    groups = {name.rpartition("-s")[0] for name in (p.name for p in (whole / "pretext").iterdir())}
    assert {f"byol-{d}" for d in domains} <= groups  # one pretext for both tasks of a domain
    with np.load(whole / "pretext" / "byol-us-s0" / "features.npz") as drawn:
        test = json.loads((whole / "splits.json").read_text())["us/0"]["test"]
        assert drawn["xy"].shape == (len(test), 2)

    for i in range(2):
        share = tmp_path / f"share{i}"
        assert outcome(monkeypatch, multimodal_breast, *arguments, "--shard", f"{i}/2", "--out", share) == 0
        assert 0 < len(list(share.glob("cells/*/result.json"))) < len(list(whole.glob("cells/*")))
    merged = ["--merge", tmp_path / "share0", tmp_path / "share1", "--out", both]
    torn = ".features.npz.1.part"  # as a kill leaves it
    for folder in (tmp_path / "share0", both):
        for drawn in folder.glob("pretext/*/features.npz"):
            drawn.rename(drawn.with_name(torn))
        assert outcome(monkeypatch, multimodal_breast, *arguments, *merged) == 0
        assert not list(both.glob(f"pretext/*/{torn}"))
    assert len(list(both.glob("pretext/*/features.npz"))) == len(list(whole.glob("pretext/*")))
    for file in ("table.csv", "tests.csv", "metrics.csv", "splits.json"):
        assert (both / file).read_text() == (whole / file).read_text(), file
    assert finished(both)

    shutil.rmtree(both)
    assert outcome(monkeypatch, multimodal_breast, *arguments, "--merge", tmp_path / "share0", "--out", both) == 1
    assert len(json.loads((both / "failures.json").read_text())) > 0


def test_mr_masked_vs_contrastive_grows_by_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    assert outcome(monkeypatch, mr_masked_vs_contrastive, "--preset", "smoke", "--out", out) == 0
    rows = finished(out)
    assert {row["labels"] for row in rows} == {"1 volume", "2 volumes"}
    cases = read_csv(out / "cells" / "masked-v1-s0" / "metrics.csv")
    structures = [name for name in cases[0] if name.startswith("dice_")]
    assert len(structures) == 2
    for case in cases:
        assert float(case["dice"]) == pytest.approx(np.mean([float(case[s]) for s in structures]), abs=1e-5)
    curves = {file: file.stat().st_mtime_ns for file in out.glob("pretext/*/curves.csv")}
    assert {file.parent.name for file in curves} == {"masked-s0", "contrastive_global-s0", "contrastive-s0"}

    more = ["--preset", "smoke", "--labels", "1", "--seeds", "0", "1", "--all-volumes", "--out", out]
    assert outcome(monkeypatch, mr_masked_vs_contrastive, *more) == 2  # another configuration
    more.remove("--all-volumes")
    assert outcome(monkeypatch, mr_masked_vs_contrastive, *more) == 0
    splits = json.loads((out / "splits.json").read_text())
    assert splits["0"]["test"] == splits["1"]["test"]  # draws share the parts, and so the pretexts
    assert splits["0"]["labelled"]["1"] != splits["1"]["labelled"]["1"]
    assert {file: file.stat().st_mtime_ns for file in out.glob("pretext/*/curves.csv")} == curves


def test_a_local_stage_killed_before_its_first_checkpoint_starts_as_it_did(tmp_path: Path) -> None:
    weights = []
    for out in (tmp_path / "whole", tmp_path / "again"):
        run = prepared(mr_masked_vs_contrastive, out)
        if weights:
            done = "pretext/contrastive_global-s0"
            shutil.copytree(tmp_path / "whole" / done, out / done)
        weights.append(run.pretrain(Cell("contrastive", 1, 0), out / "pretext" / "contrastive-s0"))
    whole, again = (torch.load(file, weights_only=True) for file in weights)
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (multi_organ, ["--merge", "nowhere"], "--merge nowhere is not a run folder"),
        (multi_organ, ["--methods", "moco/natural"], "name their folder with --natural"),
        (multi_organ, ["--data", "nowhere"], "name the other organs' folders, as --organs heart=CAMUS"),
        (multi_organ, ["--organs", "heart"], "'heart' is not NAME=FOLDER"),
        (multi_organ, ["--methods", "byol"], "unknown 'byol'"),
        (mr_masked_vs_contrastive, ["--size", "50"], "--size must be a multiple of 16, got 50"),
        (multi_organ, ["--set", "epochs=3"], "--set epochs: no such setting; --show-settings lists them all"),
        (multi_organ, ["--set", "finetune.epochs=x"], "--set finetune.epochs=x: Expected a <class 'int'>"),
        (multi_organ, ["--epochs", "0"], "'0' is not a positive integer"),
        (multi_organ, ["--lr", "-1"], "'-1' is not a number above 0"),
        (multi_organ, ["--data", "nowhere"], "as --methods supervised moco/BUS"),
        (multimodal_breast, ["--data", "phantom", "us=x"], "--data phantom cannot be combined"),
        (multimodal_breast, ["--data", "ct=x"], "--data: unknown 'ct'; give us=FOLDER or mg=FOLDER"),
        (multimodal_breast, ["--domains", "us", "us"], "--domains lists us twice"),
        (multimodal_breast, ["--tasks", *2 * ["segmentation"]], "--tasks lists segmentation twice"),
        (multimodal_breast, ["--leave-out-copies"], "--leave-out-copies needs --test-data or --pretext-data"),
        (
            multi_organ,
            ["--data", "x", "--methods", "supervised", "--leave-out-copies"],
            "--leave-out-copies needs --test-data or --organs or --natural",
        ),
        (multimodal_breast, ["--data", "us=nowhere"], "--data nowhere: no such folder"),
        (multimodal_breast, ["--data", "us=x", "--domains", "usmg"], "would mix us=x with synthetic images"),
        (mr_masked_vs_contrastive, ["--labels", "0.5"], "'0.5' is not a positive integer"),
        (mr_masked_vs_contrastive, ["--split", "15/2"], "'15/2' is not TRAIN/VAL/TEST"),
        (mr_masked_vs_contrastive, ["--split", "15/2/15"], "--split 15/2/15 divides 32 volumes, and --data holds 12"),
        (mr_masked_vs_contrastive, ["--labels", "50"], "--labels 50 volumes: only"),
        (mr_masked_vs_contrastive, ["--shard", "2/2"], "'2/2' is not i/n with i from 0 to n - 1"),
        (mr_masked_vs_contrastive, ["--accumulate", "0"], "'0' is not a positive integer"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(refused, program: ModuleType, arguments: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    assert message in refused(program, *arguments)


def test_images_without_labels_are_refused_where_a_target_needs_them(refused, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "scans").mkdir()
    for i, item in enumerate(Phantom(6, size=48)):
        pixels = (item["image"][0].numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "scans" / f"{i}.png")
    scans = tmp_path / "scans"
    assert "fewer than two classes" in refused(multimodal_breast, "--data", f"us={scans}")
    only = ["--tasks", "segmentation"]
    assert "--data, read as unlabelled images, has no masks, which us/segmentation needs" in refused(
        multimodal_breast, "--data", f"us={scans}", *only
    )
    assert "no numbered structures" in refused(mr_masked_vs_contrastive, "--data", scans)
    busi = tmp_path / "set" / "benign"
    busi.mkdir(parents=True)
    for file in scans.iterdir():
        for ending in ("", "_mask"):
            shutil.copy(file, busi / f"benign ({file.stem}){ending}.png")
    assert "read as BUSI, has no numbered structures; give a Decathlon task" in refused(
        mr_masked_vs_contrastive, "--data", tmp_path / "set"
    )
    assert not (tmp_path / "run").exists()  # a mistake leaves no empty folder


def test_organs_that_copy_test_images_are_refused_or_left_out(refused, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "heart").mkdir()
    for i, item in enumerate(Phantom(40, size=96)):
        pixels = (item["image"][0].numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "heart" / f"{i}.png")
    arguments = ["--organs", f"heart={tmp_path / 'heart'}"]
    assert "--leave-out-copies trains without them" in refused(multi_organ, *arguments)
    run = ["--preset", "smoke", "--out", tmp_path / "run", *arguments, "--leave-out-copies"]
    assert outcome(monkeypatch, multi_organ, *run) == 0
    assert (tmp_path / "run" / "config.json").is_file()


def test_more_labels_of_several_domains_are_all_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Run, "run", lambda run: outputs.describe(run) or 0)
    for labels in ("0.5", "1"):
        run = ["--preset", "smoke", "--domains", "us", "mg", "--labels", labels, "--out", tmp_path]
        assert outcome(monkeypatch, multimodal_breast, *run) == 0
    splits = json.loads((tmp_path / "splits.json").read_text())
    assert [[*splits[key]["labelled"]] for key in ("us/0", "mg/0")] == [["0.5", "1"]] * 2


def test_a_share_without_cells_tabulates_what_others_finish_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def others(folder: Path, cells: list[Cell], **_: object) -> list[dict[str, str]]:
        assert cells == []
        config = json.loads((folder / "config.json").read_text())
        write_json(folder / "config.json", config | {"methods": ["supervised", "simclr/BUS"]})
        cell = Cell("simclr/BUS", 0.5, 0)
        manifest.record(folder, [manifest.CellEntry(f"cells/{cell.name}", cell)])
        place = folder / "cells" / cell.name
        write_csv(place / "metrics.csv", [{"id": "a", "group": "a", "dice": 1}], columns=["id", "group", "dice"])
        result = {"method": "simclr/BUS", "target": "segmentation", "labels": 0.5, "seed": 0, "cases": 1}
        write_json(place / "result.json", result | {"mean": {"dice": 0.5}, "sd": {"dice": None}})
        return []

    monkeypatch.setattr("sslmed.studies.schedule.run_cells", others)
    run = ["--preset", "smoke", "--methods", "supervised", "--shard", "1/2", "--out", tmp_path]
    monkeypatch.setattr("sslmed.studies.outputs.write_report", lambda folder: folder)
    assert outcome(monkeypatch, multi_organ, *run) == 0
    assert [row["method"] for row in read_csv(tmp_path / "table.csv")] == ["simclr/BUS"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_features_of_few_test_images_are_drawn_or_left_out(count: int) -> None:
    xy = tsne(np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32))
    assert xy.shape == (count, 2)
    assert np.isfinite(xy).all()


def test_own_classes_without_masks_are_learnt(refused, monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    phantom, lines = Phantom(30, size=48), ["image,class,group"]
    (tmp_path / "clinic" / "images").mkdir(parents=True)
    for i, item in enumerate(phantom):
        pixels = (item["image"][0].numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "clinic" / "images" / f"{i}.png")
        lines.append(f"{i},{phantom.classes[item['label']]},patient {i // 2}")
    (tmp_path / "clinic" / "cases.csv").write_text("\n".join(lines))
    data = ["--domains", "us", "--data", f"us={tmp_path / 'clinic'}"]
    assert "has no masks, which us/segmentation needs; classification needs none" in refused(
        multimodal_breast, *data, "--pretext-data", *data[3:]
    )
    assert "has no masks to fine-tune on" in refused(
        multi_organ, *data[2:3], tmp_path / "clinic", "--organs", "heart=phantom"
    )

    monkeypatch.undo()
    run = ["--preset", "smoke", "--tasks", "classification", "--methods", "supervised", *data]
    assert outcome(monkeypatch, multimodal_breast, *run, "--out", tmp_path / "own") == 0
    assert {row["target"] for row in finished(tmp_path / "own")} == {"us/classification"}
    described = json.loads((tmp_path / "own" / "data.json").read_text())
    assert described["counts"] == {"images": 30} | dict(sorted(phantom.counts.items()))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_names_every_option(program: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd) -> None:  # type: ignore[no-untyped-def]
    assert outcome(monkeypatch, program, "--help") == 0
    shown = capfd.readouterr().out
    for option in (
        "--data",
        "--methods",
        "--labels",
        "--seeds",
        "--shard",
        "--merge",
        "--precision",
        "--accumulate",
    ):
        assert option in shown


@pytest.mark.parametrize("name", multi_organ.SSL)
@pytest.mark.parametrize("network", multi_organ.NETWORKS)
def test_every_method_learns_with_every_network(name: str, network: str) -> None:
    torch.manual_seed(0)
    preset = dataclasses.replace(multi_organ.PRESETS["smoke"], network=network)
    module = multi_organ.make_method(name, preset, 100)
    loss, _ = module(torch.rand(4, 1, 32, 32), torch.arange(4))
    loss.backward()
    assert torch.isfinite(loss)
    for key, parameter in module.encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


def test_the_papers_results_are_whole() -> None:
    with open(multi_organ.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 52 * 4
    assert {row["method"] for row in rows} == set(multi_organ.METHODS)
    with open(multimodal_breast.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * 4 + 12 * 5
    assert all(row["training"] and row["validation"] for row in rows if row["table"] == "6.1")
    assert {row["method"] for row in rows} == set(multimodal_breast.METHODS)


def test_the_paper_presets_have_the_papers_numbers() -> None:
    organs = multi_organ.PRESETS["paper"]
    assert organs.constants.dim == 128
    assert organs.constants.layers == {"moco": 2, "simclr": 2, "simsiam": 3}
    assert organs.batch == {"simclr": 512, "moco": 256, "simsiam": 512}
    assert (organs.tuning.lr, organs.tuning.weight_decay, organs.labels) == (
        1e-4,
        1e-6,
        (1.0, 0.5, 0.25, 0.1),
    )
    breast = multimodal_breast.PRESETS["paper"]
    assert (breast.size, breast.crop, breast.encoder, breast.lr) == (64, 110, "resnet18", 0.014)
    assert (breast.pretext.epochs, breast.pretext.batch_size) == (100, 64)
    c = breast.constants
    assert c.weight_decay == breast.tuning.weight_decay == 1e-6
    assert (c.temperature, c.queue, c.momentum) == (0.07, 16384, {"moco": 0.999, "byol": 0.99})
    mr = mr_masked_vs_contrastive.PRESETS["paper"]
    assert (mr.lr, mr.pretext.epochs, mr.finetune.epochs, mr.labels) == (1e-3, 1000, 500, (1, 2, 4, 8))
    assert (mr.constants.ratio, mr.constants.sigma, mr.constants.temperature) == (0.1, 0.01, 0.1)


def test_the_constants_are_what_is_built() -> None:
    def built(program: ModuleType, **constants: object) -> object:
        preset = program.PRESETS["smoke"]
        return dataclasses.replace(preset, constants=dataclasses.replace(preset.constants, **constants))

    strengths = {"jitter": 0.15, "crop_scale": (0.3, 0.6)}
    seen = {"flip": 0.25, "blur": 0.75, "sigma": (0.5, 0.7), **strengths}
    for program in (multi_organ, multimodal_breast):
        shown = str(program.make_views(built(program, **seen)))
        for words in (
            "Flip(dim=3, p=0.25",
            "brightness=0.15, contrast=0.15",
            "(0.5, 0.7), p=0.75",
            "(0.3, 0.6)",
        ):
            assert words in shown
    whole, alike = map(str, mr_masked_vs_contrastive.make_views(built(mr_masked_vs_contrastive, **strengths)))
    assert "brightness=0.15, contrast=0.15" in whole
    assert "brightness=0.15, contrast=0.15" in alike
    assert "(0.3, 0.6)" in whole
    altered = mr_masked_vs_contrastive.make_augmentation(built(mr_masked_vs_contrastive, likely=0.125))
    assert str(altered).count("=0.125") == 3

    organs = built(multi_organ, adam={}, rate=dict.fromkeys(multi_organ.SSL, 25.6), weight_decay=0.5)
    for name in multi_organ.SSL:
        optimiser = multi_organ.make_recipe(f"{name}/BUS", organs).stages[0].optimiser
        assert (optimiser.name, optimiser.lr, optimiser.weight_decay) == ("sgd", pytest.approx(0.8), 0.5)
    for name in multimodal_breast.METHODS[1:]:
        preset = built(multimodal_breast, weight_decay=0.5)
        optimiser = multimodal_breast.make_recipe(name, preset).stages[0].optimiser
        assert (optimiser.name, optimiser.weight_decay) == ("adam", 0.5)
    deep = multi_organ.make_method("simsiam", built(multi_organ, layers={"simsiam": 4}), 20)
    assert sum(isinstance(m, torch.nn.Linear) for m in deep.head.modules()) == 4


@pytest.mark.parametrize("option", [["--labels", "0.75"], ["--set", "labels=[0.75]"]])
def test_both_options_of_labels_count(tmp_path: Path, option: list[str]) -> None:
    assert {cell.labels for cell in prepared(multi_organ, tmp_path, *option).cells()} == {0.75}


def test_repeats_share_split_and_pretext_and_differ_in_start_and_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(multi_organ, tmp_path / "run", "--methods", "simclr/BUS", "--repeats", 2)
    cells = run.cells()
    assert [(cell.seed, cell.repeat) for cell in cells] == [(0, 0), (0, 1)]
    assert run.pretext(cells[0]) == run.pretext(cells[1])
    met: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def tune(learner: torch.nn.Module, train: object, *_: object, seed: int, **__: object) -> None:
        images = torch.stack([train[k][0] for k in range(len(train))])  # type: ignore[index, arg-type]
        met.append((seed, images, torch.cat([p.flatten() for p in learner.parameters()])))
        raise InterruptedError

    monkeypatch.setattr("sslmed.studies.run.fit", tune)
    for cell in (*cells, cells[0]):
        with pytest.raises(InterruptedError):
            run.finetune(cell, tmp_path / "cell", None)
    (first, labelled, start), (second, labelled_too, other), (again, _, same) = met
    assert torch.equal(labelled, labelled_too)
    assert first == again == 0
    assert second != first
    assert torch.equal(start, same)
    assert not torch.equal(start, other)


def test_photographs_in_class_folders_are_read_as_gray_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for k in range(12):
        folder = tmp_path / "cifar10" / "train" / ("airplane", "frog", "truck")[k % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{k:04}.png")
    words = ("--natural", tmp_path / "cifar10", "--methods", "simclr/natural", "moco/BUS+natural")
    run = prepared(multi_organ, tmp_path / "run", *words)
    pool = run.data[""].pools["natural"]
    assert pool.ids[0] == "train/airplane/0000.png"
    assert pool.labels is None  # the classes of photographs play no part
    assert pool.images([0]).shape == (1, 1, 32, 32)
    train = len(run.data[""].splits[0].train)
    assert len(run.data[""].pretext(0, "natural")) == 12
    assert len(run.data[""].pretext(0, "BUS+natural")) == 12 + train


def test_a_resnet_can_be_pretrained_with_its_decoder(tmp_path: Path) -> None:
    preset = dataclasses.replace(multi_organ.PRESETS["smoke"], network="resnet50+decoder")
    method = multi_organ.make_method("simclr", preset, 10)
    weights = tmp_path / "network.pt"
    torch.save(method.trained.state_dict(), weights)
    torch.manual_seed(3)
    fresh = multi_organ.make_network(preset, 1, None).state_dict()
    torch.manual_seed(3)
    tuned = multi_organ.make_network(preset, 1, weights).state_dict()
    pretrained = method.trained.state_dict()
    for name in ("encoder.conv1.weight", "up.0.block.0.weight", "up.4.block.3.weight"):
        torch.testing.assert_close(tuned[name], pretrained[name])
        assert not torch.equal(tuned[name], fresh[name])
    torch.testing.assert_close(tuned["out.weight"], fresh["out.weight"])
    assert multi_organ.published(preset, "BUSI") == {}


def test_all_methods_are_fine_tuned_on_all_volumes(tmp_path: Path) -> None:
    words = ("--all-volumes", "--split", "7/2/3", "--methods", "contrastive", "--labels", 1, "--seeds", 0, 1)
    run = prepared(mr_masked_vs_contrastive, tmp_path / "run", *words)
    assert [cell.name for cell in run.cells()] == [
        "contrastive-v1-s0",
        "contrastive-v1-s1",
        "supervised-v7-s0",
        "contrastive-v7-s0",
        "supervised-v7-s1",
        "contrastive-v7-s1",
    ]


@pytest.mark.parametrize("method", ["masked", "contrastive"])
def test_the_validation_part_can_steer_the_rate_of_a_pretext(tmp_path: Path, method: str) -> None:
    words = ("--methods", method, "--epochs", 1, "--set", "constants.validate_pretext=true")
    run = prepared(mr_masked_vs_contrastive, tmp_path / "run", *words)
    cell = run.cells()[0]
    run.pretrain(cell, tmp_path / "unused")
    curves = sorted((tmp_path / "run" / "pretext").glob("*/curves.csv"))
    assert len(curves) == (2 if method == "contrastive" else 1)
    for file in curves:
        (row,) = read_csv(file)
        assert float(row["val_loss"]) > 0
