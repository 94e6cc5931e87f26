"""`offramp generate --input --output`: the order of the input, errors where they belong, and nothing done twice."""

from __future__ import annotations

import codecs
import errno
import fcntl
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from offramp.cli import bulk, bulk_file, bulk_progress
from offramp.cli.app import main
from offramp.cli.bulk_progress import Tally, bulk_bar
from offramp.cli.bulk_prompts import LIMIT, Task, read_lines
from offramp.cli.bulk_replies import Answer, Window, _answer, answers
from offramp.cli.bulk_settings import settings_digest
from offramp.engine.engine import Engine, fold
from offramp.engine.load import load
from offramp.engine.reply import Stats, TokenEvent
from offramp.engine.request import Request
from offramp.errors import UsageError
from tests.cli.conftest import write_exits

PROMPTS: list[dict[str, Any]] = [
    {"prompt": "a long one", "max_tokens": 40, "id": "first"},
    {"prompt": "b", "max_tokens": 2},
    {"tokens": [5, 6, 7], "id": 3, "temperature": 1, "seed": 4},
    {"prompt": "a letter", "stop": "e", "top_k": 3},
    {"prompt": "the last", "max_tokens": 7},
]
SETTINGS = ("--propagation=skip", "--threshold=0.4", "--max-tokens=12", "--drafts=2")
"""Lossy: a reply's depth is the row's own, so that a run gives the same bytes every time."""


def settings(*others: str) -> list[str]:
    """SETTINGS, others in place of some of them."""
    return list({setting.partition("=")[0]: setting for setting in (*SETTINGS, *others)}.values())


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", PROMPTS)


@pytest.fixture
def generate(run: Any, checkpoint: Path, inputs: Path, tmp_path: Path) -> Callable[..., Any]:
    """`inputs` into out.jsonl."""

    def call(*options: object) -> Any:
        return run("generate", checkpoint, "--input", inputs, "--output", tmp_path / "out.jsonl", *options)

    return call


def write(path: Path, items: list[Any]) -> Path:
    lines = (item if isinstance(item, str) else json.dumps(item) for item in items)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_keys(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "key"} for item in items]


# ---- replies


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_replies_are_those_of_single_runs_in_the_order_of_the_input(
    generate: Any, run: Any, checkpoint: Path, tmp_path: Path, slots: int
) -> None:
    result = generate(*SETTINGS, "--slots", slots)
    assert (result.code, result.out) == (0, "") and "5 of 5 lines are in" in result.err
    items = read(tmp_path / "out.jsonl")
    assert [item["index"] for item in items] == [0, 1, 2, 3, 4]
    assert [item.get("id") for item in items] == ["first", None, 3, None, None]
    own = [["--max-tokens=40"], ["--max-tokens=2"], [], ["--stop=e", "--top-k=3"], ["--max-tokens=7"]]
    for i in (0, 1, 3, 4):
        alone = run("generate", checkpoint, PROMPTS[i]["prompt"], *settings(*own[i]), "--json").out
        *tokens, end = map(json.loads, alone.splitlines())
        assert items[i]["tokens"] == [token["token"] for token in tokens]
        assert items[i]["text"] == "".join(token["text"] for token in tokens)
        assert (items[i]["finish"], items[i]["depth"]) == (end["finish"], round(end["mean_depth"], 3))
    assert len(items[2]["tokens"]) == 12


def test_verify_gives_the_full_model_s_text(
    generate: Any, run: Any, checkpoint: Path, tmp_path: Path
) -> None:
    assert generate("--policy", "always", "--max-tokens", "5").code == 0
    for item in read(tmp_path / "out.jsonl")[3:]:
        [prompt] = [PROMPTS[item["index"]]["prompt"]]
        told = () if "stop" not in PROMPTS[item["index"]] else ("--stop", "e", "--top-k", "3")
        most = ("--max-tokens", PROMPTS[item["index"]].get("max_tokens", 5))
        full = run("generate", checkpoint, prompt, "--exits", "none", *most, *told)
        assert full.out == item["text"] + "\n"


