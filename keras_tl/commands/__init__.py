"""Commands on data of one's own, one in each module: settings, and what is done.

- `rank`: Rank backbones for data of one's own, without training them.
- `settings`: Settings that the commands have in common; nothing heavy is imported here.
"""
