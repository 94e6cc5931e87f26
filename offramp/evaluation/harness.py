"""Offramp as a model of lm-evaluation-harness: its tasks, our engine and exits. Needs the extra `offramp[harness]`.

Importing this registers the name: `simple_evaluate(model="offramp", model_args={"pretrained": FOLDER, ...})`.
Prompts are tokenized as the checkpoint says, with a token for the beginning where it wants one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from lm_eval.api.model import TemplateLM  # type: ignore[import-untyped]
from lm_eval.api.registry import register_model  # type: ignore[import-untyped]
from lm_eval.utils import simple_parse_args_string  # type: ignore[import-untyped]

from offramp.engine.engine import Engine
from offramp.engine.load import load
from offramp.engine.reply import Generation
from offramp.engine.request import Request, Sampling
from offramp.errors import UsageError
from offramp.evaluation.scoring import beginning, fitted, forced, rolling, score_full, scored
from offramp.evaluation.setting import FULL, Setting
from offramp.evaluation.tasks.base import Scored

MOST_TOKENS = 256
"""Of a reply where the task does not say: the harness's own."""


@dataclass
class Depths:
    """Where the tokens of all answers left, the first of each apart, which always comes from full depth."""

    tokens: int = 0
    blocks: int = 0
    left: int = 0

    def count(self, depths: Sequence[int], num_blocks: int) -> None:
        self.tokens += len(depths[1:])
        self.blocks += sum(depths[1:])
        self.left += sum(depth < num_blocks for depth in depths[1:])

    def said(self, num_blocks: int) -> dict[str, float]:
        """Mean depth in blocks, and the share of tokens that left."""
        if not self.tokens:
            return {"depth": float(num_blocks), "tokens_left": 0.0}
        return {"depth": self.blocks / self.tokens, "tokens_left": self.left / self.tokens}


@register_model("offramp")
class OfframpLM(TemplateLM):  # type: ignore[misc]
    """An engine, run as the setting says. A base class keeps `_rank` and the like, as the harness wants them."""

    def __init__(self, engine: Engine, setting: Setting = FULL) -> None:
        super().__init__()
        if engine.text is None:
            raise UsageError("the harness asks in words: this checkpoint has no tokenizer.json.")
        self.engine, self.setting, self.text = engine, setting, engine.text
        self.depths = Depths()

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> Self:
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> Self:
        """pretrained: a folder or hub id. Also exits, propagation, policy, threshold, run_max, slots, max_len, tier.

        Raises UsageError for anything else.
        """
        wanted = _Wanted.of(arg_dict)
        checkpoint = load(wanted.pretrained, wanted.exits)
        engine = Engine(
            *(checkpoint.model, checkpoint.exits, checkpoint.text),
            slots=wanted.slots,
            max_len=wanted.max_len,
            tier=wanted.tier,
        )
        return cls(engine, wanted.setting())

    @property
    def max_length(self) -> int:
        """Tokens that are read before one is scored."""
        return self.engine.max_len - 1

    @property
    def eot_token_id(self) -> int:
        return beginning(self.text)

    @property
    def tokenizer_name(self) -> str:
        return "offramp"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        return self.text.chat(chat_history)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        ids = self.text.encode(string)
        bare = add_special_tokens is False and ids[:1] == [self.text.bos_id]
        return ids[1:] if bare else ids

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: object) -> list[tuple[float, bool]]:
        pairs = [(fitted(context, self.engine.max_len - len(given)), given) for _, context, given in requests]
        found = [(text.total, text.greedy) for text in self._scored(pairs)]
        for (names, *_ids), answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", names, answer)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        found: list[float] = []
        for request in requests:
            [whole] = request.args
            windows = self._scored(list(rolling(self.text, whole, self.max_length)))
            found.append(sum(window.total for window in windows))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        found = [""] * len(requests)
        asked = [self._request(*request.args) for request in requests]
        for place, reply in self.engine.generate_each(asked):
            self._count(reply)
            found[place] = reply.text
            self.cache_hook.add_partial("generate_until", requests[place].args, reply.text)
        return found

    def _request(self, context: str, options: Mapping[str, Any]) -> Request:
        """What the harness asks of a prompt. Sampling is the setting's where the task does not sample itself."""
        until = options.get("until") or []
        stop = [until] if isinstance(until, str) else list(until)
        most = int(options.get("max_gen_toks", MOST_TOKENS))
        if not 0 < most < self.engine.max_len:
            raise UsageError(
                f"the task asks for {most} tokens; slots of {self.engine.max_len} leave no room for a prompt. Give a "
                f"larger max_len, or less with gen_kwargs: max_gen_toks={self.engine.max_len // 2}."
            )
        prompt = fitted(self.tok_encode(context) or [self.eot_token_id], self.engine.max_len - most)
        setting = replace(self.setting, sampling=_sampling(self.setting.sampling, options))
        return setting.request(prompt, most, [text for text in stop if text])

    def _scored(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        """The texts in their order. At full depth whole sequences are faster, and give the same numbers."""
        found = [Scored((), True)] * len(pairs)
        asked = [i for i, (_, given) in enumerate(pairs) if given]
        if not self.engine.exits:
            answers: Iterator[tuple[int, Scored]] = enumerate(
                score_full(self.engine.model, [pairs[i] for i in asked])
            )
        else:
            answers = self._forced([pairs[i] for i in asked])
        for place, answer in answers:
            found[asked[place]] = answer
        return found

    def _forced(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[tuple[int, Scored]]:
        for place, reply in self.engine.generate_each(forced(self.setting, *pair) for pair in pairs):
            self._count(reply)
            yield place, scored(reply)

    def _count(self, reply: Generation) -> None:
        depths = [event.depth for event in reply.events if event.token >= 0]
        self.depths.count(depths, len(self.engine.model.blocks))


def _sampling(own: Sampling, options: Mapping[str, Any]) -> Sampling:
    """The task's, where it says that it samples."""
    if not options.get("do_sample"):
        return own
    named = {name: options[name] for name in ("temperature", "top_k", "top_p", "min_p") if name in options}
    return replace(own, **({"temperature": 1.0} | named))


@dataclass(frozen=True)
class _Wanted:
    """The arguments by which the harness makes a model."""

    pretrained: str
    exits: str | None = None
    propagation: str = "verify"
    policy: str = "gate"
    threshold: float = 0.5
    run_max: int = 8
    slots: int = 8
    max_len: int | None = None
    tier: str = "exact"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        known = set(cls.__dataclass_fields__)
        strange = sorted(set(given) - known)
        if strange or "pretrained" not in given:
            wrong = f"{strange[0]} is none" if strange else "pretrained is missing"
            raise UsageError(f"{wrong}; model_args of offramp are {', '.join(sorted(known))}.")
        return cls(**given)

    def setting(self) -> Setting:
        return Setting(
            "harness", self.propagation, self.policy, (float(self.threshold),), run_max=int(self.run_max)
        )
