"""Style transfer: a picture with the content of one image and the style of another.

Content is what the deeper layers of a network for images see, position by position;
style is which features of its layers appear together, whatever the position. `optimize`
changes the pixels of one picture; `feed_forward` trains a network that changes any
picture in one pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_tl import errors, files, progress
from keras_tl.data import pictures
from keras_tl.training import checkpoint, gradients
from keras_tl.training.terms import Method, Term

# Layers of VGG16 of the feed-forward paper, section 4.
STYLE_LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3")
CONTENT_LAYERS = ("block3_conv3",)

Features = Mapping[str, keras.KerasTensor]


@dataclass(frozen=True)
class Objective:
    """What a picture has to be like: the style of one image, the content of another.

    Attributes:
        network: From images `(batch, height, width, 3)`, RGB in [0, 255], to the
            features of layers by their names, see `taps.maps`.
        style: Name of a layer -> Gram matrix of the style, see `style_of`.
        content_layers: Names of the layers whose features are the content.
        style_weight: Weight of the style, at least 0; that of the content is 1.
    """

    network: keras.Model
    style: Mapping[str, np.ndarray]
    content_layers: Sequence[str] = CONTENT_LAYERS
    style_weight: float = 30.0

    def __post_init__(self):
        errors.check_at_least("style_weight", self.style_weight, 0)
        known = self.network.output
        for name in (*self.style, *self.content_layers):
            if name not in known:
                raise errors.unknown("layers", name, known)

    def losses(self, pictures, contents: Features):
        """Compute the losses of content and style.

        Args:
            pictures: `(batch, height, width, 3)`, RGB in [0, 255].
            contents: What `network` returns for the images whose content they have.

        Returns:
            Two float32 tensors `(batch,)`, each at least 0: the mean of `content_loss`
            over the layers of the content, and that of `style_loss` over those of the
            style.
        """
        features = self.network(pictures)
        content = [content_loss(features[n], contents[n]) for n in self.content_layers]
        style = [style_loss(features[n], gram) for n, gram in self.style.items()]
        return sum(content) / len(content), sum(style) / len(style)

    def value(self, pictures, contents: Features):
        """Compute the weighted sum of both `losses`, float32 `(batch,)`."""
        content, style = self.losses(pictures, contents)
        return content + self.style_weight * style

    def measure(self, picture: np.ndarray, content: np.ndarray) -> dict[str, float]:
        """Compute both losses and their weighted sum of one picture.

        Args:
            picture: `(height, width, 3)`, RGB in [0, 255].
            content: Image of the same shape whose content it has.

        Returns:
            The `content_loss`, the `style_loss` and the `objective`.
        """
        wanted = self.network(_batch(content))
        content_of, style_of = self.losses(_batch(picture), wanted)
        values = {
            "content_loss": float(content_of[0]),
            "style_loss": float(style_of[0]),
        }
        total = values["content_loss"] + self.style_weight * values["style_loss"]
        return values | {"objective": total}


def gram(features):
    """Compute how often features appear together, over all positions.

    Args:
        features: `(batch, rows, columns, channels)`.

    Returns:
        `(batch, channels, channels)`: for each two channels the sum over positions of
        their product, divided by rows * columns * channels.

    Reference:
        Gatys et al., "A neural algorithm of artistic style", 2015, arXiv:1508.06576,
        equation 3, with the divisor of Johnson et al., equation 3, which makes images
        of different sizes comparable.

    >>> gram(ops.array([[[[1.0, 2.0], [3.0, 0.0]]]]))[0].numpy().tolist()
    [[2.5, 0.5], [0.5, 1.0]]
    """
    _, rows, columns, channels = ops.shape(features)
    flat = ops.reshape(features, (-1, rows * columns, channels))
    products = ops.matmul(ops.transpose(flat, (0, 2, 1)), flat)
    return products / ops.cast(rows * columns * channels, products.dtype)


def content_loss(features, wanted):
    """Compute by how much features differ from those of the content.

    Args:
        features: `(batch, rows, columns, channels)`.
        wanted: Those of the images whose content is wanted, of the same shape.

    Returns:
        float32 `(batch,)`: the sum of squared differences, divided by the sum of the
        squares of `wanted`; 1 where nothing of the content is left.

    Reference:
        Gatys et al., equation 1, with a weight that does not depend on the network.

    >>> one = ops.ones((1, 2, 2, 3))
    >>> content_loss(1.5 * one, one).numpy().tolist()
    [0.25]
    """
    return _relative(ops.cast(features, "float32"), ops.cast(wanted, "float32"))


def style_loss(features, wanted):
    """Compute by how much the Gram matrix of features differs from that of a style.

    Args:
        features: `(batch, rows, columns, channels)`.
        wanted: Gram matrix of the style, `(channels, channels)`.

    Returns:
        float32 `(batch,)`: the sum of squared differences, divided by the sum of the
        squares of `wanted`.

    Reference:
        Gatys et al., equations 4 and 5, where the weight of each layer is free: here
        the layers count alike, whatever the size of their features.

    >>> features = ops.array([[[[1.0, 2.0], [3.0, 0.0]]]])
    >>> round(float(style_loss(features, np.array([[2.5, 0.0], [0.0, 0.0]]))[0]), 4)
    0.24
    """
    wanted = ops.cast(wanted, "float32")[None]
    return _relative(gram(ops.cast(features, "float32")), wanted)


def _relative(values, wanted):
    axes = tuple(range(1, len(wanted.shape)))
    apart = ops.sum(ops.square(values - wanted), axis=axes)
    return apart / (ops.sum(ops.square(wanted), axis=axes) + 1e-12)


def style_of(
    network: keras.Model, image: np.ndarray, layers: Sequence[str] = STYLE_LAYERS
) -> dict[str, np.ndarray]:
    """Compute the Gram matrices of an image, which are its style.

    Args:
        network: See `Objective`.
        image: `(height, width, 3)`, RGB in [0, 255].
        layers: Names of the layers.

    Returns:
        Name of a layer -> float32 `(channels, channels)`.

    Raises:
        InputError: An unknown layer, or an image with no position in the smallest one.
    """
    for name in layers:
        if name not in network.output:
            raise errors.unknown("layers", name, network.output)
    features = network(_batch(image))
    return {
        name: ops.convert_to_numpy(gram(ops.cast(features[name], "float32")))[0]
        for name in layers
    }


def check_size(network: keras.Model, image: np.ndarray) -> None:
    """Raise `InputError` for an image with no position in the smallest feature map.

    Args:
        network: See `Objective`.
        image: `(height, width, 3)`.
    """
    height, width = image.shape[:2]
    try:
        shapes = network.compute_output_shape((1, height, width, 3)).values()
    except ValueError:  # Of Keras, for a layer that would have no position.
        shapes = []
    if not shapes or min(min(shape[1:3]) for shape in shapes) < 1:
        raise errors.InputError(
            f"An image must be large enough to have a position in each layer: "
            f"{', '.join(network.output)}. Received: an image of {width}x{height} "
            "pixels."
        )


def sides(longest: int, smallest: int = 256) -> list[int]:
    """Return the sizes at which a large picture is made, from coarse to fine.

    Args:
        longest: Longest side of the picture in pixels.
        smallest: Sizes of less than this are not halved.

    Returns:
        The longest sides, each twice the one before.

    >>> sides(1024), sides(300)
    ([256, 512, 1024], [300])
    """
    made = [longest]
    while made[0] >= 2 * smallest:
        made.insert(0, made[0] // 2)
    return made


def _batch(image):
    return ops.convert_to_tensor(np.asarray(image, "float32")[None])


def optimize(
    objective: Objective,
    content: np.ndarray,
    *,
    steps: int = 100,
    learning_rate: float = 8.0,
    start: np.ndarray | None = None,
    state: Path | None = None,
    follow: Callable[[int, np.ndarray, float], None] | None = None,
    every: int = 20,
) -> tuple[np.ndarray, list[float]]:
    """Change the pixels of a picture until it has the style and keeps the content.

    Args:
        objective: Style, and its weight.
        content: Image whose content is kept, `(height, width, 3)`, RGB in [0, 255].
        steps: Steps of Adam, at least 1; the paper takes L-BFGS.
        learning_rate: Its learning rate, in levels of [0, 255]; it falls to 0 along a
            cosine.
        start: Picture to begin with, of the same shape; by default the content.
        state: File, `.npz`, from which the work goes on where it exists, to the same
            picture bit for bit. It is written every few steps; `None` keeps nothing.
        follow: Called every few steps with the number of steps that are done, the
            picture as uint8, and its objective before the last step.
        every: Number of steps between two calls.

    Returns:
        The picture, uint8 `(height, width, 3)`, and the objective before each step.

    Raises:
        InputError: A value out of range, `start` of another shape, or a file that
            cannot be read. One that does not hold the state of such a picture costs a
            warning, and the picture is begun anew.
    """
    errors.check_at_least("steps", steps, 1)
    errors.check_above("learning_rate", learning_rate, 0)
    start = content if start is None else start
    if np.shape(start) != np.shape(content):
        raise errors.expected("start", f"be {np.shape(content)}", np.shape(start))
    wanted = objective.network(_batch(content))
    picture = keras.Variable(_batch(start), name="picture")
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build([picture])
    variables = [picture, *optimizer.variables]
    losses = _restore(state, variables)

    gradient = gradients.compiled(lambda pixels: objective.value(pixels, wanted))
    left = range(len(losses) + 1, steps + 1)
    for step in progress.track(left, "picture", len(left)):
        value, slope = gradient(picture.value)
        losses.append(float(value[0]))
        optimizer.apply([slope], [picture])
        picture.assign(ops.clip(picture, 0.0, 255.0))
        if step % every == 0 or step == steps:
            if state is not None:
                _keep(state, variables, losses)
            if follow is not None:
                follow(step, _pixels(picture), losses[-1])
    return _pixels(picture), losses


def _pixels(picture) -> np.ndarray:
    return np.rint(ops.convert_to_numpy(picture)[0]).astype("uint8")


def _keep(path, variables, losses):
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as temporary:
        arrays = {f"v{n}": ops.convert_to_numpy(v) for n, v in enumerate(variables)}
        np.savez(temporary, losses=losses, **arrays)


def _restore(path, variables) -> list[float]:
    """Restore the variables, and return the objective before each step so far."""
    if path is None or not Path(path).exists():
        return []
    try:
        saved = checkpoint.read_arrays(Path(path).read_bytes())
        arrays = [saved[f"v{number}"] for number in range(len(variables))]
        losses = saved["losses"].tolist()
        shapes = [tuple(variable.shape) for variable in variables]
        if [array.shape for array in arrays] != shapes:
            raise ValueError("it is of another picture")
    except OSError as error:
        raise errors.InputError(
            f"{path} cannot be read ({error.strerror or error}). Make it readable, or "
            "remove it to begin anew."
        ) from error
    except Exception as error:  # Nearly any type, for a damaged file.
        errors.warn(
            f"{path} does not hold the state of such a picture: "
            f"{errors.reason(error)}. It is begun anew."
        )
        return []
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return losses


def coarse_to_fine(
    objective_of: Callable[[int], Objective],
    content: np.ndarray,
    *,
    steps: int = 100,
    smallest: int = 256,
    state: Path | None = None,
    **options,
) -> tuple[np.ndarray, list[float]]:
    """Change the pixels of a small picture, then of larger ones that begin with it.

    What is larger than a layer can see at once is settled where the picture is small;
    that also takes far less time. Each size has half as many steps as the one before.

    Args:
        objective_of: Function from the longest side of a picture to its objective.
        content: Image whose content is kept, `(height, width, 3)`, uint8 RGB.
        steps: Steps at the smallest size, at least 1; the others have at least 10.
        smallest: See `sides`.
        state: Beginning of the names of the files of `optimize`, one for each size.
        **options: Further options of `optimize`.

    Returns:
        As `optimize`; the objectives are those at the size of `content`.

    Reference:
        Gatys et al., "Controlling perceptual factors in neural style transfer", 2017,
        arXiv:1611.07865, section 6.
    """
    errors.check_at_least("steps", steps, 1)
    picture = None
    for number, side in enumerate(sides(max(content.shape), smallest)):
        small = pictures.scaled(content, side)
        picture, losses = optimize(
            objective_of(side),
            small,
            steps=steps if number == 0 else max(10, steps >> number),
            start=small if picture is None else pictures.resized(picture, small.shape),
            state=None
            if state is None
            else state.with_name(f"{state.name}-{side}.npz"),
            **options,
        )
    return picture, losses


def feed_forward(objective: Objective) -> Method:
    """Train a network to change any picture in one pass.

    Args:
        objective: The style, its weight, and the network that judges, which stays as it
            is.

    Returns:
        A method for `phases.Phase` of a model from images to pictures of the same
        shape, such as `image_transform.load`, with
        `Setup(objective=Unlabelled(), choose_by="last")`.

    Reference:
        Johnson et al., "Perceptual losses for real-time style transfer and
        super-resolution", 2016, arXiv:1603.08155.
    """

    def build(model: keras.Model, steps: int) -> Term:
        def loss(batch):
            wanted = objective.network(ops.cast(batch.inputs, "float32"))
            return batch.mean(objective.value(batch.logits, wanted))

        return Term(loss=loss, label_weight=0.0, in_validation=True)

    return build
