"""The random models of tests/engine and the sample mixers of tests/mixers are these tests' too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("engine", "mixers")]
