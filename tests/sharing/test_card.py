"""The card says what the exits are, as text and as metadata, and nothing that was not recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from offramp.errors import UsageError
from offramp.exits.store import read_exits
from offramp.sharing.card import check_card, make_card


def card(folder: Path, **options: str) -> str:
    return make_card(*read_exits(folder), "me/exits", **{"license": "apache-2.0"} | options)


def test_metadata(exits_folder: Path) -> None:
    data = ModelCard(card(exits_folder, base_model="them/backbone")).data
    assert (data.license, data.library_name, data.base_model) == ("apache-2.0", "offramp", "them/backbone")
    assert data.base_model_relation == "adapter" and {"early-exit", "llama", "gate-linear"} <= set(data.tags)
    found = {(result.dataset_config, result.metric_type): result.metric_value for result in data.eval_results}
    assert found == {("after2", "agreement"): 0.25, ("after4", "agreement"): 0.5, ("after4", "auroc"): 0.75}


def test_text(exits_folder: Path) -> None:
    text = card(exits_folder)
    for line in (
        "# Early exits for backbone",
        "| gate | linear, width 8 |",
        "| label | topk (k = 3) |",
        "| trained for | defer |",
        "| suggested thresholds | 0.250, 0.625 |",
        "| data | corpus |",
        "| training tokens | 1234 |",
        "| recipe | steps 7 |",
        "| exit | agreement | auroc |",
        "| after2 | 0.25 |  |",
        "| after4 | 0.5 | 0.75 |",
        'exits="me/exits"',
    ):
        assert line in text
    assert "base_model" not in text and "somebody" not in text, "neither invented nor private"


def test_what_drafts_are_chosen_among(exits_folder: Path) -> None:
    exits, info = read_exits(exits_folder)
    line = "| drafts | chosen among 3 tokens; every word is judged by the whole head |"
    assert line in make_card(exits.drafting_from((1, 2, 5)), info, "me/exits", "mit")
    assert "| drafts |" not in make_card(exits, info, "me/exits", "mit")


def test_the_lines_of_use_are_python(exits_folder: Path) -> None:
    code = card(exits_folder).partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert len([line for line in code.splitlines() if line]) == 5


def test_nothing_recorded_is_nothing_claimed(exits_folder: Path) -> None:
    exits, info = read_exits(exits_folder)
    bare = type(info)(info.model_type, info.backbone, info.label)
    text = make_card(exits, bare, "me/exits", "mit")
    assert "None were recorded" in text and "model-index" not in text and "| not recorded |" in text


@pytest.mark.parametrize("license", ["", "Apache 2", "mit\nbase_model: x"])
def test_a_licence_is_an_identifier(exits_folder: Path, license: str) -> None:
    with pytest.raises(UsageError, match="licence"):
        card(exits_folder, license=license)


def test_a_base_model_is_an_id(exits_folder: Path) -> None:
    with pytest.raises(UsageError, match="owner/name"):
        card(exits_folder, base_model="/home/somebody/model")


def test_a_file_cannot_write_into_the_card(exits_folder: Path) -> None:
    exits, info = read_exits(exits_folder)
    sly = type(info)("llama", info.backbone, info.label, data={"source": "x |\n---\n# Bigger <script>"})
    text = make_card(exits, sly, "me/exits", "mit")
    assert "<script>" not in text and "\n# Bigger" not in text
    assert ModelCard(text).data.license == "mit"


def test_cards_of_people() -> None:
    assert check_card("---\nlicense: mit\n---\n# Mine\n") == "---\nlicense: mit\n---\n# Mine\n"
    for text in ("# Mine\n", "---\nlanguage: en\n---\n"):
        with pytest.raises(UsageError, match="names no licence"):
            check_card(text)
    with pytest.raises(UsageError, match="cannot be read"):
        check_card("---\n- a\n- b\n---\n")
    for text in ("---\nlicense: [\n---\n", "---\nlicense: !!python/object/apply:os.getcwd []\n---\n"):
        with pytest.raises(UsageError, match="cannot be read"):
            check_card(text)


@pytest.mark.parametrize("revision", ['x"); print("mine") #', "x\\", "```\n# Mine"])
def test_a_file_cannot_write_into_the_lines_of_use(exits_folder: Path, revision: str) -> None:
    exits, info = read_exits(exits_folder)
    text = make_card(
        exits, type(info)("llama", info.backbone, info.label, revision=revision), "me/exits", "mit"
    )
    assert 'offramp.load("MODEL", exits="me/exits")' in text


def test_of_the_data_s_path_only_its_name(exits_folder: Path) -> None:
    """A folder and a file look like a hub id; data have none."""
    exits, info = read_exits(exits_folder)
    own = type(info)(
        "llama", info.backbone, info.label, data={"source": "clinic/notes.jsonl"}, metrics=info.metrics
    )
    text = make_card(exits, own, "me/exits", "mit")
    assert "notes.jsonl" in text and "clinic" not in text
