"""`offramp.hf.generate` gives the tokens of `model.generate`, whatever gates say; sampling has its own noise."""

from __future__ import annotations

import gc
import weakref
from functools import cache
from threading import Thread
from typing import Any

import pytest
import tiny_hf as tiny
import torch
import transformers
from random_models import raw_config
from torch import Tensor
from transformers.generation import StoppingCriteria, StoppingCriteriaList, logits_process

from offramp.engine.reply import TokenEvent
from offramp.errors import CapacityError, CheckpointError, ExitsError, UsageError
from offramp.exits.info import ExitsInfo
from offramp.exits.store import save_exits
from offramp.hf import Decoder, EarlyExits, generate
from offramp.hf.refusals import refuse_processors
from offramp.hf.rows import Processors
from offramp.hf.weights import model_of
from offramp.models.families import model_types
from offramp.models.fingerprint import fingerprint

MODELS = list(tiny.CONFIGS)
GREEDY: dict[str, Any] = dict(max_new_tokens=18, do_sample=False)
PROCESSORS: dict[str, dict[str, Any]] = {
    "plain": {},
    "repetition": {"repetition_penalty": 1.5},
    "ngrams": {"no_repeat_ngram_size": 2},
    "suppressed": {"suppress_tokens": list(range(3, 33))},
    "bad words": {"bad_words_ids": [[i, j] for i in range(3, 61) for j in range(i % 2, 61, 2)]},
}


def early(events: list[TokenEvent] | None = None, **settings: Any) -> EarlyExits:
    """Random gates that let many tokens leave."""
    note = None if events is None else events.append
    return EarlyExits(tiny.exits(), **{"policy": "always", "run_max": 3, "on_event": note} | settings)


@cache
def theirs(model: str, processors: str) -> Tensor:
    """What transformers says, greedy."""
    return tiny.model(model).generate(tiny.prompts(), **GREEDY, **PROCESSORS[processors])


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny.model(request.param)


@pytest.mark.parametrize("model_type", model_types())
def test_every_family_at_full_depth(model_type: str) -> None:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**raw_config(model_type))
    found = transformers.AutoModelForCausalLM.from_config(config).eval()
    prompt, ends = torch.tensor([[3, 5, 7, 9]]), {"eos_token_id": None, "pad_token_id": 0}
    expected = found.generate(prompt, **GREEDY, **ends)
    assert torch.equal(generate(found, prompt, **GREEDY, **ends), expected)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("processors", PROCESSORS)
def test_verify_gives_their_greedy_text(name: str, processors: str) -> None:
    events: list[TokenEvent] = []
    found = generate(
        tiny.model(name), tiny.prompts(), early=early(events), **GREEDY, **PROCESSORS[processors]
    )
    assert torch.equal(found, theirs(name, processors))
    drafted = sum(event.drafted for event in events)
    assert 0 < drafted < len(events), "the sample must hold accepted drafts and tokens that went all the way"


@pytest.mark.parametrize("name", MODELS)
def test_other_gates_and_none(name: str) -> None:
    """No exits, exits that never fire, and gates that sometimes do."""
    for choice in (EarlyExits("none"), early(policy="never"), early(policy="gate")):
        found = generate(tiny.model(name), tiny.prompts(), early=choice, **GREEDY)
        assert torch.equal(found, theirs(name, "plain"))


@pytest.mark.parametrize("processors", [name for name in PROCESSORS if name != "plain"])
def test_processors_change_the_text(processors: str) -> None:
    """Of one model at least: otherwise the first test proves nothing."""
    assert not all(torch.equal(theirs(name, processors), theirs(name, "plain")) for name in MODELS)


def late_token(ids: list[int]) -> int:
    """One that is said first after some others, so that it can end the text in its middle."""
    return next(token for i, token in enumerate(ids) if i > 7 and token not in ids[:i])


def test_end_tokens_and_least_lengths(model: Any) -> None:
    plain = model.generate(tiny.prompts(), **GREEDY)[0].tolist()
    end, lengths = dict(eos_token_id=late_token(plain)), set[int]()
    for options in (end, end | {"min_length": 21}, end | {"min_new_tokens": 17}):
        expected = model.generate(tiny.prompts(), **GREEDY, **options)
        assert torch.equal(generate(model, tiny.prompts(), early=early(), **GREEDY, **options), expected)
        lengths.add(expected.shape[1])
    assert len(lengths) > 1 and min(lengths) < 21


