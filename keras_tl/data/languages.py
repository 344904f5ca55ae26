"""Describe texts: how long they are, and in which languages.

Languages are told by py3langid, of the extra `text`; without it lengths alone are.
"""

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from keras_tl import errors

# Most texts whose language is looked at, and most characters of each.
_SAMPLE, _CHARACTERS = 500, 1_000
# Probability from which a language counts as told. Of 3,000 parts of English sentences
# (SST-2) 1,652 pass, all as English; of the others more than a quarter is taken for
# another language.
_SURE = 0.8
# Code of what is no language, such as numbers and addresses.
_NO_LANGUAGE = "zxx"
# Smallest share of the texts that is named: below it are mostly names and quotations.
_SMALLEST = 0.01
# Characters between two spaces, in the mean, from which a script has no spaces between
# words, such as Chinese.
_WITHOUT_SPACES = 15

# Codes of ISO 639 -> names in English of languages that are written much.
_NAMES = {
    **{"ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan"},
    **{"cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English"},
    **{"es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish"},
    **{"fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian"},
    **{"hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese"},
    **{"ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay"},
    **{"nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese"},
    **{"ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian"},
    **{"sr": "Serbian", "sv": "Swedish", "ta": "Tamil", "te": "Telugu", "th": "Thai"},
    **{"tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese"},
    **{"zh": "Chinese"},
}


def describe(texts: Sequence[str]) -> str:
    """Describe lengths and languages of texts, in a sentence or two.

    Lengths are in words, as white space has them; in characters where a script has
    none between words. Languages are those of a sample of 500 texts at most, always
    the same; nothing is said of them where no text is long enough to tell, or where
    py3langid is not installed.

    >>> describe(["one", "one two three", "one two"])
    'Length 1 to 3 words, median 2.'
    >>> describe(["The film is as good as the book that I read.", "I liked the play."])
    'Length 4 to 11 words, median 8. Language: English.'
    """
    if not len(texts):
        return ""
    about = _describe_lengths(texts)
    shares = _shares(texts)
    if not shares:
        return about
    named = [f"{name(code)} {share:.0%}" for code, share in shares.items()]
    if len(named) == 1 and named[0].endswith(" 100%"):
        return f"{about} Language: {name(*shares)}."
    return f"{about} Languages: {', '.join(named).replace('%', ' %')}."


def lengths(texts: Sequence[str]) -> tuple[np.ndarray, str]:
    """Return the length of each text, and the unit: "words" or "characters".

    Words as white space has them; characters where a script has none between words.

    >>> lengths(["one", "one two"])
    (array([1, 2]), 'words')
    """
    words = np.array([len(text.split()) for text in texts])
    characters = np.array([len(text) for text in texts])
    if characters.sum() > _WITHOUT_SPACES * max(1, words.sum()):
        return characters, "characters"
    return words, "words"


def _describe_lengths(texts) -> str:
    counts, unit = lengths(texts)
    low, high = counts.min(), counts.max()
    if low == high:
        return f"Each text has {low:,} {unit}."
    return f"Length {low:,} to {high:,} {unit}, median {np.median(counts):,.0f}."


def _shares(texts) -> dict[str, float]:
    """Return the languages that are told, by code, the most frequent first."""
    if not errors.is_installed("py3langid"):
        return {}
    chosen = np.arange(len(texts))
    if len(texts) > _SAMPLE:
        chosen = np.random.default_rng(0).choice(len(texts), _SAMPLE, replace=False)
    codes = [code for code in (language_of(texts[n]) for n in chosen) if code]
    shares = {code: n / len(codes) for code, n in Counter(codes).most_common()}
    return {code: share for code, share in shares.items() if share >= _SMALLEST}


def language_of(text: str) -> str | None:
    """Return the language of a text as its code of ISO 639; `None` if it is too short.

    Needs py3langid (Lui and Baldwin, "langid.py: An off-the-shelf language
    identification tool", 2012, https://aclanthology.org/P12-3005/).

    >>> language_of("Ich habe den Film gestern gesehen."), language_of("ok")
    ('de', None)
    """
    # Lone surrogates have no bytes to look at.
    text = text[:_CHARACTERS].encode("utf-8", "replace")
    code, probability = _identifier().classify(text)
    return code if probability >= _SURE and code != _NO_LANGUAGE else None


@functools.cache
def _identifier():
    from py3langid import langid

    file = langid.MODEL_FILE
    return langid.LanguageIdentifier.from_model_file(file, norm_probs=True)


def name(code: str) -> str:
    """Return the name in English of a language, or its code where it is written little.

    >>> name("fr"), name("gd")
    ('French', 'gd')
    """
    return _NAMES.get(code, code)
