"""Text that arrives token by token is the text of all tokens, wherever their borders fall."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from offramp.errors import CheckpointError, UsageError
from offramp.text import Detokenizer, StopStrings, Text, TextStream

GPT_NEOX = Path(__file__).parents[1] / "../shared/data/tokenizers/gpt-neox-20b"
SAMPLE = ["def fib(n):\n    return n", "naïve café, 世界, привет", "a 🙂 b", "hello hello world world"]


def byte_level() -> Tokenizer:
    """GPT-2's kind: any text in 300 tokens, so most characters beyond ASCII take several."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLE, trainer)
    return tokenizer


def llama(decoder: decoders.Decoder | None = None) -> Tokenizer:
    """Llama's kind: words begin with ▁, characters without a token of their own are spelt in bytes."""
    words = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "▁▁", "▁hello", "hello", "w", "orld", "▁w", "é", "<0x", "0A>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoder or decoders.Sequence(steps)
    return tokenizer


def gpt_neox() -> Tokenizer:
    if not GPT_NEOX.is_dir():
        pytest.skip("gpt-neox's tokenizer is not there (../shared/data beside the checkout)")
    return Tokenizer.from_file(str(GPT_NEOX / "tokenizer.json"))


KINDS = {
    "byte-level": byte_level,
    "byte-fallback": llama,
    "metaspace": lambda: llama(decoders.Metaspace()),
    "metaspace-never": lambda: llama(decoders.Metaspace(prepend_scheme="never")),
    "no-decoder": lambda: Tokenizer(models.WordLevel({"a": 0, "b": 1, "é": 2}, unk_token="a")),
    "gpt-neox": gpt_neox,
}


@pytest.fixture(scope="module", params=KINDS)
def text(request: pytest.FixtureRequest) -> Text:
    return Text(KINDS[request.param]())


@pytest.fixture(scope="module", params=["byte-level", "gpt-neox"])
def lossless_text(request: pytest.FixtureRequest) -> Text:
    return Text(KINDS[request.param]())


def streamed(text: Text, ids: Iterable[int], continues: bool = False) -> str:
    detokenizer = Detokenizer(text.pieces, continues)
    return "".join([detokenizer.push(token) for token in ids]) + detokenizer.flush()


def drawn_ids(data: st.DataObject, text: Text) -> list[int]:
    """Random tokens: mostly broken characters, and some ids beyond the vocabulary (models pad theirs)."""
    return data.draw(st.lists(st.integers(0, text.tokenizer.get_vocab_size() + 3), max_size=30))


@given(data=st.data())
def test_any_tokens_stream_to_their_text(text: Text, data: st.DataObject) -> None:
    ids = drawn_ids(data, text)
    whole = text.tokenizer.decode(ids)
    if text.pieces.fallback and "\ufffd" in whole:  # decode then gives up a whole run of byte tokens
        assert "\ufffd" in streamed(text, ids)
    else:
        assert streamed(text, ids) == text.decode(ids) == whole


@given(written=st.text(max_size=40))
def test_any_text_comes_back(lossless_text: Text, written: str) -> None:
    ids = lossless_text.tokenizer.encode(written, add_special_tokens=False).ids
    assert streamed(lossless_text, ids) in (written, unicodedata.normalize("NFC", written))


@pytest.fixture(scope="module")
def whole_tokens(text: Text) -> list[int]:
    """Tokens that begin and end with a character, so that a text may be cut between any two of them."""
    ids = [
        i for i in range(text.tokenizer.get_vocab_size()) if text.pieces.bytes_of(i, first=True) is not None
    ]
    return [i for i in ids if "\ufffd" not in text.decode([i])]


@given(data=st.data())
def test_a_reply_continues_its_prompt(text: Text, whole_tokens: list[int], data: st.DataObject) -> None:
    """The space before a reply's first word is part of the reply."""
    ids = data.draw(st.lists(st.sampled_from(whole_tokens), min_size=2, max_size=12))
    cut = data.draw(st.integers(1, len(ids) - 1))
    if text.decode(ids[:1]) != "":  # a stripped space is nothing yet for a reply to continue
        assert text.decode(ids[:cut]) + streamed(text, ids[cut:], continues=True) == text.decode(ids)


def test_half_a_character_is_held_back() -> None:
    text = Text(byte_level())
    detokenizer = Detokenizer(text.pieces)
    ids = text.encode("語")
    assert len(ids) > 1
    assert [detokenizer.push(token) for token in ids] == [""] * (len(ids) - 1) + ["語"]


def test_a_copied_stream_goes_its_own_way() -> None:
    text = Text(byte_level())
    first, *rest = text.encode("語")
    stream = TextStream(text)
    stream.push(first)
    twin = stream.copy()
    assert "".join([twin.push(token).text for token in rest]) == "語"
    assert stream.finish() == "\ufffd"


STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def cut(stops: Iterable[str], pieces: Iterable[str]) -> tuple[str, bool]:
    """The text and whether it was stopped, for one way of cutting it into pieces."""
    watcher, shown = StopStrings(tuple(stops)), ""
    for piece in pieces:
        safe, hit = watcher.push(piece)
        shown += safe
        if hit:
            return shown, True
    return shown + watcher.flush(), False