def test_chats(run: Any, bare_checkpoint: Path, tmp_path: Path) -> None:
    """`messages`, and with --chat a prompt, go through the template; `tokens` do not."""
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}>"
    (bare_checkpoint / "chat_template.jinja").write_text(template)
    lines = [
        {"messages": [{"role": "user", "content": "hi"}]},
        {"prompt": "hi"},
        {"prompt": "<user>hi>"},
        {"messages": "hi"},
    ]
    inputs = write(tmp_path / "in.jsonl", lines)
    out = tmp_path / "out.jsonl"
    run("generate", bare_checkpoint, "--input", inputs, "--output", out, "--max-tokens", 5)
    said = read(out)
    assert said[0]["tokens"] == said[2]["tokens"] != said[1]["tokens"]
    assert said[3]["error"] == 'line 4: "messages" must be a list of objects.'
    out.unlink()
    run("generate", bare_checkpoint, "--input", inputs, "--output", out, "--max-tokens", 5, "--chat")
    assert read(out)[1]["tokens"] == said[0]["tokens"]


WRONG: list[tuple[Any, str]] = [
    ("{half", "not JSON"),
    ("[1]", "a JSON list, not an object"),
    ('"\\u00ff"', "a JSON str, not an object"),
    ("[" * 100_000, "not JSON"),
    ({"promt": "a"}, "unknown field 'promt'. Did you mean 'prompt'?"),
    ({"id": 9}, "one of prompt, tokens, messages; this one has none"),
    ({"prompt": "a", "tokens": [1]}, "this one has prompt, tokens"),
    ({"prompt": 5}, '"prompt" must be a string'),
    ({"prompt": ""}, "at least one token"),
    ({"prompt": "a\ud800"}, "not valid Unicode"),
    ({"prompt": "a", "id": "\ud800"}, "not valid Unicode"),
    ({"prompt": "a", "id": [1]}, '"id" must be a string or a whole number'),
    ({"tokens": [1, True]}, '"tokens" must be a list of token ids'),
    ({"tokens": [1, 10**30]}, "outside the vocabulary"),
    ({"prompt": "x" * 100}, "the prompt has 100 tokens"),
    ({"prompt": "a", "max_tokens": 1.5}, '"max_tokens" must be a whole number'),
    ({"prompt": "a", "max_tokens": 0}, "max_tokens is 0"),
    ({"prompt": "a", "temperature": -1}, "temperature is -1"),
    ({"prompt": "a", "temperature": "hot"}, '"temperature" must be a number'),
    ({"prompt": "a", "temperature": 10**400}, '"temperature" is too large'),
    ('{"prompt": "a", "top_p": NaN}', "top_p is nan"),
    ({"prompt": "a", "stop": [""]}, "stop string"),
    ({"prompt": "a", "stop": 5}, '"stop" must be a string or a list of strings'),
    ({"messages": [{"role": "user", "content": "a"}]}, "no chat template"),
    ({"prompt": "x" * LIMIT}, "longer than 1,048,576 bytes"),
]


def test_a_line_that_cannot_be_served_has_its_error_and_the_run_goes_on(
    run: Any, checkpoint: Path, tmp_path: Path
) -> None:
    """Blank lines are none. Line numbers are the file's, indices those of the prompts."""
    good = {"prompt": "good", "max_tokens": 2}
    lines = [line for wrong, _ in WRONG for line in (wrong, "  ", good)]
    out = tmp_path / "out.jsonl"
    result = run("generate", checkpoint, "--input", write(tmp_path / "in.jsonl", lines), "--output", out)
    assert result.code == 1 and f"(errors: {len(WRONG)})" in result.err
    items = read(out)
    assert [item["index"] for item in items] == list(range(2 * len(WRONG)))
    assert len({item["text"] for item in items[1::2]}) == 1, "the good ones"
    for i, (wrong, said) in enumerate(WRONG):
        assert items[2 * i]["error"].startswith(f"line {3 * i + 1}: ") and said in items[2 * i]["error"], (
            wrong
        )
        assert "text" not in items[2 * i]
    assert items[10]["id"] == 9, "the id is there where it can be"


