"""Run `keras-tl` as `python -m keras_tl`."""

from keras_tl.cli import main

main()
