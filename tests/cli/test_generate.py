"""`offramp generate`: the text is data, everything else goes elsewhere."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from offramp.cli.streaming import JsonLines, ShadedText, Summary, show
from offramp.engine.reply import Stats, TokenEvent
from offramp.policies.base import ExitPolicy
from offramp.registry import find, names

FEW = ("--max-tokens", "6")


def test_stdout_is_the_reply_and_nothing_else(run: Any, checkpoint: Path) -> None:
    result = run("generate", checkpoint, "hello", *FEW)
    assert result.code == 0
    assert "6 tokens (max_tokens)" in result.err and "left after block  1   2  of 4" in result.err
    assert "tokens (" not in result.out and "\x1b" not in result.out


def test_the_prompt_may_come_from_stdin(run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = run("generate", checkpoint, "hello", *FEW).out
    for dash in ((), ("-",)):
        monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
        assert run("generate", checkpoint, *dash, *FEW).out == given


def test_a_prompt_that_is_no_unicode(run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that is not UTF-8 arrives as half a surrogate pair in an argument, as an error from stdin."""
    given = run("generate", checkpoint, "a\udcff", *FEW)
    assert given.code == 2 and "not valid Unicode: character 2" in given.err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\xff"), encoding="utf-8"))
    sent = run("generate", checkpoint, *FEW)
    assert sent.code == 2 and "stdin is not UTF-8" in sent.err


def test_json_lines_fold_to_the_reply(run: Any, checkpoint: Path) -> None:
    text = run("generate", checkpoint, "hello", *FEW).out.removesuffix("\n")
    *tokens, end = map(json.loads, run("generate", checkpoint, "hello", "--json", *FEW).out.splitlines())
    assert "".join(token["text"] for token in tokens) == text
    assert [token["index"] for token in tokens] == list(range(6))
    assert (end["event"], end["tokens"], end["finish"]) == ("end", 6, "max_tokens")


def test_every_propagation_and_policy_runs(run: Any, checkpoint: Path) -> None:
    for propagation in ("verify", "defer", "project", "skip"):
        for policy in ("gate", "confidence"):
            options = ("--propagation", propagation, "--policy", policy, "--threshold", "0.3,0.6")
            assert run("generate", checkpoint, "hello", *FEW, *options).code == 0


@pytest.mark.parametrize("policy", names("offramp.policies"))
def test_every_policy_has_a_threshold_of_its_own(run: Any, checkpoint: Path, policy: str) -> None:
    assert run("generate", checkpoint, "hello", "--max-tokens", "3", "--policy", policy).code == 0


def test_the_help_says_what_each_policy_holds_against_the_threshold(run: Any) -> None:
    said = " ".join(run("generate", "--help").out.replace("│", " ").split())
    for name in names("offramp.policies"):
        line = (find("offramp.policies", name, ExitPolicy).__doc__ or "").partition("\n")[0]
        assert f"• {name}: {line}" in said


def test_exits_that_were_never_trained(run: Any, bare_checkpoint: Path) -> None:
    """Drafts of a model's own early layers: the full model's text, some of it drafted; nothing to be trained first."""
    untrained = ("generate", bare_checkpoint, "hello", *FEW, "--exits", "untrained")
    drafted = run(*untrained, "--exits-at", "1,3", "--policy", "confidence", "--threshold", "0")
    assert drafted.code == 0 and drafted.out == run("generate", bare_checkpoint, "hello", *FEW).out
    assert "left after block  1   3  of 4" in drafted.err and "no exits" not in drafted.err
    assert run(*untrained, "--policy", "always", "--propagation", "skip").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            [],
            "policy gate asks the exits' gates, and untrained exits have none. Policies that work with them: always",
        ),
        (["--policy", "budget"], "policy budget asks"),
        (["--policy", "margin", "--exits-at", "4"], "from 1 to 3, for a model of 4; got (4,)"),
        (["--policy", "margin", "--exits-at", "0"], "from 1; got (0,)"),
        (["--policy", "margn"], "Did you mean 'margin'"),
    ],
)
def test_impossible_untrained_exits(run: Any, bare_checkpoint: Path, options: list[str], said: str) -> None:
    result = run("generate", bare_checkpoint, "hello", "--exits", "untrained", *options)
    assert (result.code, result.out) == (2, "") and said in result.err


