"""A small convolutional network from scratch: what every transfer is compared with."""

import keras
from keras import layers

from keras_tl import errors


def small_cnn(num_classes: int, *, image_size: int = 32) -> keras.Model:
    """Build a small CNN with random weights.

    Two convolutions of 64 and 128 channels, each with max pooling, hidden layers of
    1,024 and 512, spatial dropout before them and dropout between: a network as many
    articles train on CIFAR-10. At 32 pixels it has 9 million weights, nearly all in the
    first hidden layer.

    Args:
        num_classes: Width of the output.
        image_size: Side of the square images, in pixels, at least 8.

    Returns:
        A model from raw images `(batch, image_size, image_size, 3)`, RGB in [0, 255],
        to `logits` `(batch, num_classes)`, float32.

    >>> small_cnn(10).count_params()
    8995210
    """
    errors.check_at_least("num_classes", num_classes, 2)
    errors.check_at_least("image_size", image_size, 8)
    image = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(image)
    for number, channels in enumerate((64, 128), start=1):
        x = layers.Conv2D(
            channels, 3, padding="same", activation="relu", name=f"conv_{number}"
        )(x)
        x = layers.MaxPooling2D(name=f"conv_{number}_pool")(x)
    x = layers.SpatialDropout2D(0.25, name="spatial_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", name="hidden_1")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.Dense(512, activation="relu", name="hidden_2")(x)
    logits = layers.Dense(num_classes, name="logits", dtype="float32")(x)
    return keras.Model(image, logits, name="small_cnn")
