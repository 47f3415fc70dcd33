"""Studies: the data of a run and its splits, resumable training, tables, statistics, the report and the command line.

Needs the extra `studies`. The programs in `examples/` are declared with it.
"""

from .._compat import require

require(
    "sslmed.studies",
    "studies",
    "filelock",
    "jinja2",
    "jsonargparse",
    "lightning",
    "matplotlib",
    "pandas",
    "rich",
    "sklearn",
    "tensorboard",
)
