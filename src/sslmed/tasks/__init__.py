"""Tasks that networks are fine-tuned and tested on: segmentation, classification, volumes.

A task owns everything that depends on its kind: the pairs it trains on, its loss, its evaluation case by case, its
metrics (listed in `sslmed.tasks.metrics`) and its part of a report.
"""

from .base import KINDS, Cases, Evaluation, Learner, Task
from .classification import Classification, Classifier, ClassLearner
from .segmentation import Segmentation, Segmenter, dice_bce
from .soft_dice import soft_dice
from .volumes import Volumes

__all__ = [
    "KINDS",
    "Cases",
    "ClassLearner",
    "Classification",
    "Classifier",
    "Evaluation",
    "Learner",
    "Segmentation",
    "Segmenter",
    "Task",
    "Volumes",
    "dice_bce",
    "soft_dice",
]
