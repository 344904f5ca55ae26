"""Write data into a few large files, which the other commands take as DATA."""

from keras_tl import errors, files
from keras_tl.commands.settings import Pack
from keras_tl.data import assembly, datasets, packing


def main(settings: Pack) -> None:
    """Pack data, and print what was written and what was left out.

    Raises:
        InputError: Data that cannot be read, or that are in large files already.
    """
    options = datasets.options_of(settings)
    columns, kind = options.pop("columns"), options.pop("kind")
    chosen = assembly.Options(**options)
    choices = datasets.choices_of(kind)
    content = datasets.read(settings.data, columns, chosen, choices)
    if content is None:
        raise errors.expected(
            "data",
            "be a folder or table that exists",
            settings.data,
            "Datasets that have names, or that Hugging Face's `datasets` has saved, "
            "are in a few large files already.",
        )
    content = assembly.usable(content, chosen)
    number = packing.write(content, chosen, settings.out, settings.shard_size)
    noun, nouns = content.kind.noun, content.kind.nouns
    size = sum(path.stat().st_size for path in settings.out.iterdir())
    print(
        f"Packed {errors.counted(len(content.files), noun, nouns)} into "
        f"{errors.counted(number, 'shard')}, {size / 1e6:,.1f} MB, in "
        f"{files.quoted(settings.out)}.{assembly.about_left_out(content)}"
    )
    print(f"To use it: keras-tl train {files.quoted(settings.out)}")
