"""Random tiny models and requests: every architecture, gate, bridge and policy, drawn from a seed."""

from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor

from .exits import BlockBridge, Bridge, Exit, Gate, LastBlockBridge, LensBridge
from .layers import Linear, RMSNorm, SwiGLU
from .mixers import Attention, Mamba, Mamba2, Mixer
from .model import Block, Model
from .policies import Always, Average, ByGate, Confidence, Never, Patience, Policy, RandomByGate
from .request import Request, ends_with
from .sampling import Noise, Sampling, gumbel

D, V, GATE_WIDTH, CONTEXT = 16, 23, 8, 32
EOS, BAD = 0, V - 1
"""BAD is a token whose embedding is NaN: it can be drafted and chosen like any other, but not in a prompt."""

BACKBONES = ("attention", "mamba", "mamba2", "hybrid", "late")
GATES = ("linear", "attention", "mamba", "mamba2", "mamba2")
BRIDGES = ("none", "last_block", "lens", "block")
POLICIES = {
    "gate": ByGate,
    "random": RandomByGate,
    "confidence": Confidence,
    "average": Average,
    "patience": Patience,
}


@dataclass
class Weights:
    """A source of random modules. `mixers` can replace a class by a wrong one."""

    generator: torch.Generator
    rng: Random
    mixers: dict[str, type[Mixer]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key_groups = self.rng.choice([1, 2])

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64) * scale

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def linear(self, out: int, into: int, scale: float = 1.0, bias: bool = False) -> Linear:
        return Linear(
            self.normal(out, into, scale=scale * into**-0.5), self.normal(out, scale=0.1) if bias else None
        )

    def norm(self, width: int) -> RMSNorm:
        return RMSNorm(1 + self.normal(width, scale=0.1))

    def mixer(self, kind: str, width: int) -> Mixer:
        return getattr(self, f"_{kind}")(width)

    def _attention(self, width: int) -> Mixer:
        """Half have a sliding window. One number of key groups a model: copy_block needs it."""
        make, K, groups = self.mixers.get("attention", Attention), width // 2, self.key_groups
        q, k = self.linear(2 * K, width, 1.5), self.linear(groups * K, width, 1.5)
        v, o = self.linear(groups * K, width, 1.5), self.linear(width, 2 * K, 1.5)
        return make(q, k, v, o, head_dim=K, theta=100.0, window=self.rng.choice([None, 7]))

    def _mamba(self, width: int, N: int = 4, rank: int = 2) -> Mixer:
        make = self.mixers.get("mamba", Mamba)
        return make(
            in_proj=self.linear(2 * width, width),
            conv_weight=self.normal(width, 4, scale=0.6),
            conv_bias=self.normal(width, scale=0.1),
            x_proj=self.linear(rank + 2 * N, width),
            dt_proj=self.linear(width, rank, bias=True),
            A_log=(self.uniform(width, N) + 0.2).log(),
            D=self.normal(width),
            out_proj=self.linear(width, width, 1.5),
        )

    def _mamba2(self, width: int, N: int = 4, H: int = 4) -> Mixer:
        make, groups = self.mixers.get("mamba2", Mamba2), self.rng.choice([1, 2])
        channels = width + 2 * groups * N
        return make(
            in_proj=self.linear(width + channels + H, width),
            conv_weight=self.normal(channels, 4, scale=0.6),
            conv_bias=self.normal(channels, scale=0.1),
            dt_bias=self.normal(H, scale=0.1),
            A_log=(self.uniform(H) + 0.2).log(),
            D=self.normal(H),
            norm_weight=1 + self.normal(width, scale=0.1),
            out_proj=self.linear(width, width, 0.8),
            groups=groups,
        )

    def block(self, kind: str, calm: bool = False) -> Block:
        """A Mamba block has no MLP. `calm`: it changes little, so that drafts are accepted."""
        block = Block(self.norm(D), self.mixer(kind, D))
        if kind == "attention":
            block.mlp_norm = self.norm(D)
            block.mlp = SwiGLU(self.linear(2 * D, D), self.linear(2 * D, D), self.linear(D, 2 * D))
        if calm:
            block.mixer = _calmed(block.mixer)
            block.mlp = None
        return block

    def gate(self, kind: str) -> Gate:
        norm = self.norm(D) if self.rng.random() < 0.7 else None
        if kind == "linear":
            return Gate(self.linear(1, D, bias=True), norm)
        mixer = self.mixer(kind, GATE_WIDTH)
        return Gate(
            self.linear(1, GATE_WIDTH, 1.5, bias=True), norm, self.linear(GATE_WIDTH, D, bias=True), mixer
        )

    def bridge(self, kind: str) -> Bridge:
        if kind == "lens":
            return LensBridge(self.linear(4, D, 0.5), self.linear(D, 4, 0.5, bias=True))
        if kind == "block":
            return BlockBridge(self.block(self.rng.choice(["attention", "mamba2"])))
        return LastBlockBridge() if kind == "last_block" else Bridge()


