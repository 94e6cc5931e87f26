"""When is a generated answer right?"""


def exact_match(prediction: str, answer: str) -> bool:
    """Whether the first line of the prediction is the answer, whatever the spaces."""
    return _first_line(prediction) == _first_line(answer)


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return " ".join(lines[0].split()) if lines else ""
