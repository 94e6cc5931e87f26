"""`offramp plan`: load what is needed, look, compute, show."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from offramp.cli.data_options import Data
from offramp.cli.options import Where
from offramp.cli.plan_options import Look, Machine, Suppose
from offramp.cli.plan_report import Facts, Report, show
from offramp.cli.threads import use_threads
from offramp.engine.load import DTYPES
from offramp.errors import CheckpointError, UsageError
from offramp.evaluation.bootstrap import Interval
from offramp.exits.base import ExitConfig
from offramp.exits.positions import check_positions
from offramp.forecast.agreement import LENS, Agreement, agreement_by_depth, grid
from offramp.forecast.clock import Clock
from offramp.forecast.device import Described, Device
from offramp.forecast.here import Here
from offramp.forecast.parts import Parts, parts_of
from offramp.forecast.plan import BATCHES, Assumed, forecast
from offramp.forecast.prices import prices
from offramp.forecast.prompts import cut_prompts, given_text, own_text
from offramp.forecast.setting import Skill
from offramp.forecast.shapes import shapes_of
from offramp.forecast.training import training_cost
from offramp.models.base import Model
from offramp.models.folder import read_config
from offramp.models.quantised import number_format
from offramp.models.quantised_folder import refuse_quantised
from offramp.text import Text
from offramp.zoo.bundled import load, resolve

DOCUMENTS = 2000
"""Texts that are read to choose prompts from, when nobody says how many."""


@dataclass(frozen=True)
class Asked:
    """The command line."""

    model: str
    data: Data | None
    look: Look
    suppose: Suppose
    machine: Machine
    where: Where
    prices: bool

    def check(self) -> None:
        """Raises UsageError for options that do not go together."""
        for group in (self.look, self.suppose, self.machine):
            group.check()
        if self.data is not None and self.look.agreement is not None:
            raise UsageError("--data measures the agreement, --agreement states it: give one of the two.")
        if self.data is None and self.look.agreement is None and not self.prices:
            raise UsageError(
                "what should the forecast listen to? Give --data FILE; or, to try numbers, --agreement 0.6,0.7,0.8."
            )

    @property
    def needs_weights(self) -> bool:
        """Shapes alone tell bytes and operations."""
        return self.data is not None or not self.machine.described


def run(asked: Asked, as_json: bool) -> None:
    """The forecast on stdout, progress on stderr."""
    asked.check()
    model, text = _load(asked)
    batches = tuple(sorted(set(asked.look.batches or BATCHES)))
    gate = ExitConfig(
        asked.suppose.gate,
        LENS,
        (1,),
        model.config.hidden_size,
        model.config.norm_eps,
        bottleneck=asked.suppose.bottleneck or None,
    )
    assumed = Assumed(gate, Skill(asked.suppose.gate_recall, asked.suppose.gate_precision), batches)
    report = _report(asked, model, text, assumed)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        show(report)


def _load(asked: Asked) -> tuple[Model, Text | None]:
    """The model with its tokenizer; its shapes alone where no weight is needed."""
    if not asked.needs_weights:
        model = shapes_of(resolve(asked.model), _floats(asked.where))
        refuse_quantised(read_config(Path(resolve(asked.model))), Path(asked.model))
        return model, None
    checkpoint = load(asked.model, "none", dtype=asked.where.dtype, device=asked.where.device)
    use_threads(checkpoint.model, asked.where.threads)
    return checkpoint.model, checkpoint.text


def _floats(where: Where) -> torch.dtype:
    """Raises UsageError for weights that are quantised: a described device has no kernels for them."""
    if where.dtype not in DTYPES:
        raise UsageError(
            f"--dtype {where.dtype} runs on this machine's CPU: leave the device's figures out, or it."
        )
    return DTYPES[where.dtype]


def _report(asked: Asked, model: Model, text: Text | None, assumed: Assumed) -> Report:
    if model.config.num_blocks < 2:
        raise UsageError("a model of one block has no place for an exit.")
    texts = [item.text for item in asked.data.read(DOCUMENTS)] if asked.data else []
    found, prompts, tokens = _agreement(asked, model, text, texts)
    after = tuple(sorted({item.after for item in found})) or grid(model.config.num_blocks)
    parts = parts_of(model, assumed.gate, after, min(asked.machine.context, model.config.context_length - 1))
    device = _device(asked, parts)
    priced = prices(model, assumed.gate, device) if asked.prices else []
    seen = None
    if found:
        clock: Clock = device or _here(model, assumed, after)
        seen = forecast(found, parts, clock, assumed)
    training = training_cost(model, assumed.gate, texts, text.encode) if text and texts else None
    return Report(_facts(asked, model, parts, prompts, tokens), assumed, seen, training, tuple(priced))


def _agreement(
    asked: Asked, model: Model, text: Text | None, texts: Sequence[str]
) -> tuple[list[Agreement], int, int]:
    """What exits agree on, and of how many prompts and tokens that was seen."""
    look, blocks = asked.look, model.config.num_blocks
    after = look.exits_at or (grid(blocks) if asked.data else (max(1, blocks // 4),))
    check_positions(after, blocks)
    if asked.data is None:
        stated = [Interval(value, value, value) for value in look.agreement or ()]
        return [Agreement(at, LENS, share) for at in after for share in stated], 0, 0
    if text is None:
        raise CheckpointError(f"{asked.model} has no tokenizer.json, so it cannot read {asked.data.data}.")
    length = min(look.prompt_tokens, model.config.context_length // 2)
    prompts = cut_prompts(texts, text.encode, look.prompts, length)
    if look.given_text:
        stretches = given_text(prompts)
    else:
        stretches = own_text(model, prompts, look.new_tokens, _said("prompts continued", len(prompts)))
    found = agreement_by_depth(model, stretches, after, seen=_said("texts read", len(stretches)))
    return found, len(stretches), sum(len(item) - item.begin for item in stretches)


def _here(model: Model, assumed: Assumed, after: tuple[int, ...]) -> Here:
    said = _said("batch sizes measured", len(assumed.batches))
    return Here(model, assumed.gate, after, assumed.batches, said)


def _device(asked: Asked, parts: Parts) -> Described | None:
    machine = asked.machine
    if machine.device_bandwidth is None or machine.device_flops is None:
        return None
    overheads = machine.overhead_us * 1e-6, machine.layer_us * 1e-6
    return Described(Device(machine.device_bandwidth, machine.device_flops, *overheads), parts)


def _facts(asked: Asked, model: Model, parts: Parts, prompts: int, tokens: int) -> Facts:
    config, machine = model.config, asked.machine
    given = machine.device_bandwidth or 0.0, machine.device_flops or 0.0
    described = f"a device of {given[0]:.3g} bytes/s and {given[1]:.3g} operations/s"
    return Facts(
        Path(asked.model).name,
        config.model_type,
        config.num_blocks,
        sum(weight.numel() for weight in model.parameters()),
        number_format(model),
        described if machine.described else "this machine",
        machine.described,
        parts.context,
        prompts,
        tokens,
    )


def _said(what: str, of: int) -> Callable[[int], None]:
    """Progress on stderr: one line that is written over, at a terminal only."""
    if not sys.stderr.isatty():
        return lambda done: None

    def say(done: int) -> None:
        end = "\n" if done >= of else ""
        print(f"\r{what}: {done} of {of}", end=end, file=sys.stderr, flush=True)

    return say
