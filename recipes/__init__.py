"""Runnable transfer-learning recipes; `keras-tl list` names them."""