def _calmed(mixer: Mixer) -> Mixer:
    out = mixer.o_proj if isinstance(mixer, Attention) else mixer.out_proj
    out.weight *= 0.1
    return mixer


def block_kinds(backbone: str, count: int) -> list[str]:
    """`late` has attention only deep down, where copy_block finds no source above the first exits."""
    if backbone == "hybrid":
        return ["attention" if i % 2 else "mamba2" for i in range(count)]
    if backbone == "late":
        return ["attention" if i > count // 2 else "mamba" for i in range(count)]
    return [backbone] * count


def random_model(
    rng: Random,
    mixers: dict[str, type[Mixer]] | None = None,
    backbone: str | None = None,
    bridge: str | None = None,
) -> Model:
    weights = Weights(torch.Generator().manual_seed(rng.randrange(2**31)), rng, mixers or {})
    backbone, gate = backbone or rng.choice(BACKBONES), rng.choice(GATES)
    bridge, calm = bridge or rng.choice(BRIDGES), rng.random() < 0.5
    after = rng.choice([(2, 4, 6), (2, 3, 5), (2,), (1, 4)])
    kinds = block_kinds(backbone, after[-1] + 2)
    blocks = [weights.block(kind, calm and i >= after[0]) for i, kind in enumerate(kinds)]
    embed, head = weights.normal(V, D), weights.normal(V, D, scale=0.7)
    embed[BAD] = torch.nan
    head[[EOS, BAD]] *= 0.5
    exits = [Exit(depth, weights.gate(gate), weights.bridge(bridge)) for depth in after]
    return Model(embed, blocks, weights.norm(D), Linear(head), exits)


def random_policy(rng: Random, exits: int, name: str | None = None) -> Policy:
    if name in ("never", "always"):
        return {"never": Never, "always": Always}[name]()
    kind = POLICIES[name or rng.choice(list(POLICIES))]
    return kind([rng.choice([0.3, 0.45, 0.55]) for _ in range(exits)])


def random_sampling(rng: Random, noise: Noise = gumbel, greedy: bool | None = None) -> Sampling:
    greedy = rng.random() < 0.5 if greedy is None else greedy
    return Sampling(
        seed=None if greedy else rng.randrange(1000),
        temperature=rng.choice([0.5, 1.0]),
        top_k=rng.choice([3, None]),
        top_p=rng.choice([1.0, 0.8]),
        min_p=rng.choice([0.0, 0.05]),
        repetition_penalty=rng.choice([1.0, 1.3]),
        penalty_window=rng.choice([None, 5]),
        noise=noise,
    )


def random_request(
    rng: Random, model: Model, propagation: str, policy: str | None = None, noise: Noise = gumbel
) -> Request:
    """One prompt in six is a single token: the shortest conv window there is."""
    length = 1 if rng.random() < 1 / 6 else rng.randint(2, 12)
    stop = [rng.randrange(1, V) for _ in range(rng.choice([1, 2, 2, 2]))]
    return Request(
        prompt=tuple(rng.randrange(1, V - 1) for _ in range(length)),
        propagation=propagation,
        policy=random_policy(rng, len(model.exits), policy),
        sampling=random_sampling(rng, noise),
        max_tokens=rng.choice([1, 3, 8, 20, 60, 60]),
        run_max=rng.choice([1, 2, 4, 8, 15]),
        stop=ends_with(stop),
        eos=frozenset([EOS]),
        context=CONTEXT,
    )
