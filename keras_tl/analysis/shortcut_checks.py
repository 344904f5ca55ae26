"""Checks for shortcuts: what gives a label away without being what an example is about.

A network takes the easiest way to the label. Where a border, a stamp, the size of the
files or a single word leads there, a high accuracy says nothing about the objects.

Reference:
    Geirhos et al., "Shortcut learning in deep neural networks", 2020,
    https://arxiv.org/abs/2004.07780
"""

import re

import numpy as np

from keras_tl.analysis import sound_checks
from keras_tl.analysis.findings import Finding, named
from keras_tl.analysis.records import Records
from keras_tl.data.text import WORD
from keras_tl.errors import counted

# Fewest examples of a class, and most of it that are looked at.
_FEWEST, _MOST = 12, 200
# Share of what chance leaves that properties of files have to explain; and that the
# form of texts, or the length of clips, has to for a note.
_SKILL, _SOME_SKILL = 0.8, 0.5
# Fewest texts of a class in which words are looked for, and most of it. Share of a
# class that has a word, and of all other classes, in texts in which it was not chosen:
# for a warning, and for a note.
_FEWEST_TEXTS, _MOST_TEXTS = 20, 2_000
_WARNED, _NOTED = (0.8, 0.05), (0.5, 0.01)
# Most words that are named for a class.
_MOST_WORDS = 5
# Levels within which a border is of one colour; width of a border in parts of the side;
# share of the first line inside that differs from it.
_LEVELS, _WIDTH, _EDGE = 6, 0.03, 0.5
# Difference between classes in the share of images with a border.
_DIFFERENCE = 0.5
# A mark has the same edges wherever it is: at each of its pixels, the gradients of so
# many images are within so much of their median, which is that large. So many pixels
# of a class are none of a mark, but may be aligned objects.
_AGREEING, _WITHIN, _GRADIENT, _PIXELS = 0.6, 0.3, 30.0, 12
# Smallest side of images in which a mark can be told from an object.
_SHARP = 32
# Share of the images of other classes that may have the colour of a mark at its place,
# and share of all of their pixels that have it where it is the colour of a background.
_RARE, _BACKGROUND = 0.2, 0.1


def marks_of_images(records: Records) -> list[Finding]:
    """Look for borders and marks; a border has edges in one place as well."""
    return borders(records) or marks(records)


def _members(records, fewest=_FEWEST, most=_MOST) -> dict[str, np.ndarray]:
    """Return the indices of the examples of each class that has enough of them."""
    if records.task != "single-label":
        return {}
    labels = np.array([label or "" for label in records.labels])
    members = {label: np.flatnonzero(labels == label) for label in sorted({*labels})}
    rng = np.random.default_rng(0)
    return {
        label: np.sort(rng.permutation(indices)[:most])
        for label, indices in members.items()
        if label and len(indices) >= fewest
    }


def _skill(table, labels) -> tuple[float, float, float, np.ndarray]:
    """Predict labels of held-out rows by a small decision tree.

    Returns:
        Share of right answers; that of the commonest class; share of what chance leaves
        that the tree explains; importance of each column.
    """
    from sklearn.model_selection import cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=6, min_samples_leaf=3, random_state=0)
    right = (cross_val_predict(tree, table, labels, cv=4) == labels).mean()
    _, counts = np.unique(labels, return_counts=True)
    chance = counts.max() / counts.sum()
    importances = tree.fit(table, labels).feature_importances_
    return right, chance, (right - chance) / (1 - chance), importances


# Kind of files -> what is known of them without looking at the content.
_PROPERTIES = {
    "image": "Size and format",
    "audio": "Length, loudness, rate, channels and format",
}


