"""Write docs/benchmarks.md from the files in benchmarks/results: python benchmarks/report.py.

The page has the figures that compare sslmed with something else, those that are worse beside those that are better, and
names the pages that show the other files. Nothing is measured here; a test says whether the page is current.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pages import table
from standings import standings, ways

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

SWEPT = {"losses": "Losses", "metrics": "Metrics", "augment": "Augmentations"}

INTRO = """\
# Benchmarks

What was measured with the scripts in `benchmarks/`, made from their files in `benchmarks/results/` by
`python benchmarks/report.py`. Times are medians of interleaved rounds on one thread of a CPU, for a batch; compare
times of one table only. *Times sslmed* above 1 means slower than sslmed; **bold** where another library's code is
faster. A floor is the arithmetic that cannot be left out, such as a Fourier transform or a matrix product; it does none
of the rest of the work. Nothing was measured on a GPU.
"""

# The class beside which another library's augmentation stands.
NEAREST = {
    "kornia: brightness and contrast": "GrayJitter",
    "kornia: RandomErasing": "RandomPatchMask",
    "MONAI: RandBiasField": "BiasField",
    "MONAI: RandGibbsNoise": "GibbsRinging",
    "MONAI: RandKSpaceSpikeNoise": "KSpaceSpike",
    "TorchIO: RandomBiasField": "BiasField",
    "TorchIO: RandomSpike": "KSpaceSpike",
    "TorchIO: RandomGhosting": "",
}


def read(name: str) -> dict[str, Any]:
    """A result file."""
    result: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return result


def machine(result: dict[str, Any]) -> str:
    """A sentence that names the machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    threads = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    rounds = "one round" if result["rounds"] == 1 else f"{result['rounds']} rounds"
    return f"{result['machine']}, {result['device'].upper()}, {threads}, {rounds}; {versions}.\n"


def ms(value: float) -> str:
    """Milliseconds with three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def times(name: str, value: float, own: float) -> str:
    """A time as a multiple of sslmed's, bold where other code that does the work is faster."""
    text = f"{value / own:.2f}"
    return f"**{text}**" if float(text) < 1 and not name.startswith(("floor", "sslmed")) else text


def timings(result: dict[str, Any], extra: dict[str, Callable[[dict[str, Any]], str]]) -> str:
    """One table of all jobs whose contenders do the same work as the one named sslmed."""
    rows = []
    for job, contenders in result["jobs"].items():
        if "sslmed" not in contenders:
            continue
        own = contenders["sslmed"]["median_ms"]
        for k, (name, found) in enumerate(contenders.items()):
            cells = [ms(found["median_ms"]), "1" if name == "sslmed" else times(name, found["median_ms"], own)]
            rows.append(["" if k else job, name, *cells, *(show(found) for show in extra.values())])
    return table(["job", "code", "ms", "times sslmed", *extra], rows)


def losses() -> str:
    """Losses, queue and moving average."""
    result = read("losses-cpu.json")
    memory = {"peak, MiB": lambda found: f"{found['peak_mib']:.0f}" if "peak_mib" in found else "-"}
    return "\n".join(
        (
            "## Losses and memories\n\nForward and backward for losses; the peak is of memory beyond the inputs.\n",
            timings(result, memory),
            machine(result),
        )
    )


def augmentations() -> str:
    """Augmentations, with the single ones beside the nearest of other libraries."""
    result, share = read("augment-cpu.json"), read("augment-share-cpu.json")
    changes = result["jobs"]["every change of intensity 32x1x224x224"]
    rows = []
    for name, found in changes.items():
        nearest = NEAREST.get(name.removesuffix(", one draw"), "")
        own = changes.get(f"sslmed: {nearest}")
        ratio = times(name, found["median_ms"], own["median_ms"]) if own else ""
        rows.append([name, ms(found["median_ms"]), ratio, nearest])
    step = share["jobs"]["ResNet-50, batch of 32, 224 x 224"]
    encoder = step["forward and backward"]["median_ms"]
    parts = [
        [name, ms(found["median_ms"]), f"{found['share']:.2%}"] for name, found in step.items() if "share" in found
    ]
    return "\n".join(
        (
            "## Augmentations\n\n"
            "MONAI and TorchIO take one image at a time; *one draw* gives the whole batch to MONAI as channels, with\n"
            "one draw for all images. Neither has a band-stop filter: their nearest are named.\n",
            timings(result, {}),
            "Single changes of 32 gray images of 224 x 224 pixels, beside the nearest of sslmed's own. The models\n"
            "differ, so a ratio says only what a step costs:\n",
            table(["code", "ms", "times sslmed", "compared with"], rows),
            machine(result),
            f"Views beside one forward and backward pass of a ResNet-50 ({encoder:.0f} ms for 32 images of 224 x 224\n"
            "pixels):\n",
            table(["views", "ms", "share of the step"], parts),
            machine(share),
        )
    )


