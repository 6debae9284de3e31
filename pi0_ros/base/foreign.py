"""The caps of everything that other programs send: texts, counts, sizes. One place, so that none is forgotten.

What exceeds a cap is refused with a reason or, where it is only shown, shortened; it is never followed in part.
"""

from __future__ import annotations

from pi0_ros.base.errors import InputError

MAX_PROMPT_CHARS = 4096
MAX_TEXT_CHARS = 2000  # of a reason or an error that is logged or shown
MAX_LINE_CHARS = 200  # of a text that is quoted within a sentence
MAX_JOINTS = 256
MAX_POINTS = 1000  # of one chunk
MAX_CHUNK_BYTES = 4 << 20  # of a chunk's message
MAX_SENTENCE_CHARS = 1000  # of an error that quotes a file
MAX_STATE_BYTES = 64 << 10  # of a joint state's message
MAX_IMAGE_SIDE = 4096  # pixels that a server may ask for
MAX_RATE_HZ = 10_000.0


def shortened(text: str, most: int = MAX_TEXT_CHARS) -> str:
    """`text`, or as much of it as is worth showing, with the number of characters that were left out."""
    return text if len(text) <= most else f"{text[:most]} ... ({len(text) - most} more characters)"


def one_line(text: str, most: int = MAX_SENTENCE_CHARS) -> str:
    """A sentence that may quote anything, on one line that harms no terminal; too much of it is left out between its
    ends, where key and remedy stand."""
    if len(text) > most:
        text = f"{text[: most // 2]} ... ({len(text) - most} more characters) ... {text[-(most // 2) :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def check_prompt(text: str) -> str:
    """`text` itself; InputError where it is longer than a prompt may be."""
    if len(text) > MAX_PROMPT_CHARS:
        raise InputError(f"a prompt of {len(text)} characters is refused, at most {MAX_PROMPT_CHARS} are allowed")
    return text
