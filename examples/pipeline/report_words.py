"""The report's sentences: what a reader who is no engineer needs, from the run folder's numbers."""

from __future__ import annotations

from pipeline.report_folder import PROPOSED, SUPERVISED, Cell, Run, display

JIGSAWS = {
    "jig": "The image is cut into square patches, which are shuffled.",
    "jig+freq": "Before cutting, a ring of spatial frequencies is removed (band-stop filter); then the "
    "patches are shuffled.",
    "cp-jig": "Cross-patch jigsaw: one row and one column of patches, a cross, stay where they are as "
    "context, at most mirrored along their strip; the other patches are shuffled among themselves.",
    "cp-jig+freq": "Cross-patch jigsaw after the band-stop filter.",
}
LOSSES = {
    "pirl": "The network learns to give an image and its shuffled version the same description, and other "
    "images another one (contrastive loss with a memory of all training images).",
    "pirl+percep": "As PIRL, and the features inside the network must agree as well (perceptual loss).",
    "rcl": "Relation contrastive loss: a second small network learns to judge whether two descriptions "
    "belong to the same image.",
    "rcl+percep": "As RCL, and the features inside the network must agree as well (perceptual loss).",
}
METRICS = [
    ("Dice", "2 TP / (2 TP + FP + FN)", "Overlap of the two outlines: 1 is perfect agreement, 0 is none."),
    ("Jaccard", "TP / (TP + FP + FN)", "A stricter overlap: intersection over union, from 0 to 1."),
    ("Precision (PPV)", "TP / (TP + FP)", "Share of the predicted area that is lesion."),
    ("Recall (sensitivity)", "TP / (TP + FN)", "Share of the lesion area that was found."),
    (
        "Hausdorff distance (HD)",
        "max of both directed distances",
        "The largest distance from a border point of one outline to the nearest border point of the other, "
        "in pixels of the image as the network sees it; small is good, and one stray spot makes it large.",
    ),
    (
        "Pooled Dice",
        "as Dice, over all pixels of all test images",
        "One number for the whole set; large lesions count more, empty images hardly at all.",
    ),
]