def properties(records: Records) -> list[Finding]:
    """Predict the label from what is known of a file without looking at the content.

    The properties are width, height and format of an image; length, level, rate,
    channels and format of a clip. A decision tree that predicts held-out examples from
    them alone has to be much better than the commonest class.
    """
    known = records.sizes if records.kind == "image" else records.checked
    members = _members(records) if records.paths and len(known) else {}
    if len(members) < 2:
        return []
    indices = np.concatenate(list(members.values()))
    labels = np.concatenate([[name] * len(m) for name, m in members.items()])
    suffixes = [records.paths[index].suffix.lower() for index in indices]
    formats = np.unique(suffixes, return_inverse=True)[1]
    if records.kind == "image":
        columns = records.sizes[indices]
    else:
        checked = [records.checked[index] for index in indices]
        columns = [(c.seconds, c.level, c.rate, c.channels) for c in checked]
    table = np.column_stack([columns, formats])
    if len(np.unique(table, axis=0)) < 2:
        return []
    right, chance, skill, _ = _skill(table, labels)
    if skill < _SKILL:
        return []
    if records.kind == "image":
        ends = sorted(set(suffixes))
        usual = {name: _usual(table[labels == name], ends) for name in members}
    else:
        usual = {name: sound_checks.usual(records, m) for name, m in members.items()}
    listed = tuple(f"{name}: {text}" for name, text in usual.items())
    return [
        Finding(
            "label-in-file-properties",
            "warning",
            f"{_PROPERTIES[records.kind]} of the files alone predict {right:.0%} of "
            f"the labels ({chance:.0%} by chance): {named(listed)}. The classes were "
            "collected in different ways, which a network can tell apart.",
            _REMEDIES[records.kind],
            listed,
        )
    ]


_REMEDIES = {
    "image": "Collect all classes in the same way, or scale all images down to one "
    "size and format.",
    "audio": "Collect all classes in the same way: with the same microphone, cut "
    "alike, at one level, rate and format.",
}


def _usual(rows, suffixes) -> str:
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    width, height, suffix = kinds[counts.argmax()]
    return f"mostly {width} x {height}, {suffixes[suffix]}"


# Name of a property of the form of a text -> function that computes it.
_FORM = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "lines": lambda text: text.count("\n") + 1,
    "share of capitals": lambda text: _share(str.isupper, text),
    "share of digits": lambda text: _share(str.isdigit, text),
    "share of marks": lambda text: _share(_is_mark, text),
}


def _is_mark(character) -> bool:
    return not character.isalnum() and not character.isspace()


def _share(is_one, text) -> float:
    return sum(map(is_one, text)) / max(1, len(text))


def form(records: Records) -> list[Finding]:
    """Predict the label from length, capitals, digits and marks of texts alone.

    A decision tree that predicts held-out texts from these alone has to explain much of
    what the commonest class leaves.
    """
    members = _members(records) if records.texts else {}
    if len(members) < 2:
        return []
    indices = np.concatenate(list(members.values()))
    labels = np.concatenate([[name] * len(m) for name, m in members.items()])
    table = np.array(
        [[compute(records.texts[n]) for compute in _FORM.values()] for n in indices],
        "float64",
    )
    right, chance, skill, importances = _skill(table, labels)
    if skill < _SOME_SKILL:
        return []
    column = int(importances.argmax())
    name = list(_FORM)[column]
    listed = tuple(
        f"{_rounded(np.median(table[labels == label, column]))} in {label}"
        for label in members
    )
    return [
        Finding(
            "label-in-form",
            "warning" if skill >= _SKILL else "note",
            "Length, capitals, digits and marks of the texts alone predict "
            f"{right:.0%} of the labels ({chance:.0%} by chance), most of all the "
            f"{'share' if 'share' in name else 'number'} of "
            f"{name.removeprefix('share of ')}: its median is {named(listed)}.",
            "Look whether the classes come from different sources; if so, bring the "
            "texts into one form.",
            listed,
        )
    ]


def _rounded(value) -> str:
    return f"{value:.0%}" if value < 1 else f"{value:,.0f}"