def metrics() -> str:
    """Metrics of masks."""
    result = read("metrics-cpu.json")
    difference = {"largest difference": lambda found: f"{found['largest_difference']:.3g}"}
    return "\n".join(
        (
            "## Metrics of masks\n\n"
            "The largest difference of a case's value from sslmed's.\n"
            "[The comparison of metrics](metrics_compared.md) says where they come from.\n",
            timings(result, difference),
            machine(result),
        )
    )


def data() -> str:
    """Reading, caching, and the first batch of many images."""
    result, scale = read("data-cpu.json"), read("scale.json")
    rows = [
        ["" if k else job, name, ms(found["median_ms"])]
        for job, contenders in result["jobs"].items()
        for k, (name, found) in enumerate(contenders.items())
    ]
    starts = [
        [
            job,
            start,
            f"{found[start]['first_batch_s']:.0f}",
            f"{(found[start]['peak_bytes'] - found[start]['import_bytes']) / 2**20:.0f}",
            f"{found['cache_bytes'] / 2**30:.1f}",
        ]
        for job, found in scale["jobs"].items()
        for start in ("first", "second")
    ]
    return "\n".join(
        (
            "## Data\n",
            table(["job", "code", "ms"], rows),
            machine(result),
            "Time to the first batch of `sslmed pretrain`: the first start fills the cache. Peaks are relative\n"
            "to what a process holds after the imports; they may be below 0, since that varies too.\n",
            table(["files", "start", "first batch, s", "peak beyond imports, MiB", "cache, GiB"], starts),
            machine(scale),
        )
    )


def changes() -> str:
    """Release 0.1.0 beside the present code."""
    rows = []
    for name in ("losses", "augment", "metrics"):
        before, now = read(f"before-{name}-cpu.json"), read(f"{name}-cpu.json")
        for job, contenders in before["jobs"].items():
            measure = next((one for one in contenders if one.startswith("floor") or one == "MONAI"), "")
            for own in contenders:
                if own.startswith("sslmed") and measure and not job.startswith("every change"):
                    found = (result["jobs"][job] for result in (before, now))
                    ratios = (f"{one[own]['median_ms'] / one[measure]['median_ms']:.2f}" for one in found)
                    rows.append([job, own, *ratios, measure])
    return "\n".join(
        (
            "## Since 0.1.0\n\n"
            "Each in a run of its own on the same machine, so a difference below a fifth may be chance.\n",
            table(["job", "code", "0.1.0", "now", "over the time of"], rows),
        )
    )


def sweeps() -> str:
    """Every piece over shapes, sizes, dtypes and layouts: beside its floor and the quickest peer, before and now."""
    rows = []
    for name in SWEPT:
        now = read(f"{name}-sweep-cpu.json")
        before = read(f"before-{name}-sweep-cpu.json")["jobs"]
        for job, axes in now["jobs"].items():
            found = [
                (f"{axis} {place}", standing)
                for axis, points in axes.items()
                for place, standing in standings(axis, points)
            ]
            beside = [(one.peer, where) for where, one in found if one.who]
            floors = [one.floor for _, one in found if not math.isnan(one.floor)]
            memory = [one.memory for _, one in found if not math.isnan(one.memory)]
            if not beside and not floors:
                continue
            worst = max(beside, default=None)
            change = changed(axes, before.get(job, {}))
            rows.append(
                [
                    job,
                    str(len(found)),
                    str(sum(one.slower for _, one in found)) if beside else "",
                    f"{worst[0]:.2f} ({worst[1]})" if worst else "",
                    f"{statistics.median(floors):.2f}" if floors else "",
                    f"{statistics.median(memory):.2f}" if memory else "",
                    f"{statistics.median(change):.2f} ({min(change):.2f} to {max(change):.2f})" if change else "",
                ]
            )
    head = ["job", "points", "slower", "worst, over the quickest peer", "over the floor", "memory", "now over 0.1.0"]
    return "\n".join(
        (
            "## Sweeps\n\n"
            "One setting moves at a time; `benchmarks/losses_sweep.py`, `metrics_sweep.py` and `augment_sweep.py`\n"
            "say which. *Slower*: points at which the quickest of the peers, which include plain PyTorch and SciPy,\n"
            "takes less time, and the worst of them. *Over the floor*: the median time over that of the work that\n"
            "cannot be left out. *Memory*: the median peak of additional memory over that of the quickest peer, at\n"
            "points where that takes a MiB or more. *Now over 0.1.0*: the median (and all) of the changes, each over\n"
            "the same peer in its own run; a change of a single point by less than a third may be chance. Pictures\n"
            "lie beside the results.\n",
            table(head, rows),
            *(f"{title}: {machine(read(f'{name}-sweep-cpu.json'))}" for name, title in SWEPT.items()),
        )
    )


