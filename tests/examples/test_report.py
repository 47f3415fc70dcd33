from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from pipeline import report_figures
from pipeline.report import write_report
from pipeline.report_figures import Picture
from pipeline.report_folder import Run, display

EVIL = '<b>bad</b> & "id" $x_'
METHODS = ["supervised", "cp-jig+freq/rcl+percep"]
TABLE = {
    "labels_percent": ("20", "20"), "method": METHODS, "dsc": ("0.511", "0.633"),
    "dsc_sd_cases": ("0.301", "0.287"),
    "dsc_sd_seeds": ("0.0123456", ""), "jc": ("0.402", "0.498"), "hd": ("31.25", "22.87"),
    "ppv": ("0.612", "0.707"),
    "rec": ("0.555", "0.666"), "pooled_dsc": ("0.588", "0.701"), "seeds": ("2", "1"), "cases": ("9", "9"),
    "paper_dataset": ("BUSI", ""), "paper_dsc": ("0.847", ""), "paper_dsc_sd": ("0.158", ""),
    "paper_hd": ("32.98", ""), "why_not_comparable": ("other <images>", "the paper's text has no such row"),
}  # fmt: skip


def write_csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_cell(folder: Path, method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = folder / "cells" / f"{method.replace('/', '_')}-l20-s{seed}"
    rows = []
    for k in range(9):
        empty, silent, dice = int(k >= 7), int(k in (1, 7)), [0.9, 0, 0, 0.5, 0.6, 0.7, 0.8, 1, 0][k]
        rows.append(
            {
                "id": EVIL if k == 0 else f"case {k}",
                "label": k % 2,
                "target_empty": empty,
                "pred_empty": silent,
            }
            | {"dice": dice, "jaccard": dice, "precision": dice, "recall": dice, "hausdorff": 10 * k}
        )
    write_csv(place / "metrics.csv", rows)
    write_csv(
        place / "curves.csv",
        [
            {"epoch": e, "train_loss": 1 / (e + 1), "val_loss": "" if e else 1, "val_dice": 0.5, "lr": 0.1}
            for e in range(3)
        ],
    )
    masks = rng.random((2, 3, 16, 16)) > 0.5
    masks[1, 0] = False
    np.savez_compressed(
        place / "cases.npz",
        image=rng.integers(0, 255, (3, 16, 16), np.uint8),
        target=masks[0],
        pred=masks[1],
        id=np.array([EVIL, "case 3", "case 2"]),
        dice=np.array([0.9, 0.5, 0.0]),
        tier=np.array(["best", "middle", "worst"]),
    )
    write_json(
        place / "result.json",
        {"method": method, "labels": 0.2, "seed": seed, "epochs": 3, "seconds": 75.0, "cases": 9}
        | {"mean": {"dice": 0.5}, "sd": {"dice": 0.1}, "pooled": {"dice": 0.5, "jaccard": 0.4}}
        | {"empty": {"target": 2, "pred": 2, "both": 1}},
    )


def write_run(tmp_path: Path) -> Path:
    """A complete small run: two methods, one share of the labels; the baseline with two seeds."""
    names = [f"case {k}" for k in range(40)]
    split = {"pretext": names[:20], "train": names[:20], "val": names[20:25], "test": names[25:]}
    write_json(
        tmp_path / "config.json",
        {"paper": "000", "title": "A <small> run", "arguments": {"data": "phantom"}, "methods": METHODS}
        | {"preset": {"finetune": {"epochs": 3}}, "labels": [0.2], "seeds": [0, 1]},
    )
    write_json(
        tmp_path / "environment.json",
        {
            "python": "3.11.9",
            "platform": "Linux",
            "device": "CPU",
            "packages": {"sslmed": "0.1.0", "torch": "2.5.1"},
        }
        | {"started": "2026-01-02T03:04:05+00:00", "finished": "2026-01-02T03:10:05+00:00", "seconds": 360.5},
    )
    write_json(
        tmp_path / "data.json",
        {"name": "Phantom", "source": "synthetic", "counts": {"images": 40, "benign": 30, "normal": 10}}
        | {"published": None, "groups": None, "notes": ["a note"], "checks": ["a check"]},
    )
    write_json(tmp_path / "splits.json", {s: split | {"labelled": {"0.2": names[:4]}} for s in "01"})
    write_csv(tmp_path / "table.csv", [{k: v[i] for k, v in TABLE.items()} for i in range(2)])
    for method, seed in ((METHODS[0], 0), (METHODS[0], 1), (METHODS[1], 0)):
        write_cell(tmp_path, method, seed)
    write_csv(
        tmp_path / "pretext" / "cp-jig+freq_rcl+percep-s0" / "curves.csv",
        [{"epoch": e, "loss": 1 / (e + 1), "relation": 0.5, "perceptual": 0.1} for e in range(3)],
    )
    rng = np.random.default_rng(0)
    images = rng.random((3, 2, 12, 12)).astype(np.float32)
    np.savez_compressed(
        tmp_path / "galleries.npz",
        original=images[0],
        filtered=images[1],
        jigsaw=images[2],
        kept=rng.random((2, 12, 7)) > 0.2,
        grid=np.array([3, 3]),
        focal=rng.random((2, 9)) > 0.5,
    )
    write_json(tmp_path / "failures.json", [])
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The page of the complete run, drawn once."""
    return render(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder, to be changed; its page is written without drawing pictures, which takes seconds."""
    monkeypatch.setattr(report_figures, "plots", Mock())
    monkeypatch.setattr(
        report_figures, "picture", lambda _, alt, **words: Picture("data:,", alt, words.get("caption", ""))
    )
    return write_run(tmp_path)


class Page(HTMLParser):
    """The page's text, what it links to, and its tags in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.alts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, f"unclosed tags: {self.open}"
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)
        self.sources += [value for key, value in attrs if key in {"src", "srcset", "data", "poster"}]
        self.links += [attributes["href"]] if "href" in attributes else []
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.alts += [attributes["alt"]] if "alt" in attributes else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def render(folder: Path) -> tuple[str, Page]:
    path = write_report(folder)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_every_number_of_the_table_is_on_the_page(whole):
    html, page = whole
    for column, values in TABLE.items():
        for value in values:
            if column in {"method", "why_not_comparable", "paper_dataset"} or not value:
                continue
            assert re.search(rf'<data value="{re.escape(value)}">', html), (column, value)
    assert "0.012" in page.text  # rounded for reading; the exact one is in the attribute
    for method in METHODS:
        assert display(method) in page.text
    assert "other <images>." in page.text
    assert "the paper's text has no such row." in page.text


def test_summary_says_who_did_what_on_which_data(whole):
    _, page = whole
    for sentence in (
        "A research run, not for diagnosis.",
        "Phantom: 40 images (30 benign, 10 normal). They are computed by a simulation",
        "Outlines of 4 images (20 % of the training set) were used",
        "15 images, none of them used in training; 2 seeds",
        "Supervised training alone reached a mean Dice of 0.511 "
        "(SD 0.301 between test cases, 0.0123456 between 2 seeds).",
        "Pretext learning with CP-Jig+Freq · RCL+percep reached a mean Dice of 0.633 (SD 0.287 between test cases).",
        "a single seed cannot tell an effect from chance",
        "no outline at all in 2 of 14 images with a lesion, an outline wholly beside the lesion in 2, "
        "and an outline in 2 of 4 images without a lesion",
    ):
        assert sentence in page.text, sentence


def test_the_page_stands_alone(whole):
    html, page = whole
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(|javascript:", html)
    assert all(page.alts)
    assert len(page.alts) == page.tags.count("img")


def test_text_from_the_run_is_escaped(whole):
    html, page = whole
    assert "<b>" not in html
    assert "<small>" not in html
    assert EVIL in page.text  # as words, in the caption of the overlays
    assert "A <small> run" in page.text


def test_counts_and_leakage_checks_come_from_the_ids(folder):
    _, page = render(folder)
    assert "not valid" not in page.text
    splits = json.loads((folder / "splits.json").read_text())
    splits["1"]["test"].append(splits["1"]["pretext"][0])
    write_json(folder / "splits.json", splits)
    _, page = render(folder)
    assert "These numbers are not valid: parts of the split share cases." in page.text
    assert "seed 1: 1 in pretext and test" in page.text
    assert "seed 1: 1 in train and test" in page.text
    assert "seed 0:" not in page.text


def test_failures_and_unfinished_cells_are_named(folder):
    write_json(folder / "failures.json", [{"cell": "jig_rcl-l20-s0", "error": "ValueError: a < b"}])
    (folder / "cells" / "jig_pirl-l20-s0").mkdir()
    _, page = render(folder)
    assert "The run is not complete." in page.text
    assert "jig_rcl-l20-s0: ValueError: a < b" in page.text
    assert "jig_pirl-l20-s0: no result" in page.text


@pytest.mark.parametrize(
    "missing",
    [
        ["galleries.npz"],
        ["pretext"],
        ["table.csv", "cells", "failures.json"],
        ["splits.json"],
        ["environment.json", "data.json"],
        ["cells/supervised-l20-s0/cases.npz", "cells/supervised-l20-s1/curves.csv"],
        ["cells/supervised-l20-s0/metrics.csv", "cells/supervised-l20-s1/metrics.csv"],
        [
            "environment.json",
            "data.json",
            "splits.json",
            "table.csv",
            "cells",
            "pretext",
            "galleries.npz",
            "failures.json",
        ],
    ],
)
def test_missing_parts_do_not_break_the_page(folder, missing):
    for name in missing:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, page = render(folder)
    assert "not for diagnosis" in page.text
    assert not re.search(r"\bNone\b|\bnan\b|Undefined|built-in method", page.text)
    assert {link[1:] for link in page.links} <= set(page.ids)
    if "galleries.npz" in missing:
        assert "Band-stop filter" not in page.text
    if "pretext" in missing:
        assert "No pretext learning is in this folder." in page.text
    if "table.csv" in missing:
        assert "there is no table of results" in page.text
        alone = "No result of outlining lesions is in this folder."
        assert (
            alone if "pretext" not in missing else "This folder holds no training result yet."
        ) in page.text


def test_a_run_without_labels_claims_no_test(folder):
    for name in ("cells", "table.csv"):
        shutil.rmtree(folder / name) if name == "cells" else (folder / name).unlink()
    write_json(folder / "splits.json", {"0": {"pretext": ["a", "b"]}})
    _, page = render(folder)
    assert "2 images, used without their outlines." in page.text
    assert "Tested on" not in page.text
    assert "how many cases were labelled" not in page.text


def test_galleries_and_pictures_without_focal_patches_are_drawn(tmp_path):
    folder = write_run(tmp_path)
    for part in ("pretext", "cells"):
        shutil.rmtree(folder / part)
    with np.load(folder / "galleries.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "focal"}
    np.savez_compressed(folder / "galleries.npz", **kept)
    _, page = render(folder)
    assert "Patch jigsaw" in page.text


def test_no_run_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no run folder: it holds no config\.json"):
        write_report(tmp_path)


def test_many_methods_are_shown_by_baseline_proposal_and_best(folder):
    names = ["supervised", "jig/rcl", "jig/pirl", "cp-jig/rcl", "cp-jig+freq/rcl+percep", "cp-jig/pirl"]
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | {"methods": names})
    for name in names:
        write_cell(folder, name, 0)
    scores = dict(zip(names, ("0.5", "0.9", "0.1", "0.8", "0.2", "0.3"), strict=True))
    row = {column: values[0] for column, values in TABLE.items()}
    write_csv(folder / "table.csv", [row | {"method": name, "dsc": scores[name]} for name in names])
    assert Run.read(folder).main_methods == ["supervised", "jig/rcl", "cp-jig/rcl", "cp-jig+freq/rcl+percep"]
    _, page = render(folder)
    assert "The highest of 5 pretext methods, Jig · RCL, reached a mean Dice of 0.9" in page.text
    assert "The paper's own proposal, CP-Jig+Freq · RCL+percep, reached a mean Dice of 0.2" in page.text
    assert "Picking the best of several also flatters it." in page.text


def test_display_names():
    assert display("supervised") == "Supervised only"
    assert display("jig/pirl+percep") == "Jig · PIRL+percep"
    assert display("new/thing") == "new · thing"
