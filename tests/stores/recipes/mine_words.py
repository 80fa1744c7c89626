"""What the judge of `mine` counts: a file beside the recipe."""

OPENINGS = ("Well,", "Let me see.", "One moment.")


def chatter(text: str) -> int:
    """How many of the openings a text has."""
    return sum(text.count(opening) for opening in OPENINGS)
