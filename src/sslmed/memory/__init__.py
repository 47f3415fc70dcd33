"""What pretraining remembers between steps, in registered buffers: a checkpoint restores it."""

from .bank import MemoryBank

__all__ = ["MemoryBank"]
