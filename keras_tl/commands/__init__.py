"""Commands on data of one's own, one in each module: settings, and what is done.

- `plan`: Decide how to train, as `train` does, and write the decisions to a file.
- `train`: Train a classifier for images of one's own in a given time.
- `rank`: Rank backbones for data of one's own, without training them.
- `serve`: Serve finished runs: a web page, and an API.
- `export`: `keras-tl export RUN`: write the model of a run for another runtime.
- `update`: Update a finished run with more images, or with new classes.
- `settings`: Settings that the commands have in common; nothing heavy is imported here.
- `check`: Check data, and a model for them, before training.
"""
