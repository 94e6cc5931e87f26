"""The gate without memory: one linear map of the (normed) hidden state."""

from __future__ import annotations

from offramp.exits.base import ExitConfig, Gate
from offramp.mixers.base import Mixer
from offramp.mixers.identity import Identity


class Linear(Gate):
    def make_mixer(self, width: int) -> Mixer:
        return Identity()

    def inner_width(self, config: ExitConfig) -> None:
        """Two linear maps in a row would be one."""
        return None
