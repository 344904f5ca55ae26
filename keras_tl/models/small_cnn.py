"""A small convolutional network to train from scratch: the baseline of transfer."""

import keras
from keras import layers

from keras_tl import environment, errors


def small_cnn(*, image_size: int = 32) -> keras.Model:
    """Build the convolutions of a small CNN, with random weights.

    Two convolutions of 64 and 128 channels with ReLU, each followed by max pooling,
    then spatial dropout: what many articles train on CIFAR-10. `heads.attach_mlp` puts
    a classifier on it, as on any backbone.

    Args:
        image_size: Side of the square images, in pixels, at least 8.

    Returns:
        A model from raw images `(batch, image_size, image_size, 3)`, RGB in [0, 255],
        to features `(batch, image_size // 4, image_size // 4, 128)`.

    >>> small_cnn().output.shape
    (None, 8, 8, 128)
    """
    image_size = errors.side("image_size", image_size, 8)
    environment.use_standard_keras()
    image = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(image)
    for number, channels in enumerate((64, 128), start=1):
        x = layers.Conv2D(
            channels, 3, padding="same", activation="relu", name=f"conv_{number}"
        )(x)
        x = layers.MaxPooling2D(name=f"conv_{number}_pool")(x)
    x = layers.SpatialDropout2D(0.25, name="spatial_dropout")(x)
    return keras.Model(image, x, name="small_cnn")
