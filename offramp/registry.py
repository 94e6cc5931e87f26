"""File name -> class: the only dynamic import of the package.

A plug-in is one file in its folder, `policies/confidence.py` say, holding one public subclass of that folder's
base class, or a function that every file of the folder has (`recipe`). Adding one is adding the file: nothing else
is edited.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypeVar

from offramp.errors import UnknownName

T = TypeVar("T")
NAME = 80
"""Characters of an unknown name that are quoted: it may be of a stranger's file, and as long as that."""


def names(package: str) -> list[str]:
    """Sorted names of the plug-ins in `package` ("offramp.policies"): its modules but `base` and private ones."""
    path = importlib.import_module(package).__path__
    found = {module.name for module in pkgutil.iter_modules(path)}
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def find(package: str, name: str, base: type[T]) -> type[T]:
    """The one subclass of `base` defined in `package/name.py`.

    Raises UnknownName with the nearest spelling and the whole list when there is no such file.
    """
    module = _module(package, name)
    classes = [
        item
        for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, base) and item is not base and item.__module__ == module.__name__
    ]
    assert len(classes) == 1, f"{module.__name__} must define exactly one public {base.__name__}"
    return classes[0]


def find_function(package: str, name: str, function: str) -> Any:
    """The function of that name in `package/name.py`; hyphens may stand for underscores. Raises as `find` does."""
    module = _module(package, name.replace("-", "_"))
    found = getattr(module, function, None)
    assert callable(found), f"{module.__name__} must define a function {function}"
    return found


def _module(package: str, name: str) -> ModuleType:
    if name not in names(package):
        raise UnknownName(unknown(_singular(package.rpartition(".")[2]), name, names(package)))
    return importlib.import_module(f"{package}.{name}")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The text of an UnknownName: what was asked, the nearest match, what there is."""
    known, name = list(known), name if len(name) <= NAME else f"{name[: NAME - 3]}..."
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Available: {', '.join(known)}."


def _singular(folder: str) -> str:
    """What one plug-in of a folder is called: of `policies` a policy, of `gates` a gate."""
    return folder.removesuffix("ies") + "y" if folder.endswith("ies") else folder.removesuffix("s")
