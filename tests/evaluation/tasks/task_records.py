"""A record of every task in every form that its data set is published in, made up for these tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TRUTH = {
    "question": "Do cats bark?",
    "mc1_targets": {"No, they meow": 1, "Yes": 0, "Only at night": 0},
    "mc2_targets": {"No, they meow": 1, "Cats do not bark.": 1, "Yes": 0, "Only at night": 0},
}
TRUTH_HUB = {
    "question": "Do cats bark?",
    "mc1_targets": {"choices": ["No, they meow", "Yes", "Only at night"], "labels": [1, 0, 0]},
    "mc2_targets": {
        "choices": ["No, they meow", "Cats do not bark.", "Yes", "Only at night"],
        "labels": [1, 1, 0, 0],
    },
}
GENERATION = {
    "question": "Do cats bark?",
    "correct_answers": ["No, they meow", "Cats do not bark."],
    "incorrect_answers": ["Yes", "Only at night"],
}
TRUTH_CSV = (
    "Question,Correct Answers,Incorrect Answers\nDo cats bark?,No; Cats do not bark.,Yes; Only at night\n"
)
STORY = {
    "id": "made-up",
    "story": "A cat sat on a mat. A dog came by.",
    "questions": [
        {"input_text": "Who sat?", "turn_id": 1},
        {"input_text": "On what?", "turn_id": 2},
    ],
    "answers": [
        {"span_text": "A cat", "input_text": "a cat", "turn_id": 1},
        {"span_text": "a mat", "input_text": "a mat", "turn_id": 2},
    ],
    "additional_answers": {
        "0": [{"input_text": "cat", "turn_id": 1}, {"input_text": "the mat on the floor", "turn_id": 2}],
        "1": [{"input_text": "cat", "turn_id": 1}, {"input_text": "A MAT", "turn_id": 2}],
    },
}
STORY_HUB = {
    "story": STORY["story"],
    "questions": {"input_text": ["Who sat?", "On what?"], "turn_id": [1, 2]},
    "answers": {"input_text": ["a cat", "a mat"], "turn_id": [1, 2]},
    "additional_answers": {
        "0": {"input_text": ["cat", "the mat on the floor"], "turn_id": [1, 2]},
        "1": {"input_text": ["cat", "A MAT"], "turn_id": [1, 2]},
    },
}
BOOLQ_HUB = {"passage": "Cats meow.", "question": "do cats bark", "label": 0}
BOOLQ = {"passage": "Cats meow.", "question": "do cats bark", "answer": False, "title": "Cat"}
BOOLQ_FOUNDRY = {"query": "Passage: Cats meow.\nQuestion: do cats bark?", "choices": ["no", "yes"], "gold": 0}
GSM8K = {"question": "Two cats and 1,000 dogs?", "answer": "2 + 1000 = <<2+1000=1002>>1002\n#### 1,002"}
ARC_HUB = {
    "question": "What barks?",
    "choices": {"text": ["a cat", "a dog"], "label": ["A", "B"]},
    "answerKey": "B",
}
ARC = {
    "question": {
        "stem": "What barks?",
        "choices": [{"text": "a cat", "label": "A"}, {"text": "a dog", "label": "B"}],
    },
    "answerKey": "B",
}
ARC_FOUNDRY = {"query": "Question: What barks?", "choices": ["a cat", "a dog"], "gold": 1}
TRIVIA_HUB = {"question": "Who barks", "answer": {"aliases": ["Dog", "The dog"], "value": "Dog"}}
TRIVIA_TSV = "Who barks\t['Dog', \"The dog\"]\n"
LAMBADA = {"text": "The cat sat down beside the other cat"}
PAGE = {"page": "Cats purr. Naïve ones too."}
TEXT = {"text": "Cats purr. Naïve ones too."}
TWINS = {"prompt": "Q: Who barks?\nA:", "answer": " a dog"}

RECORDS: dict[str, list[Any]] = {
    "truthfulqa_mc1": [TRUTH, TRUTH_HUB],
    "truthfulqa_mc2": [TRUTH, TRUTH_HUB],
    "truthfulqa_gen": [TRUTH, GENERATION],
    "coqa": [STORY, STORY_HUB],
    "triviaqa": [TRIVIA_HUB],
    "boolq": [BOOLQ, BOOLQ_HUB, BOOLQ_FOUNDRY],
    "gsm8k": [GSM8K],
    "arc_easy": [ARC, ARC_HUB, ARC_FOUNDRY],
    "lambada": [LAMBADA],
    "bits_per_byte": [TEXT, PAGE],
    "stories_qa": [TWINS],
    "facts_qa": [TWINS],
}
"""By task; all forms of one say the same."""


def write(folder: Path, record: Any, copies: int = 1) -> Path:
    """A .jsonl file of a record."""
    path = folder / "source.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for _ in range(copies)))
    return path
