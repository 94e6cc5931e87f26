"""What all tests share."""

import os

from hypothesis import settings

# A shared or slow machine must not fail a test for its clock; what fails in CI must fail again at home.
settings.register_profile("offramp", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("offramp")
