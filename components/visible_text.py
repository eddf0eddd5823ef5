"""Text from a log as a person may safely see it, on a terminal or a page."""

import unicodedata

MAX_SHOWN = 120
# Line ends, escape codes, direction overrides, lone surrogates, private and unassigned
# characters: what moves a cursor, turns a line round, or shows as nothing.
_HIDDEN = ("C", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # part of words in some scripts, and of emoji


def visible(text: str, limit: int = MAX_SHOWN) -> str:
    """Returns `text` with what cannot be seen written out, and cut where it is long.

    Args:
        text: anything.
        limit: characters shown; the rest is counted.
    """
    more = len(text) - limit
    shown = "".join(map(_visible_character, text[:limit] if more > 0 else text))
    return f"{shown}… ({more:,} more)" if more > 0 else shown


def _visible_character(character: str) -> str:
    if character in _JOINERS:
        return character
    if unicodedata.category(character).startswith(_HIDDEN):
        code = ord(character)
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character
