"""What follows a mark in a text: one rule for a demonstration's answer and for a completion's."""


def after_mark(text: str, mark: str) -> str | None:
    """What follows the last `mark` on its line, without white space around it; None if nothing does."""
    _, found, rest = text.rpartition(mark)
    lines = rest.splitlines() if found else []
    return lines[0].strip() or None if lines else None