def test_verify_prints_the_full_model_s_text(run: Any, checkpoint: Path) -> None:
    full = run("generate", checkpoint, "hello", "--exits", "none", *FEW)
    drafted = run("generate", checkpoint, "hello", "--policy", "always", *FEW)
    assert drafted.out == full.out
    assert "has no exits" not in full.err, "it has some, and was told not to use them"


def test_drafts_may_be_counted_or_forbidden(run: Any, checkpoint: Path) -> None:
    """The text is the same; without drafts every token is the last block's, and auto says why there are none."""
    options = ("generate", checkpoint, "hello", *FEW, "--policy", "always")
    some, none = run(*options, "--drafts", "8"), run(*options, "--drafts", "0")
    assert some.out == none.out and some.code == none.code == 0
    assert "drafts accepted" in some.err and "drafts accepted" not in none.err and "nothing" not in none.err
    never = run("generate", checkpoint, "hello", *FEW, "--policy", "never")
    assert "nothing was drafted: no exit was sure enough" in never.err
    assert run(*options, "--drafts", "many").code == 2


def test_a_model_without_exits_says_how_to_train_them(run: Any, bare_checkpoint: Path) -> None:
    result = run("generate", bare_checkpoint, "hello", *FEW)
    assert result.code == 0
    assert f"offramp train {bare_checkpoint} --data" in result.err


def test_remark_text_and_summary_come_in_this_order(checkpoint: Path) -> None:
    """In one pipe too, where neither stream is written line by line."""
    command = [
        sys.executable,
        "-m",
        "offramp",
        "generate",
        checkpoint,
        "hello",
        *FEW,
        "--propagation",
        "skip",
        "--threshold",
        "0.5",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    told = [line for line in done.stdout.removesuffix("\n").split("\n") if not line.startswith("measuring")]
    remark, *text, legend, summary = told
    assert remark.startswith("note: ") and legend.startswith("left after") and "6 tokens" in summary
    assert text, "the reply has lines of its own"


def test_a_full_disk_is_one_line(checkpoint: Path) -> None:
    command = f"{sys.executable} -m offramp generate {checkpoint} hello > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("error: No space left on device\n") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--threshold", "1.5"], 2, "threshold is 1.5"),
        (["--threshold", "0.1,0.2,0.3"], 2, "3 thresholds for 2 exits"),
        (["--policy", "gat"], 2, "Did you mean 'gate'"),
        (
            ["--policy", "calmly"],
            2,
            "Did you mean 'calm'? Available: always, budget, calm, confidence, entropy",
        ),
        (["--policy", "budget", "--threshold", "0.1,0.2"], 2, "one mean depth; give one threshold"),
        (["--propagation", "verfy"], 2, "Did you mean 'verify'"),
        (["--exits", "linea"], 1, "Did you mean 'linear'"),
        (["--exits-at", "3"], 2, "1, 2"),
        (["--run-max", "99"], 2, "run_max is 99"),
        (["--stop", ""], 2, "stop string"),
        (["--chat"], 2, "no chat template"),
    ],
)
def test_impossible_options(run: Any, checkpoint: Path, options: list[str], code: int, said: str) -> None:
    result = run("generate", checkpoint, "hello", *options)
    assert (result.code, result.out) == (code, "")
    assert said in result.err


def test_exits_trained_for_another_propagation_are_remarked_on(run: Any, checkpoint: Path) -> None:
    assert (
        "trained for verify; under skip"
        in run("generate", checkpoint, "a", *FEW, "--propagation", "skip", "--threshold", "0.5").err
    )
    assert "note:" not in run("generate", checkpoint, "a", *FEW).err


