"""The demo's numbers, from engines that say what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from offramp.engine.reply import Generation, Stats, TokenEvent
from offramp.engine.request import Request
from offramp.zoo.prompts import Prompt
from offramp.zoo.showcase.quality import quality, trial
from offramp.zoo.showcase.settings import CODE_TOKENS, FULL, SKIP, VERIFY, Task

BLOCKS = 4
QUESTION = Task(Prompt("facts", "Who?", " nobody", "test"), (1, 2))
CODE = Task(Prompt("code", "def f():", None, "test"), (3, 4))


@dataclass
class Parrot:
    """An engine that gives the same reply to everything."""

    text: str
    tokens: tuple[int, ...]
    depth: int
    asked: list[Request] = field(default_factory=list)

    def generate(self, request: Request) -> Generation:
        self.asked.append(request)
        events = tuple(
            TokenEvent(t, "", self.depth, None, False, 0.0, best=t, index=i)
            for i, t in enumerate(self.tokens)
        )
        work = Stats(tokens=len(self.tokens), block_tokens=self.depth * (len(self.tokens) - 1))
        return Generation(self.tokens, self.text, events, "eos", work)


def sevens(prompt: Sequence[int], tokens: Sequence[int]) -> int:
    """A full model that always chooses 7."""
    return sum(token == 7 for token in tokens)


def test_a_setting_is_summed_over_its_prompts() -> None:
    full = Parrot(" nobody\n", (7, 7), BLOCKS)
    wrong = Parrot(" somebody", (7, 8, 8, 8), 2)
    tasks = [QUESTION, CODE]
    baseline = [trial(full, task, task.request(FULL), sevens) for task in tasks]
    exact = quality(FULL, baseline, baseline, BLOCKS)
    assert (exact.agreement, exact.identical, exact.right, exact.skipped) == (1.0, 2, 1, 0.0)
    lossy = quality(
        SKIP, [trial(wrong, task, task.request(SKIP), sevens) for task in tasks], baseline, BLOCKS
    )
    assert (lossy.agreement, lossy.mean_depth, lossy.skipped) == (0.25, 2.0, 0.5)
    assert (lossy.identical, lossy.replies, lossy.right, lossy.answers) == (0, 2, 0, 1)


def test_loops_are_counted_by_reply() -> None:
    looping, fine = Parrot("", (5,) * 20, 2), Parrot("", tuple(range(20)), 2)
    trials = [trial(engine, CODE, CODE.request(SKIP), sevens) for engine in (looping, fine)]
    assert quality(SKIP, trials, trials, BLOCKS).loops == 0.5


def test_answers_end_with_their_line_and_code_does_not() -> None:
    assert QUESTION.request(VERIFY).stop == ("\n",)
    assert CODE.request(VERIFY).stop == () and CODE.request(VERIFY).max_tokens == CODE_TOKENS


def test_sampled_requests_differ_in_nothing_but_the_sampling() -> None:
    full, verify = CODE.sampled(FULL, (0.5,), 3), CODE.sampled(VERIFY, (0.5,), 3)
    assert full.sampling == verify.sampling
    assert (full.sampling.temperature, full.sampling.seed) == (0.8, 3)
