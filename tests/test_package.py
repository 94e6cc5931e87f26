"""What is built for others to install: the code, its data, and nothing that is not committed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

from offramp import __version__
from offramp.native.library import ISAS

ROOT = Path(__file__).parents[1]
BUILDS = ("offramp/native/src/", "offramp/native/lib/")
"""What a build reads, and what it writes."""
NAMES = {"CITATION.cff", "LICENSE", "Makefile", "NOTICE", "PKG-INFO", "README.md", "constraints.txt"} | {
    *("docs", "offramp", "pyproject.toml", "tests")
}
"""Of the source distribution."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built here and now; not optimised, which takes the most of the time."""
    if shutil.which("cmake") is None or shutil.which("cc") is None:
        pytest.skip("building needs CMake and a C compiler")
    return ZipFile(built("wheel", tmp_path_factory.mktemp("wheel")))


def built(kind: str, out: Path, source: Path = ROOT, environment: Mapping[str, str] | None = None) -> Path:
    """The "wheel" or "sdist" that the build backend makes of the sources."""
    pytest.importorskip("scikit_build_core")
    code = (
        "import sys; from scikit_build_core import build\n"
        "getattr(build, sys.argv[1])(sys.argv[2], {'cmake.build-type': 'Debug'})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, f"build_{kind}", str(out)],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    [found] = out.glob("offramp-*.whl" if kind == "wheel" else "offramp-*.tar.gz")
    return found


def test_the_wheel_holds_the_package_and_its_data(wheel: ZipFile) -> None:
    """The backend leaves out what git ignores, which would take a checkpoint away without a word."""
    in_wheel = {name for name in wheel.namelist() if not name.startswith(("offramp-", "offramp/native/lib/"))}
    wanted = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "offramp").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert in_wheel == {file for file in wanted if not file.startswith(BUILDS)}
    assert {"offramp/py.typed", "offramp/zoo/prompts.jsonl", "offramp/zoo/facts.toml"} <= in_wheel


def test_the_wheel_holds_the_kernels_and_serves_every_python(wheel: ZipFile) -> None:
    assert wheel.filename is not None and f"offramp-{__version__}-py3-none-" in wheel.filename
    assert not wheel.filename.endswith("-any.whl")
    kernels = {Path(name).stem for name in wheel.namelist() if name.startswith("offramp/native/lib/")}
    assert kernels & {"offramp-plain", "offramp-neon"} and kernels <= {f"offramp-{isa}" for isa in ISAS}


@pytest.mark.skipif(shutil.which("cmake") is None, reason="building needs CMake")
@pytest.mark.parametrize("missing", ["compiler", "path"])
def test_an_install_without_a_compiler(missing: str, tmp_path: Path) -> None:
    """It succeeds, the package works, and a reader is told what would be faster."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OFFRAMP")}
    if missing == "compiler":
        environment["CC"] = "/nonexistent/cc"
    else:
        environment["PATH"] = str(tools(tmp_path / "bin"))
        environment.pop("CC", None)
    wheel = built("wheel", tmp_path, environment=environment)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in ZipFile(wheel).namelist() if "/native/lib/" in name]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", tmp_path / "site", wheel], check=True)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import offramp.native.library as found; assert found.__file__.startswith(sys.argv[1]), found.__file__\n"
        "print(found.find(), found.why_not())"
    )
    told = subprocess.run(  # -S: what is installed for development would come first
        [sys.executable, "-S", "-c", code, str(tmp_path / "site"), sysconfig.get_path("purelib")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.stdout.startswith("None the CPU kernels were not built"), told.stderr


def tools(folder: Path) -> Path:
    """What a build needs beside a compiler."""
    folder.mkdir()
    for name in ("cmake", "ninja", "make", "uname"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


@pytest.mark.slow
def test_the_source_distribution_holds_all_that_a_build_needs(wheel: ZipFile, tmp_path: Path) -> None:
    sources = built("sdist", tmp_path)
    with tarfile.open(sources) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sources.name.removesuffix(".tar.gz")
    assert {file.name for file in unpacked.iterdir()} <= NAMES
    again = ZipFile(built("wheel", tmp_path, unpacked))
    assert set(again.namelist()) == set(wheel.namelist())


def test_every_requirement_is_pinned_for_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    pinned = {
        _normal(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    assert {_normal(re.split(r"[<>=!~ ]", name)[0]) for name in named} <= pinned


def test_cleaning_up_leaves_trainings_alone() -> None:
    """A run of hours lies in runs/."""
    rule = re.search(r"^clean:\n\t(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert rule is not None and "runs" not in rule[1].split()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