def test_a_model_that_gives_no_number() -> None:
    """The beginning of the reply, and what went wrong."""
    good = TokenEvent(7, "a", 2, None, False, -1.0, 7, 0)
    end = TokenEvent(-1, "b", 4, None, False, math.nan, -1, 1, "nan", stats=Stats(tokens=1))
    answer = _answer(Task(0, "key"), fold([good, end]))
    said = json.loads(answer.line)
    assert (said["text"], said["tokens"], said["finish"], said["depth"]) == ("ab", [7], "nan", 2.0)
    assert answer.failed and "not numbers" in said["error"]


def test_nothing_runs_far_ahead_of_a_slow_reply(checkpoint: Path) -> None:
    """One of 40 tokens is first; the others have one. At most `window` are taken until it has ended."""
    loaded, taken = load(checkpoint), 0
    engine = Engine(loaded.model, None, loaded.text, slots=3, max_len=64)

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for i in range(30):
            taken += 1
            yield Task(i, "key", request=Request((5,), max_tokens=1 if i else 40, ignore_eos=True))

    found = answers(engine, tasks(), lambda events: None, Window(lines=6))
    assert index(next(found)) == 0 and taken == 6
    assert [index(answer) for answer in found] == list(range(1, 30))
    assert not engine.busy


def index(answer: Answer) -> int:
    """The line's."""
    found: int = json.loads(answer.line)["index"]
    return found


def test_what_waits_for_a_slow_reply_is_bounded_in_bytes(checkpoint: Path) -> None:
    """Behind the slow one are refusals of a thousand bytes each; before it they are answered as they come."""
    loaded, taken = load(checkpoint), 0
    engine = Engine(loaded.model, None, loaded.text, slots=2, max_len=64)
    slow = Request((5,), max_tokens=20, ignore_eos=True)

    def tasks() -> Iterator[Task]:
        nonlocal taken
        for i in range(40):
            taken += 1
            yield Task(i, "key", request=slow) if i == 10 else Task(i, "key", error="x" * 1000)

    found = answers(engine, tasks(), lambda events: None, Window(bytes=5000))
    for i in range(10):
        assert index(next(found)) == i and taken == i + 1
    assert index(next(found)) == 10 and taken == 16, "5 more, of a little over a thousand bytes"
    assert [index(answer) for answer in found] == list(range(11, 40))


def test_long_lines_are_forgotten_once_they_are_read(generate: Any, inputs: Path, tmp_path: Path) -> None:
    """Forty of a megabyte wait for a slow one; an error quotes no more of them than a reader wants."""
    strange = '{"%s": 1}' % ("q" * (LIMIT - 20))
    write(inputs, [{"tokens": [5], "max_tokens": 40}, *[strange] * 40])
    tracemalloc.start()
    try:
        assert generate(*SETTINGS).code == 1
        assert tracemalloc.get_traced_memory()[1] < 16 * LIMIT
    finally:
        tracemalloc.stop()
    items = read(tmp_path / "out.jsonl")
    assert len(items) == 41 and "unknown field 'qqq" in items[1]["error"] and len(items[1]["error"]) < 400


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    """Only there; and a line that it makes too long is not cut to one that is short enough."""
    mark = codecs.BOM_UTF8
    assert [line.raw for line in read_lines(io.BytesIO(mark + b"{}\n" + mark + b"{}"))] == [
        b"{}",
        mark + b"{}",
    ]
    assert [line.raw for line in read_lines(io.BytesIO(mark))] == []
    assert [len(line.raw) for line in read_lines(io.BytesIO(mark + b"x" * LIMIT + b"x\n{}"))] == [
        LIMIT + 1,
        2,
    ]


