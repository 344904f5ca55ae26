"""Commands on data of one's own, one in each module: settings, and what is done.

- `train`: Train a classifier for images of one's own in a given time.
- `settings`: Settings that the commands have in common; nothing heavy is imported here.
"""
