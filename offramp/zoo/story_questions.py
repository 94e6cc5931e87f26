"""Questions on how things stand at the end of a story. Each has one right answer, most of them copies."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from offramp.zoo.story_world import Person, Told, number

_WEIGHTS = {"where": 4, "who-has": 4, "who-is": 3, "what": 4, "yes-no": 2, "count": 1}


@dataclass(frozen=True)
class Turn:
    """One question with its answer. `topic` is set where "And Name?" can ask the same about somebody else."""

    kind: str
    question: str
    answer: str
    topic: str = ""
    about: str = ""


def ask(told: Told, turns: int, rng: random.Random) -> list[Turn]:
    """Up to `turns` different questions; one about the same topic as the one before may be shortened."""
    pool = list(_possible(told, rng))
    asked: list[Turn] = []
    while pool and len(asked) < turns:
        last_topic = asked[-1].topic if asked else ""
        turn = rng.choices(pool, [_WEIGHTS[t.kind] * (2 if t.topic == last_topic else 1) for t in pool])[0]
        pool = [other for other in pool if (other.topic, other.about) != (turn.topic, turn.about)]
        asked.append(_follow_up(turn, asked, rng))
    return asked


def _follow_up(turn: Turn, asked: list[Turn], rng: random.Random) -> Turn:
    can_shorten = asked and turn.topic in ("where", "what") and asked[-1].topic == turn.topic
    if can_shorten and rng.random() < 0.7:
        return Turn(turn.kind, f"And {turn.about}?", turn.answer, turn.topic, turn.about)
    return turn


def _possible(told: Told, rng: random.Random) -> Iterator[Turn]:
    for person in told.people:
        yield _where(person, rng)
        yield _is_in(person, told, rng)
        if told.at(person.place) == [person]:
            yield Turn("who-is", f"Who is in the {person.place}?", person.name, "who-is", person.place)
        yield from _about_things(person, rng)
    people = number(len(told.people))
    yield Turn("count", "How many people are in the story?", people, "people", "all")


def _where(person: Person, rng: random.Random) -> Turn:
    question = rng.choice((f"Where is {person.name}?", f"In which place is {person.name}?"))
    return Turn("where", question, f"the {person.place}", "where", person.name)


def _is_in(person: Person, told: Told, rng: random.Random) -> Turn:
    others = [other.place for other in told.people if other is not person] + [told.spare_place]
    yes = rng.random() < 0.5
    place = person.place if yes else rng.choice(others)
    return Turn("yes-no", f"Is {person.name} in the {place}?", "yes" if yes else "no", "yes-no", person.name)


def _about_things(person: Person, rng: random.Random) -> Iterator[Turn]:
    for thing in person.things:
        question = rng.choice((f"Who has the {thing}?", f"Who holds the {thing}?"))
        yield Turn("who-has", question, person.name, "who-has", thing)
    if len(person.things) == 1:
        question = rng.choice((f"What does {person.name} have?", f"What does {person.name} hold?"))
        yield Turn("what", question, f"the {person.things[0]}", "what", person.name)
    if person.things:
        question = f"How many things does {person.name} have?"
        yield Turn("count", question, number(len(person.things)), "count", person.name)
