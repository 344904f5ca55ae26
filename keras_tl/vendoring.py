"""Copy a recipe together with the modules of keras_tl that it imports."""

import ast
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from keras_tl import errors

PACKAGE = Path(__file__).parent


def core(recipe: Path) -> dict[str, Path]:
    """Find the files of keras_tl that a recipe needs to run without the package.

    Args:
        recipe: The file of a recipe.

    Returns:
        Path in the copy, such as "keras_tl/errors.py" -> the file to copy: modules,
        the assets they name, and the licence where the installation has it.
    """
    needed = modules(recipe)
    needed += [file for module in needed for file in assets(module)]
    targets = {
        f"keras_tl/{file.relative_to(PACKAGE).as_posix()}": file for file in needed
    }
    text = licence()
    return targets if text is None else {**targets, "keras_tl/LICENSE": text}


def modules(path: Path) -> list[Path]:
    """Find the modules of keras_tl that a file imports, and those that they import.

    Imports inside functions and under `TYPE_CHECKING` count, and so does every
    `__init__.py` on the way. Imports are absolute, as tests/test_architecture.py holds.
    """
    files, left = set(), [path]
    while left:
        for name in _imported(left.pop()):
            new = set(_files(name)) - files
            files |= new
            left += new
    return sorted(files)


def _imported(path: Path) -> Iterator[str]:
    """Return the dotted names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str) -> Iterator[Path]:
    """Return the files of keras_tl that Python runs to import a dotted name."""
    first, *parts = name.split(".")
    if first != "keras_tl":
        return
    for count in range(len(parts) + 1):
        # The last part may be a function or a constant: then it has no file.
        path = PACKAGE.joinpath(*parts[:count])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file() and PACKAGE in file.parents:
                yield file


def assets(module: Path) -> list[Path]:
    """Find the files of the assets that a module names.

    An asset is a folder; a module names it by `... / "assets" / "NAME"`. Its licence
    and its README go with it; the scripts that made it do not.
    """
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return sorted(
        file
        for name in asset_names(tree)
        for file in (PACKAGE / "assets" / name).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    )


def asset_names(tree: ast.AST) -> set[str]:
    """Find the NAMEs in expressions of the form `... / "assets" / "NAME"`.

    >>> sorted(asset_names(ast.parse('HERE / "assets" / "photos" / "one.jpg"')))
    ['photos']
    """
    return {
        node.right.value
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.right, ast.Constant)
        and isinstance(node.left, ast.BinOp)
        and isinstance(node.left.right, ast.Constant)
        and node.left.right.value == "assets"
    }


def licence() -> Path | None:
    """Find the licence of keras-tl: in the checkout, or in what pip has installed."""
    # Beside an installed package lie other people's files. There, and only there, the
    # recipes are inside the package.
    if not (PACKAGE / "recipes").is_dir():
        path = PACKAGE.parent / "LICENSE"
        return path if path.is_file() else None
    from importlib import metadata

    try:
        listed = metadata.files("keras-tl") or []
    except metadata.PackageNotFoundError:
        return None
    for file in listed:
        # The licences of the assets are listed too, in folders of their own.
        first, *rest = file.parts
        if first.endswith(".dist-info") and rest in (
            ["licenses", "LICENSE"],
            ["LICENSE"],
        ):
            path = Path(file.locate())
            return path if path.is_file() else None
    return None


def copy(targets: Mapping[str, Path], folder: Path) -> None:
    """Copy files into a folder, all or none; nothing is ever overwritten.

    Args:
        targets: Path in `folder` -> the file to copy.
        folder: Made when it is not there.

    Raises:
        InputError: One of the files, or one of the folders they would go to, is there
            already, or `folder` cannot be written to. Nothing was written then.
    """
    # A folder that is there is not filled up: the files in it might be others'.
    tops = sorted({Path(target).parts[0] for target in targets})
    taken = [str(folder / top) for top in tops if os.path.lexists(folder / top)]
    if taken:
        raise errors.InputError(
            f"Existing files are not overwritten: {', '.join(taken)}. "
            "Nothing was copied; name another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copy-", dir=folder) as temporary:
            for target, source in targets.items():
                path = Path(temporary, target)
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, path)
            for top in tops:
                os.rename(Path(temporary, top), folder / top)
    except OSError as error:
        reason = error.strerror or error
        raise errors.InputError(f"Cannot write to {folder}: {reason}.") from error
