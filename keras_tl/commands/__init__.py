"""Commands on data of one's own, one in each module: settings, and what is done.

- `plan`: Decide how to train, as `train` does, and write the decisions to a file.
- `train`: Train a classifier for data of one's own in a given time.
- `train_images`: What `train` does with images alone.
- `train_texts`: What `train` does with texts alone.
- `train_sound`: What `train` does with sound alone.
- `deciding`: Decisions of a run with their reasons, and the time that is left for it.
- `rank`: Rank backbones for data of one's own, without training them.
- `curve`: `keras-tl curve DATA`: how many more examples an accuracy needs.
- `diagnose`: `keras-tl diagnose RUN`: which part of a run costs the accuracy.
- `runs`: A finished run of images, loaded for the commands that look at it again.
- `serve`: Serve finished runs: a web page, and an API.
- `export`: `keras-tl export RUN`: write the model of a run for another runtime.
- `inspect`: `keras-tl inspect FILE`: what is in a model file, without executing it.
- `cluster`: `keras-tl cluster run RECIPE`: workers that Ray starts, and starts again.
- `compare`: Compare finished runs on one page.
- `update`: Update a finished run with more images, or with new classes.
- `settings`: Settings that the commands have in common; nothing heavy is imported here.
- `pack`: Write data into a few large files, which the others take as DATA.
- `check`: Check data, and a model for them, before training.
"""
