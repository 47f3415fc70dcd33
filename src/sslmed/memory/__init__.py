"""What pretraining remembers between steps, in registered buffers: a checkpoint restores it."""

from .bank import MemoryBank
from .ema import cosine_decay, update_ema
from .queue import MomentumQueue

__all__ = ["MemoryBank", "MomentumQueue", "cosine_decay", "update_ema"]