def words(records: Records) -> list[Finding]:
    """Find single words that stand in most texts of one class, and in hardly any other.

    Words are chosen in one half of the texts and counted in the other: among thousands
    of words, some seem to tell any classes apart.
    """
    members = _members(records, _FEWEST_TEXTS, _MOST_TEXTS) if records.texts else {}
    if len(members) < 2:
        return []
    from sklearn.feature_extraction.text import CountVectorizer

    indices = np.concatenate(list(members.values()))
    labels = np.concatenate([[name] * len(m) for name, m in members.items()])
    counter = CountVectorizer(analyzer=_tokens, binary=True, min_df=_FEWEST_TEXTS // 4)
    try:
        has = counter.fit_transform([records.texts[index] for index in indices])
    except ValueError:  # No word is in so many texts.
        return []
    vocabulary = counter.get_feature_names_out()
    not_words = [not str(word).isalnum() for word in vocabulary]
    half = np.arange(len(indices)) % 2 == 0
    names = list(members)
    first, second = (_shares(has, labels, names, one) for one in (half, ~half))
    findings = []
    for row, name in enumerate(members):
        lead = first[row] - _others(first, row)
        best = np.lexsort((not_words, -lead))[:_MOST_WORDS]
        own, others = second[row, best], _others(second, row)[best]
        for severity, (least, most) in (("warning", _WARNED), ("note", _NOTED)):
            telling = np.flatnonzero((own >= least) & (others <= most))
            if not len(telling):
                continue
            listed = [repr(str(vocabulary[best[n]])) for n in telling]
            word, share, rest = listed[0], own[telling[0]], others[telling[0]]
            shown = [
                index
                for index in members[name]
                if vocabulary[best[telling[0]]] in _tokens(records.texts[index])
            ]
            findings.append(
                Finding(
                    "label-in-word",
                    severity,
                    f"{share:.0%} of the texts of the class {name} have {word}, and "
                    f"{_at_most(rest)} of any other: a model can answer by it.",
                    "If it is no part of what the texts say, such as the name of their "
                    "source or the label itself, delete it from all texts.",
                    tuple(listed),
                    pictures=tuple(shown[:12]),
                )
            )
            break
    return findings


def _at_most(share) -> str:
    return "none" if share == 0 else f"{share:.1%}"


def _shares(has, labels, names, half) -> np.ndarray:
    """Compute the share of texts of each class with each word, in a half of them."""
    rows = [has[half & (labels == name)] for name in names]
    return np.stack([np.asarray(row.mean(axis=0)).ravel() for row in rows])


def _others(shares, row) -> np.ndarray:
    """Return the largest share of each word in the other classes."""
    return np.delete(shares, row, axis=0).max(axis=0)


def _tokens(text) -> set[str]:
    """Return words, marks, and what stands between spaces, such as a tag or `10/10`."""
    lower = text.lower()
    return {*re.findall(WORD, lower), *lower.split()}


def borders(records: Records) -> list[Finding]:
    """Find classes of which far more images have a border of one colour.

    A border is as wide as the image, of one colour, and ends in a straight edge.
    """
    members = _members(records)
    if records.squares is None or len(members) < 2:
        return []
    has = {name: _have_borders(records.squares[m]) for name, m in members.items()}
    shares = {name: flags.mean() for name, flags in has.items()}
    high, low = max(shares, key=shares.get), min(shares, key=shares.get)
    if shares[high] - shares[low] < _DIFFERENCE:
        return []
    shown = members[high][has[high]]
    return [
        Finding(
            "label-in-border",
            "warning",
            f"{shares[high]:.0%} of the images of {high} have a border of one colour, "
            f"{shares[low]:.0%} of {low}: a network can answer by the border.",
            "Crop the borders, of all classes.",
            records.named(shown),
            pictures=tuple(shown.tolist()),
        )
    ]


def _have_borders(squares) -> np.ndarray:
    """Return whether each square has a border of one colour on two opposite sides."""
    side = squares.shape[1]
    width = max(2, round(_WIDTH * side))
    values = squares.astype("int16")

    def ends(rows):
        """Return whether the first lines of each image are a border."""
        first = np.median(rows[:, :width].reshape(len(rows), -1, 3), axis=1)
        apart = np.abs(rows - first[:, None, None]).max(axis=3) > _LEVELS
        plain = apart[:, :width].mean(axis=(1, 2)) < 0.01
        # The line at which the border ends differs from it over most of its length.
        lines = apart[:, width : side // 2].mean(axis=2)
        inner = np.argmax(lines > 0.02, axis=1)
        # Antialiasing mixes the border with what is inside.
        after = np.minimum(inner + 1, lines.shape[1] - 1)
        edge = lines[np.arange(len(lines)), after] > _EDGE
        return plain & edge & (lines.max(axis=1) > 0.02)

    turned = values.swapaxes(1, 2)
    vertical = ends(values) & ends(values[:, ::-1])
    horizontal = ends(turned) & ends(turned[:, ::-1])
    return vertical | horizontal


def marks(records: Records) -> list[Finding]:
    """Find a mark, such as a stamp or a text, in one place of the images of a class.

    A mark has the same edges, or the same colours, in all images that have it; those of
    objects differ in strength and place. Where objects are aligned they may not, so
    that only marks outside of the middle of the image are named.
    """
    members, squares = _members(records), records.squares
    if squares is None or squares.shape[1] < _SHARP or len(members) < 2:
        return []
    if len(records.sizes) and np.median(records.sizes.min(axis=1)) < _SHARP:
        return []
    edges = {name: _common_edges(squares[m]) for name, m in members.items()}
    findings = []
    for name, shown in members.items():
        others = [one for other, one in edges.items() if other != name]
        marked = edges[name] & ~_wider(np.any(others, axis=0))
        rest = np.concatenate([m for other, m in members.items() if other != name])
        rest = rest[:: -(-len(rest) // _MOST)]
        marked |= _common_colors(squares[shown], squares[rest])
        rows, columns = np.nonzero(marked & _frame(squares.shape[1]))
        if len(rows) < _PIXELS:
            continue
        findings.append(
            Finding(
                "label-in-mark",
                "warning",
                f"Most of {counted(len(shown), 'image')} of {name} have the same mark "
                f"{_place(rows, columns, len(marked))}, and other classes do not: a "
                "network can answer by the mark.",
                "Crop or paint over the mark, in all images that have it.",
                records.named(shown),
                pictures=tuple(shown[:12].tolist()),
            )
        )
    return findings


def _common_edges(squares) -> np.ndarray:
    """Return the pixels at which most images have the same gradient."""
    grey = squares.astype("float32").mean(axis=3)
    gradients = np.stack(np.gradient(grey, axis=(1, 2)))
    median = np.median(gradients, axis=1)
    size = np.hypot(*median)
    apart = np.hypot(*(gradients - median[:, None]))
    agreeing = (apart <= _WITHIN * size).mean(axis=0)
    return (agreeing >= _AGREEING) & (size >= _GRADIENT)


def _common_colors(squares, others) -> np.ndarray:
    """Return the pixels of one colour in most images of a class, and in few others.

    A colour that others have elsewhere is that of a background, not of a mark.
    """
    values = squares.astype("int16")
    median = np.median(values, axis=0).astype("int16")

    def share(images):
        apart = np.abs(images - median).max(axis=3)
        return (apart <= _LEVELS).mean(axis=0)

    bins, count = np.unique(_coarse(others), return_counts=True)
    backgrounds = bins[count > _BACKGROUND * count.sum()]
    own = share(values) >= _AGREEING
    rare = share(others.astype("int16")) < _RARE
    return own & rare & ~np.isin(_coarse(median), backgrounds)


def _coarse(pixels) -> np.ndarray:
    """Return a number for each pixel that is the same for similar colours."""
    red, green, blue = np.moveaxis(pixels.astype("int64") // 32, -1, 0)
    return 64 * red + 8 * green + blue


def _frame(side) -> np.ndarray:
    """Return the pixels of the outer quarters of a square."""
    middle = np.zeros((side, side), bool)
    middle[side // 4 : -(side // 4), side // 4 : -(side // 4)] = True
    return ~middle


def _wider(mask) -> np.ndarray:
    """Return a mask with all pixels beside those of `mask` added."""
    padded = np.pad(mask, 1)
    size = len(mask)
    shifts = [(row, column) for row in range(3) for column in range(3)]
    return np.any([padded[r : r + size, c : c + size] for r, c in shifts], axis=0)


def _place(rows, columns, side) -> str:
    row, column = np.median(rows) / side, np.median(columns) / side
    vertical = "top" if row < 1 / 3 else "bottom" if row > 2 / 3 else "middle"
    horizontal = "left" if column < 1 / 3 else "right" if column > 2 / 3 else "middle"
    return (
        f"at the {vertical} {horizontal}" if vertical != horizontal else "in the middle"
    )
