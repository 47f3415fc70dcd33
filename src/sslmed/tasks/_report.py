"""The part of a task in the report: blocks of text, tables and figures, made from its finished cells."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import matplotlib.figure

NO_CASES = "The run folder holds no results of single cases of this target."


Entry = str | tuple[str, str]  # of a table: a text, or a text and a smaller remark


@dataclass(frozen=True)
class Heading:
    """A heading; one with an anchor is linked from the top of the page."""

    block: ClassVar[str] = "heading"
    text: str
    anchor: str = ""
    level: int = 3


@dataclass(frozen=True)
class Text:
    """A paragraph, or a note in small print."""

    block: ClassVar[str] = "text"
    text: str
    note: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        head: the heads of all columns.
        groups: title of a group of rows, or "" for none -> its rows.
        below: whether remarks are printed below the text rather than beside it.
    """

    block: ClassVar[str] = "table"
    head: Sequence[str]
    groups: Mapping[str, Sequence[Sequence[Entry]]]
    below: bool = False


@dataclass(frozen=True)
class Figure:
    """A PNG in a data URI, with the text that describes it; a wide one scrolls on a small screen."""

    block: ClassVar[str] = "figure"
    uri: str
    alt: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Row:
    """Figures side by side: in 2 or 3 columns, or each as wide as it is (0)."""

    block: ClassVar[str] = "row"
    figures: Sequence[Figure]
    columns: int = 0


@dataclass(frozen=True)
class Details:
    """Blocks that the reader can unfold."""

    block: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block]
    open: bool = False


Block = Heading | Text | Table | Figure | Row | Details


def figure(
    plot: matplotlib.figure.Figure, alt: str, *, caption: str = "", dpi: float = 110, wide: bool = False
) -> Figure:
    """Draw `plot` as a PNG in a data URI."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=dpi)
    return Figure("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), alt, caption, wide)


class FinishedCell(Protocol):
    """One fine-tuning with its test results."""

    @property
    def method(self) -> str:
        """Its method."""

    @property
    def seed(self) -> int:
        """Its seed."""

    @property
    def training(self) -> str:
        """Its seed and repeat in words."""

    @property
    def rows(self) -> list[dict[str, str]]:
        """What was measured of each test case."""

    @property
    def arrays(self) -> dict[str, Any]:
        """The predictions of the test cases."""

    def values(self, metric: str) -> list[float]:
        """One metric of every test case that has it."""


@dataclass(frozen=True)
class Finished:
    """The finished cells of one task, and how the report names and selects them.

    Attributes:
        groups: amount of labels -> method -> cells, one for each seed and repeat; most labels first.
        main: the methods that the page shows in full.
        remark: a sentence on this selection, " Of 17 methods, ...", or "" where all methods are shown in full.
        display: the name to print of a method.
        labels: an amount of labels in words.
        trainings: what a method was fine-tuned several times with, as "seeds" or "seeds and repeats"; "" for one
            fine-tuning.
        pictures: what the run kept of the test cases to show; empty where it kept none.
    """

    groups: Mapping[float, Mapping[str, Sequence[FinishedCell]]]
    main: Sequence[str]
    remark: str
    display: Callable[[str], str]
    labels: Callable[[float], str]
    trainings: str
    pictures: Mapping[str, Any]

    @property
    def fewest(self) -> float:
        """The smallest amount of labels."""
        return min(self.groups)

    def cells(self, method: str) -> Sequence[FinishedCell]:
        """The cells of a method with the fewest labels."""
        return self.groups[self.fewest].get(method, ())

    def all_cells(self) -> list[FinishedCell]:
        """The cells of all methods and amounts of labels."""
        return [cell for methods in self.groups.values() for cells in methods.values() for cell in cells]

    def by_labels(
        self, row: Callable[[str, Sequence[FinishedCell]], Sequence[Entry]]
    ) -> dict[str, list[Sequence[Entry]]]:
        """A table's rows, one for each amount of labels and method that has test cases."""
        found: dict[str, list[Sequence[Entry]]] = {}
        for labels, methods in self.groups.items():
            for method, cells in methods.items():
                if tested := [cell for cell in cells if cell.rows]:
                    found.setdefault(self.labels(labels), []).append(row(method, tested))
        return found


@dataclass(frozen=True)
class TaskReport:
    """The words of the report for a kind of task, and the task's part of the page.

    Attributes:
        purpose: what networks learn to do, as "outline structures in images".
        labels: what a label is, in the plural, as "Outlines".
        case: what a test case is, as "image".
        listed: what the splits list, in the plural.
        blocks: its part of the page.
        metrics_note: how to read the metrics.
        headline: head of its line in the summary.
        summary: name of a method and a sentence on its test cases, of the methods shown in full.
        pictures: (cells as tested on an external test set, its name) -> pictures of its cases.
    """

    purpose: str
    labels: str
    case: str
    listed: str
    blocks: Callable[[Finished], list[Block]]
    metrics_note: str = ""
    headline: str = ""
    summary: Callable[[Finished], list[tuple[str, str]]] = field(default=lambda _: [])
    pictures: Callable[[Finished, str], list[Block]] = field(default=lambda *_: [])
