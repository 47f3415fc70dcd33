"""Results on external test sets beside those on the usual test part: by method, amount of labels, and scanner."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from ... import plots
from ...tasks import _report
from ...tasks._report import Block, Details, Entry, Figure, Finished, Heading, Row, Table, Text
from ...tasks.metrics import Metric, case_metric, metric
from ..cells import Target
from ..results import Result
from . import findings
from .run import Run

DASH = "\N{EN DASH}"


def blocks(run: Run, target: Target, finished: Finished) -> list[Block]:
    """The section on external test sets; empty where the target was not tested on any."""
    tests = run.test_sets(target)
    if not tests:
        return []
    own, main, task = own_name(run), metric(target.metric), run.task(target)
    named = {"": own} | {name: name for name in tests}
    counts = ", ".join(f"{name} ({_cases(run, target, name)} {task.case}s)" for name in tests)
    return [
        Heading("In and out of distribution", "external"),
        Text(
            f"Every network was also tested on whole sets that share no picture with its training: {counts}. "
            f"The {own} comes from the same source as the training images. A method that generalises loses little "
            "between them. Sets also differ in difficulty, so compare methods with each other within a set."
        ),
        *_means(run, target, named, main),
        *_figures(run, target, named, main),
        *_tests(run, target, tests),
        *_origins(run, target, named),
        *(block for name in tests for block in task.pictures(_on(run, target, finished, name), name)),
        Details("All metrics on the external sets", [_all_metrics(run, target, name) for name in tests]),
    ]


def own_name(run: Run) -> str:
    """What the usual test part is called."""
    names = [one["name"] for one in run.sets]
    return f"test part of {names[0]}" if len(names) == 1 else "usual test part"


def _on(run: Run, target: Target, finished: Finished, test_set: str) -> Finished:
    """The same fine-tunings as they were tested on an external test set."""
    groups: dict[float, dict[str, list[Result]]] = {}
    for labels, methods in run.groups(target).items():
        for method, cells in methods.items():
            tested = [one for cell in cells if (one := cell.on(test_set)) is not None]
            groups.setdefault(labels, {})[method] = tested
    return replace(finished, groups=groups, pictures=run.pictures(target, test_set))


def _cases(run: Run, target: Target, test_set: str) -> int:
    return next(one.cases for one in _results(run, target, test_set))


def _results(run: Run, target: Target, test_set: str) -> list[Result]:
    cells = (cell for by in run.groups(target).values() for found in by.values() for cell in found)
    return [one for cell in cells if (one := cell.on(test_set)) is not None]


def _means(run: Run, target: Target, named: dict[str, str], main: Metric) -> list[Block]:
    """The target's metric on every test set, how it changes from the usual test part, and what the paper has of it."""
    found = {test_set: run.rows(target, test_set) for test_set in named}
    printed = [
        test_set
        for test_set in list(named)[1:]
        if any(by.get(main.key, {}).get("paper") for methods in found[test_set].values() for by in methods.values())
    ]

    spread_names = (("cases", "sd_cases"), (f"{run.seed_word}s", "sd_seeds"), ("repeats", "sd_repeats"))

    def value(test_set: str, labels: float, method: str) -> dict[str, str]:
        return found[test_set].get(labels, {}).get(method, {}).get(main.key, {})

    def row(labels: float, method: str) -> list[Entry]:
        entries: list[Entry] = [run.display(method)]
        here = value("", labels, method)
        for test_set in named:
            there = value(test_set, labels, method)
            spreads = [f"{_number(there[key], main)} ({name})" for name, key in spread_names if there.get(key)]
            below = f"SD {', '.join(spreads)}" if spreads else ""
            entries.append((_number(there["mean"], main), below) if there.get("mean") else DASH)
        for test_set in list(named)[1:]:
            there = value(test_set, labels, method)
            both = here.get("mean") and there.get("mean")
            entries.append(_number(float(there["mean"]) - float(here["mean"]), main, sign=True) if both else DASH)
        return entries + [_paper(value(test_set, labels, method)) for test_set in printed]

    heads = [*(f"{main.short}, {name}" for name in named.values()), *(f"Change to {n}" for n in list(named)[1:])]
    heads += ["Paper" if len(named) == 2 else f"Paper, beside {test_set}" for test_set in printed]
    groups = {run.share(labels): [row(labels, method) for method in by] for labels, by in found[""].items()}
    notes = [Text(text, note=True) for test_set in printed for text in _notes(run, target, test_set)]
    return [Table(["Method", *heads], groups, below=True), *notes]


def _paper(row: dict[str, str]) -> Entry:
    """The paper's number and its SD, as printed."""
    if not row.get("paper"):
        return DASH
    return (row["paper"], f"± {row['paper_sd']}") if row["paper_sd"] else row["paper"]


def _notes(run: Run, target: Target, test_set: str) -> list[str]:
    """What the paper's numbers beside a test set are, and why they are not comparable."""
    rows = [row for by in run.rows(target, test_set).values() for m in by.values() for row in m.values()]
    found = dict.fromkeys((row["paper_set"], row["why_not_comparable"]) for row in rows if row["paper"])
    return [
        f"The paper's numbers beside {test_set}: {of}. They are not comparable with ours and stand here for "
        f"orientation only: {why}."
        for of, why in found
    ]


