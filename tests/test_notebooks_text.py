"""The notebook on sentences runs with any encoder, and says what it needs."""

import importlib
from pathlib import Path

import pytest

NAME = "minilm_sentiment"


@pytest.fixture
def build(script):
    """The script notebooks/build.py, as a module."""
    return script("notebooks/build.py")


@pytest.mark.slow
def test_the_notebook_runs_with_a_tiny_encoder_and_a_small_table(
    build, tiny_bert, reviews, monkeypatch, tmp_path
):
    reviews.rename(tmp_path / "SST-2")
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(tiny_bert)
    # The encoder has two layers, and takes 16 tokens.
    settings = "labels=20, sequence_length=12, blocks=2, epochs=2, fine_tune_epochs=1"
    monkeypatch.setitem(build.OFFLINE, NAME, settings)
    build.main([NAME, "--only-run", "--folder", str(tmp_path)])
    assert (tmp_path / "runs" / NAME / "manifest.json").exists()


@pytest.mark.parametrize("missing", ["SST-2", "all-MiniLM-L6-v2"])
def test_without_one_of_its_folders_the_notebook_stops_with_one_sentence(
    build, missing, monkeypatch, tmp_path
):
    for folder in {"SST-2", "all-MiniLM-L6-v2"} - {missing}:
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    (cell,) = (
        cell
        for cell in build.unexecuted(NAME).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    recipe = importlib.import_module(f"recipes.{NAME}")
    with pytest.raises(SystemExit, match=f"no folder {missing} here.*where to get it"):
        exec(cell.source, {"Path": Path, "recipe": recipe})
