"""Texts: read from files, and turned into the token ids that a model takes.

Tokens are made by Hugging Face's `tokenizers`, of the extra `text`; neither TensorFlow
nor KerasHub is needed for them.
"""

import codecs
import csv
import hashlib
import io
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

# Separator of the columns of a table, by the suffix of its file.
DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Suffixes of tables of texts; the others have a JSON object in each line.
SUFFIXES = (*DELIMITERS, ".jsonl", ".ndjson")


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

    def hashes(self) -> list[bytes]:
        """Hash each text; equal are those that differ in case and white space alone."""
        return [
            hashlib.blake2b(folded(text).encode(), digest_size=16).digest()
            for text in self.texts
        ]

    def preview(self, indices: Indices, side: int = 128) -> list[str]:
        """Return some texts as they are."""
        return [self.texts[index] for index in indices]


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


def from_table(
    path: Path | str,
    text: str | None = None,
    label: str = "label",
    *,
    encoding: str = "utf-8",
) -> tuple[Texts, list[str]]:
    """Read texts and labels from two columns of a table.

    Args:
        path: A file `.csv` or `.tsv`, whose first line names the columns, or `.jsonl`
            or `.ndjson` with a JSON object in each line.
        text: Name of the column of the texts; `None` is the only other column.
        label: Name of the column of the labels.
        encoding: Encoding of the file. A mark at its beginning, as Windows writes one,
            decides by itself.

    Returns:
        The texts, and the label of each as it is written.

    Raises:
        InputError: No such file, another encoding, a missing column, or an empty text
            or label, with its line.
    """
    path = Path(path)
    names, rows = _read_table(path, encoding)
    text = _check_columns(path, names, text, label)
    texts, labels = [], []
    for line, row in rows:
        cells = [row.get(name) for name in (text, label)]
        # JSON has numbers, booleans and null besides strings.
        kept = ["" if cell is None else str(cell) for cell in cells]
        if not kept[0].strip() or not kept[1].strip():
            raise errors.InputError(
                f"{path}, line {line}: text and label must not be empty. Received: "
                f"{cells[0]!r}, {cells[1]!r}."
            )
        texts.append(kept[0])
        labels.append(kept[1].strip())
    if not texts:
        raise errors.InputError(f"{path} has no line with a text.")
    return Texts(tuple(texts)), labels


def columns(path: Path | str, *, encoding: str = "utf-8") -> list[str]:
    """Return the names of the columns of a table, see `from_table`.

    Raises:
        InputError: No such file, or another encoding.
    """
    return _read_table(Path(path), encoding)[0]


def from_file(
    path: Path | str, column: str | None = None, *, encoding: str = "utf-8"
) -> Texts:
    """Read texts without labels, from a table or from the lines of a file.

    Args:
        path: A table, see `from_table`, or a file `.txt` with a text in each line.
        column: Name of the column of the texts; `None` is the only one, or the only
            one besides `label`, or that called `text`.
        encoding: See `read_file`.

    Raises:
        InputError: No such file, another encoding, no such column, or an empty text,
            with its line.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt" and path.is_file():
        lines = read_file(path, encoding).splitlines()
        return Texts(tuple(line for line in lines if line.strip()))
    names, rows = _read_table(path, encoding)
    if column is None:
        others = [name for name in names if name != "label"]
        column = others[0] if len(others) == 1 else "text"
    if column not in names:
        raise errors.InputError(
            f"{path} must have a column {column!r}. Received: {', '.join(names)}."
        )
    texts = [(line, row.get(column)) for line, row in rows]
    for line, one in texts:
        if not isinstance(one, str) or not one.strip():
            raise errors.InputError(
                f"{path}, line {line}: the text must not be empty. Received: {one!r}."
            )
    return Texts(tuple(one for _, one in texts))


def _read_table(path: Path, encoding: str) -> tuple[list[str], list[tuple[int, dict]]]:
    """Return the names of the columns, and each row with the number of its line."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in SUFFIXES:
        wanted = f"be a file {', '.join(SUFFIXES)} that exists"
        raise errors.expected("data", wanted, str(path))
    content = read_file(path, encoding)
    if suffix not in DELIMITERS:
        return _read_lines(path, content)
    # GLUE's tables have quotation marks that are part of the text.
    quoting = csv.QUOTE_NONE if suffix == ".tsv" else csv.QUOTE_MINIMAL
    reader = csv.DictReader(
        io.StringIO(content, newline=""),
        delimiter=DELIMITERS[suffix],
        quoting=quoting,
    )
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise errors.InputError(f"{path}, line {reader.line_num}: {error}.") from error
    return list(reader.fieldnames or []), rows


def _read_lines(path, content):
    """Return names and rows of a file with a JSON object in each line."""
    names, rows = {}, []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise errors.InputError(
                f"{path}, line {number} is no JSON: {error}."
            ) from error
        if not isinstance(row, dict):
            raise errors.InputError(
                f"{path}, line {number} must be a JSON object, such as "
                f'{{"text": "good", "label": "1"}}. Received: {line.strip()[:40]}.'
            )
        names |= dict.fromkeys(row)
        rows.append((number, row))
    return list(names), rows


# First bytes of files in encodings that begin with a mark -> name of the encoding.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # Before UTF-16, whose mark begins alike.
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_file(path: Path, encoding: str = "utf-8") -> str:
    """Read a file of text.

    Args:
        path: The file.
        encoding: Its encoding, by a name that Python knows; where the file begins with
            a mark of UTF-8, UTF-16 or UTF-32, that decides.

    Raises:
        InputError: An unknown encoding, or a file in another one: with the line, and
            how it would read in the most frequent other encoding.
    """
    errors.check_encoding(encoding)
    content = path.read_bytes()
    marked = [name for mark, name in MARKS.items() if content.startswith(mark)]
    encoding = marked[0] if marked else encoding
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        lines = content[: error.start].split(b"\n")
        line = lines[-1] + content[error.start :].split(b"\n")[0]
        other = line.decode("cp1252", "replace").strip()
        raise errors.InputError(
            f"{path} must be in {encoding}, and line {len(lines)} is not: "
            f"{error.reason} at byte {error.start} of the file. In cp1252, which "
            f"Windows often writes, it reads {other[:60]!r}. Save the file as UTF-8, "
            "or name its encoding: --encoding cp1252."
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


def from_folder(
    path: Path | str, *, encoding: str = "utf-8"
) -> tuple[Texts, list[str]]:
    """Read texts from files `FOLDER/CLASS/NAME.txt`, with their class as label.

    Args:
        path: The folder.
        encoding: See `read_file`.

    Raises:
        InputError: No such folder, no text in it, an empty file, or one in another
            encoding.
    """
    folder = Path(path)
    paths = sorted(folder.glob("*/*.txt"))
    if not paths:
        raise errors.expected("data", "hold texts as FOLDER/CLASS/NAME.txt", str(path))
    texts = []
    for file in paths:
        texts.append(read_file(file, encoding))
        if not texts[-1].strip():
            raise errors.InputError(f"{file} is empty.")
    return Texts(tuple(texts)), [file.parent.name for file in paths]
