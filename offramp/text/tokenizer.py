"""A checkpoint's tokenizer: text <-> token ids, as its folder says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from offramp.errors import CheckpointError, UsageError
from offramp.files import SMALL, read_json, read_text
from offramp.text.chat import Message, render
from offramp.text.detokenizer import Detokenizer
from offramp.text.pieces import Pieces
from offramp.text.unicode import broken_at

CONFIG_BYTES = 1 << 26
"""A limit for tokenizer_config.json: those of old describe every added token."""


class Text:
    """`tokenizer` and what tokenizer_config.json says of it. `Text.load(folder)` reads both."""

    def __init__(self, tokenizer: Tokenizer, config: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = dict(config or {})
        self.pieces = Pieces.of(tokenizer)
        self.bos_id = self._id_of("bos_token")
        self.eos_id = self._id_of("eos_token")
        self._adds_bos = self._decide_bos()

    @classmethod
    def load(cls, folder: Path) -> Text:
        """Raises CheckpointError when tokenizer.json is missing, or it or a file beside it is damaged."""
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise CheckpointError(
                f"{folder} has no tokenizer.json. transformers writes one: "
                "AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
            )
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{file} cannot be read as a tokenizer: {error}") from error
        said, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        config = read_json(said, CONFIG_BYTES, CheckpointError) if said.exists() else {}
        if template.exists():
            config["chat_template"] = read_text(template, SMALL, CheckpointError)
        return cls(tokenizer, config)

    def encode(self, text: str) -> list[int]:
        """Token ids, led by the begin-of-sequence token where the tokenizer adds it and the text has none.

        Raises UsageError for a text with half a surrogate pair, which is no Unicode.
        """
        if where := broken_at(text):
            raise UsageError(f"the prompt is not valid Unicode: {where}; give it as UTF-8.")
        ids = list(self.tokenizer.encode(text, add_special_tokens=False).ids)
        if self._adds_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            return [self.bos_id, *ids]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of whole sequences of ids, special tokens left out."""
        detokenizer = Detokenizer(self.pieces)
        return "".join([detokenizer.push(token) for token in ids]) + detokenizer.flush()

    def chat(self, messages: Sequence[Message]) -> str:
        """The prompt that the checkpoint's chat template makes of `messages`.

        Raises UsageError where there is none, or it fails on them.
        """
        template = self.config.get("chat_template")
        if isinstance(template, list):  # several, by name
            named = [item for item in template if isinstance(item, dict)]
            template = next((item.get("template") for item in named if item.get("name") == "default"), None)
        if not isinstance(template, str):
            raise UsageError("this checkpoint has no chat template: give the whole prompt, without --chat.")
        return render(template, messages, self._special_tokens())

    def _special_tokens(self) -> dict[str, str]:
        """`bos_token`, `eos_token` and the others, each written as its text or as an object holding it."""
        found = {name: value for name, value in self.config.items() if name.endswith("_token")}
        texts = {
            name: value.get("content") if isinstance(value, dict) else value for name, value in found.items()
        }
        return {name: text for name, text in texts.items() if isinstance(text, str)}

    def _id_of(self, name: str) -> int | None:
        token = self._special_tokens().get(name)
        return None if token is None else self.tokenizer.token_to_id(token)

    def _decide_bos(self) -> bool:
        """The config's word counts; without one, what the tokenizer itself puts before an empty text."""
        said = self.config.get("add_bos_token")
        if said is not None:
            return bool(said)
        return self.bos_id is not None and self.tokenizer.encode("").ids[:1] == [self.bos_id]
