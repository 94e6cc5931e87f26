"""The tokenizer writes any text, and the loss weights lie on the answers."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from offramp.zoo.mixture import Pools, bpe_sample, facts_test, qa_tokens, stories_test
from offramp.zoo.names import make_pools
from offramp.zoo.rows import ANSWER_WEIGHT, encode_rows, row_text
from offramp.zoo.stories import stories
from offramp.zoo.tokenizer import END_OF_TEXT, END_OF_TEXT_ID, save_tokenizer, train_tokenizer

POOLS = Pools.draw(make_pools(0), 0)


def make_tokenizer() -> Tokenizer:
    return train_tokenizer(bpe_sample(POOLS, 500, 0), vocabulary=800)


TOKENIZER = make_tokenizer()


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@given(st.integers(min_value=0))
def test_digits_stay_apart(number: int) -> None:
    assert len(TOKENIZER.encode(str(number)).ids) == len(str(number))


def test_training_is_deterministic() -> None:
    assert make_tokenizer().to_str() == TOKENIZER.to_str()


def test_end_of_text_is_id_zero() -> None:
    assert TOKENIZER.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID == 0


def test_transformers_loads_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    save_tokenizer(TOKENIZER, tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "def f(x):\n        return x + 42\n"
    assert loaded.encode(text) == TOKENIZER.encode(text).ids
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.bos_token_id == loaded.eos_token_id == END_OF_TEXT_ID
    assert loaded.model_max_length == 512


def test_segments_cut_where_tokens_end() -> None:
    rows = [story.row() for story in islice(stories(POOLS.training, 3), 200)]
    ids, _ = encode_rows(TOKENIZER, rows)
    whole = [[END_OF_TEXT_ID, *TOKENIZER.encode(row_text(row)).ids] for row in rows]
    assert ids.tolist() == sum(whole, [])


def test_weights_lie_on_the_answers_alone() -> None:
    rows = [story.row() for story in islice(stories(POOLS.training, 4), 200)]
    ids, weights = encode_rows(TOKENIZER, rows)
    assert ids.dtype == np.uint16 and weights.dtype == np.uint8 and len(ids) == len(weights)
    stressed = TOKENIZER.decode(ids[weights == ANSWER_WEIGHT].tolist())
    assert stressed == "".join(segment.text for row in rows for segment in row if segment.is_answer)
    assert set(weights.tolist()) == {1, ANSWER_WEIGHT}


def test_qa_tokens_keep_to_their_shares() -> None:
    ids, weights, tokens = qa_tokens(TOKENIZER, POOLS, 200_000, 2 / 3, 0)
    assert len(ids) == len(weights) == sum(tokens.values()) >= 200_000
    assert abs(tokens["stories"] / len(ids) - 2 / 3) < 0.1
    assert ids[0] == END_OF_TEXT_ID


def test_test_prompts_end_before_the_answers_space() -> None:
    lines = [*facts_test(POOLS), *stories_test(POOLS, 12, 0), *stories_test(POOLS, 12, 0, seen_names=True)]
    assert len(lines) > 640
    for line in lines:
        assert line["prompt"].endswith(("\nA:", "\nAnswer:")) and line["answer"].startswith(" ")
        parts = TOKENIZER.encode(line["prompt"]).ids + TOKENIZER.encode(line["answer"]).ids
        assert parts == TOKENIZER.encode(line["prompt"] + line["answer"]).ids


def test_held_out_names_are_cut_like_trained_ones() -> None:
    mean = {
        pool: np.mean([len(TOKENIZER.encode(f" {name}").ids) for name in names])
        for pool, names in make_pools(0).__dict__.items()
    }
    assert max(mean.values()) - min(mean.values()) < 0.3 and min(mean.values()) > 2
