"""Our engine: full depth, and every propagation, with drafts chosen from timings or fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from time import perf_counter

from offramp.bench.bound import MOST, Bound, bound, record
from offramp.bench.contender import Contender, Job, NotRun, Prompt, Turn
from offramp.bench.lots import Lots
from offramp.bench.running import begin, no_collector
from offramp.engine.engine import Engine
from offramp.engine.load import Checkpoint, load
from offramp.engine.reply import TokenEvent
from offramp.engine.request import Request, Sampling
from offramp.evaluation.cost import part_costs, run_cost
from offramp.forecast.turns import MAX_LEN, watch
from offramp.policies.base import ExitPolicy
from offramp.propagation.base import Propagation
from offramp.registry import find, names, unknown

FULL, AGAIN = "full", "full again"
"""Full depth, and the same once more: the control."""
EVERYTHING = "always"
"""The policy that drafts every token."""


@dataclass(frozen=True)
class Mode:
    """propagation: None is full depth. drafts: of a cycle; "auto" chooses them from timings."""

    propagation: str | None
    drafts: int | str = "auto"

    @classmethod
    def named(cls, name: str) -> Mode | None:
        """ "full", "verify", "defer/0": a propagation and its drafts; None for a name that is not ours."""
        propagation, slash, drafts = name.partition("/")
        if name in (FULL, AGAIN):
            return cls(None, 0)
        if propagation not in names("offramp.propagation") or (slash and not drafts.isdecimal()):
            return None
        return cls(propagation, int(drafts) if slash else "auto")


class Ours(Contender):
    """One mode of the engine, in the tier that pads nothing."""

    def __init__(self, job: Job) -> None:
        self.job, self.mode = job, _mode(job.engine)
        wanted = (job.exits, job.exits_at) if self.mode.propagation else ("none", None)
        self.checkpoint = load(job.folder, *wanted, dtype=job.dtype, device=job.device)
        self.engine = self._engine(self.mode.drafts)
        self.about = f"offramp {version('offramp')}"
        self.sample = self._request((0,))
        self.engine.admission.check(self.sample)
        self.costs = part_costs(self.checkpoint.model, self.checkpoint.exits or ())

    def _engine(self, drafts: int | str) -> Engine:
        checkpoint, job = self.checkpoint, self.job
        if self.mode.propagation and checkpoint.exits is None:
            raise NotRun("the model has no exits; `offramp train` makes them, --exits names others")
        return Engine(
            *(checkpoint.model, checkpoint.exits),
            slots=job.rows,
            max_len=job.max_len,
            tier="fast",
            drafts=drafts,
            prefix_memory=0,
        )

    def _request(self, prompt: Prompt, most: int | None = None) -> Request:
        policy, thresholds = self._rule()
        return Request(
            prompt,
            propagation=self.mode.propagation or "verify",
            policy=policy,
            thresholds=thresholds,
            run_max=MOST,
            sampling=_sampling(self.job),
            max_tokens=most or self.job.max_len - len(prompt),
            ignore_eos=True,
        )

    def _rule(self) -> tuple[str, tuple[float, ...]]:
        """The policy and its thresholds. Where agreement is forced, what leaves is drawn by lot too, or, where it is
        judged, everything."""
        if self.mode.propagation is None:
            return "never", (1.0,)
        if self.job.forced is not None:
            judged = find("offramp.propagation", self.mode.propagation, Propagation).judged
            return (EVERYTHING, (0.5,)) if judged else ("random", (1 - self.job.forced,))
        return self.job.policy, self.job.thresholds or _suggested(self.checkpoint, self.job.policy)

    def run(self, prompts: Sequence[Prompt]) -> Turn:
        engine = self.engine
        with no_collector():
            began = perf_counter()
            events = begin(engine, map(self._request, prompts))
            said = {number: [_sound(event).token] for number, event in events.items()}
            first = perf_counter()
            decoded = self._decode(said)
            end = perf_counter()
        stats = engine.frontier.stats[0]
        read = self._weight_bytes(decoded) if len(said) == 1 and stats else None
        for number in said:
            engine.cancel(number)
        return Turn(first - began, decoded, end - first, tuple(map(tuple, said.values())), read)

    def _decode(self, said: dict[int, list[int]]) -> int:
        """Until so many tokens are said, or a row can say no more."""
        decoded, wanted, ended = 0, self.job.tokens * len(said), False
        while decoded < wanted and not ended:
            for event in self.engine.step():
                said[event.request].append(_sound(event).token)
                decoded += 1
                ended |= event.finish is not None
        return decoded

    def _weight_bytes(self, tokens: int) -> float:
        """What the only row read for each token. The head's first pass was the prompt's."""
        stats = self.engine.frontier.stats[0]
        own = replace(stats, head_passes=stats.head_passes - 1, head_rows=stats.head_rows - 1)
        return run_cost(own, self.costs).weight_bytes / tokens

    def bound(self, prompts: Sequence[Prompt]) -> Bound | None:
        checkpoint, mode = self.checkpoint, self.mode
        if self.job.rows > 1 or not mode.propagation or checkpoint.exits is None:
            return None
        judged = find("offramp.propagation", mode.propagation, Propagation).judged
        if not judged or checkpoint.model.config.context_length < MAX_LEN:  # cycles need room to be timed
            return None
        engine = self._engine(MOST)
        requests = [self._request(prompt, self.job.tokens + 1) for prompt in prompts]
        always = [replace(request, policy=EVERYTHING, thresholds=(0.5,)) for request in requests]
        recorded = {asked[0].policy: record(engine, asked) for asked in (requests, always)}
        turns = watch(checkpoint.model, checkpoint.exits, 1)
        return bound(recorded, turns, _below(checkpoint))


def _mode(name: str) -> Mode:
    """Raises NotRun for a name that is not ours."""
    mode = Mode.named(name)
    if mode is None:
        raise NotRun(unknown("engine", name, [FULL, *names("offramp.propagation")]))
    return mode


def _sampling(job: Job) -> Sampling:
    return Sampling(job.temperature, processor=None if job.forced is None else Lots(job.forced))


def _suggested(checkpoint: Checkpoint, policy: str) -> tuple[float, ...]:
    suggested = checkpoint.info.thresholds if checkpoint.info else ()
    return find("offramp.policies", policy, ExitPolicy).default_thresholds(suggested)


def _sound(event: TokenEvent) -> TokenEvent:
    """Raises NotRun for logits that are no numbers."""
    if event.error:
        raise NotRun(event.error)
    return event


def _below(checkpoint: Checkpoint) -> float:
    """w: the first segment's share of the blocks' weights."""
    assert checkpoint.exits is not None
    sizes = [sum(weight.numel() for weight in block.parameters()) for block in checkpoint.model.blocks]
    return sum(sizes[: checkpoint.exits.after[0]]) / sum(sizes)
