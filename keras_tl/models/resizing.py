"""The same model for images of another size.

Convolutions do not care how large an image is, so that a model can be trained on small
images first, where an epoch costs less, and on larger ones at the end.
"""

import re

import keras

from keras_tl import errors
from keras_tl.models import splitting


def at_size(model: keras.Model, image_size: int) -> keras.Model:
    """Rebuild `model` for square images of another size.

    Args:
        model: A functional model, or a built sequential one, from images
            `(batch, rows, columns, channels)`.
        image_size: Side of the images that the new one takes, in pixels.

    Returns:
        An uncompiled model that shares the layers of `model`, trainable or not as they
        are: what trains in one has trained in the other. It gives what a model built
        at that size would give with the same weights.

    Raises:
        InputError: Not a model of images, or one that cannot have another size: dense
            layers on a flattened map, padding that was computed for another size, or
            images too small for its layers.

    Reference:
        Howard et al., "Training ImageNet in 3 hours for 25 minutes", 2018,
        https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html (progressive
        resizing); Touvron et al., "Fixing the train-test resolution discrepancy", 2019,
        arXiv:1906.06423; Tan and Le, "EfficientNetV2", 2021, arXiv:2104.00298.

    >>> layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    >>> small = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    >>> large = at_size(small, 16)
    >>> large.input.shape, large.weights[0] is small.weights[0]
    ((None, 16, 16, 3), True)
    """
    image_size = errors.side("image_size", image_size)
    graph = splitting.functional(model)
    image = graph.inputs[0]
    if len(graph.inputs) > 1 or len(image.shape) != 4:
        raise errors.expected(
            "model",
            "take images (batch, rows, columns, channels)",
            [tuple(tensor.shape) for tensor in graph.inputs],
        )
    shape = (image_size, image_size, image.shape[-1])
    try:
        return _rebuilt(model, keras.Input(shape, dtype=image.dtype, name=image.name))
    except errors.InputError:
        raise
    except ValueError as error:
        raise errors.InputError(
            f"{model.name} cannot have images of {image_size} pixels: {_reason(error)} "
            "(A head that flattens its features has weights for one size only; "
            "`heads.attach` pools them.)"
        ) from error


def _reason(error):
    """Extract the reason from a message of Keras."""
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()
    reasons = [n for n in lines if n and "Exception encountered" not in n]
    return f"{reasons[0].removesuffix('.')}."


def _rebuilt(model, image):
    graph = splitting.functional(model)

    def share(layer):
        # A model within has a graph for one size of its own.
        if isinstance(layer, keras.Model) and len(getattr(layer, "inputs", ())) == 1:
            return lambda x, **options: _rebuilt(
                layer, keras.Input(x.shape[1:], dtype=x.dtype)
            )(x, **options)
        return layer

    # Not `graph` itself: a compiled model would give a compiled one.
    plain = keras.Model(graph.inputs[0], graph.output, name=model.name)
    rebuilt = keras.models.clone_model(plain, image, clone_function=share)
    _check_padding(graph, rebuilt)
    return rebuilt


def _check_padding(model, rebuilt):
    # keras.applications pads maps of even and of odd size differently before strides,
    # and keeps the numbers in the layer.
    before, after = _padded(model), _padded(rebuilt)
    for name, shape in after.items():
        if [_is_odd(side) for side in shape] != [_is_odd(s) for s in before[name]]:
            raise errors.InputError(
                f"{name} of {model.name} pads maps of {before[name]}, and would get "
                f"{shape}: what was computed for even sizes may be wrong for odd ones. "
                "Choose sizes that are multiples of 32, or build the model at that "
                "size and give it the weights with `set_weights`."
            )


def _is_odd(side):
    # Unknown sizes count as even where this padding is computed.
    return side is not None and side % 2 == 1


def _padded(model):
    """Return rows and columns of the input of each layer that pads with zeros."""
    return {
        operation.name: inputs[0].shape[1:3]
        for operation, inputs, _ in splitting.nodes(model)
        if isinstance(operation, keras.layers.ZeroPadding2D)
    }
