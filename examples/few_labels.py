r"""Few labels: a better segmentation from few outlines and many scans without outlines, against a strong baseline.

    python examples/few_labels.py --data phantom --preset small --out runs/few_labels
    python examples/few_labels.py --data my_labelled --unlabelled my_scans --weights imagenet --out runs/mine

The same as the command `sslmed few-labels`. Rerun the same command to resume a run that was stopped.
"""

from __future__ import annotations

from sslmed.studies.few_labels import run as main

if __name__ == "__main__":
    main()