def test_lines_are_read_one_at_a_time() -> None:
    """A line that is too long costs no more memory than the limit; the next one is whole."""
    for length in (LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, LIMIT + 3, 3 * LIMIT + 6, 3 * LIMIT + 7):
        found = list(read_lines(io.BytesIO(b"x" * length + b"\n\n \r\n{}\r\n{}")))
        assert [(line.index, line.number) for line in found] == [(0, 1), (1, 4), (2, 5)]
        assert len(found[0].raw) == min(length, LIMIT + 2) and found[1].raw == found[2].raw == b"{}"


# ---- resuming


def test_a_run_goes_on_wherever_it_was_cut(generate: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert generate(*SETTINGS).code == 0
    whole = out.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in {0, 1, 9, 15, *ends, *(end - 1 for end in ends), *(end + 12 for end in ends[:-1])}:
        out.write_bytes(whole[:cut])
        assert generate(*SETTINGS).code == 0
        assert out.read_bytes() == whole, cut


def test_what_is_there_is_not_done_again(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    generate(*SETTINGS)
    first = out.read_bytes().split(b"\n")[0]
    out.write_bytes(first.replace(b'"id": "first"', b'"id": "kept"') + b"\n")
    added = []
    add = Engine.add
    monkeypatch.setattr(Engine, "add", lambda self, request: (added.append(request), add(self, request))[1])
    generate(*SETTINGS, "--slots", 2)
    assert read(out)[0]["id"] == "kept" and len(added) == 4
    again = generate(*SETTINGS)
    assert again.code == 0 and len(added) == 4 and "5 of 5 lines are in" in again.err


def test_errors_of_an_earlier_run_count(generate: Any, inputs: Path) -> None:
    inputs.write_text('{"prompt": 1}\n' + inputs.read_text())
    assert generate(*SETTINGS).code == 1
    again = generate(*SETTINGS)
    assert again.code == 1 and "6 of 6 lines" in again.err and "(errors: 1)" in again.err


def test_an_input_that_has_grown_is_gone_on_with(generate: Any, inputs: Path, tmp_path: Path) -> None:
    generate(*SETTINGS)
    before = (tmp_path / "out.jsonl").read_bytes()
    with inputs.open("a") as file:
        file.write('{"prompt": "one more"}\n')
    assert generate(*SETTINGS).code == 0
    after = (tmp_path / "out.jsonl").read_bytes()
    assert after.startswith(before) and len(read(tmp_path / "out.jsonl")) == 6


@pytest.mark.parametrize(
    "other",
    [
        "--max-tokens=13",
        "--propagation=defer",
        "--threshold=0.5",
        "--seed=1",
        "--exits=none",
        "--exits-at=1",
        "--tier=fast",
        "--dtype=bf16",
        "--max-len=60",
        "--stop=x",
    ],
)
def test_other_settings_are_refused(generate: Any, tmp_path: Path, other: str) -> None:
    generate(*SETTINGS)
    out = tmp_path / "out.jsonl"
    out.write_bytes(before := out.read_bytes()[:-40])
    refused = generate(*settings(other))
    assert refused.code == 1 and "other settings. Go on with those, or name another --output" in refused.err
    assert out.read_bytes() == before


def test_what_does_not_change_a_reply_may_change(generate: Any, tmp_path: Path) -> None:
    generate(*SETTINGS, "--slots", 2)
    whole = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").write_bytes(whole[:300])
    assert generate(*settings("--drafts=7"), "--slots", 5, "--memory", "1GB").code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == whole


@pytest.fixture
def digest(run: Any, bare_checkpoint: Path) -> Callable[[], str]:
    """Of a checkpoint that may be changed, with exits that may be."""
    write_exits(bare_checkpoint, "linear", "none", (1, 2))
    return lambda: settings_digest(load(bare_checkpoint), Request((0,)), chat=False)


def test_other_weights_of_exits_are_other_settings(digest: Any, bare_checkpoint: Path) -> None:
    """Trained again in the same place: the file exits.json says the same."""
    before = digest()
    assert digest() == before
    file = bare_checkpoint / "exits/linear/model.safetensors"
    weights = load_file(file)
    weights[min(weights)].flatten()[-1] += 1
    save_file(weights, file)
    assert digest() != before


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", None),
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer_config.json", '{"bos_token": "a", "add_bos_token": true}'),
        ("generation_config.json", '{"eos_token_id": [7]}'),
    ],
)
def test_another_tokenizer_or_end_is_another_setting(
    digest: Any, bare_checkpoint: Path, file: str, content: str | None
) -> None:
    before = digest()
    if content is None:
        tokenizer = json.loads((bare_checkpoint / file).read_text())
        content = json.dumps({**tokenizer, "normalizer": {"type": "Lowercase"}})
    (bare_checkpoint / file).write_text(content)
    assert digest() != before


