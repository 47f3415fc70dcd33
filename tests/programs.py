"""The papers' programs as their own code prepares them, for tests that look inside."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from sslmed.studies.program import chosen, parse
from sslmed.studies.run import Run


def prepared(program: ModuleType, out: Path, *arguments: object) -> Run:
    """The smoke run of a program, its input read and checked."""
    given = ["--preset", "smoke", "--out", str(out), *map(str, arguments)]
    args = parse(program.make_parser(), program.METHODS, given)
    return Run(program.declare(args, chosen(args, program.PRESETS["smoke"])), args)
