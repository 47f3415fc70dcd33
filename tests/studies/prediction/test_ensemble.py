"""The networks of a run as one model, written and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch

from few_labels_runs import bright, write_run
from sslmed import __version__
from sslmed.studies.encoders import make_unet
from sslmed.studies.prediction import ensemble as module
from sslmed.studies.prediction import load_model, write_model
from sslmed.tasks.decision import Presence, confidence, relative


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(7))


def test_the_model_is_the_mean_of_the_networks(tmp_path: Path) -> None:
    networks = write_run(tmp_path / "run")
    model = load_model(write_model(tmp_path / "run"))
    assert not model.training
    assert model.least_confidence == 0.5
    with torch.inference_mode():
        logits = [network(images()) for network in networks]
        probabilities, sure = model(images())
        assert torch.equal(probabilities, torch.stack([one.sigmoid() for one in logits]).mean(0))
        scaled = [relative(confidence(one), least) for one, least in zip(logits, (0.25, 0.75), strict=True)]
        assert torch.equal(sure, torch.stack(scaled).mean(0))
        features = model.features(images())
    assert features.shape == (3, 2 * 32)
    assert torch.allclose(features.norm(dim=1), torch.tensor(2.0).sqrt())


def test_the_file_holds_plain_values_and_its_description(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    content = torch.load(write_model(tmp_path / "run"), weights_only=True)
    assert content["sslmed"] == __version__
    assert content["description"] == {
        "encoder": "resnet18",
        "width": 4,
        "size": 32,
        "fit": "stretch",
        "least_confidence": [0.25, 0.75],
        "method": "chosen",
        "cells": ["lesions+teacher-l100-s0", "lesions+teacher-l100-s1"],
        "mirrored": False,
    }


def test_of_each_fold_the_network_that_is_best_on_validation(tmp_path: Path) -> None:
    write_run(tmp_path / "run", dice=(0.4, 0.6))
    model = load_model(write_model(tmp_path / "run"))
    assert model.description.cells == ("supervised-l100-s0", "lesions+teacher-l100-s1")
    assert model.description.least_confidence == (0.0, 0.75)
    for network, name in zip(model.networks, model.description.cells, strict=True):
        weights = torch.load(tmp_path / "run/cells" / name / "model.pt", weights_only=True)
        assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_a_mirrored_model_gives_mirror_images_mirrored_outlines(tmp_path: Path) -> None:
    (network,) = write_run(tmp_path / "run", least=[0.5], mirrored=True)
    model = load_model(write_model(tmp_path / "run"))
    with torch.inference_mode():
        found = model.logits(images())[0]
        assert torch.equal(found, (network(images()) + network(images().flip(-1)).flip(-1)) / 2)
        assert torch.equal(model.logits(images().flip(-1))[0].flip(-1), found)
        assert not torch.equal(network(images()), found)


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    file = write_model(tmp_path / "run")
    content = torch.load(file, weights_only=True)
    del content["description"]["mirrored"], content["presences"]
    torch.save(content | {"format": 1}, tmp_path / "old.pt")
    torch.save(content | {"format": 4}, tmp_path / "new.pt")
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "old.pt")(images())[0], load_model(file)(images())[0])
    with pytest.raises(ValueError, match="use that version"):
        load_model(tmp_path / "new.pt")


def with_presences(run: Path, *folds: int) -> list[Presence]:
    """Add to some folds of a run a classifier on the encoder of one pretext."""
    found = []
    for fold in folds:
        torch.manual_seed(7)
        encoder = make_unet("resnet18", width=4).encoder
        presence = Presence(encoder, features=sum(encoder.channels))
        generator = torch.Generator().manual_seed(fold)
        presence.weights.copy_(torch.randn(len(presence.weights), generator=generator) / 30)
        cell = run / "cells" / f"lesions+teacher-l100-s{fold}"
        torch.save(presence.state_dict(), cell / "presence.pt")
        result = json.loads((cell / "result.json").read_text())
        result["mean"]["presence"] = 1.0
        (cell / "result.json").write_text(json.dumps(result))
        found.append(presence)
    return found


def test_the_confidence_of_a_network_with_a_presence_is_joined_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, least=[0.2, 0.9, 0.4])
    first, last = with_presences(run, 0, 2)
    file = write_model(run)
    model = load_model(file)
    assert model.presences["0"].encoder is model.presences["2"].encoder
    with torch.inference_mode():
        one, two, three = (confidence(logits) for logits in model.logits(images()))
        joined = relative(first(images(), one), 0.2), relative(two, 0.9), relative(last(images(), three), 0.4)
        assert torch.allclose(model(images())[1], sum(joined) / 3, atol=1e-6)
        assert not torch.allclose(first(images(), one), first(images(), one / 2), atol=1e-3)
        with pytest.raises(ValueError, match="images must be given"):
            model.joined(model.logits(images()))
    # one encoder is written, not two
    cells = [run / "cells" / f"lesions+teacher-l100-s{k}" for k in range(3)]
    sizes = [(cell / "model.pt").stat().st_size for cell in cells]
    assert file.stat().st_size < sum(sizes) + 1.5 * (cells[0] / "presence.pt").stat().st_size
    (cells[0] / "presence.pt").unlink()
    with pytest.raises(ValueError, match=r"presence\.pt is missing"):
        write_model(run)


def test_a_presence_that_a_cell_does_not_name_is_not_used(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    cell = tmp_path / "run" / "cells" / "lesions+teacher-l100-s0"
    (cell / "presence.pt").write_bytes(b"of another configuration")
    assert not load_model(write_model(tmp_path / "run")).presences


def test_an_encoder_of_torchvision(tmp_path: Path) -> None:
    (network,) = write_run(tmp_path / "run", least=[0.5], encoder="torchvision/mobilenet_v3_small")
    with torch.inference_mode():
        assert torch.equal(load_model(write_model(tmp_path / "run"))(images())[0], network(images()).sigmoid())


def test_a_file_that_computes_something_else_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run")
    monkeypatch.setattr(module, "load_model", lambda path: bright(0.5, 0.5))
    with pytest.raises(RuntimeError, match="loaded again, it does not compute what the networks do"):
        write_model(tmp_path / "run")
    assert not (tmp_path / "run" / "model.pt").exists()


def test_an_unfinished_run_and_other_folders_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    result = tmp_path / "run/cells/lesions+teacher-l100-s1/result.json"
    result.write_text(json.dumps({"mean": {"dice": 0.5}, "validation": 0.9}))
    with pytest.raises(ValueError, match="its networks have no least confidence"):
        write_model(tmp_path / "run")
    result.unlink()
    with pytest.raises(ValueError, match=r"lesions\+teacher-l100-s1 is not finished"):
        write_model(tmp_path / "run")
    with pytest.raises(ValueError, match="is not the folder of a few-labels run"):
        write_model(tmp_path)


def test_other_files_are_no_models(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_text("no model")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ValueError, match=f"{name} is not a model that `sslmed few-labels` wrote"):
            load_model(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "c.pt")


def test_without_onnx_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    write_run(tmp_path / "run")
    write_model(tmp_path / "run")
    assert "model.onnx was not written: it needs onnx." in capsys.readouterr().out


@pytest.mark.peers
@pytest.mark.parametrize("encoder", ["resnet18", "torchvision/mobilenet_v3_small"])
def test_the_onnx_file_computes_the_same(
    encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    write_run(tmp_path / "run", encoder=encoder, mirrored=encoder == "resnet18")
    if encoder == "resnet18":
        with_presences(tmp_path / "run", 0, 1)
    model = load_model(write_model(tmp_path / "run"))
    file = tmp_path / "run" / "model.onnx"
    assert f"model: {file}, compared with model.pt" in capsys.readouterr().out
    (about,) = onnx.load(file).metadata_props
    assert json.loads(about.value)["least_confidence"] == [0.25, 0.75]
    found = runtime.InferenceSession(str(file)).run(None, {"images": images(5).numpy()})
    with torch.inference_mode():
        for a, b in zip(model(images(5)), found, strict=True):
            assert torch.allclose(a, torch.from_numpy(b), atol=1e-3)
    monkeypatch.setattr("sslmed.studies.prediction.onnx_file.TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="its probabilities differ"):
        write_model(tmp_path / "run")
    assert not file.exists()
