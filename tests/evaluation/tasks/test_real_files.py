"""The real files, where they are: every task reads its own whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.evaluation.tasks.base import ChoiceTask, task_named

DATA = (Path(__file__).parents[3] / "../shared/data/eval").resolve()
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not here")


@pytest.mark.parametrize(
    ("name", "file", "items"),
    [
        ("truthfulqa_gen", "truthfulqa_v1_mc_dev_half.json", 419),
        ("truthfulqa_mc1", "truthfulqa_v1_mc_dev_half.json", 419),
        ("truthfulqa_mc2", "truthfulqa_v1_mc_dev_half.json", 419),
        ("triviaqa", "triviaqa_dpr_dev.tsv", 8837 - 2),
        ("boolq", "boolq.jsonl", 3270),
        ("gsm8k", "gsm8k_train.jsonl", 7473 - 5),
        ("arc_easy", "arc_easy.jsonl", 2376),
    ],
)
def test_all_of_it_is_read(name: str, file: str, items: int) -> None:
    task = task_named(name).load(DATA / file)
    assert len(task) == items
    for i in range(0, items, 97):
        assert task.prompt(i)
        if isinstance(task, ChoiceTask):
            assert all(map(str.strip, task.choices(i))) and 0 < task.guessing(i) < 1
