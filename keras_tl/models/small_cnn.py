"""A small convolutional network from scratch: what every transfer is compared with."""

import keras
from keras import layers

from keras_tl.models import heads


def small_cnn(
    num_classes: int, *, image_size: int = 32, dropout: float = 0.25
) -> keras.Model:
    """Build a small CNN with random weights.

    Three convolutions of 32, 64 and 128 channels, each with ReLU and max pooling, then
    the same head as a transfer has: pool, dropout, logits.

    Args:
        num_classes: Width of the output.
        image_size: Side of the square images, in pixels, at least 8.
        dropout: Fraction of the pooled features dropped in training, in [0, 1).

    Returns:
        A model from raw images `(batch, image_size, image_size, 3)`, RGB in [0, 255],
        to logits `(batch, num_classes)`.

    >>> small_cnn(10).count_params()
    94538
    """
    image = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(image)
    for number, channels in enumerate((32, 64, 128), start=1):
        x = layers.Conv2D(
            channels, 3, padding="same", activation="relu", name=f"conv_{number}"
        )(x)
        x = layers.MaxPooling2D(name=f"conv_{number}_pool")(x)
    return heads.attach(
        keras.Model(image, x, name="small_cnn"), num_classes, dropout=dropout
    )
