"""Token id -> bytes: a tokenizer's decoder, taken apart so that it works one token at a time.

`Tokenizer.decode` sees a whole reply; decoding a reply again for every new token would cost its square. The
decoders of language models differ only in the alphabet of their tokens and in the space at the beginning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Tokenizer

from offramp.errors import CheckpointError

_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))

_BYTE_OF = {
    # GPT-2's alphabet: printable bytes stand for themselves, the others follow beyond 255 in order.
    **{chr(byte): byte for byte in _PRINTABLE},
    **{chr(256 + i): byte for i, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))},
}

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Pieces:
    """How this tokenizer writes its tokens.

    byte_level: in GPT-2's alphabet · fallback: `<0x0A>` is one byte · replacements: texts that stand for
    others · bare_first: what is taken out of a whole text's first token · strip: how many leading
    `strip_char` a whole text loses · between: what separates tokens · special: ids that are never shown.
    """

    tokenizer: Tokenizer
    special: frozenset[int] = frozenset()
    byte_level: bool = False
    fallback: bool = False
    replacements: tuple[tuple[str, str], ...] = ()
    bare_first: str = ""
    strip_char: str = " "
    strip: int = 0
    between: str = ""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Pieces:
        """Reads the tokenizer's decoder. Raises CheckpointError for one that language models do not use."""
        added = tokenizer.get_added_tokens_decoder()
        pieces = cls(tokenizer, special=frozenset(id for id, token in added.items() if token.special))
        if tokenizer.decoder is None:
            return replace(pieces, between=" ")
        for step in _steps(json.loads(tokenizer.decoder.__getstate__())):
            pieces = replace(pieces, **_meaning(step))
        return pieces

    def bytes_of(self, token: int, first: bool) -> bytes | None:
        """The token's part of the text; `first` says that no token before it had one.

        None for a special token, and for an id the tokenizer does not have: a model's vocabulary is often padded.
        """
        piece = None if token in self.special else self.tokenizer.id_to_token(token)
        if piece is None:
            return None
        if self.byte_level and all(char in _BYTE_OF for char in piece):
            return bytes([_BYTE_OF[char] for char in piece])
        if first and self.bare_first:
            piece = piece.replace(self.bare_first, "")
        for old, new in self.replacements:
            piece = piece.replace(old, new)
        byte = _BYTE_TOKEN.fullmatch(piece) if self.fallback else None
        if byte:
            return bytes([int(byte[1], 16)])
        return ("" if first else self.between).encode() + piece.encode()


def _steps(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A decoder's parts in order; most are a sequence of simpler ones."""
    if decoder["type"] == "Sequence":
        for part in decoder["decoders"]:
            yield from _steps(part)
    else:
        yield decoder


def _meaning(step: dict[str, Any]) -> dict[str, Any]:
    """What one part of a decoder says about the pieces."""
    match step:
        case {"type": "ByteLevel"}:
            return {"byte_level": True}
        case {"type": "ByteFallback"}:
            return {"fallback": True}
        case {"type": "Fuse"}:
            return {}
        case {"type": "Replace", "pattern": {"String": old}, "content": new}:
            return {"replacements": ((old, new),)}
        case {"type": "Metaspace", "replacement": space, "prepend_scheme": prepended}:
            return {"replacements": ((space, " "),), "bare_first": "" if prepended == "never" else space}
        case {"type": "Strip", "content": char, "start": start, "stop": 0}:
            return {"strip_char": char, "strip": start}
    raise CheckpointError(
        f"tokenizer.json has a decoder that is not supported: {json.dumps(step)}. "
        "Supported: ByteLevel, and sequences of Replace, ByteFallback, Metaspace, Fuse and a leading Strip."
    )
