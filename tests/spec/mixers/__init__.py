"""Sequence mixers, naive and row-exact. `base.py` states what every mixer promises."""

from .attention import Attention
from .base import Mixer, Storage, fresh
from .mamba import Mamba
from .mamba2 import Mamba2

__all__ = ["Attention", "Mamba", "Mamba2", "Mixer", "Storage", "fresh"]
