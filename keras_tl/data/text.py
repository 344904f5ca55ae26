"""Texts: read from files, and turned into the token ids that a model takes.

Tokens are made by Hugging Face's `tokenizers`, of the extra `text`; neither TensorFlow
nor KerasHub is needed for them.
"""

import contextlib
import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_tl import errors, files
from keras_tl.data.sources import Indices, Source, Stored, Wrapper

# Name of the tokenizer in the folder of a run.
FILE = "tokenizer.json"

# A word as GloVe has it: letters and digits, a contraction that ends it, or a mark.
WORD = r"n't|\w+?(?=n't)|'\w+|\w+|[^\w\s]"
# Tokens of a tokenizer of words before the first word, by their ids.
SPECIAL = ("[PAD]", "[UNK]")

# Separator of the columns of a table, by the suffix of its file.
DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, eq=False)
class Texts(Source):
    """Texts as they are.

    Attributes:
        texts: One string for each example.

    >>> Texts(("good", "bad")).take([1]).preview([0])
    ['bad']
    """

    texts: tuple[str, ...] = field(repr=False)
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
        return replace(self, texts=tuple(self.texts[index] for index in indices))

    def digest(self) -> str:
        """Hash all texts."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()

    def preview(self, indices: Indices, side: int = 128) -> list[str]:
        """Return some texts as they are."""
        return [self.texts[index] for index in indices]


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


def as_written(texts: Source) -> Texts:
    """Return the texts behind their token ids, or behind what was computed from them.

    >>> as_written(Texts(("good", "bad"))).texts
    ('good', 'bad')
    """
    return Texts(tuple(texts.preview(range(len(texts)))))


def from_table(
    path: Path | str, text: str | None = None, label: str = "label"
) -> tuple[Texts, list[str]]:
    """Read texts and labels from two columns of a table.

    Args:
        path: A file `.csv` or `.tsv` in UTF-8, whose first line names the columns.
        text: Name of the column of the texts; `None` is the only other column.
        label: Name of the column of the labels.

    Returns:
        The texts, and the label of each as it is written.

    Raises:
        InputError: No such file, another encoding, a missing column, or an empty text
            or label, with its line.
    """
    path = Path(path)
    texts, labels = [], []
    with _open_table(path) as rows:
        text = _check_columns(path, rows.fieldnames or [], text, label)
        for row in rows:
            if not (row[text] or "").strip() or not (row[label] or "").strip():
                raise errors.InputError(
                    f"{path}, line {rows.line_num}: text and label must not be "
                    f"empty. Received: {row[text]!r}, {row[label]!r}."
                )
            texts.append(row[text])
            labels.append(row[label].strip())
    return Texts(tuple(texts)), labels


def columns(path: Path | str) -> list[str]:
    """Return the names of the columns of a table, see `from_table`.

    Raises:
        InputError: No such file, or another encoding.
    """
    with _open_table(Path(path)) as rows:
        return list(rows.fieldnames or [])


@contextlib.contextmanager
def _open_table(path: Path) -> Iterator[csv.DictReader]:
    """Open a table and return its rows."""
    if not path.is_file() or path.suffix.lower() not in DELIMITERS:
        raise errors.expected("data", "be a file .csv or .tsv that exists", str(path))
    delimiter = DELIMITERS[path.suffix.lower()]
    # GLUE's tables have quotation marks that are part of the text.
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield csv.DictReader(file, delimiter=delimiter, quoting=quoting)
    except UnicodeDecodeError as error:
        raise errors.InputError(
            f"{path} must be in UTF-8: {error.reason} at byte {error.start}."
        ) from error


def _check_columns(path, names, text, label) -> str:
    """Return the column of the texts, after checking that both are there."""
    for name in (label, *([text] if text else [])):
        if name not in names:
            raise errors.InputError(
                f"{path} must have a column {name!r}. Received: {', '.join(names)}."
            )
    others = [name for name in names if name != label]
    if text is None and len(others) != 1:
        raise errors.InputError(
            f"{path} must have one column besides {label!r}, that of the texts. "
            f"Received: {', '.join(others)}."
        )
    return text or others[0]


def from_folder(path: Path | str) -> tuple[Texts, list[str]]:
    """Read texts from files `FOLDER/CLASS/NAME.txt`, with their class as label.

    Raises:
        InputError: No such folder, no text in it, an empty file, or one that is not in
            UTF-8.
    """
    folder = Path(path)
    paths = sorted(folder.glob("*/*.txt"))
    if not paths:
        raise errors.expected("data", "hold texts as FOLDER/CLASS/NAME.txt", str(path))
    texts = []
    for file in paths:
        try:
            texts.append(file.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise errors.InputError(
                f"{file} must be in UTF-8: {error.reason} at byte {error.start}."
            ) from error
        if not texts[-1].strip():
            raise errors.InputError(f"{file} is empty.")
    return Texts(tuple(texts)), [file.parent.name for file in paths]
