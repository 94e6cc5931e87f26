"""The card of an exits repository: what a person must know before loading them, and what the hub indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from offramp.errors import UsageError
from offramp.exits.base import Bridge
from offramp.exits.exit_set import ExitSet
from offramp.exits.info import ExitsInfo
from offramp.models.folder import HUB_ID
from offramp.registry import find
from offramp.sharing.hub import short_name

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
QUOTABLE = re.compile(r"[\w .+/-]{1,200}")
"""What may stand between the quotes of a line of code that people will run."""


def make_card(exits: ExitSet, info: ExitsInfo, name: str, license: str, base_model: str | None = None) -> str:
    """README.md, its metadata first, for the repository `owner/name`.

    base_model: the backbone's id on the hub. Raises UsageError for a licence or an id that cannot be one.
    """
    if not LICENSE.fullmatch(license):
        raise UsageError(
            f"{license!r} is no licence's identifier on the hub: apache-2.0, mit, cc-by-4.0, other ..."
        )
    if base_model is not None and not HUB_ID.fullmatch(base_model):
        raise UsageError(f"base model {base_model!r} is no hub id owner/name.")
    relation: dict[str, Any] = {"base_model_relation": "adapter"} if base_model else {}
    data = ModelCardData(
        license=license,
        library_name="offramp",
        base_model=base_model,
        pipeline_tag="text-generation",
        tags=["early-exit", info.model_type, f"gate-{exits.config.gate}", f"bridge-{exits.config.bridge}"],
        model_name=name.rpartition("/")[2],
        eval_results=list(_results(info)) or None,
        **relation,
    )
    body = "\n\n".join(_sections(exits, info, name, base_model))
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def check_card(text: str) -> str:
    """A card that people wrote, as it is. Raises UsageError unless its metadata names a licence."""
    try:
        data = ModelCard(text).data
    except Exception as error:  # the YAML reader's own, too, which have no base but this
        raise UsageError(f"the card's metadata cannot be read: {error}") from error
    if not data.get("license"):
        raise UsageError("the card names no licence: begin it with ---, license: apache-2.0 (or yours), ---.")
    return text


def _sections(exits: ExitSet, info: ExitsInfo, name: str, base_model: str | None) -> Iterator[str]:
    backbone = base_model or info.revision or "MODEL"
    yield f"# Early exits for {_plain(short_name(backbone))}"
    yield (
        "Gates and bridges for [Offramp](https://huggingface.co/models?library=offramp): with them tokens leave a "
        "language model early. The backbone's weights are not in here and were not changed."
    )
    yield _table(("", ""), _facts(exits, info, base_model))
    yield f"## Metrics on held-out text\n\n{_metrics(info)}"
    yield f"## Use\n\n```python\n{_usage(short_name(backbone) if base_model is None else base_model, name, info)}\n```"


def _facts(exits: ExitSet, info: ExitsInfo, base_model: str | None) -> Iterator[tuple[str, str]]:
    config = exits.config
    yield "backbone", base_model or short_name(info.revision) or "not named"
    yield "backbone's revision", short_name(info.revision) or "not recorded"
    yield "backbone's weights (hash)", f"`{_plain(info.backbone)}`"
    yield "family", info.model_type
    yield "exits after blocks", ", ".join(map(str, config.after))
    yield "gate", f"{config.gate}, width {config.bottleneck or config.hidden_size}"
    yield "bridge", ", ".join([config.bridge, *_settings(exits)])
    if config.draft_vocabulary:
        yield (
            "drafts",
            f"chosen among {config.draft_vocabulary:,} tokens; every word is judged by the whole head",
        )
    yield "label", info.label + (f" (k = {info.label_k})" if info.label_k > 1 else "")
    yield "trained for", info.propagation
    yield "suggested thresholds", ", ".join(f"{value:.3f}" for value in info.thresholds) or "none"
    yield "parameters", f"{sum(weight.numel() for weight in exits.parameters()):,}"
    yield "data", _source(info) or "not recorded"
    for key, value in info.data.items():
        if key == "source":
            continue
        if isinstance(value, Mapping):
            yield key, ", ".join(f"{part} {inner}" for part, inner in value.items())
        else:
            yield key.replace("_", " "), f"{value}"


def _settings(exits: ExitSet) -> Iterator[str]:
    """What the bridge reads of its own settings: "rank 64"."""
    reads = find("offramp.exits.bridges", exits.config.bridge, Bridge).reads
    yield from (f"{field} {getattr(exits.config.bridge_config, field)}" for field in reads)


def _metrics(info: ExitsInfo) -> str:
    """One row an exit, one column a metric."""
    names = list(dict.fromkeys(metric for found in info.metrics.values() for metric in found))
    if not names:
        return "None were recorded."
    rows = [(exit, *(_number(found.get(metric)) for metric in names)) for exit, found in info.metrics.items()]
    return _table(("exit", *names), rows)


def _results(info: ExitsInfo) -> Iterator[EvalResult]:
    """The same numbers for the hub's index. `agreement` and the like are no metric it knows by name: it shows them."""
    source = _source(info) or "not named"
    for exit, found in info.metrics.items():
        for metric, value in found.items():
            if value is not None:
                yield EvalResult(
                    task_type="text-generation",
                    task_name="Leaving early",
                    dataset_type="held-out-text",
                    dataset_name=f"held-out part of {source}",
                    dataset_config=exit,
                    metric_type=metric,
                    metric_name=f"{metric}, {exit}",
                    metric_value=round(value, 6),
                )


def _source(info: ExitsInfo) -> str:
    """The last part of the data's path."""
    return PurePath(str(info.data.get("source", ""))).name


def _usage(backbone: str, name: str, info: ExitsInfo) -> str:
    backbone = backbone if QUOTABLE.fullmatch(backbone) else "MODEL"
    return f"""import offramp

checkpoint = offramp.load("{backbone}", exits="{name}")
engine = offramp.Engine(checkpoint.model, checkpoint.exits, checkpoint.text)
prompt = tuple(checkpoint.text.encode("Once upon a time"))
print(engine.generate(offramp.Request(prompt, thresholds=checkpoint.info.thresholds or (0.5,))).text)"""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(str(cell)) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text of a file in one cell of a table."""
    return " ".join(text.replace("|", "/").replace("<", "(").split())
