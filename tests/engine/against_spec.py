"""The specification's view of one of our tiny models and requests: same weights, float64, its own arithmetic."""

from __future__ import annotations

from random_models import CONTEXT, EOS, Tiny
from spec import Model as SpecModel
from spec import Request as SpecRequest
from spec import Sampling as SpecSampling
from spec import gate_from_weights, llama_from_weights, mamba2_from_weights, mamba_from_weights, policies
from spec.exits import Bridge, Exit, LastBlockBridge
from spec.from_weights import attention_from_weights, mamba2_mixer_from_weights

from offramp.engine.sampler import gumbel
from offramp.engine.sequence import Request
from offramp.exits.base import Exit as OurExit
from offramp.mixers.base import CELL

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
    config = setup.exits.config
    bridge = LastBlockBridge if config.bridge == "last_block" else Bridge
    model.cut([Exit(exit.after, _gate(exit, config.gate), bridge()) for exit in setup.exits])
    return model


def _gate(exit: OurExit, kind: str):  # type: ignore[no-untyped-def]
    weights = exit.gate.state_dict()
    mixer = None
    if kind == "mamba":
        groups = exit.gate.mixer.groups
        mixer = mamba2_mixer_from_weights(
            {"n_groups": groups, "layer_norm_epsilon": exit.gate.mixer.norm.eps}, weights, "mixer."
        )
    elif kind == "transformer":
        ours = exit.gate.mixer
        shape = {"num_attention_heads": ours.heads, "head_dim": ours.head_dim, "rope_theta": ours.rope.theta}
        mixer = attention_from_weights(shape, weights, "mixer.")
    return gate_from_weights(weights, mixer=mixer, eps=1e-5)


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
