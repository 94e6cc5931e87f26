"""Libraries that only some uses need: imported when they are, named with what installs them where they are not."""

from __future__ import annotations

import importlib
from types import ModuleType

from offramp.errors import UsageError


def extra(module: str, group: str, use: str) -> ModuleType:
    """The library `module` of the optional dependencies `group`; use: what needs it, as a sentence begins.

    Raises UsageError with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise UsageError(f"{use} needs {name}: pip install 'offramp[{group}]' ({error})") from error
