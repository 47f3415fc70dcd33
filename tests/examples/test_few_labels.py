"""Few labels: the whole run on synthetic data, and what it refuses before any work is lost."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

from programs import prepared
from sslmed.models import ResNetEncoder
from sslmed.studies import few_labels
from sslmed.studies.few_labels import CHOICE, METHODS, RECIPE, make_parser
from sslmed.studies.few_labels_networks import make_network, make_pretext
from sslmed.studies.few_labels_presets import PRESETS
from sslmed.studies.prediction import load_model
from sslmed.studies.run import Run


def outcome(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        few_labels.run([str(a) for a in ("--preset", "smoke", *arguments)])
    return int(exit_.value.code or 0)


def prepare(out: Path, *arguments: object) -> Run:
    return prepared(few_labels, out, *arguments)


def labelled(folder: Path, count: int, *, empty: int = 0, seed: int = 0) -> Path:
    """A folder of scans, dark in a square that is outlined; of the last ones nothing is outlined."""
    rng = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        image, mask = rng.integers(90, 255, (40, 48)).astype(np.uint8), np.zeros((40, 48), np.uint8)
        if k < count - empty:
            top, left = rng.integers(4, 20, 2)
            mask[top : top + 14, left : left + 18] = 255
            image[mask > 0] //= 4
        Image.fromarray(image).save(folder / "images" / f"{k}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
    return folder


def scans(folder: Path, count: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(99)
    for k in range(count):  # of several sizes and formats
        image = Image.fromarray(rng.integers(60, 255, (30 + k, 50 - k)).astype(np.uint8))
        image.save(folder / f"{k}.{('png', 'jpg', 'tif', 'bmp')[k % 4]}")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """14 labelled scans, 3 of them without a lesion, and 12 without outlines."""
    folder = tmp_path_factory.mktemp("own")
    return labelled(folder / "labelled", 14, empty=3), scans(folder / "scans")


def test_a_run_tests_each_case_once_and_reports_the_false_alarms(
    own: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    asked = ("--data", own[0], "--unlabelled", own[1], "--out", run, "--methods", "supervised", RECIPE)
    assert outcome(*asked) == 0
    for method in ("supervised", RECIPE):
        tested = []
        for fold in range(3):
            cell = run / "cells" / f"{method}-l100-s{fold}"
            with open(cell / "metrics.csv", newline="") as file:
                tested += [row["id"] for row in csv.DictReader(file)]
            result = json.loads((cell / "result.json").read_text())
            assert {"dice", "decided_dice", "false_alarms", "least_confidence"} <= set(result["mean"])
            assert (cell / "refinement").exists() == (method == RECIPE)
        assert sorted(tested) == sorted(f"{k}" for k in range(11))
    assert not list(run.glob("cells/**/*.ckpt"))
    assert [path.name for path in (run / "pretext").iterdir()] == ["lesions-s0"]  # one for all folds
    with open(run / "table.csv", newline="") as file:
        assert "false_alarms" in {row["metric"] for row in csv.DictReader(file)}
    page = (run / "report.html").read_text()
    assert "False alarms" in page
    assert "cross-validation with 3 folds" in page
    (kept,) = re.findall(r"Chosen on validation \((.*?)\): a mean Dice of", page)
    counts = [int(count) for count in re.findall(r" in (\d) of 3 folds", kept)]
    assert sum(counts) == 3
    with open(run / "tests.csv", newline="") as file:
        found = [(row["method"], row["p"], row["no_p"][:11]) for row in csv.DictReader(file)]
    assert found == [(RECIPE, "", "a smoke run"), (CHOICE, "", "a smoke run")]
    printed = capfd.readouterr().out
    assert "(folds ± " in printed
    assert "paper" not in printed
    assert "After ," not in page
    assert outcome(*asked) == 0
    assert "epoch" not in capfd.readouterr().out  # nothing is trained again


def test_with_labelled_scans_of_both_kinds_the_pretext_takes_part_in_the_decision(tmp_path: Path) -> None:
    folder, run = labelled(tmp_path / "labelled", 30, empty=15), tmp_path / "run"
    asked = (
        "--data",
        folder,
        "--unlabelled",
        scans(tmp_path / "scans"),
        "--out",
        run,
        "--methods",
        "supervised",
        "lesions",
    )
    assert outcome(*asked) == 0
    for fold in range(3):
        for method in ("supervised", "lesions"):
            cell = run / "cells" / f"{method}-l100-s{fold}"
            result = json.loads((cell / "result.json").read_text())
            assert result["mean"]["presence"] == (method == "lesions") == (cell / "presence.pt").exists()
    description = load_model(run / "model.pt").description
    assert len(load_model(run / "model.pt").presences) == sum(cell.startswith("lesions") for cell in description.cells)


def test_each_method_is_prepared(own: tuple[Path, Path], tmp_path: Path) -> None:
    run = prepare(tmp_path / "run", "--data", own[0], "--unlabelled", own[1], "--methods", *METHODS)
    places = {cell.method: run.pretext(cell) for cell in run.cells()}
    assert places["supervised"] is places["teacher"] is places["selftraining"] is None
    assert places["lesions"] == places[RECIPE] == places["lesions+selftraining"] == "pretext/lesions-s0"
    assert places["simclr"] == "pretext/simclr-s0"
    kinds = {}
    for name in METHODS[1:]:
        recipe = run.study.methods[name]
        assert recipe is not None
        built = recipe.refinement and recipe.refinement.build(torch.nn.Identity(), *torch.rand(2, 3, 1, 32, 32))
        kinds[name] = type(built).__name__
    assert {name for name, kind in kinds.items() if kind == "MeanTeacher"} == {"teacher", RECIPE}
    assert {name for name, kind in kinds.items() if kind == "SelfTraining"} == {"selftraining", "lesions+selftraining"}


@pytest.mark.parametrize("name", ["lesions", "masked", "simclr", "byol", "pirl", "relation"])
def test_each_pretext_trains_what_fine_tuning_loads(name: str, tmp_path: Path) -> None:
    preset = PRESETS["smoke"]
    torch.manual_seed(0)
    method = make_pretext(name, preset, None, 4)
    images, index = torch.rand(4, 1, 32, 32), torch.arange(4)
    method.start([(images, index)])
    method(images, index).loss.backward()
    network = method.trained
    learning = {part for part, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    whole = name in ("lesions", "masked")
    assert {part.split(".")[0] for part in learning} == ({"encoder", "up", "out"} if whole else {"encoder"})
    torch.save(network.state_dict(), tmp_path / "network.pt")
    loaded = make_network(preset, None, 1, tmp_path / "network.pt")
    for part, value in network.state_dict().items():
        assert part.startswith("out.") or torch.equal(loaded.state_dict()[part], value)


def test_one_split_learns_from_the_training_scans_too(own: tuple[Path, Path], tmp_path: Path) -> None:
    asked = ("--data", own[0], "--unlabelled", own[1])
    run = prepare(tmp_path / "run", *asked, "--folds", 1, "--seeds", 0, 1)
    data = run.data[""]
    assert len(data.pretext(0, few_labels.POOL)) == 12 + len(data.splits[0].train)
    assert data.splits[0].test == data.splits[1].test
    assert (run.study.seed_word, "folds" in run.config["arguments"]) == ("seed", False)
    folds = prepare(tmp_path / "folds", *asked)
    assert (folds.study.seed_word, folds.config["arguments"]["folds"]) == ("fold", 3)
    assert len(folds.data[""].pretext(0, few_labels.POOL)) == 12


def test_the_encoder_starts_from_the_given_weights(own: tuple[Path, Path], tmp_path: Path) -> None:
    weights = ResNetEncoder("resnet18", width=8).state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    asked = ("--data", own[0], "--unlabelled", own[1], "--weights", tmp_path / "weights.pt")
    run = prepare(tmp_path / "run", *asked)
    learner = run.study.tasks[0].learner(run.data[""].data, None)
    network: Any = learner.model
    for name, value in network.encoder.state_dict().items():
        torch.testing.assert_close(value, weights[name])
    assert network.out.bias.tolist() == [-2]
    assert run.config["arguments"]["weights"] == "weights.pt"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--unlabelled", "no such folder"], "--unlabelled no such folder"),
        ([], "--unlabelled is missing"),
        (["--folds", "2"], "--folds must be at least 3, or 1 for a single split, got 2"),
        (["--folds", "40"], "--data holds too few images to split into 40 folds"),
        (["--weights", "none.pt"], "no weights file at none.pt"),
        (["--weights", "other.pt"], "--weights other.pt for the encoder resnet18: only"),
        (["--weights", "imagenet"], "--weights imagenet needs an encoder of torchvision or timm"),
        (["--encoder", "keras/vgg"], "must be of torchvision or timm"),
        (["--encoder", "torchvision/resnet19"], "the encoder torchvision/resnet19 cannot be made"),
    ],
)
def test_mistakes_are_named_in_one_line(
    arguments: list[str],
    words: str,
    own: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(ResNetEncoder("resnet34", width=12).state_dict(), "other.pt")
    given = [] if not arguments or "--unlabelled" in arguments else ["--unlabelled", own[1]]
    assert outcome("--data", own[0], "--out", "run", *given, *arguments) == 2
    assert words in " ".join(capfd.readouterr().err.split())
    assert not Path("run").exists()


def test_sets_that_cannot_be_learned_from_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unlabelled = scans(tmp_path / "scans")
    for name, count, empty, words in (
        ("nothing", 6, 6, "shows no lesion in any of its 6 masks"),
        ("few", 9, 7, "without any lesion in their masks"),
    ):
        folder = labelled(tmp_path / name, count, empty=empty, seed=count)
        assert outcome("--data", folder, "--unlabelled", unlabelled, "--out", tmp_path / "run") == 2
        assert words in capfd.readouterr().err


def test_unlabelled_copies_of_labelled_scans_are_refused(
    own: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copies = scans(tmp_path / "scans")
    Image.open(own[0] / "images" / "0.png").save(copies / "again.png")
    asked = ("--data", own[0], "--unlabelled", copies, "--out", tmp_path / "run")
    assert outcome(*asked) == 2
    assert "--unlabelled: 1 images copy a validation or test image" in capfd.readouterr().err
    run = prepare(tmp_path / "without", *asked[:4], "--leave-out-copies")
    assert len(run.data[""].pretext(0, few_labels.POOL)) == 12


def test_the_command_line_names_its_defaults() -> None:
    args = make_parser().parse_args([])
    assert (args.methods, args.weights, args.preset) == (["supervised", RECIPE], "none", "small")
