"""The specification's view of one of our tiny models and requests: same weights, float64, its own arithmetic."""

from __future__ import annotations

from random_models import CONTEXT, EOS, Tiny
from spec import Model as SpecModel
from spec import Request as SpecRequest
from spec import Sampling as SpecSampling
from spec import gate_from_weights, llama_from_weights, mamba2_from_weights, mamba_from_weights, policies
from spec.exits import Bridge, Exit, LastBlockBridge, LensBridge, NarrowBlockBridge
from spec.exits import Gate as SpecGate
from spec.from_weights import attention_from_weights, mamba2_mixer_from_weights
from spec.layers import Linear
from spec.mixers import Mixer

from offramp.engine.request import Request
from offramp.engine.sampler import gumbel
from offramp.exits.base import Exit as OurExit
from offramp.exits.gates.mlp import Mlp
from offramp.exits.trunk import Trunk
from offramp.mixers.attention import Attention
from offramp.mixers.base import CELL
from offramp.mixers.identity import Identity
from offramp.mixers.mamba2 import Mamba2

_POLICIES = {
    "always": policies.Always,
    "average": policies.Average,
    "budget": policies.MeanDepth,
    "calm": policies.Decaying,
    "confidence": policies.Confidence,
    "entropy": policies.Entropy,
    "gate": policies.ByGate,
    "margin": policies.Margin,
    "never": policies.Never,
    "patience": policies.Agreeing,
    "saturation": policies.Saturation,
}

_READERS = {
    "llama": llama_from_weights,
    "mistral": llama_from_weights,
    "mamba": mamba_from_weights,
    "falcon_mamba": mamba_from_weights,
    "mamba2": mamba2_from_weights,
}


def spec_model(setup: Tiny) -> SpecModel:
    model = _READERS[setup.raw["model_type"]](setup.raw, setup.weights())
    model.cut([Exit(exit.after, _gate(exit.gate), _bridge(exit)) for exit in setup.exits])
    return model


def _gate(gate: Trunk) -> SpecGate:
    found = gate_from_weights(gate.state_dict(), mixer=_mixer(gate), eps=1e-5)
    found.hidden = isinstance(gate, Mlp)
    return found


def _bridge(exit: OurExit) -> Bridge:
    """The specification shares nothing: a trunk that is the gate's is here a copy of it, with a state of its own."""
    bridge = exit.bridge
    if bridge.borrows_last_block:
        return LastBlockBridge()
    if not list(bridge.parameters()):
        return Bridge()
    trunk: Trunk = exit.gate if bridge.reads_gate else bridge
    read = gate_from_weights({"out.weight": bridge.up.weight, **trunk.state_dict()}, eps=1e-5)
    up = Linear(bridge.up.weight.detach(), bridge.up.bias.detach())
    if isinstance(trunk.mixer, Identity):
        return LensBridge(read.down, up, read.norm)
    return NarrowBlockBridge(read.norm, read.down, up, _mixer(trunk))


def _mixer(trunk: Trunk) -> Mixer | None:
    ours, weights = trunk.mixer, trunk.state_dict()
    if isinstance(ours, Mamba2):
        shape = {"n_groups": ours.groups, "layer_norm_epsilon": ours.norm.eps}
        return mamba2_mixer_from_weights(shape, weights, "mixer.")
    if isinstance(ours, Attention):
        shape = {"num_attention_heads": ours.heads, "head_dim": ours.head_dim, "rope_theta": ours.rope.theta}
        return attention_from_weights(shape, weights, "mixer.")
    return None


def spec_request(request: Request, exits: int) -> SpecRequest:
    sampling = request.sampling
    return SpecRequest(
        prompt=request.prompt,
        propagation=request.propagation,
        policy=_POLICIES[request.policy](request.thresholds * exits),
        sampling=SpecSampling(
            seed=sampling.seed if sampling.temperature else None,
            temperature=sampling.temperature or 1.0,
            top_k=sampling.top_k or None,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            penalty_window=sampling.penalty_window,
            noise=gumbel,
        ),
        max_tokens=request.max_tokens,
        run_max=request.run_max,
        eos=frozenset() if request.ignore_eos else frozenset([EOS]),
        context=CONTEXT,
        cell=CELL,
    )
