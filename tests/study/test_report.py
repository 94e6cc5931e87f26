"""The report: escaped, self-contained, complete, and the same from Chromium's point of view."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.study.report.page import page
from offramp.study.report.parts import (
    Axis,
    Chart,
    HeatMap,
    Point,
    Report,
    Section,
    Series,
    Token,
    leaves,
    shown,
)
from offramp.study.report.svg import chart_svg
from offramp.study.report.write import write_parts
from tests.study.parts import HOSTILE, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Reader(HTMLParser):
    """Elements, attributes and text; raises where tags do not nest."""

    VOID = {"meta", "br", "img", "link", "hr", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_nothing_is_loaded_and_nothing_runs() -> None:
    read = Reader(page(report()))
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(read.tags)
    names = {name for name, _ in read.attributes}
    assert not {name for name in names if name.startswith("on")} and not {"src", "style", "action"} & names
    assert all(value and value.startswith("#") for name, value in read.attributes if name == "href")


def test_only_its_own_style_is_let_in() -> None:
    text = page(report())
    sheet = re.search(r"<style>(.*?)</style>", text, re.S)
    assert sheet is not None
    digest = base64.b64encode(hashlib.sha256(sheet.group(1).encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in text
    assert not re.search(r"url\(|@import|https?:", sheet.group(1))


def test_what_a_model_wrote_is_text() -> None:
    read = Reader(page(report()))
    assert any("<script>console.error" in words and "onerror" in words for words in read.words)
    assert not [char for words in read.words for char in words if char in "\x00\u202e"]
    assert "\\u202e" in "".join(read.words)


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_text_leaves_the_page_whole(said: str, name: str) -> None:
    heat = HeatMap("heat", name, 4, (Token(said, 1, 0.5, True), Token(said, 4, None, False)))
    chart = Chart("chart", name, Axis(said), Axis(name), (Series(said, (Point(0, 1),)),))
    made = Report(name, (said,), {name: said}, (Section("s", said, said, (heat, chart)),))
    assert Reader(page(made)).tags.count("span") == 4


def test_a_token_says_its_depth_gate_and_agreement() -> None:
    text = page(report())
    assert 'class="d1" title="depth 3 of 12 · gate 0.50 · agrees"' in text
    assert 'class="d3 differs" title="depth 6 of 12 · gate 0.25 · differs"' in text
    assert '<span title="depth 12 of 12 · agrees"' in text  # plain at full depth


def test_cells_read_as_their_column_says() -> None:
    assert [shown(0.125, ".1%"), shown(None, ".1%"), shown("a", ".1%"), shown(0.5, "")] == [
        "12.5%",
        "–",
        "a",
        "0.5",
    ]


@pytest.mark.parametrize("values", [[0.0], [0.5, 0.5], [-1e-9, 1e9], [0.1, 0.3, 0.2], [3.0, 12.0]])
def test_every_point_lies_on_the_paper(values: list[float]) -> None:
    series = Series("a", tuple(Point(value, value) for value in values))
    drawn = chart_svg(Chart("c", "t", Axis("x"), Axis("y"), (series,)))
    places = [(float(x), float(y)) for x, y in re.findall(r'<circle [^>]*cx="([^"]+)" cy="([^"]+)"', drawn)]
    assert len(places) == len(values)
    assert all(50 <= x <= 440 and 0 <= y <= 260 for x, y in places)
    assert (values == sorted(values)) == ([x for x, _ in places] == sorted(x for x, _ in places))


def test_every_chart_and_table_is_a_file_too(tmp_path: Path) -> None:
    write_parts(report(), tmp_path, lambda chart, path: path.touch())
    names = {part.name for part in leaves(report())}
    assert {path.stem for path in tmp_path.glob("*.json")} == names
    assert {path.name for path in tmp_path.glob("*.png")} == {"lines-a.png", "bars-a.png", "cal-a.png"}
    with (tmp_path / "table-a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["arm", "share", "count", "words"] and rows[1][:3] == ["first", "0.125", "12345.0"]
    with (tmp_path / "lines-a.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 16
    assert json.loads((tmp_path / "heat-a.json").read_text())["tokens"][1]["text"] == HOSTILE


def test_pictures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from offramp.study.report.pictures import draw

    write_parts(report(), tmp_path, draw)
    made = sorted(path.name for path in tmp_path.glob("*.png"))
    assert made == ["bars-a.png", "cal-a.png", "lines-a.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in made)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1400, 390])
def test_it_opens_in_a_browser(tmp_path: Path, width: int) -> None:
    """No request, no message of the console, every part there, nothing wider than the window."""
    made = write_parts(report(), tmp_path)
    text = made.read_text(encoding="utf-8")
    dumped = browse(made, tmp_path, width, "--dump-dom")
    assert "CONSOLE" not in dumped.stderr
    for part in leaves(report()):
        assert f'id="{part.name}"' in dumped.stdout
    assert dumped.stdout.count("<svg") == text.count("<svg") > 3
    picture = tmp_path / "seen.png"
    browse(made, tmp_path, width, f"--screenshot={picture}")
    assert picture.stat().st_size > 10_000


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(
    "more", ["<img src='picture.png'>", "<script>1</script>", "<p style='color:red'>x</p>"]
)
def test_the_browser_refuses_what_is_not_the_page_s_own(tmp_path: Path, more: str) -> None:
    """What the test above would see: the page's policy is in force."""
    made = write_parts(report(), tmp_path)
    made.write_text(made.read_text(encoding="utf-8").replace("</main>", f"{more}</main>"), encoding="utf-8")
    assert "CONSOLE" in browse(made, tmp_path, 800, "--dump-dom").stderr


def browse(page: Path, folder: Path, width: int, do: str) -> subprocess.CompletedProcess[str]:
    """What a browser prints when it does that with the page."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", do]
    window = [f"--window-size={width},1200", f"--user-data-dir={folder / 'profile'}"]
    command = [str(CHROMIUM), *options, *window, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
