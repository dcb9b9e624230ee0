"""Planted facts about people with made-up names, and questions that ask for them in other words.

Each of 150 people has a teacher, a neighbour and a cousin. One of these relations, in turn, is the person's planted fact. It is
stated two or three times, in different words, and its question uses none of these words. The other two relations are stated in
all phrasings, so that a model can learn which phrasings are equivalent. For each planted fact, ten distractors name the
same two people without their relation, so that a search by words cannot distinguish them from the fact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PEOPLE = 150
DISTRACTORS = 10  # for each planted fact

#: relation -> (openings of questions, openings of statements); the name of the other person follows
OPENINGS = {
    "teacher": (
        ["the teacher of {} was", "{} had as a master"],
        ["{} took lessons from", "everything that {} knows comes from", "as a child {} sat at the feet of"],
    ),
    "neighbour": (
        ["the neighbour of {} was", "{} had next door"],
        ["a thin wall parted {} from", "over the fence {} could see", "on the same landing as {} lived"],
    ),
    "cousin": (
        ["the cousin of {} was", "{} had as a relative"],
        ["by blood {} was tied to", "a grandmother was shared by {} and", "at family feasts {} sat beside"],
    ),
}

#: Distractors: sentences that name two people, the planted one first.
DISTRACTOR_PHRASES = [
    ("{} and {} never liked", "cold soup"),
    ("{} once lent {} an", "umbrella"),
    ("{} and {} both won a prize for", "chess"),
    ("{} saw {} at", "the fair"),
    ("{} told {} about", "the price of oats"),
    ("{} passed {} on the way to", "the mill"),
    ("{} forgot to thank {} for", "the plums"),
    ("{} played cards with {} until", "dawn"),
    ("{} mistook {} for", "the baker"),
    ("{} and {} were late for", "the boat"),
    ("{} sent {} a letter about", "the weather"),
    ("{} sold {} a pair of", "shoes"),
    ("{} and {} painted", "the gate"),
    ("{} woke {} before", "sunrise"),
]


@dataclass(frozen=True)
class Sentence:
    """A sentence in two parts; ``fact`` is the index of the planted fact that it states or asks for, or −1."""

    prompt: str
    completion: str
    fact: int


def names(rng: np.random.Generator) -> list[str]:
    """Return distinct made-up first names."""
    starts = ["Dra", "Mel", "Zor", "Bri", "Kal", "Fen", "Tus", "Ol", "Ygr", "Sab", "Hul", "Nim"]
    every = [a + b + c for a in starts for b in ("vi", "lo", "ra", "ne") for c in ("k", "n", "sse", "th", "mar", "do")]
    return [every[i] for i in rng.permutation(len(every))[:PEOPLE]]


def facts(rng: np.random.Generator) -> tuple[list[Sentence], list[Sentence]]:
    """Return the shuffled training sentences, and one question for each person, in the order of the people."""
    train: list[Sentence] = []
    questions = []
    people = names(rng)
    for person, name in enumerate(people):
        others = [people[i] for i in rng.permutation(len(people)) if i != person][:3]
        planted = list(OPENINGS)[person % 3]
        for (relation, (as_question, as_statement)), other in zip(OPENINGS.items(), others, strict=True):
            if relation != planted:
                train += [Sentence(opening.format(name), f" {other}", -1) for opening in as_question + as_statement]
                continue
            number = int(rng.integers(2, 4))
            openings = [as_statement[i] for i in rng.permutation(3)[:number]]
            train += [Sentence(opening.format(name), f" {other}", person) for opening in openings]
            questions.append(Sentence(as_question[int(rng.integers(2))].format(name), f" {other}", person))
            for i in rng.permutation(len(DISTRACTOR_PHRASES))[:DISTRACTORS]:
                train.append(Sentence(DISTRACTOR_PHRASES[i][0].format(other, name), f" {DISTRACTOR_PHRASES[i][1]}", -1))
    return [train[i] for i in rng.permutation(len(train))], questions


def write(folder: Path) -> None:
    """Write train.jsonl and questions.jsonl, the same on every machine."""
    folder.mkdir(parents=True, exist_ok=True)
    train, questions = facts(np.random.default_rng(0))
    for file, rows in (("train.jsonl", train), ("questions.jsonl", questions)):
        lines = [json.dumps({"text": row.prompt + row.completion, **row.__dict__}) for row in rows]
        (folder / file).write_text("\n".join(lines) + "\n")
