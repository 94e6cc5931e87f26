"""llama2.c's tokenizer.bin -> tokenizer.json, which encodes and decodes as run.c does.

The file: the longest token's length (int32), then of every token its score (float32), its length (int32) and its
bytes. Spaces are written as such. run.c puts one before the text, spells characters without a token in bytes,
and joins the neighbours that make the token of the highest score, the leftmost first. (What differs: `<s>`,
`</s>` and `<unk>` in a text are those tokens here, as in all of Hugging Face's tokenizers.)
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from offramp.errors import CheckpointError
from offramp.models.rawconfig import LARGEST

ENTRY = struct.Struct("<fi")
LIMIT = 64 << 20
"""Bytes of the file; that of Llama 2 has some 400 thousand."""
LONGEST = 256
"""Bytes of a token: each is tried as the place where two others meet, which takes the square of a long one's time."""
SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NEVER = -1e10
"""run.c joins nothing of so low a score."""

Token = tuple[str, float]
"""Its text and its score."""


def files(path: Path, vocab: int) -> dict[str, str]:
    """tokenizer.json and tokenizer_config.json for a model of `vocab` tokens.

    Raises CheckpointError for a file that is damaged or belongs to another model.
    """
    tokens = _tokens(path, vocab)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": SPECIAL[0],
        "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
        "add_bos_token": True,
        "clean_up_tokenization_spaces": False,
    }
    said = json.dumps(config, indent=2) + "\n"
    return {"tokenizer.json": _tokenizer(tokens).to_str(pretty=True) + "\n", "tokenizer_config.json": said}


def _tokenizer(tokens: list[Token]) -> Tokenizer:
    ids = {text: i for i, (text, _) in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(ids, _merges(tokens), unk_token=SPECIAL[0], byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[1]} $A", special_tokens=[(SPECIAL[1], 1)]
    )
    steps = [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges(tokens: list[Token]) -> list[tuple[str, str]]:
    """Every pair of tokens that makes a third, the highest score first, then the lowest id."""
    texts = {text for text, _ in tokens[len(SPECIAL) :]}
    ranked = sorted(range(len(SPECIAL), len(tokens)), key=lambda i: (-tokens[i][1], i))
    joined = [tokens[i][0] for i in ranked if tokens[i][1] > NEVER]
    pairs = ((text[:cut], text[cut:]) for text in joined for cut in range(1, len(text)))
    return [pair for pair in pairs if texts.issuperset(pair)]


def _tokens(path: Path, vocab: int) -> list[Token]:
    """Texts and scores, checked. The first three get Hugging Face's names."""
    if not path.is_file() or path.stat().st_size > LIMIT:
        raise CheckpointError(f"{path} is no regular file of at most {LIMIT:,} bytes, as a tokenizer.bin is")
    raw = path.read_bytes()
    found = list(islice(_entries(raw, path), LARGEST))
    if len(found) != vocab:
        raise CheckpointError(f"{path} has {len(found):,} tokens and the model {vocab:,}: they are no pair")
    texts = [text for text, _ in found]
    if texts[3:259] != BYTES:
        raise CheckpointError(f"{path}: tokens 3 to 258 are not <0x00> to <0xFF>, as llama2.c has them")
    texts[:3] = SPECIAL
    if twice := len(texts) - len(set(texts)):
        raise CheckpointError(f"{path}: {twice} of its tokens are there twice")
    return [(text, score) for text, (_, score) in zip(texts, found, strict=True)]


def _entries(raw: bytes, path: Path) -> Iterator[Token]:
    at = 4  # the longest token's length, which only C needs
    while at < len(raw):
        end = at + ENTRY.size
        score, length = ENTRY.unpack(raw[at:end]) if end <= len(raw) else (math.nan, 0)
        if not math.isfinite(score) or not 1 <= length <= len(raw) - end:
            raise CheckpointError(f"{path} is damaged or no tokenizer.bin of llama2.c: see its byte {at:,}")
        if length > LONGEST:
            raise CheckpointError(
                f"{path}: the token at byte {end:,} has {length:,} bytes, more than {LONGEST}"
            )
        at = end + length
        try:
            yield raw[end:at].decode(), score
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path}: the token at byte {end:,} is not UTF-8") from error