def test_a_refused_request_gets_no_remark(run: Any, checkpoint: Path) -> None:
    refused = run("generate", checkpoint, "a", *FEW, "--propagation", "vrfy")
    assert refused.code == 2 and "note:" not in refused.err


def test_threads_from_the_environment(run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OFFRAMP_THREADS", "2")
    assert run("generate", checkpoint, "a", *FEW).code == 0 and torch.get_num_threads() == 2
    monkeypatch.delenv("OFFRAMP_THREADS")
    assert run("generate", checkpoint, "a", *FEW).code == 0 and torch.get_num_threads() == 1
    monkeypatch.setenv("OFFRAMP_THREADS", "many")
    refused = run("generate", checkpoint, "a", *FEW)
    assert (refused.code, "OFFRAMP_THREADS is 'many'" in refused.err) == (2, True)
    torch.set_num_threads(before)


def test_a_prompt_beyond_the_context(run: Any, checkpoint: Path) -> None:
    result = run("generate", checkpoint, "x" * 100)
    assert result.code == 1
    assert "100 tokens" in result.err and "64" in result.err


def test_no_such_folder(run: Any, tmp_path: Path) -> None:
    assert run("generate", tmp_path / "nowhere", "hello").code == 1
    assert run("generate", tmp_path, "hello").code == 1


def test_exits_of_another_backbone(run: Any, checkpoint: Path, bare_checkpoint: Path) -> None:
    config = json.loads((checkpoint / "exits/linear/exits.json").read_text())
    config["info"]["backbone"] = "another"
    foreign = bare_checkpoint / "exits" / "foreign"
    foreign.mkdir(parents=True)
    (foreign / "exits.json").write_text(json.dumps(config))
    result = run("generate", bare_checkpoint, "hello")
    assert result.code == 1 and "another backbone" in result.err


def events() -> list[TokenEvent]:
    """Three tokens: one drafted after block 2, one that tries to clear the screen, one at full depth."""
    texts, depths = ["a\n", "\x1b[2Jb", "c"], [2, 2, 4]
    last = Stats(tokens=3, block_tokens=8, block_passes=4, drafts=3, accepted=2)
    return [
        TokenEvent(
            token=i,
            text=texts[i],
            depth=depths[i],
            gate=0.9,
            drafted=depths[i] < 4,
            logprob=-1.0,
            best=i,
            index=i,
            finish="eos" if i == 2 else None,
            stats=last if i == 2 else None,
        )
        for i in range(3)
    ]


def shown(**settings: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, **settings)
    show(events(), ShadedText(console, Console(file=io.StringIO()), (2,), 4), 4, "exact")
    return out.getvalue()


def test_a_terminal_gets_colour_and_no_control_characters() -> None:
    text = shown(force_terminal=True, color_system="truecolor", no_color=False)
    assert text.count("\x1b[0m") == 2, "two tokens left early, one line each"
    assert "\x1b[2J" not in text and "\ufffd[2Jb" in text
    assert text.endswith("c\n"), "full depth is plain"


def test_without_colour_the_text_is_plain() -> None:
    assert shown(force_terminal=True, no_color=True) == "a\n\ufffd[2Jbc\n"


def test_a_file_gets_every_byte() -> None:
    assert shown(force_terminal=False) == "a\n\x1b[2Jbc\n"


def test_the_summary_counts_what_was_done() -> None:
    summary = show(events(), JsonLines(Console(file=io.StringIO())), 4, "exact")
    assert isinstance(summary, Summary)
    assert summary.mean_depth == pytest.approx(8 / 3)
    assert summary.drafted == pytest.approx(2 / 3) and summary.accepted == pytest.approx(2 / 3)
    assert summary.blocks_skipped == 0.0, "two tokens after the first, four blocks each"
    assert summary.weight_reads == 0.5
    assert "mean depth 2.7 of 4" in summary.line()
