"""Token ids -> text, one at a time, never showing half a character."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

from offramp.text.pieces import Pieces


@dataclass
class Detokenizer:
    """Pushing tokens one by one gives the text of all of them in the end, each push in constant time.

    Bytes that may still become a character are held back; bytes that cannot become U+FFFD, as Unicode says.
    (`Tokenizer.decode` agrees, but for `<0xNN>` tokens: there one bad byte spoils its whole run of byte
    tokens, which a stream cannot know in time.)

    continues: the text follows a prompt, so the space at its beginning is part of it.
    Everything it remembers is immutable: `copy.copy` is a full copy.
    """

    pieces: Pieces
    continues: bool = False
    pending: bytes = b""
    first: bool = field(init=False)
    strip: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = not self.continues
        self.strip = 0 if self.continues else self.pieces.strip

    def push(self, token: int) -> str:
        """What is certain now and was not before; empty for a special token or half a character."""
        piece = self.pieces.bytes_of(token, self.first)
        if piece is None:
            return ""
        self.first = False
        text, used = codecs.utf_8_decode(self.pending + piece, "replace", False)
        self.pending = (self.pending + piece)[used:]
        return self._strip(text)

    def flush(self) -> str:
        """The text has ended: what is still held back is no character any more."""
        text, self.pending = self.pending.decode("utf-8", "replace"), b""
        return self._strip(text)

    def _strip(self, text: str) -> str:
        while self.strip and text:
            if not text.startswith(self.pieces.strip_char):
                self.strip = 0
                break
            text, self.strip = text[1:], self.strip - 1
        return text
