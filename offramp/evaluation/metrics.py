"""Numbers of finished generations: depth, true work."""

from __future__ import annotations

from collections.abc import Iterable

from offramp.engine.reply import Generation


def mean_depth(generations: Iterable[Generation]) -> float:
    """Blocks behind a token's choice, mean over all tokens."""
    depths = [event.depth for generation in generations for event in generation.events if event.token >= 0]
    return sum(depths) / len(depths) if depths else 0.0


def blocks_skipped(generations: Iterable[Generation], num_blocks: int) -> float:
    """The share of (block, token) pairs never computed: full depth is 0. Rejected drafts make it negative.

    Not the same as depth: a bridge may run the last block; `verify` and `defer` compute later what was left.
    """
    done, full = _work(generations, num_blocks)
    return 1.0 - sum(g.stats.block_tokens for g in done) / full if full else 0.0


def weight_reads(generations: Iterable[Generation], num_blocks: int) -> float:
    """Times a block's weights were read, as a share of full depth's: a chunk of tokens reads them once."""
    done, full = _work(generations, num_blocks)
    return sum(g.stats.block_passes for g in done) / full if full else 1.0


def _work(generations: Iterable[Generation], num_blocks: int) -> tuple[list[Generation], int]:
    """The generations, and the (block, token) pairs at full depth. The first token of each comes from the
    prompt's own pass, which stats leave out."""
    done = list(generations)
    return done, num_blocks * sum(max(len(g.tokens) - 1, 0) for g in done)


def drafted_share(generations: Iterable[Generation]) -> float:
    """The share of tokens that an exit drafted and the last segment accepted."""
    drafted = [event.drafted for g in generations for event in g.events if event.token >= 0]
    return sum(drafted) / len(drafted) if drafted else 0.0


def accepted_share(generations: Iterable[Generation]) -> float | None:
    """The share of drafts that were accepted; None without drafts."""
    done = list(generations)
    drafts = sum(g.stats.drafts for g in done)
    return sum(g.stats.accepted for g in done) / drafts if drafts else None
