"""Sentence pairs: bring examples of one class together, before a head is fitted."""

from keras import ops

from keras_tl.models import splitting
from keras_tl.training.terms import Method, Term


def cosine(layer: str = "pool") -> Method:
    """Train the cosine of two examples towards 1 within a class, else towards 0.

    The contrastive stage of SetFit, for few labels: n labelled examples are n (n - 1)
    / 2 labelled pairs. The loss of the labels is left out, so that the head does not
    train; fit it afterwards, such as by `probe.fit_head`. For two pairs of examples,
    of the same and of different classes, the loss is half of (1 - cosine)^2 plus half
    of cosine^2; with several, each half is a mean. In the paper pairs are drawn, as
    many of each kind; here they are all pairs of a batch, and the two means weigh the
    kinds equally.

    Args:
        layer: Name of the layer whose output is the vector of an example, `(batch,
            features)`.

    Returns:
        A method for `phases.Phase`. Its loss is that of validation too; select the
        epoch by it: `choose_by="loss"`.

    Raises:
        InputError: An unknown layer, or one whose output is no vector.

    Reference:
        Tunstall et al., "Efficient few-shot learning without prompts", 2022,
        arXiv:2209.11055.
    """

    def method(model, steps):
        splitting.check_vector(model, layer)

        def loss(batch):
            vectors = ops.cast(batch.outputs[layer], "float32")
            return pair_loss(vectors, batch.labels, batch.sample_weight)

        return Term(
            loss,
            layers=[layer],
            label_weight=0.0,
            in_validation=True,
            of_rows=False,
        )

    return method


def pair_loss(vectors, labels, sample_weight=None):
    """Compute the loss of all pairs of a batch, see `cosine`.

    Args:
        vectors: float32 `(batch, features)`.
        labels: One-hot `(batch, num_classes)`.
        sample_weight: `(batch,)`; rows of weight 0 are in no pair.

    Returns:
        float32 scalar in [0, 1]; 0 where there is no pair.

    >>> vectors = ops.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    >>> float(pair_loss(vectors, ops.array([[1, 0], [1, 0], [0, 1]])))
    0.75
    """
    norms = ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True))
    directions = vectors / ops.maximum(norms, 1e-6)
    cosines = ops.matmul(directions, ops.transpose(directions))
    labels = ops.cast(labels, "float32")
    same = ops.matmul(labels, ops.transpose(labels))
    counts = ops.ones_like(vectors[:, 0])
    if sample_weight is not None:
        weights = ops.reshape(sample_weight, (-1,))
        counts = ops.cast(weights != 0, "float32")
    # Each pair once, none of an example with itself.
    pairs = ops.triu(counts[:, None] * counts[None, :], k=1)
    kinds = [(pairs * same, 1 - cosines), (pairs * (1 - same), cosines)]
    return sum(
        0.5 * ops.sum(of_kind * ops.square(error)) / ops.maximum(ops.sum(of_kind), 1.0)
        for of_kind, error in kinds
    )
