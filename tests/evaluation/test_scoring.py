"""Given texts: whole sequences and the engine say the same, and cuts are lm-evaluation-harness's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from random_models import tiny

from offramp.errors import UsageError
from offramp.evaluation import scoring
from offramp.evaluation.scoring import (
    encode_pair,
    fitted,
    forced,
    rolling,
    score_choices,
    score_full,
    scored,
)
from offramp.evaluation.setting import FULL, Setting
from offramp.evaluation.tasks.base import Scored
from offramp.text import Text
from offramp.zoo.bundled import HOME

PROMPT, CHOICES = [3, 9, 27, 5], [[7], [8, 2, 31], [1, 1, 1, 1, 1], [12, 30]]


def assert_same(some: Sequence[Scored], others: Sequence[Scored]) -> None:
    for one, other in zip(some, others, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.greedy == other.greedy


@pytest.mark.parametrize("backbone", ["llama", "mamba", "mamba2"])
def test_whole_sequences_are_the_engine_at_full_depth(backbone: str) -> None:
    setup = tiny(backbone)
    pairs = [(PROMPT, choice) for choice in CHOICES] + [([5], [6, 7]), (PROMPT * 3, [4])]
    whole = score_full(setup.model, pairs)
    assert_same(whole[:4], score_choices(setup.engine(slots=3), FULL, PROMPT, CHOICES))
    for pair, text in zip(pairs, whole, strict=True):
        assert_same([text], score_choices(setup.plain(), FULL, pair[0], [pair[1]]))
        assert text.depths == (8,) * len(pair[1])
    assert any(text.greedy for text in whole) != all(text.greedy for text in whole) or not any(
        text.greedy for text in whole
    )


def test_greedy_is_the_models_own_choice() -> None:
    setup = tiny()
    own = setup.plain().generate(replace(FULL.request(PROMPT, 4), ignore_eos=True)).tokens
    other = [*own[:3], (own[3] + 1) % 37]
    assert [text.greedy for text in score_full(setup.model, [(PROMPT, own), (PROMPT, other)])] == [
        True,
        False,
    ]


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = tiny("mamba2")
    pairs = [(PROMPT, choice) for choice in CHOICES]
    together = score_full(setup.model, pairs)
    monkeypatch.setattr(scoring, "TOGETHER", 1)
    assert_same(score_full(setup.model, pairs), together)


@pytest.mark.parametrize("propagation", ["defer", "project", "skip"])
def test_each_token_is_scored_where_it_leaves(propagation: str) -> None:
    """Every token leaves at the first exit: its logprob is that of the exit's own logits, where the state is exact."""
    setup = tiny("llama", after=(4,))
    early = Setting("early", propagation, "always", run_max=15)
    [text] = score_choices(setup.engine(), early, PROMPT, [[8, 2, 31, 6]])
    assert text.depths == (8, 4, 4, 4), "the token after the prompt is the prompt's"
    [full] = score_full(setup.model, [(PROMPT, [8, 2, 31, 6])])
    assert text.logprobs[0] == pytest.approx(full.logprobs[0], abs=1e-4)
    assert text.logprobs[1:] != pytest.approx(full.logprobs[1:], abs=1e-3)
    with torch.inference_mode():
        states = setup.model.hidden_states(torch.tensor([[*PROMPT, 8, 2, 31]]))
        logprobs = setup.model.logits(states[4])[0].log_softmax(-1)
    own = [float(logprobs[len(PROMPT) + i, token]) for i, token in enumerate((2, 31, 6))]
    assert text.logprobs[1:] == pytest.approx(own, abs=1e-4)


def test_under_verify_scores_are_the_full_models() -> None:
    setup = tiny()
    early = Setting("early", "verify", "always")
    assert_same(
        score_choices(setup.engine(), early, PROMPT, CHOICES),
        score_full(setup.model, [(PROMPT, c) for c in CHOICES]),
    )


def test_temperature_and_penalties_do_not_count() -> None:
    from offramp.engine.request import Sampling

    hot = Setting("hot", sampling=Sampling(temperature=3.0, repetition_penalty=2.0))
    request = forced(hot, PROMPT, [8, 2])
    assert request.sampling == Sampling() and request.forced == (8, 2)
    setup = tiny()
    assert_same([scored(setup.plain().generate(request))], score_full(setup.model, [(PROMPT, [8, 2])]))


@pytest.fixture(scope="module")
def text() -> Text:
    return Text.load(HOME / "tiny-mamba2")


@given(length=st.integers(1, 40), size=st.integers(1, 12))
def test_windows_are_the_harnesss(text: Text, length: int, size: int) -> None:
    whole = "".join(chr(ord("a") + i % 26) + " " for i in range(length))
    ids = text.encode(whole)[1:]
    windows = get_rolling_token_windows(ids, prefix_token=text.bos_id, max_seq_len=size, context_len=1)
    assert list(rolling(text, whole, size)) == [make_disjoint_window(window) for window in windows]
    assert [token for _, part in rolling(text, whole, size) for token in part] == ids


@pytest.mark.parametrize(
    ("context", "continuation"),
    [("Who barks?", " a dog"), ("Who barks? ", "a dog"), ("ab", " cd"), ("x\n\n", "y")],
)
def test_pairs_are_the_harnesss(text: Text, context: str, continuation: str) -> None:
    from lm_eval.api.model import TemplateLM

    class Theirs(TemplateLM):
        eot_token_id = 0
        _loglikelihood_tokens = loglikelihood_rolling = generate_until = lambda self: None

        def tok_encode(self, string: str, **_: object) -> list[int]:
            return text.encode(string)

    before, after = encode_pair(text, context, continuation)
    assert (before, after) == Theirs()._encode_pair(context, continuation)
    assert text.decode(before + after) == context + continuation


def test_something_is_always_scored(text: Text) -> None:
    """One id spans context and continuation: after the context's own ids nothing is left."""
    whole = text.encode("def")
    assert len(whole) == 2, "the beginning and one id"
    assert encode_pair(text, "de", "f") == (whole[:1], whole[1:])


def test_what_follows_nothing_follows_the_beginning(text: Text) -> None:
    assert encode_pair(text, "", "a dog") == ([text.bos_id], text.encode("a dog")[1:])


def test_a_tokenizer_without_a_beginning_is_refused(text: Text) -> None:
    with pytest.raises(UsageError, match="no bos_token and no eos_token"):
        encode_pair(Text(text.tokenizer), "", "a dog")


def test_fitted_keeps_the_end() -> None:
    assert fitted([1, 2, 3], 2) == [2, 3] and fitted([1, 2], 5) == [1, 2] and fitted([1, 2], 0) == []
