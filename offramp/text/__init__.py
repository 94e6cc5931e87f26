"""Between strings and token ids. The engine speaks ids only; nothing here knows about models or torch."""

from offramp.text.detokenizer import Detokenizer
from offramp.text.stops import StopStrings
from offramp.text.stream import TextDelta, TextStream
from offramp.text.tokenizer import Text

__all__ = ["Detokenizer", "StopStrings", "Text", "TextDelta", "TextStream"]