def test_stop_strings(model: Any) -> None:
    tokenizer = tiny.tokenizer()
    plain = model.generate(tiny.prompts(), **GREEDY)[0]
    stop = tokenizer.decode(plain[12:14])
    options = GREEDY | {"stop_strings": [stop], "tokenizer": tokenizer}
    expected = model.generate(tiny.prompts(), **options)
    assert len(expected[0]) < len(plain)
    assert torch.equal(generate(model, tiny.prompts(), early=early(), **options), expected)
    with pytest.raises(UsageError, match="tokenizer"):
        generate(model, tiny.prompts(), **GREEDY, stop_strings=stop)


class Calls(StoppingCriteria):
    """Notes the lengths it was called with; ends at `end`."""

    def __init__(self, end: int) -> None:
        self.end, self.lengths = end, list[int]()

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.lengths.append(input_ids.shape[1])
        return torch.full((len(input_ids),), input_ids.shape[1] >= self.end)


def test_criteria_see_every_token_once() -> None:
    model = tiny.model("mamba2")
    ours, theirs = Calls(17), Calls(17)
    expected = model.generate(tiny.prompts(), **GREEDY, stopping_criteria=StoppingCriteriaList([theirs]))
    found = generate(
        model, tiny.prompts(), early=early(), **GREEDY, stopping_criteria=StoppingCriteriaList([ours])
    )
    assert torch.equal(found, expected) and ours.lengths == theirs.lengths == list(range(6, 18))


class Pieces(transformers.TextStreamer):
    def __init__(self, **options: Any) -> None:
        super().__init__(tiny.tokenizer(), **options)
        self.pieces: list[tuple[str, bool]] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.pieces.append((text, stream_end))


@pytest.mark.parametrize(("name", "skip_prompt"), [("mamba2", True), ("llama", False)])
def test_streamer(name: str, skip_prompt: bool) -> None:
    model = tiny.model(name)
    ours, theirs = Pieces(skip_prompt=skip_prompt), Pieces(skip_prompt=skip_prompt)
    model.generate(tiny.prompts(), **GREEDY, streamer=theirs)
    generate(model, tiny.prompts(), early=early(), **GREEDY, streamer=ours)
    assert ours.pieces == theirs.pieces and len(ours.pieces) == 19 + (not skip_prompt)


def test_iterator_streamer_in_a_thread() -> None:
    model, tokenizer = tiny.model("llama"), tiny.tokenizer()
    streamer = transformers.TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    options = GREEDY | {"early": early(), "streamer": streamer}
    thread = Thread(target=generate, args=(model, tiny.prompts()), kwargs=options)
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == tokenizer.decode(model.generate(tiny.prompts(), **GREEDY)[0, 5:])


def batch() -> dict[str, Tensor]:
    """Four prompts of 1, 3, 4 and 6 tokens, padded on the left."""
    ids = tiny.prompts(4, 6)
    mask = torch.tensor([[0] * (6 - n) + [1] * n for n in (1, 3, 4, 6)])
    return {"input_ids": ids.where(mask == 1, tiny.PAD), "attention_mask": mask}


@pytest.mark.parametrize(
    ("name", "slots", "processors"),
    [
        ("llama", None, {}),
        ("llama", 3, {"repetition_penalty": 1.5, "min_length": 9}),
        ("mamba2", 1, {"encoder_repetition_penalty": 0.7}),
        ("mamba2", None, {"repetition_penalty": 1.5, "encoder_no_repeat_ngram_size": 1}),
    ],
)
def test_batches_with_left_padding(name: str, slots: int | None, processors: dict[str, Any]) -> None:
    """Rows end at different lengths, and are filled up with the padding token."""
    model = tiny.model(name)
    free = model.generate(**batch(), **GREEDY, **processors)
    options = GREEDY | processors | {"eos_token_id": late_token(free[1].tolist())}
    expected = model.generate(**batch(), **options)
    assert options["eos_token_id"] in expected[1] and expected[1, -1] == tiny.PAD
    assert torch.equal(generate(model, **batch(), early=early(slots=slots), **options), expected)


def test_a_batch_of_any_size() -> None:
    """More rows than an engine's queue holds when nobody says."""
    model, options = tiny.model("llama"), GREEDY | {"max_new_tokens": 1}
    prompts = tiny.prompts().repeat(1030, 1)
    expected = model.generate(tiny.prompts(), **options)
    assert torch.equal(generate(model, prompts, early=early(slots=4), **options), expected.repeat(1030, 1))


def test_prefix_functions_know_the_row() -> None:
    """The function is told the row's place in the batch: even places may say even tokens only."""
    model, seen = tiny.model("llama"), set[int]()

    def allowed(place: int, ids: Tensor) -> list[int]:
        seen.add(place)
        return list(range(4 + place % 2, 60, 2))

    expected = model.generate(**batch(), **GREEDY, prefix_allowed_tokens_fn=allowed)
    found = generate(model, **batch(), early=early(), **GREEDY, prefix_allowed_tokens_fn=allowed)
    assert torch.equal(found, expected) and seen == {0, 1, 2, 3}