def _figures(run: Run, target: Target, named: dict[str, str], main: Metric) -> list[Block]:
    """A line for each method from the usual test part to the external sets, in a figure for each amount of labels."""
    found: list[Figure] = []
    for labels, methods in run.rows(target).items():
        shown = methods if len(methods) <= 7 else [m for m in methods if m in run.main_methods(target)]
        lines = {}
        for method in shown:
            rows = [run.rows(target, name).get(labels, {}).get(method, {}).get(main.key, {}) for name in named]
            means, bars = ([float(row.get(key) or "nan") for row in rows] for key in ("mean", "sd_seeds"))
            lines[run.display(method)] = (list(range(len(named))), means, bars if any(b == b for b in bars) else None)
        figure = plots.label_curves(
            lines, xlabel=f"tested on, with {run.share(labels)}", ylabel=main.name, names=list(named.values())
        )
        alt = f"{main.name} in and out of distribution with {run.share(labels)}: " + ", ".join(lines)
        bars_told = any(bars is not None for *_, bars in lines.values())
        found.append(_report.figure(figure, alt, caption=f"Bars: SD over the {run.seed_word}s." if bars_told else ""))
    return [Row(found, 2)] if found else []


def _tests(run: Run, target: Target, tests: Sequence[str]) -> list[Block]:
    """The paired tests on each external set."""
    found: list[Block] = []
    for test_set in tests:
        groups = {
            run.share(labels): [
                [
                    run.display(row["method"]),
                    run.display(row["against"]),
                    _number(row["difference"], metric(row["metric"]), sign=True),
                    " to ".join(_number(row[key], metric(row["metric"]), sign=True) for key in ("ci_low", "ci_high")),
                    row["p_text"],
                    row["holm_text"],
                    row["cases"],
                    row["seeds"],
                ]
                for row in rows
            ]
            for labels, rows in findings.comparisons(run, target, test_set).items()
        }
        if groups:
            head = ["Method", "Against", "Difference", "95 % interval", "p", "p after Holm", "Groups"]
            head.append(f"{run.seed_word.capitalize()}s")
            found += [Heading(f"Paired tests on {test_set}", level=4), Table(head, groups)]
    note = (
        "Like the paired tests above, case by case on the external set; Holm's correction is over all p-values of "
        "this target, on all test sets. A group is a patient, or a single image where patients are unknown. "
        + findings.without_p(row for row in run.tests if row["target"] == target.name and row.get("test_set"))
    ).strip()
    return [*found, Text(note, note=True)] if found else []


def _origins(run: Run, target: Target, named: dict[str, str]) -> list[Block]:
    """The metric of single cases by scanner, or by set where several are joined."""
    main, found = case_metric(target.metric, target.kind), list[Block]()
    for test_set, name in named.items():
        rows = [row for one in _results(run, target, test_set) for row in one.rows if row.get("origin")]
        origins = sorted({row["origin"] for row in rows})
        if len(origins) < 2:
            continue
        groups: dict[str, list[Sequence[Entry]]] = {}
        for labels, methods in run.groups(target).items():
            for method, cells in methods.items():
                tested = [one.rows for cell in cells if (one := cell.on(test_set)) is not None]
                entries = [_of_origin(tested, origin, main) for origin in origins]
                groups.setdefault(run.share(labels), []).append([run.display(method), *entries])
        found += [
            Heading(f"{main.name[0].upper()}{main.name[1:]} by scanner or set, {name}", level=4),
            Table(["Method", *origins], groups, below=True),
        ]
    note = "Means over the cases of each scanner or set, then over the fine-tunings; below them the number of cases."
    return [*found, Text(note, note=True)] if found else []


def _of_origin(tested: Sequence[Sequence[dict[str, str]]], origin: str, main: Metric) -> Entry:
    """The mean of a metric over the cases of an origin, then over the fine-tunings."""
    own = [[row for row in rows if row.get("origin") == origin and row.get(main.key)] for rows in tested]
    means = [statistics.fmean(float(row[main.key]) for row in rows) for rows in own if rows]
    if not means:
        return DASH
    return _number(statistics.fmean(means), main), f"n = {len({row['id'] for rows in own for row in rows})}"


def _all_metrics(run: Run, target: Target, test_set: str) -> Table:
    metrics = [metric(key) for key in target.metrics]

    def entry(row: dict[str, str], m: Metric) -> Entry:
        ours = _number(row["mean"], m)
        return (ours, f"paper {row['paper']}") if row["paper"] else ours

    def row(method: str, by: dict[str, dict[str, str]]) -> list[Entry]:
        return [run.display(method), *(entry(by[m.key], m) if m.key in by else DASH for m in metrics)]

    groups = {
        run.share(labels): [row(method, by) for method, by in methods.items()]
        for labels, methods in run.rows(target, test_set).items()
    }
    return Table([f"Method, on {test_set}", *(m.short for m in metrics)], groups, below=True)


def _number(value: str | float, of: Metric, *, sign: bool = False) -> str:
    return f"{float(value):{'+' if sign else ''}.{of.digits}f}".replace("-", "\N{MINUS SIGN}")
