"""A row of question answering: text in segments, some of them answers that the loss should stress."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from offramp.zoo.tokenizer import END_OF_TEXT_ID

ANSWER_WEIGHT = 4


@dataclass(frozen=True)
class Segment:
    """A stretch of text. Cuts lie before an answer's space and its closing newline, both token borders."""

    text: str
    is_answer: bool = False


Row = list[Segment]


def row_text(row: Row) -> str:
    """The row as one string."""
    return "".join(segment.text for segment in row)


def encode_rows(tokenizer: Tokenizer, rows: Iterable[Row]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Token ids and loss weights of all rows; each begins after the end-of-text id."""
    segments = [segment for row in rows for segment in _with_separator(row)]
    encoded = iter(
        tokenizer.encode_batch_fast([s.text for s in segments if s is not None], add_special_tokens=False)
    )
    ids: list[int] = []
    weights: list[int] = []
    for segment in segments:
        tokens = [END_OF_TEXT_ID] if segment is None else next(encoded).ids
        ids += tokens
        weights += [ANSWER_WEIGHT if segment is not None and segment.is_answer else 1] * len(tokens)
    return np.array(ids, np.uint16), np.array(weights, np.uint8)


def _with_separator(row: Row) -> list[Segment | None]:
    return [None, *row]
