"""What a pretrained backbone is worth, at full depth and at each exit, on documents it never saw.

Shapes: R rows, T tokens, P positions read, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.data.documents import Encode, Ids
from offramp.data.jsonl import read_jsonl
from offramp.exits.labels import choice
from offramp.exits.positions import default_positions
from offramp.models.base import Model
from offramp.training.greedy import greedy
from offramp.training.readings import readings
from offramp.training.windows import batches_of, device_of, padded

Decode = Callable[[list[int]], str]
FULL = "full"
BATCH_TOKENS = 8192
CHUNK = 4096
NEW_TOKENS = 12
LONGEST = 1024


@dataclass(frozen=True)
class Row:
    """begin: the index of the first id that counts as a target."""

    ids: Ids
    begin: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Tally:
    """Sums over positions, by reading: "full", "8" (after 8 blocks), "8+last_block"."""

    positions: int = 0
    nats: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    agreed: Counter[str] = field(default_factory=Counter)

    def add(self, model: Model, read: dict[str, Tensor], targets_P: Tensor) -> None:
        """read: hidden states `[P, D]` of each reading, before the norm and head; "full" is the oracle."""
        for at in torch.arange(len(targets_P), device=targets_P.device).split(CHUNK):
            oracle_P = choice(model.logits(read[FULL][at]))
            self.positions += len(at)
            for name, x_PD in read.items():
                logits_PV = model.logits(x_PD[at]).float()
                self.nats[name] += float(F.cross_entropy(logits_PV, targets_P[at], reduction="sum"))
                self.agreed[name] += int((choice(logits_PV) == oracle_P).sum())

    def agreement(self) -> dict[str, float]:
        """Share of positions whose choice is the full model's, by reading."""
        return {name: count / self.positions for name, count in self.agreed.items() if name != FULL}


def heldout(
    model: Model,
    corpus: Path,
    encode: Encode,
    decode: Decode,
    documents: int | None = None,
    questions: int | None = None,
) -> dict[str, Any]:
    """Bits per byte and agreement on `test.jsonl`; exact match and agreement on the two sets of questions.

    documents, questions: read so many of each file only, evenly spread. Raises DataError for a damaged file.
    """
    model.eval()
    texts = [item["text"] for item in _items(corpus / "test.jsonl", documents)]
    result: dict[str, Any] = {"code": code(model, texts, encode)}
    for kind in ("facts", "stories"):
        asked = _items(corpus / f"{kind}_test.jsonl", questions)
        result[kind] = answers(model, asked, encode, decode)
    return result


def code(model: Model, texts: Sequence[str], encode: Encode) -> dict[str, Any]:
    """Bits per byte by reading: all nats / ln 2 / UTF-8 bytes. A document's windows share no context."""
    rows = [row for text in texts for row in _code_rows(_document(model, encode, text), model)]
    tally = _tally(model, rows)
    size = sum(len(text.encode()) for text in texts)
    bits = {name: nats / math.log(2) / size for name, nats in tally.nats.items()}
    summary = {"documents": len(texts), "bytes": size, "tokens": tally.positions}
    return summary | {"bits_per_byte": bits, "agreement": tally.agreement()}


def answers(model: Model, asked: Sequence[dict[str, Any]], encode: Encode, decode: Decode) -> dict[str, Any]:
    """Exact match of the first line decoded greedily, over all and by kind; agreement on the answers' tokens.

    The newline that ends an answer is left out of the agreement: it is always foreseen, and would flatter it.
    """
    prompts = [_document(model, encode, item["prompt"]) for item in asked]
    newline = _continuation(model, encode, "\n")[-1]
    replies = [decode(ids) for ids in greedy(model, prompts, NEW_TOKENS, stop=newline)]
    right: dict[str, list[bool]] = defaultdict(list)
    for item, reply in zip(asked, replies, strict=True):
        right[item["kind"]].append(_first_line(reply) == _first_line(item["answer"]))
    every = [hit for hits in right.values() for hit in hits]
    rows = [
        Row([*prompt, *_continuation(model, encode, item["answer"])], len(prompt))
        for prompt, item in zip(prompts, asked, strict=True)
    ]
    return {
        "questions": len(every),
        "exact_match": sum(every) / max(1, len(every)),
        "by_kind": {kind: sum(hits) / len(hits) for kind, hits in sorted(right.items())},
        "agreement": _tally(model, rows).agreement(),
    }


@torch.inference_mode()
def _tally(model: Model, rows: Sequence[Row]) -> Tally:
    device, after, tally = device_of(model), default_positions(len(model.blocks)), Tally()
    for batch in batches_of(rows, BATCH_TOKENS, seed=0):
        tokens_RT = padded([row.ids for row in batch], device)
        counts_RT = torch.zeros_like(tokens_RT, dtype=torch.bool)
        for counts_T, row in zip(counts_RT, batch, strict=True):
            counts_T[row.begin : len(row)] = True
        read = _readings(model, tokens_RT[:, :-1], after)
        counts_RT = counts_RT[:, 1:]
        chosen = {name: x_RTD[counts_RT] for name, x_RTD in read.items()}
        tally.add(model, chosen, tokens_RT[:, 1:][counts_RT])
    return tally


def _readings(model: Model, inputs_RT: Tensor, after: tuple[int, ...]) -> dict[str, Tensor]:
    hidden = model.hidden_states(inputs_RT)
    plain, bridged = (readings(model, hidden, after, last_block) for last_block in (False, True))
    names = [str(position) for position in after]
    pairs = zip([*names, *(f"{name}+last_block" for name in names)], [*plain, *bridged], strict=True)
    return {FULL: hidden[-1], **dict(pairs)}


def _items(path: Path, count: int | None) -> list[dict[str, Any]]:
    """All objects of a .jsonl file, or `count` of them, evenly spread."""
    items = [item for _, item in read_jsonl(path)]
    return items if count is None else items[:: max(1, len(items) // count)][:count]


def _document(model: Model, encode: Encode, text: str) -> list[int]:
    """The text's ids after the id that begins a document, where the model has one."""
    ids, bos = encode(text), model.config.bos_token_id
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def _continuation(model: Model, encode: Encode, text: str) -> list[int]:
    """The text's ids alone, whatever the tokenizer puts before them."""
    return _document(model, encode, text)[model.config.bos_token_id is not None :]


def _code_rows(ids: list[int], model: Model) -> list[Row]:
    """Windows that share one id, the last target of one being the first input of the next."""
    length = min(model.config.context_length, LONGEST)
    return [Row(ids[at : at + length + 1], 1) for at in range(0, len(ids) - 1, length)]


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return " ".join(lines[0].split()) if lines else ""
