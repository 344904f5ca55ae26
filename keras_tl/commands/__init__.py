"""Commands on data of one's own, one in each module: settings, and what is done.

- `settings`: Settings that the commands have in common; nothing heavy is imported here.
- `check`: Check data, and a model for them, before training.
"""
