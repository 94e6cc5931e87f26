"""Whether a request can be served by an engine, and the row that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import cast
from weakref import WeakValueDictionary

from offramp.engine.controller import Odds
from offramp.engine.monitor import Monitor
from offramp.engine.promise import Facts, check_promise
from offramp.engine.queue import Waiting
from offramp.engine.reply import Stats
from offramp.engine.request import Request
from offramp.engine.row import Row
from offramp.errors import CapacityError, UsageError
from offramp.exits.base import Exit
from offramp.exits.positions import check_positions
from offramp.exits.untrained import abstain
from offramp.models.base import Block, Model
from offramp.policies.base import ExitPolicy
from offramp.propagation.base import Propagation
from offramp.registry import find, names
from offramp.text import Text, TextStream


@dataclass(frozen=True)
class Admission:
    """max_len: tokens that a slot holds. Rows that ask for one policy with the same thresholds share its object, and
    so are asked together; it goes with the last of them. monitor: what became of all rows' drafts."""

    model: Model
    exits: tuple[Exit, ...]
    text: Text | None
    max_len: int
    _policies: WeakValueDictionary[tuple[str, tuple[float, ...]], ExitPolicy] = field(
        default_factory=WeakValueDictionary
    )
    monitor: Monitor = field(default_factory=Monitor)

    def __post_init__(self) -> None:
        """Exits sit inside this model, and one that borrows the last block leaves something to skip."""
        if not self.exits:
            return
        blocks = self.model.config.num_blocks
        check_positions([exit.after for exit in self.exits], blocks)
        if self.exits[-1].bridge.borrows_last_block and self.exits[-1].after == blocks - 1:
            raise UsageError(
                f"the exit after block {blocks - 1} of {blocks} saves nothing: its bridge runs the last block."
            )

    def check(self, request: Request) -> None:
        """Raises UsageError for names, thresholds or tokens that do not fit, CapacityError for a request that never
        will."""
        self._propagation(request)
        self._policy(request)
        self._check_length(request)
        vocab = self.model.config.vocab_size
        strange = [token for token in (*request.prompt, *request.forced) if not 0 <= token < vocab]
        if strange:
            where = "prompt" if strange[0] in request.prompt else "forced"
            raise UsageError(
                f"{where} token {strange[0]} is outside the vocabulary: ids are 0 to {vocab - 1}."
            )
        if request.stop and self.text is None:
            raise UsageError("stop strings need a tokenizer: give the engine a Text.")
        if request.certificate is not None:
            judged = self._propagation(request).judged
            check_promise(request.certificate, request, self.facts, judged)
            if not judged:
                self._check_uncut(request)

    @cached_property
    def facts(self) -> Facts:
        """What certificates must speak of to be true here."""
        return Facts.of(self.model, self.exits)

    def _check_length(self, request: Request) -> None:
        needed = len(request.prompt) + max(1, len(request.forced))
        if needed <= self.max_len:
            return
        what = f"the prompt has {len(request.prompt)} tokens"
        if request.forced:
            what += f" and {len(request.forced)} are forced to follow"
        raise CapacityError(
            f"{what}; this engine's slots hold {self.max_len}, prompt and reply together (the model's context is "
            f"{self.model.config.context_length}). Shorten it or give the engine a larger max_len."
        )

    def _check_uncut(self, request: Request) -> None:
        """A certified reply has the room that it had when it was calibrated: the beginning of one loses more."""
        if (needed := len(request.prompt) + request.max_tokens) > self.max_len:
            raise CapacityError(
                f"prompt and reply may need {needed} tokens, and this engine's slots hold {self.max_len}: what was "
                f"certified does not hold for replies cut short. Give the engine a max_len of {needed}."
            )

    def _propagation(self, request: Request) -> Propagation:
        propagation = find("offramp.propagation", request.propagation, Propagation)()
        mixers = [cast(Block, block).mixer for block in self.model.blocks]
        propagation.check(mixers, [exit.after for exit in self.exits])
        return propagation

    def _policy(self, request: Request) -> ExitPolicy:
        policy = find("offramp.policies", request.policy, ExitPolicy)
        if policy.needs_gate and abstain(self.exits):
            raise UsageError(_no_gate(request.policy))
        given, wanted = request.thresholds, len(self.exits)
        if len(given) not in (1, wanted) and wanted:
            raise UsageError(f"{len(given)} thresholds for {wanted} exits; give one, or one for each.")
        thresholds = given * wanted if len(given) == 1 else given
        return self._policies.setdefault((request.policy, thresholds), policy(thresholds))

    def row(self, item: Waiting, slot: int, stats: Stats, odds: Odds) -> Row:
        """The row that a checked request becomes."""
        request = item.request
        policy = self._policy(request)
        endless = request.ignore_eos or request.forced
        return Row(
            id=item.number,
            request=request,
            slot=slot,
            propagation=self._propagation(request),
            policy=policy,
            stream=TextStream(self.text, request.stop) if self.text is not None else None,
            stats=stats,
            limit=self.max_len,
            eos=frozenset() if endless else frozenset(self.model.config.eos_token_ids),
            tokens=list(request.prompt),
            odds=odds,
            shared=item.shared,
            memory=policy.init_state(),
            watch=self.monitor.watch(request.certificate),
        )


def _no_gate(policy: str) -> str:
    """What is wrong with a policy that asks gates where there are none, and which would have worked."""
    package = "offramp.policies"
    others = [name for name in names(package) if not find(package, name, ExitPolicy).needs_gate]
    return (
        f"policy {policy} asks the exits' gates, and untrained exits have none. Policies that work with them: "
        f"{', '.join(others)}. `offramp train` trains gates."
    )


def check_counts(**counts: int) -> None:
    """Raises UsageError for one that is not at least 1."""
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be a count of at least 1.")
