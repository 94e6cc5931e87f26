"""The little world of a story: people in places with things, and the sentences that say so."""

import random
from dataclasses import dataclass, field

_NUMBERS = ("no", "one", "two", "three", "four")

_WHERE = ("{name} is in the {place}.", "{name} waits in the {place}.", "{name} sits in the {place}.")
_HAS = ("{name} has {things}.", "{name} carries {things}.", "{name} holds {things}.")
_BOTH = ("{name} is in the {place} with {things}.", "In the {place}, {name} has {things}.")
_GOES = (
    "Then {name} goes to the {place}.",
    "Later {name} walks to the {place}.",
    "Now {name} is in the {place}.",
)
_GIVES = ("{name} gives the {thing} to {other}.", "Then {name} hands the {thing} to {other}.")


@dataclass
class Person:
    """Somebody, as things stand at the moment."""

    name: str
    place: str
    things: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Told:
    """The sentences, and how things stand after the last of them."""

    sentences: tuple[str, ...]
    people: tuple[Person, ...]
    spare_place: str  # named in a question that is to be answered with no

    def at(self, place: str) -> list[Person]:
        """Who is in a place."""
        return [person for person in self.people if person.place == place]


def tell(people: list[Person], spare_place: str, events: int, rng: random.Random) -> Told:
    """Introduce the people in their places, then let some events happen."""
    sentences = [sentence for person in people for sentence in _introduce(person, rng)]
    for _ in range(events):
        givers = [person for person in people if person.things]
        if givers and len(people) > 1 and rng.random() < 0.5:
            sentences.append(_give(rng.choice(givers), people, rng))
        else:
            sentence, spare_place = _go(rng.choice(people), spare_place, rng)
            sentences.append(sentence)
    return Told(tuple(sentences), tuple(people), spare_place)


def number(count: int) -> str:
    """A small number as a word."""
    return _NUMBERS[count]


def _introduce(person: Person, rng: random.Random) -> list[str]:
    if not person.things:
        return [_fill(_WHERE, person, rng)]
    if rng.random() < 0.4:
        return [_fill(_BOTH, person, rng)]
    return [_fill(_WHERE, person, rng), _fill(_HAS, person, rng)]


def _fill(patterns: tuple[str, ...], person: Person, rng: random.Random) -> str:
    things = " and ".join(f"{_article(thing)} {thing}" for thing in person.things)
    return rng.choice(patterns).format(name=person.name, place=person.place, things=things)


def _go(person: Person, free_place: str, rng: random.Random) -> tuple[str, str]:
    person.place, left = free_place, person.place
    return rng.choice(_GOES).format(name=person.name, place=person.place), left


def _give(giver: Person, people: list[Person], rng: random.Random) -> str:
    other = rng.choice([person for person in people if person is not giver])
    thing = giver.things.pop(rng.randrange(len(giver.things)))
    other.things.append(thing)
    return rng.choice(_GIVES).format(name=giver.name, thing=thing, other=other.name)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