def changed(now: dict[str, Any], before: dict[str, Any]) -> list[float]:
    """Our time now over that before at each point of a job, each over the same peer or floor in its own run."""
    changes = []
    for axis, points in now.items():
        for place, point in points.items():
            new, old = ways(point), ways(before.get(axis, {}).get(place, {}))
            # A peer tells how fast the machine was in each run.
            both = [name for name in new if name != "sslmed" and name in old]
            if both:
                ratios = (one["sslmed"]["median_ms"] / one[both[0]]["median_ms"] for one in (new, old))
                changes.append(next(ratios) / next(ratios))
    return changes


def pipelines() -> str:
    """Where the time of a pretext step goes, and what our training loop costs."""
    result = read("pipeline-cpu.json")
    parts = next(iter(result["steps"].values()))["parts_ms"]
    rows = [
        [
            f"`{name}`",
            f"{found['images_per_s']:.1f}",
            *(ms(found["parts_ms"][part]) for part in parts),
            f"{found['share_of_sslmed']:.1%}",
        ]
        for name, found in result["steps"].items()
    ]
    loops = [
        [job, *(f"{found[name]['median_ms'] / 1e3:.2f}" for name in ("sslmed", "plain loop")),
         f"{found['sslmed']['median_ms'] / found['plain loop']['median_ms']:.2f}"]
        for job, found in result["jobs"].items()
    ]  # fmt: skip
    return "\n".join(
        (
            "## Pretext steps\n\n"
            f"A step of each `--method` of `sslmed pretrain` with a ResNet-18 of width 32 (`masked`: a U-Net of width\n"
            f"32), {result['batch']} images, views of {result['size']} pixels, in ms. The last column is the share of\n"
            "what sslmed adds to the network, its gradients and the optimiser: reading, views, loss and memory, and\n"
            "what follows a step.\n",
            table(["method", "images/s", *parts, "share of sslmed"], rows),
            "The same training by the loop of the studies, which resumes after a kill, checks for NaN and records\n"
            "curves, and by a plain loop, both with a checkpoint in each epoch; in seconds:\n",
            table(["training", "sslmed", "plain loop", "sslmed over plain loop"], loops),
            machine(result),
        )
    )


def interrupted() -> str:
    """Runs that were killed and resumed."""
    result = read("kill_and_resume.json")
    rows = [
        [
            f"`{name}`",
            str(len(job["kills"])),
            str(sum(len(kill["damaged"]) for kill in job["kills"])),
            str(sum(job["compared"].values())),
            str(len(job["different"])),
        ]
        for name, job in result["jobs"].items()
    ]
    return "\n".join(
        (
            "## Killed and resumed\n\n"
            "Each program, killed at random moments and resumed by the same command, against an unbroken run.\n",
            table(["program", "kills", "damaged files", "files compared", "files that differ"], rows),
            machine(result),
        )
    )


def gains(result: dict[str, Any], run: str) -> list[list[str]]:
    """Gain of each method over the baseline of the same draw of labels."""
    base = {(row["labels"], row["test_set"]): row["dice"] for row in result["draws"] if row["method"] == "supervised"}
    rows = []
    for row in result["draws"]:
        if "gain" in row:
            baseline = base[row["labels"], row["test_set"]]
            each = [dice - baseline[draw] for draw, dice in row["dice"].items()]
            worse = sum(difference < 0 for difference in each)
            rows.append(
                [
                    run,
                    row["test_set"] or "BUSI",
                    f"{row['labels']:.0%}",
                    f"`{row['method']}`",
                    f"{row['gain']:+.3f}",
                    f"{row['low']:+.3f} to {row['high']:+.3f}",
                    f"{worse} of {len(each)}",
                ]
            )
    return rows


