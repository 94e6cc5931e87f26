"""The code corpus: files are cut into pieces, split by file, and held-out near-duplicates are dropped."""

import random
from pathlib import Path

import pytest

from offramp.zoo.near_duplicates import containment, shingles, without_near_duplicates
from offramp.zoo.pieces import cut_source
from offramp.zoo.stdlib_text import CALIBRATION, TEST, TRAIN, Source, SplitPlan, collect, is_table, split

WORDS = [f"word{i}" for i in range(500)]
PLAN = SplitPlan(calibration=6, test=3, spare=3, smallest=100)


def function(rng: random.Random, name: str, lines: int = 20) -> str:
    body = "".join(
        f"    {rng.choice(WORDS)} = {rng.choice(WORDS)}({rng.choice(WORDS)})\n" for _ in range(lines)
    )
    return f"def {name}():\n{body}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Forty modules of their own, and twenty copies under other names with a line more."""
    rng = random.Random(0)
    for i in range(40):
        text = "\n\n".join(function(rng, f"f{i}_{j}") for j in range(3))
        (tmp_path / f"module{i}.py").write_text(text)
        if i % 2:
            (tmp_path / f"copy{i}.py").write_text(text + "\n\nchanged = True\n")
    return tmp_path


def test_splits_share_no_file_and_no_near_duplicate(tree: Path) -> None:
    splits = split(collect(tree), PLAN)
    documents = splits.documents
    files = {name: {d.id.split("#")[0] for d in documents[name]} for name in documents}
    assert not files[TRAIN] & files[CALIBRATION] and not files[TRAIN] & files[TEST]
    assert not files[CALIBRATION] & files[TEST]
    assert len(splits.manifest) > sum(map(len, files.values()))  # some near-duplicates were there to drop
    for held_out, earlier in ((CALIBRATION, [TRAIN]), (TEST, [TRAIN, CALIBRATION])):
        seen = {s for name in earlier for d in documents[name] for s in shingles(d.text)}
        assert documents[held_out]
        assert max(containment(d.text, seen) for d in documents[held_out]) <= 0.25


def test_split_is_the_same_every_time_and_in_any_order(tree: Path) -> None:
    sources = collect(tree)
    assert split(sources, PLAN) == split(reversed(sources), PLAN)


def test_split_refuses_a_library_that_is_too_small() -> None:
    with pytest.raises(ValueError, match="too few calibration"):
        split([Source("a.py", function(random.Random(0), "f"))], PLAN)


def test_manifest_names_every_file(tree: Path) -> None:
    sources = collect(tree)
    manifest = split(sources, PLAN).manifest
    assert [line["path"] for line in manifest] == [source.path for source in sources]
    assert all(len(str(line["sha256"])) == 64 for line in manifest)


def test_collect_skips_installed_packages_and_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "a.py").write_text("a = 1\n")
    (tmp_path / "_sysconfigdata_here.py").write_text("a = 1\n")
    (tmp_path / "bad.py").write_bytes(b"a = '\xff'\n")
    (tmp_path / "good.py").write_text("a = 1\n")
    assert [source.path for source in collect(tmp_path)] == ["good.py"]


def test_a_copy_is_dropped_and_a_stranger_is_kept() -> None:
    rng = random.Random(1)
    text, stranger = function(rng, "f"), function(rng, "g")
    assert without_near_duplicates([text, stranger, stranger], [f"x = 1\n{text}"]) == [False, True, False]


def test_pieces_are_short_and_lose_nothing_but_blank_lines() -> None:
    rng = random.Random(2)
    methods = "\n".join("    " + function(rng, f"m{i}").replace("\n", "\n    ").rstrip(" ") for i in range(9))
    text = f"import this\n\n\n{function(rng, 'f')}\n\nclass C:\n{methods}\n"
    pieces = cut_source(text, limit=1500)
    assert len(pieces) > 3 and all(len(piece) <= 1500 for piece in pieces)
    assert [x for p in pieces for x in p.splitlines() if x.strip()] == [
        x for x in text.splitlines() if x.strip()
    ]
    assert all(piece.lstrip().startswith(("import", "def", "class")) for piece in pieces)


def test_tables_are_told_from_code() -> None:
    assert is_table("table = (\n" + "    '\\x00'  # null\n" * 50 + ")\n")
    assert not is_table(function(random.Random(3), "f"))
