import importlib
import sys

import pytest

from keras_tl.training import code

SOURCE = "table = object()\ndef change(x):\n    return table, x\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of packages that Python imports from, and the standard ones are not."""
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package/__init__.py").write_text('__version__ = "1.0"\n')
    (tmp_path / "some_package/inner.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("some_package")]:
        del sys.modules[name]


def test_a_package_that_pip_put_elsewhere_is_known_by_its_version(folder):
    # `pip install --user` and `--target` do: its objects have no description.
    (folder / "some_package-1.0.dist-info").mkdir()
    (folder / "some_package-1.0.dist-info/RECORD").write_text(
        "some_package/__init__.py,,\nsome_package/inner.py,,\n"
    )
    inner = importlib.import_module("some_package.inner")
    described = code.describe(inner.change)
    assert described == code.describe(inner.change)
    assert described == "some_package.inner.change some_package.inner 1.0"


def test_a_package_beside_installed_ones_is_known_by_its_code(folder):
    (folder / "other-1.0.dist-info").mkdir()
    (folder / "other-1.0.dist-info/RECORD").write_text("other/__init__.py,,\n")
    inner = importlib.import_module("some_package.inner")
    assert code.describe(inner.change) != code.describe(inner.change)
