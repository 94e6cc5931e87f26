"""A model is data: `embed, blocks, norm, head`. It never owns the walk over its layers; the engine does.

Shapes: R rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from offramp.mixers.base import Mixer, State


@dataclass(frozen=True)
class ModelConfig:
    """What every family has in common. Families add their own fields in a frozen subclass."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_blocks: int
    context_length: int
    norm_eps: float
    tie_embeddings: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]


class Block(nn.Module):
    """norm -> mixer -> residual, then norm -> mlp -> residual where there is an MLP (Mamba blocks have none)."""

    def __init__(
        self, norm: nn.Module, mixer: Mixer, mlp_norm: nn.Module | None, mlp: nn.Module | None
    ) -> None:
        super().__init__()
        self.norm, self.mixer, self.mlp_norm, self.mlp = norm, mixer, mlp_norm, mlp

    def join(self, x_RTD: Tensor, mixed_RTD: Tensor) -> Tensor:
        """The residual stream after this block, of what it was before and of what the mixer gives."""
        x_RTD = x_RTD + mixed_RTD
        if self.mlp is None or self.mlp_norm is None:
            return x_RTD
        return x_RTD + self.mlp(self.mlp_norm(x_RTD))

    def forward(
        self,
        x_RTD: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        """The residual stream after this block; see `Mixer.forward` for the meaning of the state."""
        return self.join(x_RTD, self.mixer(self.norm(x_RTD), state, rows, n))

    def prefill(self, x_RTD: Tensor, state: State, rows: Sequence[int]) -> Tensor:
        return self.prefill_last(x_RTD, state, rows, x_RTD.shape[1])

    def prefill_last(self, x_RTD: Tensor, state: State, rows: Sequence[int], last: int) -> Tensor:
        """A prompt cell, of which what comes out of the last so many tokens `[R, last, D]` is wanted."""
        mixed_RTD = self.mixer.prefill_last(self.norm(x_RTD), state, rows, last)
        return self.join(x_RTD[:, x_RTD.shape[1] - last :], mixed_RTD) if last else mixed_RTD

    def advance(self, x_RTD: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        """Write the mixer's state from the block's own norm of x, skip everything else."""
        self.mixer.advance(self.norm(x_RTD), state, rows, n)


class Model(nn.Module):
    """`embed, blocks, norm, head`, any of them replaceable. `forward` is for training and oracles.

    origin: of quantised weights, the fingerprint of those they were made of.
    """

    origin: str | None = None

    def __init__(
        self, config: ModelConfig, embed: nn.Module, blocks: Sequence[Block], norm: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.config = config
        self.embed, self.blocks, self.norm, self.head = embed, nn.ModuleList(blocks), norm, head

    def logits(self, hidden_RTD: Tensor) -> Tensor:
        """Logits `[..., V]` of hidden states at any depth: the shared norm and head."""
        return self.head(self.norm(hidden_RTD))

    def hidden_states(self, tokens_RT: Tensor) -> list[Tensor]:
        """The residual stream `[R, T, D]` before the first block and after each: num_blocks + 1 tensors."""
        states = [self.embed(tokens_RT)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states

    def forward(self, tokens_RT: Tensor) -> Tensor:
        """Full-depth logits `[R, T, V]` of whole sequences."""
        x_RTD = self.embed(tokens_RT)
        for block in self.blocks:
            x_RTD = block(x_RTD)
        return self.logits(x_RTD)


def head_over(embed: nn.Embedding, config: ModelConfig) -> nn.Linear:
    """The map to the vocabulary, without bias; tied, its weight is the embedding's."""
    head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    if config.tie_embeddings:
        head.weight = embed.weight
    return head


class Family(ABC):
    """One architecture family: reads config.json, builds the model, names its tensors as the checkpoint does.

    `model_types` are the values of config.json's "model_type" that this family loads. `derived` are endings of
    tensors that checkpoints may hold though they follow from the config: they are not read. `prefix` begins names
    that a checkpoint of the model without its head may write without it. `block_counts`, `block_lists` and
    `block_numbers` are the fields of config.json that say how many blocks there are, have one item a block, or list
    blocks of one kind: what changes with the depth.
    """

    model_types: ClassVar[tuple[str, ...]]
    derived: ClassVar[tuple[str, ...]] = (".rotary_emb.inv_freq",)
    prefix: ClassVar[str] = ""
    block_counts: ClassVar[tuple[str, ...]] = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    block_lists: ClassVar[tuple[str, ...]] = ("layer_types",)
    block_numbers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def config_from(self, raw: dict[str, Any]) -> ModelConfig:
        """The family's config. Raises CheckpointError naming a feature of `raw` that is not supported."""

    @abstractmethod
    def config_to(self, config: Any) -> dict[str, Any]:
        """config.json as `transformers` reads it: what `config_from` reads back to an equal config."""

    @abstractmethod
    def build(self, config: Any) -> Model:
        """The model with uninitialised parameters, on the device the caller has made current."""

    @abstractmethod
    def weight_name(self, name: str) -> str:
        """The checkpoint's name of our parameter `name` ("blocks.3.mixer.q_proj.weight").

        Parameters that share a name are parts of one tensor there: see `join` and `split`.
        """

    def join(self, stored: str, parts: Sequence[Tensor], config: Any) -> Tensor:
        """The checkpoint's tensor `stored` from our parameters of that name, in the model's order."""
        (whole,) = parts
        return whole

    def split(self, stored: str, whole: Tensor, config: Any) -> Sequence[Tensor]:
        """Our parameters from the checkpoint's tensor: the inverse of `join`."""
        return [whole]