@pytest.mark.parametrize("change", ["edited", "swapped", "shorter"])
def test_other_prompts_are_refused(generate: Any, inputs: Path, tmp_path: Path, change: str) -> None:
    generate(*SETTINGS)
    before = (tmp_path / "out.jsonl").read_bytes()
    first, second, *rest = inputs.read_text().splitlines(keepends=True)
    changed = {
        "edited": [first, second.replace("b", "c"), *rest],
        "swapped": [second, first, *rest],
        "shorter": [first, second],
    }
    inputs.write_text("".join(changed[change]))
    refused = generate(*SETTINGS)
    assert refused.code == 1 and "begun with other prompts" in refused.err
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "my diary",
        "my diary\n",
        "\n",
        "{}\n",
        '{"index": 0, "text": "of another program"}\n',
        '{"index": 0, "key": 5}\n',
        '{"index": 1, "te',
        "[" * 100_000 + "\n",
    ],
)
def test_a_file_of_somebody_else_is_left_alone(generate: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "out.jsonl").write_text(content)
    refused = generate(*SETTINGS)
    assert refused.code == 1 and "line 1 of" in refused.err and "was not written by a bulk run" in refused.err
    assert (tmp_path / "out.jsonl").read_text() == content


def test_two_runs_do_not_write_to_one_file(
    generate: Any, checkpoint: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes while the first is at work, and is refused before it loads a model."""
    out, codes, step = tmp_path / "out.jsonl", [], Engine.step
    second = ["generate", "no-such-model", "--input", str(inputs), "--output", str(out)]

    def step_and_start(engine: Engine) -> list[TokenEvent]:
        codes.append(main(second))
        return step(engine)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", step_and_start)
        first = generate(*SETTINGS)
    assert first.code == 0 and set(codes) == {2} and "another run is writing there" in first.err
    assert [item["index"] for item in read(out)] == [0, 1, 2, 3, 4]
    whole = out.read_bytes()
    assert generate(*SETTINGS).code == 0 and out.read_bytes() == whole, "it is free again"


def test_a_file_that_its_owner_took_away_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened before, locked after: what is written would be in no folder."""
    out = tmp_path / "out.jsonl"
    lock = fcntl.flock

    def late(file: Any, how: int) -> None:
        out.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageError, match="another run"), bulk_file.sole_writer(out):
        raise AssertionError