@given(stops=STOPS, pieces=st.lists(st.text("ab\n", max_size=4), max_size=12))
def test_stop_strings_do_not_depend_on_token_borders(stops: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)
    shown, hit = cut(stops, pieces)
    assert (shown, hit) == cut(stops, whole) == cut(stops, [whole])
    assert hit == any(stop in whole for stop in stops)
    assert whole.startswith(shown) and not any(stop in shown for stop in stops)


def test_only_a_possible_beginning_is_held_back() -> None:
    stops = StopStrings(("\n\n", "END"))
    assert stops.push("one E") == ("one ", False)
    assert stops.push("x\n") == ("Ex", False)
    assert stops.push("\nEND") == ("", True)


def test_an_empty_stop_string_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="stop string is empty"):
        StopStrings(("a", ""))


def save(folder: Path, tokenizer: Tokenizer, **config: object) -> Text:
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Text.load(folder)


def test_begin_of_sequence_is_added_as_the_config_says(tmp_path: Path) -> None:
    bare, templated = llama(), llama()
    templated.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    begins = [
        save(tmp_path, tokenizer, bos_token="<s>", **config).encode("hello")[0] == 1
        for tokenizer in (bare, templated)
        for config in ({}, {"add_bos_token": True}, {"add_bos_token": False})
    ]
    assert begins == [False, True, False, True, True, False]


def test_begin_of_sequence_is_never_doubled(tmp_path: Path) -> None:
    """Chat templates write it themselves."""
    text = save(tmp_path, llama(), bos_token={"content": "<s>"}, add_bos_token=True)
    assert text.encode("<s>hello") == text.encode("hello")


def test_chat_uses_the_folder_s_template(tmp_path: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | tojson }}\n{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template)
    text = save(tmp_path, llama(), bos_token="<s>", chat_template="never read")
    assert text.chat([{"role": "user", "content": "<é>"}]) == '<s>[user] "<é>"\n'


def test_a_template_of_several_is_the_default_one(tmp_path: Path) -> None:
    templates = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
    assert save(tmp_path, llama(), chat_template=templates).chat([]) == "d"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('only users') }}", "only users"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% for %}", "does not accept"),
        ("{{ 1/0 }}", "template fails on these messages: ZeroDivisionError"),
        ("{{ messages + 1 }}", "TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("(" * 300_000, "300,000 characters"),
        ([1], "no chat template"),
        ([{"name": "default"}], "no chat template"),
        (None, "no chat template"),
    ],
)
def test_a_template_that_fails_says_so(tmp_path: Path, template: object, said: str) -> None:
    text = save(tmp_path, llama(), **({"chat_template": template} if template else {}))
    with pytest.raises(UsageError, match=said):
        text.chat([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ('{{ "a" * 8000000000 }}', "too large"),
        ('{{ 8000000000 * "a" }}', "too large"),
        ("{{ messages * 8000000000 }}", "too large"),
        ("{{ 9 ** 99999999999 }}", "too large"),
        (
            "{% set ns = namespace(x=9) %}{% for i in range(40) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
            "too large",
        ),
        (
            '{% set ns = namespace(x="a") %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}',
            "too large",
        ),
        ("{{ '%8000000000d' % 1 }}", "too large"),
        ("{{ '%*d' % (8000000000, 1) }}", "too large"),
        ("{% for i in range(10 ** 12) %}{% endfor %}", "more than 100,000 numbers"),
        (
            "{% for i in range(999) %}{% for j in range(999) %}{% endfor %}{% endfor %}",
            "more than 100,000 numbers",
        ),
        ('{% set x = "a" * 999999 %}{{ x }}{{ x }}', "more than 1,000,000 characters"),
    ],
)
def test_a_template_cannot_ask_for_everything(tmp_path: Path, template: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        save(tmp_path, llama(), chat_template=template).chat([{"role": "user", "content": "hi"}])


def test_what_real_templates_calculate_is_allowed(tmp_path: Path) -> None:
    template = (
        "{{ '-' * 3 }}{{ 2 ** 3 + 7 % 4 }}{{ '%s, %02d' % ('a', 7) }}{{ [1] + [2] }}{{ range(2) | list }}"
    )
    assert save(tmp_path, llama(), chat_template=template).chat([]) == "---11a, 07[1, 2][0, 1]"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", b"[1, 2]"),
        ("tokenizer_config.json", b"[" * 200_000),
        ("tokenizer_config.json", b"\xff"),
        ("chat_template.jinja", b"\xff"),
    ],
)
def test_a_damaged_file_beside_the_tokenizer_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    save(tmp_path, llama())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        Text.load(tmp_path)


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(UsageError, match=r"character 2 is U\+DCFF"):
        Text(byte_level()).encode("a\udcff")


def test_a_folder_without_a_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json.*save_pretrained"):
        Text.load(tmp_path)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as a tokenizer"):
        Text.load(tmp_path)


def test_a_decoder_we_do_not_know_is_refused() -> None:
    tokenizer = llama(decoders.WordPiece())
    with pytest.raises(CheckpointError, match="not supported.*WordPiece"):
        Text(tokenizer)
