"""The command `sslmed`; what it needs beyond the core is imported only when it is used."""

from __future__ import annotations

import sys

from ._compat import install_hint

_USAGE = """usage: sslmed COMMAND ...

commands:
  audit       check a folder of images: unreadable files, near duplicates, what gives a class away
  pretrain    learn an encoder from a folder of images without labels
  few-labels  learn a segmentation from few outlines and many scans without outlines
  predict     outline the scans of a folder with the networks of a few-labels run
  report      write the report of a run folder again

`sslmed COMMAND --help` shows the options of a command."""


def main() -> None:
    """Run `sslmed` with the arguments of the process."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print(_USAGE)
    elif command == "--version":
        from . import __version__

        print(f"sslmed {__version__}")
    elif command == "audit":
        from .data.audit import main as audit

        audit(rest, prog="sslmed audit")
    elif command in ("pretrain", "few-labels", "predict", "report"):
        try:
            from .studies import commands
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "sslmed":
                raise
            sys.exit(f"sslmed {command} needs {error.name}. {install_hint('studies')}")
        getattr(commands, command.replace("-", "_"))(rest)
    else:
        print(f"sslmed: error: unknown command {command!r} (see sslmed --help)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