def test_where_there_are_no_locks(generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a system, or in a file system."""

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", none)
        assert generate(*SETTINGS).code == 0
    whole = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").write_bytes(whole[:100])
    monkeypatch.setattr(bulk_file, "fcntl", None)
    assert generate(*SETTINGS).code == 0 and (tmp_path / "out.jsonl").read_bytes() == whole


@pytest.mark.parametrize("where", ["folder", "link"])
def test_an_output_that_cannot_be_is_said_before_a_model_is_loaded(
    run: Any, inputs: Path, tmp_path: Path, where: str
) -> None:
    out = tmp_path / "no" / "folder" if where == "folder" else tmp_path / "link"
    if where == "link":
        out.symlink_to(tmp_path / "no" / "folder")
    result = run("generate", "no-such-model", "--input", inputs, "--output", out)
    assert result.code == 1 and f"No such file or directory: {out}" in result.err


def test_a_failed_start_leaves_the_output_as_it_was(run: Any, inputs: Path, tmp_path: Path) -> None:
    """What was there stays, were it empty; what was not is not there after."""
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "link"
    old.touch()
    link.symlink_to(tmp_path / "end of the link")
    for out in (old, new, link):
        assert run("generate", "no-such-model", "--input", inputs, "--output", out).code == 1
    assert old.exists() and not new.exists() and link.is_symlink() and not link.exists()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As a process in the foreground is; whatever a run does with the signal, the tests after it are as before."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_what_can_be_gone_on_with(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(*SETTINGS)
    out = tmp_path / "out.jsonl"
    whole, turns, step = out.read_bytes(), iter(range(1000)), Engine.step
    out.unlink()

    def interrupted(engine: Engine) -> list[TokenEvent]:
        if next(turns) == 70:
            raise KeyboardInterrupt
        return step(engine)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", interrupted)
        stopped = generate(*SETTINGS, "--slots", 1)
    assert stopped.code == 130 and "the same command goes on from there" in stopped.err
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN, (
        "another one while the process ends is not heard"
    )
    assert 0 < len(out.read_bytes()) < len(whole) and whole.startswith(out.read_bytes())
    assert generate(*SETTINGS).code == 0 and out.read_bytes() == whole


def test_a_killed_process_is_gone_on_with(
    generate: Any, checkpoint: Path, inputs: Path, tmp_path: Path
) -> None:
    write(inputs, PROMPTS * 12)
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "offramp", "generate", checkpoint, "--input", inputs, "--output", out]
    process = subprocess.Popen([*map(str, command), *SETTINGS, "--slots=2"], stderr=subprocess.DEVNULL)
    while not (out.exists() and out.read_bytes().count(b"\n") >= 3) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was still at work"
    before = out.read_bytes()
    kept = before[: before.rindex(b"\n") + 1]
    assert generate(*SETTINGS).code == 0
    assert out.read_bytes().startswith(kept) and len(read(out)) == 60
    again = without_keys(read(out))
    assert all({**again[i], "index": i % 5} == again[i % 5] for i in range(60)), "each as the first time"


# ---- options and progress


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--input", "IN"], 2, "--input needs --output"),
        (["--output", "OUT"], 2, "--output belongs to many prompts: give --input"),
        (["hi", "--slots", "2"], 2, "--slots belongs to many prompts"),
        (["hi", "--max-len", "20"], 2, "--max-len belongs to many prompts"),
        (["hi", "--input", "IN", "--output", "OUT"], 2, "a prompt and --input: give one"),
        (["--input", "IN", "--output", "OUT", "--json"], 2, "--json shows one reply"),
        (["--input", "IN", "--output", "IN"], 2, "--output is the --input"),
        (["--input", "nowhere", "--output", "OUT"], 1, "No such file or directory: nowhere"),
        (["--input", "/dev/null", "--output", "OUT"], 1, "not a regular file"),
        (["--input", "IN", "--output", "/dev/null"], 1, "not a regular file"),
        (["--input", "IN", "--output", "no/such/folder"], 1, "No such file or directory"),
        (["--input", "IN", "--output", "OUT", "--slots", "0"], 2, "slots is 0"),
        (["--input", "IN", "--output", "OUT", "--max-len", "-5"], 2, "max_len is -5"),
        (["--input", "IN", "--output", "OUT", "--max-len", "1"], 2, "take at least 2 tokens"),
        (["--input", "IN", "--output", "OUT", "--memory", "1K"], 1, "a slot of 64 tokens takes"),
        (["--input", "IN", "--output", "OUT", "--memory", "9K", "--slots", "99"], 1, "99 slots of 64 tokens"),
        (["--input", "IN", "--output", "OUT", "--memory", "much"], 2, "like 2GB or 512MB"),
        (["--input", "IN", "--output", "OUT", "--memory", "9" * 400], 2, "like 2GB or 512MB"),
        (["--input", "IN", "--output", "OUT", "--memory", "9" * 300 + "T"], 2, "like 2GB or 512MB"),
        (["--input", "IN", "--output", "OUT", "--policy", "gat"], 2, "Did you mean 'gate'"),
        (["--input", "IN", "--output", "OUT", "--threshold", "1,1,1"], 2, "3 thresholds for 2 exits"),
        (["--input", "IN", "--output", "OUT", "--temperature", "-1"], 2, "temperature is -1"),
    ],
)
def test_impossible_options(
    run: Any, checkpoint: Path, inputs: Path, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    """Refused as a whole, before a line is written."""
    names = {"IN": inputs, "OUT": tmp_path / "out.jsonl"}
    result = run("generate", checkpoint, *[names.get(option, option) for option in options])
    assert result.code == code and said in result.err
    assert not (tmp_path / "out.jsonl").exists() and read(inputs) == PROMPTS


@pytest.mark.parametrize(
    ("options", "slots"),
    [((), 16), (("--slots", 3), 3), (("--memory", "200K"), None), (("--max-len", 30), 16)],
)
def test_as_many_slots_as_asked_or_as_fit(
    generate: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...], slots: int | None
) -> None:
    made: list[Engine] = []
    make = bulk.engine_of
    monkeypatch.setattr(
        bulk, "engine_of", lambda *given, **more: made.append(make(*given, **more)) or made[-1]
    )
    assert generate("--max-tokens", 2, *options).code == 0
    assert made[0].slots == slots if slots else 1 <= made[0].slots < 16
    assert made[0].max_len == (30 if "--max-len" in options else 64)


def test_progress_without_a_terminal(generate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_progress, "EVERY", 0.0)
    told = generate(*SETTINGS, "--slots", 1).err.splitlines()
    assert any(line.startswith("2 of 5 lines · ") and "left" in line for line in told)
    assert told[-1].startswith("5 of 5 lines are in") and "of 4" in told[-1] and "\x1b" not in "".join(told)
    monkeypatch.setattr(bulk_progress, "EVERY", 1e9)
    assert len(generate(*SETTINGS).err.splitlines()) <= 2, "the note about the exits, and what there is"


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=100)
    monkeypatch.setattr(bulk_progress, "Console", lambda **_: terminal)
    tally = Tally(total=8, kept=2, lines=2, errors=0, blocks=4)
    with bulk_bar(tally) as show:
        tally.lines = 3
        show()
    assert "3/8" in out.getvalue() and "tokens/s" in out.getvalue()


def test_what_a_tally_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 of 6 lines were there; one took ten seconds, so the last will."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tally = Tally(total=6, kept=4, lines=4, errors=1, blocks=12)
    assert tally.said() == "0 tokens/s · errors: 1"
    event = TokenEvent(1, "", 3, None, False, 0.0, 1, 0)
    tally.count(
        [event, TokenEvent(2, "", 6, None, False, 0.0, 2, 1), TokenEvent(-1, "", 9, None, False, 0.0, -1, 2)]
    )
    now, tally.lines = 110.0, 5
    assert tally.said() == "0.2 tokens/s · mean depth 4.5 of 12 · about 10 s left · errors: 1"
    tally.total = 500
    assert "about 82 min left" in tally.said()
    tally.total = tally.lines
    assert "left" not in tally.said()
