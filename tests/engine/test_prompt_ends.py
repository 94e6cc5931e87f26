"""Of a prompt only the last token comes out of the last block, and only it meets the head."""

from __future__ import annotations

import pytest
import torch
from random_models import CONTEXT, VOCAB, Tiny, tiny
from torch import Tensor, nn

from offramp.engine.frontier import Frontier
from offramp.models.base import Block

KINDS = ["llama", "mistral", "gpt2", "gpt_neox", "mamba", "mamba2", "bamba"]
PROMPT = [(7 * i + 3) % VOCAB for i in range(60)]


@pytest.fixture(params=KINDS)
def setup(request: pytest.FixtureRequest) -> Tiny:
    return tiny(request.param)


def _frontier(setup: Tiny) -> Frontier:
    frontier = setup.engine().frontier
    frontier.reset(0)
    return frontier


def _outputs_seen(module: nn.Module) -> list[int]:
    """How many tokens each call of the module gives, from now on."""
    seen: list[int] = []

    def note(module: nn.Module, given: object, made: Tensor) -> None:
        seen.append(made.shape[1])

    module.register_forward_hook(note)
    return seen


def _out(block: nn.Module) -> nn.Module:
    """A block's last linear map."""
    assert isinstance(block, Block)
    return [module for module in block.modules() if isinstance(module, nn.Linear)][-1]


@torch.inference_mode()
def test_the_logits_are_the_whole_model_s(setup: Tiny) -> None:
    """In one cell, and in two; of the first of two nobody asks for logits."""
    expected_V = setup.model(torch.tensor([PROMPT]))[0, -1].float()
    frontier = _frontier(setup)
    torch.testing.assert_close(frontier.prefill(0, PROMPT), expected_V, rtol=1e-4, atol=1e-4)
    frontier.reset(0)
    assert len(frontier.prefill(0, PROMPT[:33], more=True)) == 0
    torch.testing.assert_close(frontier.prefill(0, PROMPT[33:]), expected_V, rtol=1e-4, atol=1e-4)
    assert all(part.state.next_position(0) == len(PROMPT) for part in frontier.settled)


@torch.inference_mode()
def test_one_token_comes_out_of_the_last_block(setup: Tiny) -> None:
    frontier = _frontier(setup)
    before, last = (_outputs_seen(_out(setup.model.blocks[i])) for i in (-2, -1))
    frontier.prefill(0, PROMPT[:40], more=True)
    frontier.prefill(0, PROMPT[40:])
    assert before == [40, 20]
    assert last in ([1], [0, 1])  # a Mamba's map may be asked for none
    assert len(PROMPT) < CONTEXT