def test_sampling_is_repeatable_and_plain() -> None:
    """The same seed, the same text, whatever was drafted; `transformers.set_seed` is a seed too."""
    model, options = tiny.model("mamba2"), dict(max_new_tokens=16, do_sample=True, temperature=0.8, top_k=12)
    plain = generate(model, tiny.prompts(), early=EarlyExits("none", seed=4), **options)
    assert torch.equal(generate(model, tiny.prompts(), early=early(seed=4), **options), plain)
    assert not torch.equal(generate(model, tiny.prompts(), early=early(seed=5), **options), plain)
    seeded = []
    for choice in (early(), EarlyExits("none")):
        transformers.set_seed(11)
        seeded.append(generate(model, tiny.prompts(), early=choice, **options))
    assert torch.equal(*seeded)


def test_several_replies_of_one_prompt_differ() -> None:
    model, options = tiny.model("llama"), dict(max_new_tokens=8, do_sample=True, temperature=3.0)
    found = generate(model, tiny.prompts(), early=early(seed=4), num_return_sequences=3, **options)
    assert found.shape == (3, 13) and len({tuple(row.tolist()) for row in found}) == 3
    alone = generate(model, tiny.prompts(), early=early(seed=5), **options)
    assert torch.equal(found[1], alone[0]), "row i draws with seed + i"


def test_sampled_shares_follow_the_warped_distribution() -> None:
    """Chi-square over 200 first tokens; the 99.9 % point for 3 degrees of freedom is 16.3."""
    model, count = tiny.model("llama"), 200
    options = dict(do_sample=True, temperature=1.5, top_k=4, max_new_tokens=1)
    found = generate(
        model, tiny.prompts(), early=EarlyExits("none", seed=0), num_return_sequences=count, **options
    )
    likely = (model(tiny.prompts()).logits[0, -1] / 1.5).topk(4)
    seen = torch.tensor([(found[:, -1] == token).sum() for token in likely.indices])
    wanted = likely.values.softmax(-1) * count
    assert seen.sum() == count and ((seen - wanted) ** 2 / wanted).sum() < 16.3


def test_outputs_and_the_bare_callable() -> None:
    """`Decoder` works from their `generate` directly; return_dict_in_generate gives their own output class."""
    model = tiny.model("llama")
    found = model.generate(
        tiny.prompts(), custom_generate=Decoder(early()), return_dict_in_generate=True, **GREEDY
    )
    assert isinstance(found, transformers.generation.GenerateDecoderOnlyOutput)
    assert torch.equal(found.sequences, model.generate(tiny.prompts(), **GREEDY))


def test_lossy_propagations_run() -> None:
    events: list[TokenEvent] = []
    model = tiny.model("mamba2")
    found = generate(model, tiny.prompts(), early=early(events, propagation="project"), **GREEDY)
    assert found.shape == (1, 23) and {event.depth for event in events} == {1, 4}


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2},
        {"prompt_lookup_num_tokens": 3},
        {"output_scores": True, "return_dict_in_generate": True},
        {"output_attentions": True, "return_dict_in_generate": True},
        {"output_hidden_states": True, "return_dict_in_generate": True},
        {"guidance_scale": 2.0},
        {"assistant_model": "another"},
        {"past_key_values": transformers.DynamicCache()},
        {"position_ids": torch.arange(5)[None]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_not_supported_is_named(options: dict[str, Any]) -> None:
    name = next(iter(options))
    said = {"num_beams": "beam_search", "prompt_lookup_num_tokens": "assisted", "guidance_scale": "Guidance"}
    with pytest.raises(UsageError, match=said.get(name, name)):
        generate(tiny.model("llama"), tiny.prompts(), early=early(), **GREEDY, **options)


def test_a_cache_through_the_bare_callable_is_refused() -> None:
    with pytest.raises(UsageError, match="past_key_values"):
        cache = transformers.DynamicCache()
        tiny.model("llama").generate(
            tiny.prompts(), custom_generate=Decoder(), past_key_values=cache, **GREEDY
        )


def test_batches_that_cannot_be() -> None:
    model, ids = tiny.model("llama"), tiny.prompts(2)
    with pytest.raises(UsageError, match="pad on the left"):
        generate(model, ids, attention_mask=torch.tensor([[1, 1, 1, 1, 0], [1] * 5]), **GREEDY)
    with pytest.raises(UsageError, match="empty"):
        generate(model, ids, attention_mask=torch.tensor([[0] * 5, [1] * 5]), **GREEDY)
    with pytest.raises(CapacityError, match="context"):
        generate(model, tiny.prompts(1, tiny.CONTEXT), **GREEDY)


def test_rows_end_at_the_context() -> None:
    """Where transformers goes on beyond what the model knows."""
    found = generate(tiny.model("llama"), tiny.prompts(), max_new_tokens=200, eos_token_id=None)
    assert found.shape == (1, tiny.CONTEXT)


def test_weights_are_shared_and_followed() -> None:
    """Changes in place are heard, and parameters put in others' place; a dead model leaves nothing behind."""
    model = tiny.fresh("llama")
    assert model_of(model).head.get_parameter("weight") is model.lm_head.weight
    before = generate(model, tiny.prompts(), **GREEDY)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.roll(1, 0))
    after = generate(model, tiny.prompts(), **GREEDY)
    assert not torch.equal(before, after) and torch.equal(after, model.generate(tiny.prompts(), **GREEDY))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().roll(1, 0))
    assert torch.equal(generate(model, tiny.prompts(), **GREEDY), model.generate(tiny.prompts(), **GREEDY))
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


