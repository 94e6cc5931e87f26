"""GPT-2: learned positions, LayerNorm, and weights stored transposed, with queries, keys and values in one.

Shapes: R rows, T tokens of each, N tokens of all rows, packed, D width, C context length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from offramp.mixers.attention import Attention
from offramp.mixers.base import State
from offramp.models.base import Block, Family, Model, ModelConfig, head_over
from offramp.models.mlp import ACTIVATIONS, MLP
from offramp.models.rawconfig import head_sizes, one_of, positive_int, require, shared_fields, shared_json
from offramp.ops.norm import LayerNorm

OLDER = {
    "hidden_size": ("n_embd", 768),
    "num_hidden_layers": ("n_layer", 12),
    "num_attention_heads": ("n_head", 12),
    "max_position_embeddings": ("n_positions", 1024),
}
"""Our usual fields: GPT-2's names for them and what a file that leaves them out means."""


@dataclass(frozen=True)
class GPT2Config(ModelConfig):
    intermediate_size: int
    heads: int
    activation: str


class PlacedBlock(Block):
    """The first block: it adds what was learned for each position, which its mixer's state knows."""

    def __init__(self, positions: nn.Embedding, *parts: Any) -> None:
        super().__init__(*parts)
        self.positions = positions  # [C, D]

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        rows: Sequence[int] | None = None,
        n: Sequence[int] | None = None,
    ) -> Tensor:
        if state is None or rows is None or n is None:
            return super().forward(x + self._at(range(x.shape[1])))
        return super().forward(x + self._packed(len(x), state, rows, n), state, rows, n)

    def prefill_last(self, x_RTD: Tensor, state: State, rows: Sequence[int], last: int) -> Tensor:
        starts = [state.next_position(slot) for slot in rows]
        places_RTD = torch.stack([self._at(range(start, start + x_RTD.shape[1])) for start in starts])
        return super().prefill_last(x_RTD + places_RTD, state, rows, last)

    def advance(self, x_ND: Tensor, state: State, rows: Sequence[int], n: Sequence[int]) -> None:
        super().advance(x_ND + self._packed(len(x_ND), state, rows, n), state, rows, n)

    def _packed(self, tokens: int, state: State, rows: Sequence[int], n: Sequence[int]) -> Tensor:
        """`[N, D]`: those of each row's next n[i] positions; padding stands at the first position of all."""
        starts = [state.next_position(slot) for slot in rows]
        places = [start + t for start, count in zip(starts, n, strict=True) for t in range(count)]
        return self._at(places + [0] * (tokens - len(places)))

    def _at(self, places: Sequence[int]) -> Tensor:
        """Of what lies beyond the context, which only the self-test and rejected drafts reach, the last."""
        last = self.positions.num_embeddings - 1
        places_T = torch.tensor(places, device=self.positions.weight.device)
        return self.positions(places_T.clamp(max=last))


class GPT2(Family):
    model_types = ("gpt2",)
    derived = (".attn.bias", ".attn.masked_bias")
    prefix = "transformer."

    def config_from(self, raw: dict[str, Any]) -> GPT2Config:
        require(raw, "scale_attn_weights", True)
        require(raw, "scale_attn_by_inverse_layer_idx", False)
        require(raw, "add_cross_attention", False)
        raw = {ours: raw.get(theirs, default) for ours, (theirs, default) in OLDER.items()} | raw
        fields = {"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True} | raw
        sizes = head_sizes(raw | {"num_key_value_heads": None, "head_dim": None})
        context = positive_int(raw, "max_position_embeddings")
        return GPT2Config(
            **shared_fields(fields, "layer_norm_epsilon"),
            context_length=context,
            intermediate_size=positive_int(raw, "n_inner", 4 * positive_int(raw, "hidden_size")),
            heads=sizes["heads"],
            activation=one_of(raw, "activation_function", ACTIVATIONS, "gelu_new"),
        )

    def config_to(self, config: GPT2Config) -> dict[str, Any]:
        fields = shared_json(config, "layer_norm_epsilon") | {"num_attention_heads": config.heads}
        return {
            "architectures": ["GPT2LMHeadModel"],
            **{OLDER.get(key, (key,))[0]: value for key, value in fields.items()},
            "n_inner": config.intermediate_size,
            "activation_function": config.activation,
        }

    def build(self, config: GPT2Config) -> Model:
        width = config.hidden_size
        embed = nn.Embedding(config.vocab_size, width)
        positions = nn.Embedding(config.context_length, width)
        rest = [Block(*_parts(config)) for _ in range(config.num_blocks - 1)]
        blocks = [PlacedBlock(positions, *_parts(config)), *rest]
        return Model(config, embed, blocks, LayerNorm(width, config.norm_eps), head_over(embed, config))

    def weight_name(self, name: str) -> str:
        if name.startswith("head."):
            return name.replace("head.", "lm_head.", 1)
        for ours, theirs in _NAMES:
            name = name.replace(ours, theirs)
        return self.prefix + name

    def join(self, stored: str, parts: Sequence[Tensor], config: GPT2Config) -> Tensor:
        whole = torch.cat(list(parts)) if ".c_attn." in stored else super().join(stored, parts, config)
        return whole.T if _transposed(stored, whole) else whole

    def split(self, stored: str, whole: Tensor, config: GPT2Config) -> Sequence[Tensor]:
        whole = whole.T if _transposed(stored, whole) else whole
        return whole.chunk(3) if ".c_attn." in stored else super().split(stored, whole, config)


# In this order: the norms of a block before the last norm of the model.
_NAMES = (
    ("embed.", "wte."),
    ("blocks.0.positions.", "wpe."),
    ("blocks.", "h."),
    (".mixer.q_proj.", ".attn.c_attn."),
    (".mixer.k_proj.", ".attn.c_attn."),
    (".mixer.v_proj.", ".attn.c_attn."),
    (".mixer.o_proj.", ".attn.c_proj."),
    (".mlp.up_proj.", ".mlp.c_fc."),
    (".mlp.down_proj.", ".mlp.c_proj."),
    (".mlp_norm.", ".ln_2."),
    (".norm.", ".ln_1."),
    ("norm.", "ln_f."),
)


def _transposed(stored: str, whole: Tensor) -> bool:
    return ".c_" in stored and whole.dim() == 2


def _parts(config: GPT2Config) -> tuple[LayerNorm, Attention, LayerNorm, MLP]:
    width, eps = config.hidden_size, config.norm_eps
    mixer = Attention(width, config.heads, rope=None, qkv_bias=True, out_bias=True)
    mlp = MLP(width, config.intermediate_size, ACTIVATIONS[config.activation])
    return LayerNorm(width, eps), mixer, LayerNorm(width, eps), mlp
