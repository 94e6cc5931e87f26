"""The Python standard library as training text: collected, cut, split by file, near-duplicates dropped."""

import hashlib
import platform
import re
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from offramp.zoo.near_duplicates import without_near_duplicates
from offramp.zoo.pieces import cut_source

TRAIN, CALIBRATION, TEST = "train", "calibration", "test"

# Not library text: installed packages, caches, and files that describe the machine Python was built on.
_SKIPPED = re.compile(
    r"(^|/)(site-packages|__pycache__|config-[^/]*|_sysconfigdata[^/]*|ensurepip/_bundled)(/|$)"
)
_TABLE_LINE = re.compile(r"""\s*[\[\](){}]*\s*(?:[bru]*['"]|[-+]?\d|[\])}])""")


@dataclass(frozen=True)
class Source:
    """One file of the library."""

    path: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Document:
    """A file or a piece of one; all pieces of a file are in the same split."""

    id: str
    text: str


@dataclass(frozen=True)
class SplitPlan:
    """How many documents to set aside. More are reserved than promised: near-duplicates will be dropped."""

    calibration: int = 600
    test: int = 200
    spare: float = 1.2
    smallest: int = 1_500  # a held-out file has something to say ...
    largest: int = 60_000  # ... and no single one dominates a split


@dataclass(frozen=True)
class Splits:
    """The documents of each split, and which file went where."""

    documents: dict[str, list[Document]]
    manifest: list[dict[str, str | int]]


def standard_library() -> Path:
    """The folder of the running interpreter's library."""
    return Path(sysconfig.get_path("stdlib"))


def collect(root: Path) -> list[Source]:
    """All readable Python sources under `root`, sorted by path."""
    return sorted(_read_sources(root), key=lambda source: source.path)


def _read_sources(root: Path) -> Iterator[Source]:
    for file in root.rglob("*.py"):
        path = file.relative_to(root).as_posix()
        if _SKIPPED.search(path):
            continue
        try:
            with tokenize.open(file) as lines:
                yield Source(path, lines.read())
        except (SyntaxError, UnicodeDecodeError):  # the test suite has files that are broken on purpose
            continue


def is_table(text: str, bound: float = 0.5) -> bool:
    """Whether most lines are literals, as in the character maps: many bytes, nothing to learn."""
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(bool(_TABLE_LINE.match(line)) for line in lines) > bound * len(lines)


def split(sources: Iterable[Source], plan: SplitPlan = SplitPlan()) -> Splits:
    """Assign files to splits in the order of their paths' hashes, then drop held-out near-duplicates."""
    documents: dict[str, list[Document]] = {TRAIN: [], CALIBRATION: [], TEST: []}
    reserve = {TEST: int(plan.test * plan.spare), CALIBRATION: int(plan.calibration * plan.spare)}
    manifest = []
    for source in sorted(sources, key=lambda source: hashlib.sha256(source.path.encode()).digest()):
        name = _choose_split(source, documents, reserve, plan)
        documents[name] += to_documents(source)
        manifest.append(_manifest_line(source, name))
    documents[CALIBRATION] = _unseen(documents[CALIBRATION], documents[TRAIN])
    documents[TEST] = _unseen(documents[TEST], documents[TRAIN] + documents[CALIBRATION])
    _require(len(documents[CALIBRATION]) >= plan.calibration, CALIBRATION)
    _require(len(documents[TEST]) >= plan.test, TEST)
    return Splits(documents, sorted(manifest, key=lambda line: str(line["path"])))


def to_documents(source: Source) -> list[Document]:
    """The file's pieces, without those that are tables."""
    pieces = [piece for piece in cut_source(source.text) if not is_table(piece)]
    return [Document(f"{source.path}#{i}", piece) for i, piece in enumerate(pieces)]


def jsonable(document: Document) -> dict[str, str]:
    """The document as a line of JSON."""
    return asdict(document)


def interpreter() -> str:
    """The version whose library this is."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def _choose_split(
    source: Source, documents: dict[str, list[Document]], reserve: dict[str, int], plan: SplitPlan
) -> str:
    if plan.smallest <= len(source.text) <= plan.largest and not is_table(source.text):
        for name, wanted in reserve.items():
            if len(documents[name]) < wanted:
                return name
    return TRAIN


def _unseen(documents: list[Document], seen: list[Document]) -> list[Document]:
    keep = without_near_duplicates([d.text for d in documents], (d.text for d in seen))
    return [document for document, kept in zip(documents, keep, strict=True) if kept]


def _manifest_line(source: Source, name: str) -> dict[str, str | int]:
    size = len(source.text.encode())
    return {"path": source.path, "sha256": source.sha256, "bytes": size, "split": name}


def _require(enough: bool, name: str) -> None:
    if not enough:
        raise ValueError(f"too few {name} documents are left: the library is smaller than the plan expects")