def test_kin_of_a_processor_is_treated_as_it_is() -> None:
    """What knows rows by their place sees the whole batch, and what remembers its calls is refused."""
    seen = list[torch.Size]()

    class Watched(logits_process.RepetitionPenaltyLogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            seen.append(input_ids.shape)
            return super().__call__(input_ids, scores)

    class Guided(logits_process.UnbatchedClassifierFreeGuidanceLogitsProcessor):
        pass

    Processors([Watched(1.5)], (0,), 1, 3)(torch.zeros(7), (4, 5))
    assert seen == [(3, 3)]
    with pytest.raises(UsageError, match="Guided is not supported"):
        refuse_processors([Guided(2.0, None)])


def test_tied_heads_share_one_tensor() -> None:
    config = tiny.CONFIGS["llama"]()
    config.tie_word_embeddings = True
    model = transformers.AutoModelForCausalLM.from_config(config)
    ours = model_of(model)
    assert ours.head.get_parameter("weight") is ours.embed.get_parameter("weight")


def test_fused_and_transposed_weights_are_followed_too() -> None:
    """GPT-2 keeps queries, keys and values in one tensor, the other way round."""
    config = transformers.GPT2Config(
        vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64, eos_token_id=2
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for _ in range(2):
        expected = model.generate(tiny.prompts(), **GREEDY, pad_token_id=1)
        assert torch.equal(generate(model, tiny.prompts(), **GREEDY, pad_token_id=1), expected)
        with torch.no_grad():
            model.transformer.h[1].attn.c_attn.weight.mul_(-3)
    assert not torch.equal(generate(model, tiny.prompts(), **GREEDY, pad_token_id=1), expected)


def test_models_that_cannot_be() -> None:
    half = tiny.fresh("llama").to(torch.float16)
    with pytest.raises(CheckpointError, match="float16"):
        generate(half, tiny.prompts(), **GREEDY)
    odd = tiny.fresh("llama")
    odd.model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="extra"):
        generate(odd, tiny.prompts(), **GREEDY)
    other = transformers.AutoModelForCausalLM.from_config(
        transformers.XLNetConfig(vocab_size=61, d_model=8, n_layer=1, n_head=1, d_inner=8)
    )
    with pytest.raises(CheckpointError, match="xlnet"):
        model_of(other)


def test_exits_from_a_folder(tmp_path: Any) -> None:
    """A folder's own thresholds are used; exits of another model are refused."""
    model, events = tiny.fresh("llama"), list[TokenEvent]()
    info = ExitsInfo("llama", fingerprint(model_of(model)), "exact", thresholds=(0.0, 0.0))
    save_exits(tiny.exits(), info, tmp_path / "exits")
    choice = EarlyExits(tmp_path / "exits", on_event=events.append)
    found = generate(model, tiny.prompts(), early=choice, **GREEDY)
    assert torch.equal(found, model.generate(tiny.prompts(), **GREEDY)) and any(e.drafted for e in events)
    with pytest.raises(ExitsError, match="another backbone"):
        generate(tiny.model("mamba2"), tiny.prompts(), early=EarlyExits(tmp_path / "exits"), **GREEDY)
    with pytest.raises(ExitsError, match="nothing-here"):
        generate(model, tiny.prompts(), early=EarlyExits("nothing-here"), **GREEDY)


def test_low_precision_runs() -> None:
    """bfloat16 weights, in their own arithmetic: no equality is promised, only tokens."""
    model = tiny.fresh("mamba2").to(torch.bfloat16)
    found = generate(model, tiny.prompts(), early=EarlyExits("none"), max_new_tokens=6)
    assert found.shape == (1, 11)
