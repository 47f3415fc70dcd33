"""What the images were and how they were used, and whether parts of a split share any: all counted from the ids."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ..cells import amount_as_number
from .run import Run

PARTS = ("pretext", "train", "val", "test")
ALLOWED = "pretext and val"  # no leak into the test, though the choice of the epoch has seen these images


@dataclass(frozen=True)
class SplitCounts:
    """What is counted in one split: of a seed, and of a domain where the run has several."""

    domain: str
    seed: str
    sizes: dict[str, int]
    labelled: dict[float, int]
    shared: dict[str, int]
    test: frozenset[str]

    @property
    def leaks(self) -> dict[str, int]:
        """What should not be shared and is."""
        return {name: count for name, count in self.shared.items() if count and name != ALLOWED}


def splits(run: Run) -> list[SplitCounts]:
    """Every split of splits.json."""
    found = []
    for key, parts in run.splits.items():
        domain, _, seed = key.rpartition("/")
        ids = {name: frozenset(parts.get(name) or ()) for name in PARTS}
        labelled = {
            amount_as_number(text, run.unit): set(items) for text, items in (parts.get("labelled") or {}).items()
        }
        shared = {f"{a} and {b}": len(ids[a] & ids[b]) for a, b in itertools.combinations(PARTS, 2)}
        del shared["pretext and train"]  # learning without labels from the training images is the method
        outside = len(set().union(*labelled.values()) - ids["train"]) if labelled else 0
        found.append(
            SplitCounts(
                domain=domain,
                seed=seed,
                sizes={name: len(items) for name, items in ids.items()},
                labelled={labels: len(labelled[labels]) for labels in sorted(labelled, reverse=True)},
                shared=shared | {"labelled, outside train": outside},
                test=ids["test"],
            )
        )
    return found


def leaking(run: Run, found: list[SplitCounts]) -> list[str]:
    """The warnings of the page's head."""
    return [
        (f"{run.display(split.domain)}, " if split.domain else "") + f"{run.seed_word} {split.seed}: {count} in {name}"
        for split in found
        for name, count in split.leaks.items()
    ]


def glance(run: Run, found: list[SplitCounts]) -> list[tuple[str, str]]:
    """Heads and sentences of the summary's first lines; what the folder lacks is left out, or named as missing."""
    lines = (
        ("Images", data(run)),
        ("Labelled cases", labelled(run, found)),
        ("Images without labels", unlabelled(run, found)),
        ("Tested on", tested(run, found)),
        ("External test sets", external(run)),
    )
    return [(name, text) for name, text in lines if text]


def data(run: Run) -> str:
    """What the images are."""
    texts = []
    for one in run.sets:
        counts = dict(one["counts"] or {})
        total = counts.pop("images", None)
        parts = ", ".join(f"{number} {name}" for name, number in counts.items())
        amount = f"{total} images" if total is not None else "an unstated number of images"
        texts.append(f"{one['name']}: {amount}" + (f" ({parts})." if parts else "."))
    made = [one["name"] for one in run.sets if str(one["source"]).startswith("synthetic")]
    if made:
        which = "They" if len(made) == len(run.sets) else f"Those of {_join(made, 'and')}"
        texts.append(f"{which} are computed by a simulation; no patient was imaged.")
    return " ".join(texts) or "The run folder does not say what the data were."


def labelled(run: Run, found: list[SplitCounts]) -> str | None:
    """How many cases had a label that the networks could learn from; None where nothing could be tested."""
    if found and not any(split.sizes["test"] for split in found):
        return None
    kinds = {run.task(target).labels for target in run.targets}
    what = kinds.pop() if len(kinds) == 1 else "Labels"
    texts = []
    for domain, splits in _domains(found).items():
        parts = []
        for labels in sorted({labels for split in splits for labels in split.labelled}, reverse=True):
            sizes = [split.labelled[labels] for split in splits if labels in split.labelled]
            share = f"{labels:.6g} %" if run.unit == "%" else ""
            parts.append(f"{_span(sizes)} images ({share} of the training set)" if share else f"{labels:.6g}")
        if parts and run.unit != "%":
            parts = [_join(parts[::-1], "or") + " volumes"]
        if parts:
            texts.append((f"{run.display(domain)}: " if domain else "") + _join(parts, "or"))
    if not texts:
        return "The run folder does not say how many cases were labelled."
    if any(split.domain for split in found):
        return f"{'; '.join(texts)}. Their {what.lower()} were used for fine-tuning."
    return f"{what} of {texts[0]} were used for fine-tuning."


def unlabelled(run: Run, found: list[SplitCounts]) -> str | None:
    """How many images the pretext stage saw."""
    texts = [
        _counted(run, domain, [split.sizes["pretext"] for split in splits])
        for domain, splits in _domains(found).items()
        if any(split.sizes["pretext"] for split in splits)
    ]
    return f"{'; '.join(texts)}, used without their labels." if texts else None


def tested(run: Run, found: list[SplitCounts]) -> str | None:
    """How many cases the numbers come from; None where there is nothing to test on."""
    if not found:
        return "The run folder does not say what was held out."
    if not any(split.sizes["test"] for split in found):
        return None
    texts, kept, most = [], True, 0
    for domain, splits in _domains(found).items():
        sizes = [s.sizes["test"] for s in splits]
        texts.append(_counted(run, domain, sizes if run.folds is None else [sum(sizes)]))
        kept = kept and len({split.test for split in splits}) == 1
        most = max(most, len(splits))
    for target in run.targets:
        task = run.task(target)
        counts = [c.cases for c in run.cells if c.target == target.name and "cases" in c.summary]
        if task.listed != f"{task.case}s" and counts and len(texts) == 1:  # the ids are those of slices
            texts[0] += f" of {_span(counts)} {task.case}s"
            break
    clash = any(split.shared["train and test"] or split.shared["pretext and test"] for split in found)
    seen = (
        "some of which were also used for training (see the warning above)"
        if clash
        else "none of them used in training"
    )
    if run.folds is not None:
        once = "each tested once, by networks that were not trained on it"
        return f"{'; '.join(texts)}, {seen if clash else once}; cross-validation with {run.folds} folds."
    own = "its own training on the same split" if kept else "its own split and training"
    seeds = f"{most} seeds, each with {own}" if most > 1 else "one seed"
    return f"{'; '.join(texts)}, {seen}; {seeds}."


def external(run: Run) -> str | None:
    """The whole sets that all networks were tested on too; None where there are none."""
    sizes = {name: len(ids) for parts in run.splits.values() for name, ids in (parts.get("test_sets") or {}).items()}
    listed = [f"{name}: {size} images" for name, size in sizes.items()]
    return f"{'; '.join(listed)}, none of them used in any training." if listed else None


def duration(seconds: float) -> str:
    """Seconds in words."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def _counted(run: Run, domain: str, sizes: list[int]) -> str:
    what = next((run.task(t).listed for t in run.targets if run.task(t).listed != "images"), "images")
    return (f"{run.display(domain)}: " if domain else "") + f"{_span(sizes)} {what}"


def _domains(found: list[SplitCounts]) -> dict[str, list[SplitCounts]]:
    groups: dict[str, list[SplitCounts]] = {}
    for split in found:
        groups.setdefault(split.domain, []).append(split)
    return groups


def _span(sizes: list[int]) -> str:
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low} to {high}"


def _join(parts: list[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" {word} {parts[-1]}"
