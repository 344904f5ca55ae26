"""Decide how to train, as `train` does, and write the decisions to a file."""

import keras_tl.quiet as quiet  # Before Keras.

from keras_tl import cluster as clusters
from keras_tl import config, files
from keras_tl.commands import train
from keras_tl.commands.settings import Plan
from keras_tl.training import placement


def main(settings: Plan) -> None:
    """Print the decisions with their reasons, and write what `train` takes."""
    path = settings.out or files.next_file("plan.json")
    files.check_new(path)
    end = train.end_of(settings, quiet.STARTED)
    place, settings = placement.from_settings(settings)
    decisions = train.Decisions()
    settings, data = train.prepare_data(settings, None, end, decisions)
    with place.scope():
        model = train.build_model(settings, data)
    settings = train.plan(settings, model, data, place, end, decisions)
    decided = {**config.to_json(settings), "out": None}
    if not clusters.is_chief():
        return
    files.write_json(path, decided)
    print(f"To train like this: keras-tl train --config {files.quoted(path)}")
