"""Stories: their answers are right, and the tests' people and things never occur in training."""

import re
from dataclasses import replace
from itertools import islice

import pytest

from offramp.zoo.names import make_pools
from offramp.zoo.rows import row_text
from offramp.zoo.stories import Level, Story, load_things, stories

NAMES = make_pools(0)
SEEN, UNSEEN = load_things()
TRAINING = replace(SEEN, names=NAMES.training)
LEVELS: tuple[Level, ...] = ("easy", "medium", "full")


def some(level: Level, count: int = 500) -> list[Story]:
    return list(islice(stories(TRAINING, 0, [level]), count))


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_pools_share_no_name() -> None:
    pools = [set(NAMES.entities), set(NAMES.held_out), set(NAMES.training)]
    assert len(set.union(*pools)) == sum(map(len, pools)) == 160 + 400 + 4000


def test_names_are_none_of_the_words_to_avoid() -> None:
    first = NAMES.entities[0]
    assert first not in make_pools(0, avoid={first.lower()}).entities


@pytest.mark.parametrize("level", LEVELS)
def test_held_out_names_and_things_never_occur_in_training(level: Level) -> None:
    text = words("\n".join(row_text(story.row()) for story in some(level, 2000)))
    assert not text & {*NAMES.held_out, *NAMES.entities, *UNSEEN.objects, *UNSEEN.places}


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_keeps_to_its_size(level: Level) -> None:
    sentences, turns = {"easy": (2, 2), "medium": (4, 3), "full": (7, 4)}[level]
    for story in some(level):
        assert 1 <= story.text.count(".") <= sentences
        assert 1 <= len(story.turns) <= turns


def test_answers_are_copied_from_the_story_or_closed() -> None:
    for story in some("full"):
        for turn in story.turns:
            closed = turn.kind in ("yes-no", "count")
            assert closed or turn.answer.removeprefix("the ") in story.text


def test_the_last_mention_of_a_move_or_a_gift_decides() -> None:
    moves = gifts = 0
    for story in some("full", 2000):
        last = story.text.split(". ")[-1]
        move = re.fullmatch(r"(?:Then|Later) (\w+) (?:goes|walks) to (the \w+)\.", last)
        gift = re.fullmatch(r"(?:Then )?\w+ (?:gives|hands) the ([\w ]+) to (\w+)\.", last)
        for turn in story.turns:
            if move and turn.kind == "where" and turn.about == move[1]:
                moves += 1
                assert turn.answer == move[2]
            if gift and turn.kind == "who-has" and turn.about == gift[1]:
                gifts += 1
                assert turn.answer == gift[2]
    assert moves > 20 and gifts > 20


def test_a_short_follow_up_asks_the_topic_of_the_turn_before() -> None:
    pairs = [pair for story in some("full", 2000) for pair in zip(story.turns, story.turns[1:], strict=False)]
    short = [(before, turn) for before, turn in pairs if turn.question.startswith("And ")]
    assert len(short) > 50
    assert all(before.topic == turn.topic and before.about != turn.about for before, turn in short)


def test_no_question_is_asked_twice() -> None:
    for story in some("full"):
        assert len({(turn.topic, turn.about) for turn in story.turns}) == len(story.turns)


def test_a_prompt_with_its_answer_begins_the_row() -> None:
    for story in some("full", 100):
        for i, turn in enumerate(story.turns):
            assert row_text(story.row()).startswith(f"{story.prompt(i)} {turn.answer}\n")


def test_stories_follow_the_seed() -> None:
    first, again, other = (list(islice(stories(TRAINING, seed), 20)) for seed in (5, 5, 6))
    assert first == again != other
