"""Texts: decoded, and turned into the token ids that a model takes.

Tokens are made by Hugging Face's `tokenizers`, of the extra `text`; neither TensorFlow
nor KerasHub is needed for them.
"""

import codecs
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_tl import errors, files
from keras_tl.data.sources import Indices, Source, Stored, Wrapper
from keras_tl.data.splits import Splits

# Name of the tokenizer in the folder of a run.
FILE = "tokenizer.json"

# A word as GloVe has it: letters and digits, a contraction that ends it, or a mark.
WORD = r"n't|\w+?(?=n't)|'\w+|\w+|[^\w\s]"
# Tokens of a tokenizer of words before the first word, by their ids.
SPECIAL = ("[PAD]", "[UNK]")


@dataclass(frozen=True, eq=False)
class Texts(Source):
    """Texts as they are.

    Attributes:
        texts: One string for each example.
        places: Where each of them stands, such as a file, or a line of one; `None`
            where that is not known.

    >>> Texts(("good", "bad")).take([1]).preview([0])
    ['bad']
    """

    texts: tuple[str, ...] = field(repr=False)
    places: tuple[str, ...] | None = field(default=None, repr=False)
    kind = "text"

    def __post_init__(self):
        for number, text in enumerate(self.texts, start=1):
            if not isinstance(text, str) or not text.strip():
                raise errors.InputError(
                    f"Every text must be a string that is not empty. Received, as "
                    f"number {number}: {text!r}."
                )

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, indices: Indices) -> np.ndarray:
        """Read some texts, in the order of `indices`, as an array of strings."""
        return np.array([self.texts[index] for index in indices], dtype=object)

    def take(self, indices: Indices) -> "Texts":
        """Keep only the texts at `indices`, in that order."""
        places = self.places and tuple(self.places[index] for index in indices)
        texts = tuple(self.texts[index] for index in indices)
        return replace(self, texts=texts, places=places)

    def digest(self) -> str:
        """Hash all texts."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()

    def hashes(self) -> list[bytes]:
        """Hash each text; equal are those that differ in case and white space alone."""
        return [hash_of(text) for text in self.texts]

    def preview(self, indices: Indices, side: int = 128) -> list[str]:
        """Return some texts as they are."""
        return [self.texts[index] for index in indices]

    def names(self, indices: Indices) -> list[str] | None:
        """Return where some texts stand, if that is known."""
        return self.places and [self.places[index] for index in indices]


def hash_of(text: str) -> bytes:
    """Hash a text without its case and white space, as 16 bytes."""
    return hashlib.blake2b(folded(text).encode(), digest_size=16).digest()


def folded(text: str) -> str:
    """Return a text in lower case, with one space between its words.

    >>> folded(" A  good\\nFilm ")
    'a good film'
    """
    # Lone surrogates have no bytes to hash.
    text = text.encode("utf-8", "replace").decode()
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of a model, with the number of tokens that it takes.

    Attributes:
        specification: The tokenizer as Hugging Face's `tokenizer.json` has it.
        sequence_length: Number of tokens of a text, with those at start and end; longer
            texts are cut, shorter ones padded.
    """

    specification: str = field(repr=False)
    sequence_length: int

    def __post_init__(self):
        errors.check_installed("tokenizers", extra="text")
        errors.check_at_least("sequence_length", self.sequence_length, 3)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Turn texts into token ids.

        Returns:
            int32 `(len(texts), sequence_length)`, 0 behind the last token of a text.
        """
        encodings = self._of_library().encode_batch(list(texts))
        ids = [encoding.ids for encoding in encodings]
        return np.array(ids, "int32").reshape(-1, self.sequence_length)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Count the tokens that texts have before they are cut, int `(len(texts),)`."""
        tokenizer = self._of_library()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return np.array([len(one) for one in tokenizer.encode_batch(list(texts))], int)

    def places(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return where in its text each token stands: first character, and end.

        As many as ids of `encode`; both are 0 for a token that stands for no character.
        """
        encodings = self._of_library().encode_batch(list(texts))
        return [list(encoding.offsets) for encoding in encodings]

    def _of_library(self):
        """Return it as an object of Hugging Face's library, which cuts and pads."""
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_str(self.specification)
        tokenizer.enable_truncation(self.sequence_length)
        tokenizer.enable_padding(length=self.sequence_length, pad_id=0)
        return tokenizer

    def export(self, path: Path | str) -> None:
        """Write what `tokenizers.Tokenizer.from_file` loads; it cuts and pads alike."""
        files.write_text(path, self._of_library().to_str(pretty=True) + "\n")

    def save(self, path: Path | str) -> None:
        """Write the tokenizer into one file, in one step."""
        record = {
            "sequence_length": self.sequence_length,
            "tokenizer": json.loads(self.specification),
        }
        files.write_json(path, record)

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Load a tokenizer that `save` has written.

        Raises:
            InputError: The file is absent or holds no tokenizer.
        """
        record = files.read_json(path)
        length = record.get("sequence_length") if isinstance(record, dict) else None
        if type(length) is not int or "tokenizer" not in record:
            raise errors.InputError(f"{path} holds no tokenizer of a run.")
        tokenizer = cls(json.dumps(record["tokenizer"]), length)
        try:
            tokenizer.encode([])
        except Exception as error:  # The library raises nothing more precise.
            raise errors.InputError(
                f"{path} holds no tokenizer of a run: {error}"
            ) from error
        return tokenizer

    @classmethod
    def of_model(cls, folder: Path | str, sequence_length: int) -> "Tokenizer":
        """Load the tokenizer of a model from its folder, as Hugging Face has it.

        Args:
            folder: Holds `tokenizer.json`.
            sequence_length: See `Tokenizer`.

        Raises:
            InputError: There is no `tokenizer.json`.
        """
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise errors.expected(
                "weights", "be a folder with a tokenizer.json in it", str(folder)
            )
        return cls(path.read_text(encoding="utf-8"), sequence_length)

    @classmethod
    def of_word_pieces(
        cls, pieces: Sequence[str], lowercase: bool, sequence_length: int
    ) -> "Tokenizer":
        """Make the tokenizer of a BERT from its vocabulary.

        Args:
            pieces: Pieces of words in the order of their ids; the first is `[PAD]`, and
                `[UNK]`, `[CLS]` and `[SEP]` are among them.
            lowercase: Whether texts become lower case, without accents.
            sequence_length: See `Tokenizer`.

        Raises:
            InputError: Pieces without those.

        >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "##s"]
        >>> Tokenizer.of_word_pieces(pieces, True, 6).encode(["Films"]).tolist()
        [[2, 4, 5, 3, 0, 0]]
        """
        errors.check_installed("tokenizers", extra="text")
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers, processors

        ids = {piece: number for number, piece in enumerate(pieces)}
        if ids.get("[PAD]") != 0 or not {"[UNK]", "[CLS]", "[SEP]"} <= set(ids):
            wanted = "begin with [PAD], and have [UNK], [CLS] and [SEP]"
            raise errors.expected("pieces", wanted, list(pieces[:5]))
        tokenizer = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(
            *((piece, ids[piece]) for piece in ("[SEP]", "[CLS]"))
        )
        return cls(tokenizer.to_str(), sequence_length)

    @classmethod
    def of_words(cls, words: Sequence[str], sequence_length: int) -> "Tokenizer":
        """Make a tokenizer whose tokens are whole words, in lower case.

        Args:
            words: The words that it knows, in the order of their ids, which begin with
                2; 0 fills up, and 1 is any other word.
            sequence_length: See `Tokenizer`.

        >>> tokenizer = Tokenizer.of_words(["a", "do", "n't", "film"], 6)
        >>> tokenizer.encode(["A bad film", "Don't!"]).tolist()
        [[2, 1, 5, 0, 0, 0], [3, 4, 1, 0, 0, 0]]
        """
        errors.check_installed("tokenizers", extra="text")
        import tokenizers
        from tokenizers import models

        ids = {word: number for number, word in enumerate([*SPECIAL, *words])}
        tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=SPECIAL[1]))
        tokenizer.normalizer = tokenizers.normalizers.Lowercase()
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(
            tokenizers.Regex(WORD), behavior="removed", invert=True
        )
        return cls(tokenizer.to_str(), sequence_length)


def vocabulary(texts: Sequence[str], at_least: int = 1) -> list[str]:
    """List the words of texts, in lower case, the most frequent first.

    Args:
        texts: Any texts.
        at_least: How often a word must occur.

    >>> vocabulary(["A good film", "a bad film, but a film"], at_least=2)
    ['a', 'film']
    """
    pattern = re.compile(WORD)
    counts = Counter(word for text in texts for word in pattern.findall(text.lower()))
    counts = {word: count for word, count in counts.items() if count >= at_least}
    return sorted(counts, key=lambda word: (-counts[word], word))


def numbered(
    texts: Sequence[str], sequence_length: int
) -> tuple[list[str], list[np.ndarray]]:
    """Return the words of texts, and each text as the numbers of its words.

    Args:
        texts: Any texts.
        sequence_length: Most words of a text; longer ones are cut.

    Returns:
        The words, see `vocabulary`, and for each text int `(words,)`, as
        `models.word_vectors.learn` takes them.

    >>> words, ids = numbered(["A good film", "a film"], 8)
    >>> words, [row.tolist() for row in ids]
    (['a', 'film', 'good'], [[0, 2, 1], [0, 1]])
    """
    words = vocabulary(texts)
    rows = Tokenizer.of_words(words, sequence_length).encode(texts)
    first = len(SPECIAL)
    return words, [row[row >= first] - first for row in rows]


@dataclass(frozen=True, eq=False)
class _Tokenized(Wrapper):
    """Texts whose tokens a tokenizer has made; it is saved with a run.

    Attributes:
        source: The texts.
        tokenizer: The tokenizer that computed their tokens.
    """

    source: Source
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Indices) -> np.ndarray:
        """Read some texts as token ids, in the order of `indices`."""
        return self.tokenizer.encode(self.source.read(indices))

    def take(self, indices: Indices) -> "_Tokenized":
        """Keep only the texts at `indices`, in that order."""
        return replace(self, source=self.source.take(indices))

    def preview(self, indices: Indices, side: int = 128) -> Sequence | None:
        """Return some texts as they are."""
        return self.source.preview(indices, side)

    def names(self, indices: Indices) -> list[str] | None:
        """Return where some texts stand, if that is known."""
        return self.source.names(indices)

    def input_spec(self) -> dict:
        """Describe the tokens."""
        length = self.tokenizer.sequence_length
        return {
            "kind": "text",
            "shape": [length],
            "dtype": "int32",
            "tokenizer": FILE,
            "preprocessing": f"token ids, cut or padded with 0 to {length}",
        }

    def save(self, folder: Path) -> None:
        """Write the tokenizer."""
        self.tokenizer.save(folder / FILE)


def tokenize(texts: Source, tokenizer: Tokenizer) -> Source:
    """Return texts as the token ids that a model takes, computed once."""
    tokenized = _Tokenized(texts, tokenizer)
    return Stored(tokenized, tokenized.read(np.arange(len(texts))), "text")


def tokenize_all(data: Splits, tokenizer: Tokenizer) -> Splits:
    """Return splits of texts as the token ids that a model takes."""
    return data.map(
        lambda split: replace(split, inputs=tokenize(split.inputs, tokenizer))
    )


def describe_lengths(tokenizer: Tokenizer, *texts: Source) -> str:
    """Return how long texts are, and how many of them are cut, in a sentence or two.

    >>> tokenizer = Tokenizer.of_words(["a", "good", "film"], 3)
    >>> describe_lengths(tokenizer, Texts(("good", "A good film.", "a film")))
    '1 of 3 texts (33.3 %) is cut: longer than 3 tokens. Median 2, longest 4.'
    """
    given = [one for part in texts for one in part.preview(range(len(part)))]
    lengths, most = tokenizer.lengths(given), tokenizer.sequence_length
    about = f"Median {np.median(lengths):.0f}, longest {lengths.max()}."
    cut = int((lengths > most).sum())
    if not cut:
        return f"No text is longer than {most} tokens, so that none is cut. {about}"
    return (
        f"{cut:,} of {errors.counted(len(given), 'text')} "
        f"({100 * cut / len(given):.1f} %) {'is' if cut == 1 else 'are'} cut: longer "
        f"than {most} tokens. {about}"
    )


def as_written(texts: Source) -> Texts:
    """Return the texts behind their token ids, or behind what was computed from them.

    >>> as_written(Texts(("good", "bad"))).texts
    ('good', 'bad')
    """
    return Texts(tuple(texts.preview(range(len(texts)))))


# First bytes of files in encodings that begin with a mark -> name of the encoding.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # Before UTF-16, whose mark begins alike.
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(content: bytes, encoding: str = "utf-8") -> str:
    """Decode the content of a file of text.

    Args:
        content: The content.
        encoding: Its encoding, by a name that Python knows; where the content begins
            with a mark of UTF-8, UTF-16 or UTF-32, that decides.

    Raises:
        InputError: An unknown encoding, or content in another one: with the line, and
            how it would read in the most frequent other encoding. The message is the
            rest of a sentence that starts with the name of the file.

    >>> decode("café".encode("cp1252"), "cp1252")
    'café'
    """
    errors.check_encoding(encoding)
    marked = [name for mark, name in MARKS.items() if content.startswith(mark)]
    encoding = marked[0] if marked else encoding
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        lines = content[: error.start].split(b"\n")
        line = lines[-1] + content[error.start :].split(b"\n")[0]
        other = line.decode("cp1252", "replace").strip()
        raise errors.InputError(
            f"must be in {encoding}, and line {len(lines)} is not: {error.reason} at "
            f"byte {error.start} of the file. In cp1252, which Windows often writes, "
            f"it reads {other[:60]!r}. Save the file as UTF-8, or name its encoding: "
            "--encoding cp1252."
        ) from error


def read_file(path: Path, encoding: str = "utf-8") -> str:
    """Read a file of text.

    Args:
        path: The file.
        encoding: See `decode`.

    Raises:
        InputError: An unknown encoding, or a file in another one.
    """
    try:
        return decode(path.read_bytes(), encoding)
    except errors.InputError as error:
        raise errors.InputError(f"{path} {error}") from error
