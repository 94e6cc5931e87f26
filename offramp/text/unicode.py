"""Python's strings hold more than Unicode: half a surrogate pair, which no tokenizer takes and no file can hold."""

from __future__ import annotations


def broken_at(text: str) -> str:
    """Where `text` has half a surrogate pair, in words; "" where it has none.

    Python makes one of a byte that is not UTF-8, and of an escape such as \\\\ud800 in JSON.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        at = error.start
        return f"character {at + 1} is U+{ord(text[at]):04X}, half of a surrogate pair"
    return ""
