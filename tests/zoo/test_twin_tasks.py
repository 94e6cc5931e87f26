"""The questions of the twins' tasks: drawn from held-out stories and facts."""

from __future__ import annotations

from offramp.zoo.tasks import choose_turns


def test_no_story_is_asked_about_twice() -> None:
    turns = [
        {"prompt": f"Story {i}.\nQ: first?\nA: yes" + "\nQ: more?\nA:" * turn, "answer": f" {turn}"}
        for i in range(9)
        for turn in range(3)
    ]
    chosen = choose_turns(turns, 6)
    stories = [turn["prompt"].partition("\nQ:")[0] for turn in chosen]
    assert len(set(stories)) == 6 and all(turn in turns for turn in chosen)
    assert len({turn["answer"] for turn in chosen}) > 1, "not always the first question"
    assert choose_turns(turns, 6) == chosen, "the same again"
