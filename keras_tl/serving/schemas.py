"""What the server answers, for its OpenAPI description."""

from pydantic import BaseModel


class Error(BaseModel):
    """Why there is no answer, in a sentence."""

    error: str


class State(BaseModel):
    """Whether the server lives, or is ready."""

    status: str


class Model(BaseModel):
    """A model that is served."""

    name: str
    kind: str
    class_names: list[str]
    activation: str
    image_size: int | None
    resize: str | None
    rate: int | None
    clip_seconds: float | None
    sha256: str
    has_examples: bool


class Limits(BaseModel):
    """What a request may ask for."""

    bytes: int
    pixels: int
    count: int
    seconds: float
    clip_seconds: float


class Models(BaseModel):
    """The models that are served; the first is the default."""

    models: list[Model]
    limits: Limits


class Value(BaseModel):
    """A class or label with its probability, or the name of a number with its value."""

    name: str
    probability: float | None = None
    value: float | None = None


class Example(BaseModel):
    """A training example."""

    name: str
    label: str
    jpeg: str | None = None


class Result(BaseModel):
    """The answer for an example, or why it has none.

    `answer` is the class, or the labels that are present; none of numbers, and none
    where the model is not sure. `is_sure` is null where the run has no rule for
    abstaining. `unlike` above 1 means unlike the training examples.
    """

    error: str | None = None
    answer: str | list[str] | None = None
    is_sure: bool | None = None
    values: list[Value] = []
    unlike: float | None = None
    heat_map: list[list[float]] | None = None
    nearest: list[Example] | None = None


class Answers(BaseModel):
    """The answers of a model, in the order of the examples."""

    model: str
    results: list[Result]


class Predictions(BaseModel):
    """The answers of each model that was asked."""

    answers: list[Answers]


class Kept(BaseModel):
    """A correction that is kept, and how many there are."""

    model: str
    kept: int


_REASONS = {
    400: "The form is damaged.",
    401: "A token is needed.",
    403: "A page of another server, or a server without a token.",
    404: "No such model.",
    409: "The run cannot be loaded; the old model stays.",
    413: "More than the limits.",
    415: "Neither JSON nor a form.",
    422: "It cannot be used.",
    429: "No room: try again after the seconds of Retry-After.",
    503: "It took too long.",
    507: "A correction could not be kept.",
}
ERRORS = {
    status: {"model": Error, "description": reason}
    for status, reason in _REASONS.items()
}
