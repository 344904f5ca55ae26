"""Checks of texts: those that say nothing, that were decoded wrongly, or are too long.

Wrong labels are not looked for: of 2 % of the labels of SST-2 that were turned over, a
bag of words and the mixture of `feature_checks` named 40 of 10,000 texts rightly and 77
wrongly, the filters of cleanlab 136 rightly and 785 wrongly.
"""

import re
import unicodedata

import numpy as np
from threadpoolctl import threadpool_limits

from keras_tl.analysis import feature_checks, sound_checks
from keras_tl.analysis.findings import Finding, named
from keras_tl.analysis.records import Records
from keras_tl.errors import counted

# A text is far longer than usual by this factor of the median, and by so many
# interquartile ranges of the logarithms.
_FACTOR, _RANGES = 8, 2.0
# Fewest texts whose splits are compared, and components of their words.
_FEWEST, _COMPONENTS = 50, 64
# Characters of a text that are quoted.
_QUOTED = 60

# Second and later bytes of a character in UTF-8, as latin-1 and cp1252 show them.
_LATER = "\u0080-\u00bf" + bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
_MIDDLE = "\u0080-\u0086" + bytes((0x80, 0x82, 0x84, 0x86)).decode("cp1252")
# UTF-8 that was read as one of these: spaces and letters with accents, not behind a
# capital letter, as in a quotation in Portuguese; quotation marks and dashes; the mark
# at the beginning of a file; emoji; Cyrillic. And what could not be decoded.
_WRONG = re.compile(
    "|".join(
        (
            "(?<![A-Z\u00c0-\u00de])\u00c2[\u0080-\u00bf]",
            f"(?<![A-Z\u00c0-\u00de])\u00c3[{_LATER}]",
            f"\u00e2[{_MIDDLE}][{_LATER}]",
            "\u00ef\u00bb\u00bf",
            f"\u00f0\u0178[{_LATER}]",
            f"[\u00d0\u00d1][{_LATER}][\u00d0\u00d1][{_LATER}]",
            "\ufffd",
        )
    )
)
_TAG = re.compile(
    r"</?(?:a|b|blockquote|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|script"
    r"|span|strong|style|sub|sup|table|td|th|tr|u|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6}|#x[0-9a-fA-F]{2,5});")


def wordless(records: Records) -> list[Finding]:
    """List texts without any letter, number or symbol such as an emoji."""
    indices = [n for n, text in enumerate(records.texts) if not _says_something(text)]
    if not indices:
        return []
    listed = [f"{records.names[n]} ({quoted(records.texts[n])})" for n in indices]
    return [
        Finding(
            "wordless-text",
            "warning",
            f"{counted(len(indices), 'text')} of punctuation or markup alone: "
            f"{named(listed)}.",
            "Leave them out, if their marks mean nothing.",
            tuple(listed),
            records.files(indices),
            tuple(indices),
        )
    ]


def _says_something(text) -> bool:
    plain = _ENTITY.sub(" ", _TAG.sub(" ", text))
    return any(
        character.isalnum() or unicodedata.category(character) == "So"
        for character in plain
    )


def quoted(text: str) -> str:
    """Return the beginning of a text, in one line and with quotation marks.

    >>> quoted("A good\\nfilm")
    '"A good film"'
    """
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= _QUOTED else f'"{line[: _QUOTED - 3]}..."'


def decoding(records: Records) -> list[Finding]:
    """List texts that were read in another encoding than they were written in."""
    matches = [_WRONG.search(text) for text in records.texts]
    indices = [n for n, match in enumerate(matches) if match]
    if not indices:
        return []
    listed = [
        f"{records.names[n]} ({quoted(_around(records.texts[n], matches[n]))})"
        for n in indices
    ]
    return [
        Finding(
            "wrongly-decoded-text",
            "warning",
            f"{counted(len(indices), 'text')} with signs of a wrong encoding: "
            f"{named(listed)}.",
            "Read the original again as UTF-8, or repair the texts with a program such "
            "as ftfy, here and wherever the model predicts.",
            tuple(listed),
            pictures=tuple(indices),
        )
    ]


def _around(text, match) -> str:
    """Return what stands around a match."""
    return text[max(0, match.start() - 20) : match.end() + 20]


def markup(records: Records) -> list[Finding]:
    """Report texts with tags and entities of HTML."""
    marks = [
        _TAG.search(text) or _ENTITY.search(text)
        if "<" in text or "&" in text
        else None
        for text in records.texts
    ]
    indices = [n for n, match in enumerate(marks) if match]
    if not indices:
        return []
    listed = [f"{records.names[n]} ({marks[n].group()})" for n in indices]
    return [
        Finding(
            "markup-in-text",
            "note",
            f"{counted(len(indices), 'text')} of {len(records):,} with tags or "
            f"entities of HTML: {named(listed)}. They take the place of words.",
            "Turn them into plain text, here and wherever the model predicts.",
            tuple(listed),
            pictures=tuple(indices),
        )
    ]


def lengths(records: Records) -> list[Finding]:
    """List texts that are far longer than is usual."""
    if not records.texts:
        return []
    sizes = np.array([len(text.split()) for text in records.texts], "float64")
    _, long = sound_checks.far_from_usual(np.maximum(sizes, 1), _FACTOR, _RANGES)
    if not len(long):
        return []
    first = long[0]
    return [
        Finding(
            "long-text",
            "note",
            f"{counted(len(long), 'text')} more than {_FACTOR} times as long as is "
            f"usual ({np.median(sizes):,.0f} words): {records.names[first]} has "
            f"{sizes[first]:,.0f}. A quotation mark that is missing joins the lines of "
            "a table, and models read the beginning alone.",
            "Look at them; mend the table, or split them.",
            records.named(long),
            pictures=tuple(long.tolist()),
        )
    ]


def shift(records: Records) -> list[Finding]:
    """Compare the words of the splits that are given, see `feature_checks.shift`."""
    if len(set(records.splits)) < 2 or len(records) < _FEWEST:
        return []
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counter = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", sublinear_tf=True)
    words = counter.fit_transform(records.texts)
    count = min(_COMPONENTS, min(words.shape) - 1)
    if count < 1:
        return []
    # As in `probe`: problems of this size are solved faster by one thread.
    with threadpool_limits(1):
        features = TruncatedSVD(count, random_state=0).fit_transform(words)
    return feature_checks.shift(features.astype("float32"), records)