def methods_in(run: Run) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pretext tasks and the losses that this run used, each with its plain description."""
    used = run.config.get("methods", [])
    jigsaws = {name.partition("/")[0] for name in used} & JIGSAWS.keys()
    losses = {name.partition("/")[2] for name in used} & LOSSES.keys()
    jigsaws |= {
        name.removesuffix("+freq") for name in jigsaws
    }  # "Cross-patch jigsaw after ..." needs its own line
    losses |= {name.removesuffix("+percep") for name in losses}
    return (
        [(display(name), text) for name, text in JIGSAWS.items() if name in jigsaws],
        [(display("/" + name), text) for name, text in LOSSES.items() if name in losses],
    )


def data(run: Run) -> str:
    """What the images are."""
    if run.data["name"] is None:
        return "The run folder does not say what the data were."
    counts = dict(run.data["counts"] or {})
    total = counts.pop("images", None)
    parts = ", ".join(f"{number} {name}" for name, number in counts.items())
    amount = f"{total} images" if total is not None else "an unstated number of images"
    text = f"{run.data['name']}: {amount}" + (f" ({parts})." if parts else ".")
    if run.data["name"] == "Phantom":
        text += " They are computed by a simulation of ultrasound; no patient was imaged."
    return text


def labelled(run: Run) -> str | None:
    """How many cases had an outline that the network could learn from; None for images without outlines."""
    parts = []
    rows = run.leaks()
    if rows and not any(row["sizes"]["test"] for row in rows):
        return None
    for percent in rows[0]["labelled"] if rows else ():
        sizes = [row["labelled"][percent] for row in rows if percent in row["labelled"]]
        parts.append(f"{_span(sizes)} images ({percent} % of the training set)")
    if not parts:
        return "The run folder does not say how many cases were labelled."
    return "Outlines of " + _join(parts, "or") + " were used to train the segmentation network."


def unlabelled(run: Run) -> str | None:
    """How many images the pretext stage saw."""
    sizes = [row["sizes"]["pretext"] for row in run.leaks()]
    if not any(sizes):
        return None
    return f"{_span(sizes)} images, used without their outlines."


def tested(run: Run) -> str | None:
    """How many cases the numbers come from; None where there is nothing to test on."""
    rows = run.leaks()
    if rows and not any(row["sizes"]["test"] for row in rows):
        return None
    if not rows:
        return "The run folder does not say what was held out."
    clash = [row for row in rows if row["shared"]["train and test"] or row["shared"]["pretext and test"]]
    seen = (
        "some of which were also used for training (see the warning above)"
        if clash
        else "none of them used in training"
    )
    seeds = f"; {len(rows)} seeds, each with its own split and training" if len(rows) > 1 else "; one seed"
    return f"{_span([row['sizes']['test'] for row in rows])} images, {seen}{seeds}."


def findings(run: Run) -> list[dict[str, str]]:
    """For each share of the labels: the baseline, the best pretext method, and what that allows to say."""
    found = []
    for percent in dict.fromkeys(row["labels_percent"] for row in run.table):
        rows = [row for row in run.table if row["labels_percent"] == percent and row["dsc"]]
        baseline = next((row for row in rows if row["method"] == SUPERVISED), None)
        others = sorted(
            (row for row in rows if row["method"] != SUPERVISED), key=lambda row: -float(row["dsc"])
        )
        text = []
        if baseline is not None:
            text.append(f"Supervised training alone reached {_reached(baseline)}.")
        if others:
            best = others[0]
            name = display(best["method"])
            which = (
                f"The highest of {len(others)} pretext methods, {name},"
                if len(others) > 1
                else f"Pretext learning with {name}"
            )
            text.append(f"{which} reached {_reached(best)}.")
            if baseline is not None:
                text.append(_verdict(baseline, best, len(others)))
            proposal = next((row for row in others[1:] if row["method"] == PROPOSED), None)
            if proposal is not None:
                text.append(f"The paper's own proposal, {display(PROPOSED)}, reached {_reached(proposal)}.")
        if text:
            found.append({"percent": percent, "text": " ".join(text)})
    return found


def misses(cells: list[Cell]) -> str | None:
    """Missed lesions and false outlines of one method, over its seeds."""
    counts = [cell.empty() for cell in cells if cell.cases]
    if not counts:
        return None
    total = {key: sum(count[key] for count in counts) for key in counts[0]}
    text = f"no outline at all in {total['silent']} of {total['lesion']} images with a lesion"
    if total["elsewhere"]:
        text += f", an outline wholly beside the lesion in {total['elsewhere']}"
    if total["free"]:
        text += f", and an outline in {total['alarm']} of {total['free']} images without a lesion"
    return text


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def _reached(row: dict[str, str]) -> str:
    spread = f"SD {row['dsc_sd_cases']} between test cases"
    if row["dsc_sd_seeds"]:
        spread += f", {row['dsc_sd_seeds']} between {row['seeds']} seeds"
    return f"a mean Dice of {row['dsc']} ({spread})"


def _verdict(baseline: dict[str, str], best: dict[str, str], tried: int) -> str:
    gap = float(best["dsc"]) - float(baseline["dsc"])
    if gap == 0:
        return "The two means are equal."
    side = "higher" if gap > 0 else "lower"
    spreads = [float(row["dsc_sd_seeds"]) for row in (baseline, best) if row["dsc_sd_seeds"]]
    if len(spreads) < 2:
        text = f"That is {side}, but a single seed cannot tell an effect from chance."
    elif abs(gap) <= max(spreads):
        text = f"That is {side}, but by no more than the means vary between seeds: no difference is shown."
    else:
        text = f"That is {side} by more than the means vary between seeds."
    if tried > 1 and gap > 0:
        text += " Picking the best of several also flatters it."
    return text


def _span(sizes: list[int]) -> str:
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low} to {high}"


def _join(parts: list[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" {word} {parts[-1]}"
