"""Let `python -m keras_tl` be the same as `keras-tl`."""

from keras_tl.cli import main

main()