def mirrored_gains(name: str, run: str) -> list[list[str]]:
    """The same for networks that are tested on mirror images too, and of the ones that are kept."""
    rows = []
    for labels, tested in read(f"few_labels_{name}.json")["jobs"].items():
        for test_set, figures in tested["mirrored"].items():
            base = figures["dice"]["supervised"]["each"]
            for method, row in figures["dice"].items():
                if "gain" in row:
                    worse = sum(a < b for a, b in zip(row["each"], base, strict=True))
                    interval = f"{row['low']:+.3f} to {row['high']:+.3f}"
                    ahead = f"{worse} of {row['draws']}"
                    rows.append([run, test_set, labels, f"`{method}`", f"{row['gain']:+.3f}", interval, ahead])
    return rows


def few_labels() -> str:
    """The gain of the few-labels recipe, and what it costs."""
    result = read("few_labels.json")
    repeated = [read(f"few_labels_{name}.json") for name in ("repeat", "more")]
    now = {"mirrored": "now", "half": "now", "busi_alone": "BUSI alone", "by_loss": "chosen by loss"}
    rows = [row for name, words in now.items() for row in mirrored_gains(name, words)]
    rows += [*gains(result, "first"), *(row for one in repeated for row in gains(one, "repeated"))]
    rows += [
        *gains(read("few_labels_contrast.json"), "pretexts"),
        *gains(read("few_labels_pretexts.json"), "pretexts"),
    ]
    alarms = [
        [row["labels"], row["method"], row["mean"]]
        for row in result["table"]
        if row["metric"] == "false_alarms" and not row["test_set"]
    ]
    device, python = (result["environment"][key] for key in ("device", "python"))
    device = device.replace("1 threads", "one thread")
    packages = ", ".join(f"{name} {version}" for name, version in result["environment"]["packages"].items())
    return "\n".join(
        (
            "## Few labels\n\n"
            "![Gain in Dice of few labels, with 95 % intervals over draws](images/few_labels.png)\n\n"
            "Gain in Dice of the recipe (`lesions+teacher`) over fine-tuning from ImageNet weights (`supervised`),\n"
            "breast ultrasound at 64 pixels; [the evidence](evidence.md) has the setting. *Now*: as the program\n"
            "trains and chooses; `chosen` is the network with the higher Dice on validation images. *Chosen by\n"
            "loss*: a shorter teacher, and the lower validation loss; the rows below it are of that time too. *BUSI\n"
            "alone*: without scans of BUS-BRA in training.\n",
            table(
                ["run", "test set", "outlines", "method", "gain", "95 % over draws", "draws with the baseline ahead"],
                rows,
            ),
            "Worse than the baseline: more images of BUSI without a lesion get an outline (without the decision).\n",
            table(["outlines", "method", "share of images without a lesion that get an outline"], alarms),
            f"{device.replace('1 threads', 'one thread')}; python {python}, {packages}.\n",
        )
    )


def relation() -> str:
    """Relation contrast against supervised training, from BUSI to BUS-BRA."""
    with (RESULTS / "busi_to_busbra_table.csv").open(newline="") as file:
        rows = [
            [row["test_set"] or "BUSI", f"`{row['method']}`", row["mean"], row["sd_seeds"] or "-", row["seeds"]]
            for row in csv.DictReader(file)
            if row["metric"] == "dice"
        ]
    return "\n".join(
        (
            "## Relation contrast, BUSI to BUS-BRA\n\n"
            "Dice with 20 % of the labels, from a random start, at 64 pixels. Paired tests show no difference between\n"
            "these pretexts and supervised training; [the paper's page](papers/ultrasound_relation.md) says why this\n"
            "is no replication.\n",
            table(["test set", "method", "Dice", "SD over seeds", "seeds"], rows),
        )
    )


def others() -> str:
    """Where the other result files are shown."""
    rows = [
        [
            "`augment-sweep-cpu.json`, `losses-sweep-cpu.json`, `metrics-sweep-cpu.json`",
            "time of every augmentation, loss and distance over shapes, sizes, dtypes and layouts, of this version and "
            "(`before-...`) of 0.1.0",
            "their pictures, beside them",
        ],
        [
            "`lesions.json`",
            "what crops and augmentations leave of a lesion",
            "[the page on augmentations](explanations/augment.md)",
        ],
        ["`relation_start.json`", "settings of the relation loss", "[the paper's page](papers/ultrasound_relation.md)"],
    ]
    return "## Other results\n\n" + table(["file", "what was measured", "shown in"], rows)


def page() -> str:
    """The whole page."""
    measured = (losses, augmentations, metrics, changes, sweeps, pipelines, data, interrupted)
    parts = (few_labels, relation, *measured, others)
    return "\n".join((INTRO, *(part() for part in parts)))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
