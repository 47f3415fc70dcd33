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

import run_folders
from run_folders import EVIL, METHODS, write_json
from sslmed import plots
from sslmed.studies import manifest
from sslmed.studies.cells import Cell, amount_as_number
from sslmed.studies.report import write_report
from sslmed.studies.report.run import Run
from sslmed.studies.runs import read_csv, read_json
from sslmed.tasks import _report

NAME = "CP-Jig+Freq · RCL+percep"
GRID = [
    "supervised",
    *(
        f"{jigsaw}/{loss}"
        for loss in ("pirl", "pirl+percep", "rcl", "rcl+percep")
        for jigsaw in ("jig", "jig+freq", "cp-jig", "cp-jig+freq")
    ),
]
RUNS = {
    "segmentation": run_folders.segmentation_run,
    "targets": run_folders.targets_run,
    "volumes": run_folders.volumes_run,
}


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


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are written without drawing pictures, which takes seconds."""
    for name in plots.__all__:
        if callable(getattr(plots, name)):
            monkeypatch.setattr(plots, name, Mock())
    monkeypatch.setattr(
        _report,
        "figure",
        lambda _, alt, **words: _report.Figure(
            "data:image/png;base64,", alt, words.get("caption", ""), words.get("wide", False)
        ),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The page of a complete run, drawn once."""
    return render(run_folders.segmentation_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def folder(tmp_path: Path, plain: None) -> Path:
    """A run folder, to be changed."""
    return run_folders.segmentation_run(tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def check(html: str, page: Page) -> None:
    """What holds of every page: it stands alone, its links lead somewhere, its pictures have words, nothing leaked."""
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(|javascript:", html)
    assert len(page.alts) == page.tags.count("img")
    assert all(page.alts)
    assert not re.search(r"\bNone\b|\bnan\b|Undefined|built-in method|{{|{%", page.text)


@pytest.mark.parametrize("kind", ["targets", "volumes"])
def test_every_kind_is_drawn(kind, tmp_path):
    few = {"methods": ["supervised", "simclr"], "domains": ("us",)} if kind == "targets" else {"labels": (4, 1)}
    html, page = render(RUNS[kind](tmp_path, seeds=(0,), **few))
    check(html, page)
    assert page.sources


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_every_number_of_the_tables_is_on_the_page(kind, seeds, tmp_path, plain):
    folder = RUNS[kind](tmp_path, seeds=seeds)
    html, page = render(folder)
    check(html, page)
    for row in rows(folder / "table.csv"):
        for column in ("mean", "sd_cases", "sd_seeds", "paper", "paper_sd"):
            assert not row[column] or f'<data value="{row[column]}">' in html, (column, row)
    for row in rows(folder / "tests.csv"):
        for column in ("difference", "ci_low", "ci_high", "p", "p_holm"):
            assert f'<data value="{row[column]}">' in html, (column, row)
    config = json.loads((folder / "config.json").read_text())
    for method in config["methods"]:
        assert config["display"][method] in page.text
    for target in config["targets"]:
        assert target["title"] in page.text


def test_the_page_stands_alone(whole):
    check(*whole)


def test_summary_says_who_did_what_on_which_data(whole):
    _, page = whole
    for sentence in (
        "A research run, not for diagnosis.",
        "Networks learned to outline structures in images.",
        "Phantom: 40 images (30 benign, 10 normal). They are computed by a simulation",
        "Outlines of 4 images (20 % of the training set) were used",
        "15 images, none of them used in training; 2 seeds, each with its own training on the same split.",
        "Supervised only reached a mean Dice of 0.511 (SD 0.301 between test cases, 0.012 between 2 seeds).",
        f"{NAME} reached a mean Dice of 0.571 (SD 0.301 between test cases",
        "That is higher by more than the means vary between seeds.",
        "no outline at all in 2 of 14 images with a reference outline, an outline without overlap with it in 2, "
        "and an outline in 2 of 4 images without one",
        "other <images>.",
    ):
        assert sentence in page.text, sentence


def test_paired_tests_are_told_in_words(whole):
    _, page = whole
    for sentence in (
        f"{NAME} against Supervised only: difference in Dice +0.122 (95 % interval \N{MINUS SIGN}0.051 to +0.190), "
        "p = 0.30 after Holm's correction; 9 cases, averaged over 2 seeds. These cases show no difference.",
        "It says nothing about another training.",
    ):
        assert sentence in page.text, sentence


def test_a_small_p_names_the_better_by_the_metrics_direction(folder):
    tests = rows(folder / "tests.csv")
    changed = tests[0] | {"metric": "hausdorff", "difference": "-3.5", "p_holm": "0.0002"}
    run_folders.write_csv(folder / "tests.csv", [changed])
    _, page = render(folder)
    assert "difference in Hausdorff distance (pixels) \N{MINUS SIGN}3.50" in page.text
    assert (
        f"p < 0.001 after Holm's correction; 9 cases, averaged over 2 seeds. On these cases {NAME} is better."
        in page.text
    )


def test_text_from_the_run_is_escaped(whole):
    html, page = whole
    assert "<b>" not in html
    assert "<small>" not in html
    assert any(EVIL in alt for alt in page.alts)  # as words, of the pictures of cases
    assert "A <small> run" in page.text


def test_methods_are_explained_in_the_words_of_the_configuration(whole):
    _, page = whole
    assert "A relation network judges." in page.text
    assert "A cross stays." in page.text  # of cp-jig, a part of cp-jig+freq/rcl+percep
    assert "Unused" not in page.text


def test_classification_is_counted_case_by_case(tmp_path, plain):
    folder = run_folders.targets_run(tmp_path, seeds=(0, 1))
    cases = [
        row
        for seed in (0, 1)
        for row in rows(folder / "cells" / f"simclr-classification-us-l100-s{seed}" / "metrics.csv")
    ]
    wrong = [row for row in cases if row["label"] != row["predicted"]]
    _, page = render(folder)
    own = [sum(row["label"] == name for row in part) for name in run_folders.CLASSES for part in (wrong, cases)]
    line = [
        "SimCLR",
        f"{len(wrong)} of {len(cases)}",
        *(f"{a} of {b}" for a, b in zip(own[::2], own[1::2], strict=True)),
    ]
    assert re.sub(r"\s", "", "".join(line)) in re.sub(r"\s", "", page.text)
    (table,) = (call.args[0] for call in plots.confusion_matrix.call_args_list[1:2])
    assert table.sum() == len(cases)
    assert table.trace() == len(cases) - len(wrong)
    scores, target = plots.roc_curves.call_args_list[1].args
    assert scores.shape == (len(cases) // 2, 3)
    assert (np.array(run_folders.CLASSES)[target] == [row["label"] for row in cases[: len(target)]]).all()


def test_a_class_without_a_test_case_has_no_area(tmp_path, plain):
    folder = run_folders.targets_run(tmp_path)
    for file in folder.glob("cells/*-classification-*/metrics.csv"):
        run_folders.write_csv(file, [row for row in rows(file) if row["label"] != "normal"])
    check(*render(folder))
    assert all(call.kwargs["areas"][2] is None for call in plots.roc_curves.call_args_list)


def test_several_domains_have_their_own_sections_sets_and_splits(tmp_path, plain):
    folder = run_folders.targets_run(tmp_path)
    splits = json.loads((folder / "splits.json").read_text())
    splits["mg/0"]["test"].append(splits["mg/0"]["train"][0])
    write_json(folder / "splits.json", splits)
    _, page = render(folder)
    for sentence in (
        "BUSI: 780 images (437 benign, 210 malignant, 133 normal). INbreast: 780 images",
        "Ultrasound: 20 images (100 % of the training set); Mammography: 20 images",
        "Ultrasound: 15 images; Mammography: 16 images, some of which were also used for training",
        "Mammography, seed 0: 1 in train and test",
        "Networks learned to classify images and to outline structures in images.",
        "The highest of 3 other methods, BYOL, reached a balanced accuracy of 0.807.",
    ):
        assert sentence in page.text, sentence
    assert {f"target-{k}" for k in range(4)} <= set(page.ids)
    assert plots.embedding.call_count == 6
    assert plots.view_gallery.call_args.kwargs["heads"] == ("original", "first view", "second view")


def test_volumes_are_counted_in_volumes(tmp_path, plain):
    _, page = render(run_folders.volumes_run(tmp_path))
    assert "Outlines of 1, 2, 4 or 8 volumes were used for fine-tuning." in page.text
    assert "Result with 1 labelled volume" in page.text
    assert "The paper prints no numbers to compare with these." in page.text
    assert plots.label_curves.call_args.kwargs["log2"]
    amounts, means, bars = plots.label_curves.call_args.args[0]["Supervised only"]
    np.testing.assert_allclose((amounts, bars), ([8, 4, 2, 1], [0.0123456] * 4))
    assert (np.diff(means) < 0).all()
    assert plots.label_curves.call_args.kwargs["level"] is None  # 8 volumes are not all
    assert {call.kwargs["xlabel"] for call in plots.metric_strip.call_args_list} == {
        "Dice, anterior",
        "Dice, posterior",
        "Hausdorff distance (pixels)",
    }


def test_training_with_all_volumes_is_a_line_across_the_figure(tmp_path, plain):
    folder = run_folders.volumes_run(tmp_path)
    splits = read_json(folder / "splits.json")
    for parts in splits.values():
        parts["labelled"]["8 volumes"] = parts["train"]
    run_folders.write_json(folder / "splits.json", splits)
    render(folder)
    mean = next(
        r["mean"] for r in read_csv(folder / "table.csv") if (r["labels"], r["method"]) == ("8 volumes", "supervised")
    )
    assert plots.label_curves.call_args.kwargs["level"] == ("Supervised only, all 8 volumes", float(mean))


def test_all_methods_are_shown_on_the_same_cases_at_every_amount_of_labels(tmp_path, plain):
    folder = run_folders.segmentation_run(tmp_path, methods=GRID, labels=(1.0, 0.2), seeds=(0, 1))
    html, page = render(folder)
    check(html, page)
    calls = plots.prediction_grid.call_args_list
    for own in (calls[: len(calls) // 2], calls[len(calls) // 2 :]):
        drawn = [name for call in own for name in call.args[2]]
        assert len(drawn) == len(set(drawn)) == len(GRID)
        assert max(len(call.args[2]) for call in own) <= 5
    titles = [f"best 20 %\nbenign\n{EVIL}", "middle 60 %\nmalignant\ncase 3", "worst 20 %\nnormal\ncase 1"]
    assert all(call.args[3] == titles for call in calls)
    _, target, preds, _ = calls[0].args
    assert target.shape == (3, 24, 24)
    with np.load(folder / "cells" / "supervised-l20-s0" / "cases.npz") as z:
        np.testing.assert_array_equal(preds["Supervised only"], z["pred"][[0, 3, 1]])
    assert calls[0].kwargs["scores"]["Supervised only"] == [
        "Dice 0.90, IoU 0.90",
        "Dice 0.50, IoU 0.50",
        "Dice 0.00, IoU 0.00",
    ]
    assert "of seed 0" in page.text
    assert "the middle shows a case of each class" in page.text
    assert 'class="wide"' in html


def test_a_method_without_predictions_of_the_seed_is_not_shown(folder):
    (folder / "cells" / "supervised-l20-s0" / "cases.npz").unlink()
    render(folder)
    (call,) = plots.prediction_grid.call_args_list
    assert list(call.args[2]) == [NAME]


def test_structures_of_volumes_are_named(tmp_path, plain):
    _, page = render(run_folders.volumes_run(tmp_path, labels=(4, 8)))
    assert plots.prediction_grid.call_count == 2
    assert plots.prediction_grid.call_args.kwargs["structures"] == ["anterior", "posterior"]
    assert "Each structure has a colour." in page.text
    assert "One slice of each volume, Dice of the whole volume." in page.text
    assert "The same cases, 8 labelled volumes" in page.text


def test_sensitivity_and_specificity_are_listed_by_class(tmp_path, plain):
    folder = run_folders.targets_run(tmp_path, methods=("supervised",), domains=("us",))
    cases = rows(folder / "cells" / "supervised-classification-us-l100-s0" / "metrics.csv")
    _, page = render(folder)
    own, others = ([row for row in cases if (row["label"] == "normal") == same] for same in (True, False))
    found = sum(row["predicted"] == "normal" for row in own) / len(own)
    kept_out = sum(row["predicted"] != "normal" for row in others) / len(others)
    text = page.text[page.text.index("Sensitivity and specificity by class") :]
    assert all(f"{rate}, {name}" in text for rate in ("Sensitivity", "Specificity") for name in run_folders.CLASSES)
    assert f"{found:.3f}" in text
    assert f"{kept_out:.3f}" in text


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
    assert "2 seeds, each with its own split and training" in page.text


def test_failures_and_unfinished_cells_are_named(folder):
    write_json(folder / "failures.json", [{"cell": "jig_rcl-l20-s0", "error": "ValueError: a < b"}])
    cell = Cell("jig/pirl", 0.2, 0)
    manifest.record(folder, [manifest.CellEntry(f"cells/{cell.name}", cell)])
    (folder / "cells" / cell.name).mkdir()
    _, page = render(folder)
    assert "The run is not complete." in page.text
    assert "jig_rcl-l20-s0: ValueError: a < b" in page.text
    assert "jig_pirl-l20-s0: no result" in page.text


PARTS = (
    ["galleries.npz"],
    ["pretext"],
    ["table.csv", "cells", "failures.json"],
    ["table.csv"],
    ["tests.csv"],
    ["cells"],
    ["splits.json"],
    ["environment.json", "data.json"],
    ["cells/*/cases.npz", "cells/*-s0/curves.csv"],
    ["pictures"],
    ["cells/*/metrics.csv"],
    [
        "environment.json",
        "data.json",
        "splits.json",
        "table.csv",
        "tests.csv",
        "cells",
        "pretext",
        "galleries.npz",
        "failures.json",
    ],
)


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("missing", PARTS)
def test_missing_parts_do_not_break_the_page(kind, missing, tmp_path, plain):
    folder = RUNS[kind](tmp_path)
    for pattern in missing:
        for path in list(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    html, page = render(folder)
    check(html, page)
    assert "not for diagnosis" in page.text
    if "galleries.npz" in missing:
        assert "What the network was shown" not in page.text
    if "pretext" in missing:
        assert "No pretext learning is in this folder." in page.text
    if {"table.csv", "cells"} <= set(missing):
        assert "there is no table of results" in page.text
        alone = "No result of fine-tuning is in this folder."
        assert (alone if "pretext" not in missing else "This folder holds no training result yet.") in page.text


def test_names_words_and_targets_may_be_missing_from_the_configuration(folder):
    config = json.loads((folder / "config.json").read_text())
    for name in ("display", "words", "baselines", "proposed", "paper", "title", "seeds", "preset"):
        del config[name]
    write_json(folder / "config.json", config)
    html, page = render(folder)
    check(html, page)
    assert METHODS[1] in page.text
    del config["targets"]
    write_json(folder / "config.json", config)
    check(*render(folder))


def test_a_run_without_labels_claims_no_test(folder):
    for name in ("cells", "table.csv", "tests.csv"):
        shutil.rmtree(folder / name) if name == "cells" else (folder / name).unlink()
    write_json(folder / "splits.json", {"0": {"pretext": ["a", "b"]}})
    _, page = render(folder)
    assert "2 images, used without their labels." in page.text
    assert "Tested on" not in page.text
    assert "how many cases were labelled" not in page.text


def test_galleries_without_focal_patches_are_drawn(folder):
    with np.load(folder / "galleries.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if name != "focal"}
    np.savez_compressed(folder / "galleries.npz", **kept)
    _, page = render(folder)
    assert "Patch jigsaw" in page.text
    assert plots.jigsaw_gallery.call_args.args[3] is None


def test_an_area_that_is_no_number_is_a_dash(tmp_path, plain):
    folder = run_folders.targets_run(tmp_path)
    table = rows(folder / "table.csv")
    for row in table:
        if row["metric"] in ("balanced_accuracy", "roc_auc") and row["method"] != "simclr":
            row["mean"] = "nan"
    run_folders.write_csv(folder / "table.csv", table)
    html, page = render(folder)
    check(html, page)
    assert "SimCLR reached a balanced accuracy of" in page.text


def test_the_papers_set_stands_in_the_text_or_in_a_column(folder):
    assert "and the paper's (BUSI) are printed" in render(folder)[1].text
    table = rows(folder / "table.csv")
    run_folders.write_csv(folder / "table.csv", [table[0] | {"paper_set": "BUSI, augmented"}, *table[1:]])
    _, page = render(folder)
    assert "and the paper's are printed side" in " ".join(page.text.split())
    assert "BUSI, augmented" in page.text


def test_too_few_cases_are_said_to_be_too_few(folder):
    tests = rows(folder / "tests.csv")
    run_folders.write_csv(folder / "tests.csv", [tests[0] | {"p_holm": "0.0625", "cases": "5"}])
    assert "So few cases cannot show a difference by this test." in render(folder)[1].text


def test_one_seed_has_a_reason_instead_of_a_p_value(tmp_path, plain):
    html, page = render(run_folders.segmentation_run(tmp_path, seeds=(0,)))
    check(html, page)
    reason = f"({run_folders.ONE_SEED})."
    for sentence in (
        f"{NAME} reached a mean Dice of 0.571 (SD 0.301 between test cases). That is higher, "
        f"without a p-value {reason}",
        f"(95 % interval \N{MINUS SIGN}0.051 to +0.190); 9 cases, one seed. No p-value {reason}",
        f"A dash: no p-value {reason}",
        "The interval is about other cases like these",
    ):
        assert sentence in page.text, sentence
    for words in ("Wilcoxon", "Holm's", "p =", "show no difference"):
        assert words not in page.text


def test_a_smoke_run_of_several_seeds_finds_nothing(folder):
    reason = "a smoke run: too short to compare methods"
    tests = rows(folder / "tests.csv")
    run_folders.write_csv(folder / "tests.csv", [row | {"p": "", "p_holm": "", "no_p": reason} for row in tests])
    _, page = render(folder)
    assert f"That is higher, without a p-value ({reason})." in page.text
    assert "by more than the means vary" not in page.text


def test_folds_without_a_paper_are_told_as_such(folder):
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"paper": "", "arguments": {"folds": 3}})
    splits = json.loads((folder / "splits.json").read_text())
    splits["1"]["test"] = ["case 0", "case 1"]
    splits["1"]["train"] = splits["1"]["pretext"] = [f"case {k}" for k in range(2, 20)]
    write_json(folder / "splits.json", splits)
    table = rows(folder / "table.csv")
    run_folders.write_csv(
        folder / "table.csv", [r | dict.fromkeys(("paper", "paper_sd", "paper_set"), "") for r in table]
    )
    html, page = render(folder)
    check(html, page)
    for sentence in (
        "17 images, each tested once, by networks that were not trained on it; cross-validation with 3 folds.",
        "0.012 between 2 folds). That is higher (Dice case by case: p = 0.30 after Holm's correction).",
        "Each case was tested in one of 2 folds.",
        "9 cases, each tested in one of 2 folds.",
        "of fold 0",
        "the SD between folds, that is,",
    ):
        assert sentence in page.text, sentence
    shown = page.text[page.text.index("Summary") :]
    assert "paper" not in shown
    assert not re.search(r"\bseeds\b", shown)


def test_a_papers_other_baselines_are_compared_too(folder):
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"baselines": ["supervised", METHODS[1]]})
    assert f"{NAME} reached a mean Dice of 0.571" in render(folder)[1].text


def test_pretexts_have_the_titles_of_the_manifest_in_the_order_of_the_methods(tmp_path):
    folder = run_folders.targets_run(tmp_path)
    shutil.rmtree(folder / "pretext")
    (folder / "manifest.json").unlink()
    for name, method, seed, title in (
        ("a", "untrained", 0, "untrained network"),
        ("b", "byol", 1, "BYOL, global"),
        ("c", "simclr", 3, "SimCLR"),
        ("d", "byol", 1, "BYOL, local"),
    ):
        run_folders.write_pretext(folder, name, ["loss"], method=method, seed=seed, title=title)
    found = [(title, seed) for title, seed, _ in Run.read(folder).pretexts()]
    assert found == [("SimCLR", 3), ("BYOL, global", 1), ("BYOL, local", 1), ("untrained network", 0)]


def test_a_run_of_an_older_version_is_refused(folder):
    (folder / "manifest.json").unlink()
    message = "was written by an older version of sslmed; run the study again in a new folder"
    with pytest.raises(ValueError, match=message):
        write_report(folder)


def test_an_unknown_kind_of_target_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    config["targets"][0]["kind"] = "counting"
    write_json(folder / "config.json", config)
    with pytest.raises(
        ValueError, match=r"kind of a target must be one of 'classification', 'segmentation', 'volumes', got 'counting'"
    ):
        write_report(folder)


def test_a_cell_that_was_recorded_and_never_begun_is_named(folder):
    cell = Cell("jig/pirl", 0.2, 0)
    manifest.record(folder, [manifest.CellEntry(f"cells/{cell.name}", cell)])
    assert "jig_pirl-l20-s0: no result" in render(folder)[1].text


def test_no_run_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a run folder: it has no config\.json"):
        write_report(tmp_path)


def test_many_methods_are_shown_by_baseline_proposal_and_best(tmp_path, plain):
    folder = run_folders.segmentation_run(tmp_path, methods=GRID, labels=(1.0, 0.2), seeds=(0,))
    table = rows(folder / "table.csv")
    for row in table:
        if row["metric"] == "dice":
            row["mean"] = {"jig/rcl": "0.9", "cp-jig/rcl": "0.8", METHODS[1]: "0.2"}.get(row["method"], "0.5")
    # One method has no result at the fewest labels.
    shutil.rmtree(folder / "cells" / "jig_pirl-l20-s0")
    run_folders.write_csv(
        folder / "table.csv", [r for r in table if (r["method"], r["labels"]) != ("jig/pirl", "20 %")]
    )
    run = Run.read(folder)
    assert run.main_methods(run.targets[0]) == ["supervised", "jig/rcl", "cp-jig/rcl", METHODS[1]]
    html, page = render(folder)
    check(html, page)
    assert "The highest of 15 other methods, jig/rcl, reached a mean Dice of 0.900" in page.text
    assert "The highest of 16 other methods, jig/rcl, reached a mean Dice of 0.900" in page.text
    assert f"The paper's proposal, {NAME}, reached a mean Dice of 0.200" in page.text
    assert (
        f"without a p-value ({run_folders.ONE_SEED}). The best of several results is also an optimistic estimate."
        in page.text
    )
    assert "Of 17 methods, the baseline, the paper's proposal and the best." in page.text
    assert plots.curve_panels.call_count


def test_curves_count_epochs_from_1_and_the_spread_from_0(folder):
    for file in folder.glob("pretext/*/curves.csv"):
        run_folders.write_csv(file, [{"epoch": k, "loss": 2 - k, "feature_std": 0.04 + k / 1e4} for k in range(2)])
    render(folder)
    spread = next(c for c in plots.curve_panels.call_args_list if "spread" in c.kwargs["ylabel"])
    assert spread.kwargs["ylim"] == pytest.approx((0, 1.1 * 0.0401))
    assert next(iter(next(iter(spread.args[0].values())).values()))[0] == [1, 2]


def test_what_was_measured_during_a_pretext_is_shown(folder):
    html, page = render(folder)
    assert "Is it learning?" not in page.text
    entry = Run.read(folder).manifest.pretexts[0]
    place, pictures = folder / entry.folder, np.full((5, 8, 8), 200, np.uint8)
    run_folders.write_csv(
        place / "monitor.csv",
        [
            {"epoch": e, "knn_accuracy": 0.5 + e / 100, "linear_accuracy": 0.6, "lidar": 3 + e, "seconds": 1}
            for e in (0, 7, 30)
        ],
    )
    arrays = {}
    for part, count in (("start", 20), ("end", 32)):
        right = {"correct": np.arange(40) < count, "matched": np.arange(40) < count, "most_frequent": np.array(0.5)}
        shown = {"queries": pictures, "neighbours": np.stack([pictures] * 3, axis=1)}
        arrays |= {f"{part}_{name}": value for name, value in (right | shown).items()}
    np.savez(place / "monitor.npz", **arrays)
    html, page = render(folder)
    check(html, page)
    assert f"{entry.title}, seed {entry.seed}. Better than its start: kNN accuracy 50% to 80% (p = " in page.text
    assert f"Nearest neighbours before and after: {entry.title}" in page.text
    assert plots.neighbour_gallery.call_count == 2
    assert {call.args[0].max() for call in plots.neighbour_gallery.call_args_list} == {np.float32(200 / 255)}
    drawn = {call.kwargs["ylabel"]: call.args[0] for call in plots.curve_panels.call_args_list}
    assert {"kNN accuracy", "linear probe accuracy", "LiDAR"} <= drawn.keys()
    assert "seconds" not in drawn
    epochs, values = next(iter(next(iter(drawn["LiDAR"].values())).values()))
    assert (epochs, values) == ([0, 7, 30], [3, 10, 33])


def test_names_of_validation_metrics_fit_beside_their_axis(folder):
    for file in folder.glob("cells/*/curves.csv"):
        run_folders.write_csv(file, [{"epoch": 0, "val_loss": 1, "val_precision": 0.5, "val_mcc": 0.1}])
    render(folder)
    labels = [call.kwargs["ylabel"] for call in plots.curves.call_args_list]
    assert labels == ["validation loss", "validation precision", "validation MCC"]


def test_a_smaller_distance_is_the_better_one(folder):
    config = json.loads((folder / "config.json").read_text())
    config["targets"][0]["metric"] = "hausdorff"
    write_json(folder / "config.json", config)
    _, page = render(folder)
    assert "reached a mean Hausdorff distance (pixels) of 30.25" in page.text
    assert "That is lower (better) by more than the means vary between seeds." in page.text


@pytest.mark.parametrize(
    ("labels", "unit", "expected"),
    [
        (0.2, "%", 20),
        ("20 %", "%", 20),
        ("12.5 %", "%", 12.5),
        (0.07, "%", 7),
        (1.0, "%", 100),
        ("100 %", "%", 100),
        (4, "volumes", 4),
        ("4 volumes", "volumes", 4),
        ("1 volume", "volumes", 1),
    ],
)
def test_amounts_of_labels_are_read_as_numbers_and_as_texts(labels, unit, expected):
    assert amount_as_number(labels, unit) == expected


def test_results_in_and_out_of_distribution_stand_side_by_side(tmp_path: Path) -> None:
    folder = run_folders.segmentation_run(tmp_path)
    before = write_report(folder).read_text()
    assert "In and out of distribution" not in before
    shown = sum(alt.startswith("The same 3 test cases by") for alt in Page(before).alts)
    assert shown > 0
    run_folders.add_test_set(folder, "BUS-BRA")
    page = Page(write_report(folder).read_text())
    assert "External test sets" in page.text
    assert "BUS-BRA: 9 images, none of them used in any training." in page.text
    assert "Dice, test part of Phantom" in page.text
    run = Run.read(folder)
    (target,) = run.targets
    here, there = (run.rows(target, name)[20.0]["supervised"]["dice"]["mean"] for name in ("", "BUS-BRA"))
    assert float(here) - float(there) == pytest.approx(0.1)
    part = page.text[page.text.index("In and out of distribution", page.text.index("Paired tests")) :]
    assert f"{float(here):.3f}" in part
    assert f"{float(there):.3f}" in part
    assert "\N{MINUS SIGN}0.100" in part
    assert "Paired tests on BUS-BRA" in part
    assert "Dice by scanner or set, BUS-BRA" in part
    assert "Scanner 0" in part
    assert "0.777± 0.111" in part
    assert part.index("Pictures of cases, BUS-BRA") < part.index("All metrics on the external sets")
    assert "The same images of BUS-BRA for all methods and amounts of labels" in part
    assert sum(alt.startswith("The same 3 test cases by") for alt in page.alts) == 2 * shown
    assert "The paper's numbers beside BUS-BRA: Table <VI>. They are not comparable with ours" in part
    assert "for orientation only: other sets." in part
    assert "Table <VI>" not in page.text[: page.text.index("In and out of distribution", page.text.index("Paired"))]
    assert any(alt.startswith("Dice in and out of distribution with 20 % of the labels") for alt in page.alts)
    assert "over all p-values of this section (2)" in page.text


def test_repeats_are_told_from_seeds(tmp_path: Path, plain: None) -> None:
    folder = run_folders.segmentation_run(tmp_path)
    for method in run_folders.METHODS:
        run_folders.write_cell(folder, "segmentation", method, 0.2, 0, repeat=1)
    rows = read_csv(folder / "table.csv")
    run_folders.write_csv(folder / "table.csv", [row | {"sd_repeats": "0.0456", "repeats": "2"} for row in rows])
    text = " ".join(" ".join(render(folder)[1].words).split())
    assert "over 2 repeated fine-tunings of each" in text
    assert "Counted over the test images of all seeds and repeats." in text
    assert "0.046 between 2 repeats of the fine-tuning" in text
    assert "the SD between repeats, that is," in text
    assert "0, repeat 2" in text
