"""What tests of calibration share."""

from __future__ import annotations

import pytest
from tiny_calibration import tiny_checkpoint

from offramp.engine.load import Checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Only to be read."""
    return tiny_checkpoint(tmp_path_factory.mktemp("calibrated"))
