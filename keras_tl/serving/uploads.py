"""Read what clients send, within limits; nothing of it is a path or runs."""

import base64
import binascii
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pydantic
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from keras_tl import errors
from keras_tl.data import images, waves
from keras_tl.data.choices import Resize

# Most characters of a text.
LONGEST_TEXT = 100_000
# Images with more pixels are decoded one at a time: a decoder takes up to sixteen bytes
# for a pixel.
_LARGE = 8_000_000
_ONE_LARGE = threading.Lock()
# What Pillow calls an object in memory, with its address.
_ADDRESS = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        body: Most bytes of a request.
        pixels: Most pixels of an image.
        count: Most images, clips or texts of a request.
        seconds: Longest time from its first byte to the answer.
        clip_seconds: Length of the longest clip of sound.
    """

    body: int = 32_000_000
    pixels: int = 50_000_000
    count: int = 32
    seconds: float = 30.0
    clip_seconds: float = 60.0


# Fields of what can be asked about.
EXAMPLES = ("images", "clips", "texts")
_FILES = EXAMPLES[:2]


class Inputs(pydantic.BaseModel, extra="forbid"):
    """Images, clips of sound or texts, of one kind."""

    images: list[str | bytes] = Field(
        [], description="Image files; in JSON in base64, also as data: URLs."
    )
    clips: list[str | bytes] = Field(
        [], description="Files of sound; in JSON in base64, also as data: URLs."
    )
    texts: list[str] = []

    @property
    def kinds(self) -> list[str]:
        """Fields that hold examples; one, once `read` has checked it."""
        return [name for name in EXAMPLES if getattr(self, name)]

    @property
    def examples(self) -> list[str | bytes]:
        """All examples."""
        return [one for name in EXAMPLES for one in getattr(self, name)]


class Question(Inputs):
    """What to predict."""

    model: list[str] = Field(
        [], description="Names of models; without any, the first one."
    )
    top: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Most classes to name, the likeliest first."
    )
    heat_map: bool = Field(False, description="Where the model looked, for its answer.")
    nearest: int = Field(
        0, ge=0, le=20, description="Number of training images to show, the likest."
    )


class Correction(Inputs):
    """An image, a clip or a text with its right label."""

    model: list[str] = Field([], max_length=1)
    label: list[str] = Field(
        min_length=1,
        max_length=1000,
        description="Its class; of several labels all that are right; or a number.",
    )


# Fields of a form that hold several values.
_SEVERAL = (*EXAMPLES, "model", "label")


def schema(kind: type[Inputs]) -> dict:
    """Return the body of a request for OpenAPI: a form with files, or JSON."""
    as_json, as_form = kind.model_json_schema(), kind.model_json_schema()
    text = {"type": "string"}
    for name in _FILES:
        as_json["properties"][name]["items"] = text
        as_form["properties"][name]["items"] = {**text, "format": "binary"}
    for field in as_form["properties"].values():
        # A form has no null.
        field.update(field.pop("anyOf", [{}])[0])
    content = {
        "application/json": {"schema": as_json},
        "multipart/form-data": {"schema": as_form},
    }
    return {"requestBody": {"required": True, "content": content}}


async def read(request: Request, kind: type[Inputs], limits: Limits) -> Inputs:
    """Read the body of a request: JSON, or a form with files.

    Raises:
        HTTPException: The body is something else, or more than the limits; in a
            sentence.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    try:
        if content_type == "application/json":
            given = kind.model_validate_json(await request.body())
        elif content_type == "multipart/form-data":
            given = kind.model_validate(await _form(request, limits))
        else:
            raise HTTPException(
                415, "The body must be application/json or multipart/form-data."
            )
    except pydantic.ValidationError as error:
        raise HTTPException(422, _sentence(error, kind)) from None
    count = len(given.examples)
    if not count:
        raise HTTPException(422, f"{_or(EXAMPLES, '`')} must hold at least one.")
    if count > limits.count:
        raise HTTPException(
            413,
            f"A request holds at most {limits.count} {_or(EXAMPLES)}: {count} came.",
        )
    if len(given.kinds) > 1:
        named = " and ".join(f"`{name}`" for name in given.kinds)
        raise HTTPException(422, f"{named} cannot be given together.")
    if max(map(len, given.texts), default=0) > LONGEST_TEXT:
        raise HTTPException(413, f"A text has at most {LONGEST_TEXT:,} characters.")
    return given


def _or(names, mark="") -> str:
    *others, last = (f"{mark}{name}{mark}" for name in names)
    return f"{', '.join(others)} or {last}"


async def _form(request, limits) -> dict:
    """Return the fields of a form: files as bytes, the rest as text."""
    most = limits.count + 1
    fields = {}
    async with request.form(
        max_files=most, max_fields=most + 1000, max_part_size=4 * LONGEST_TEXT
    ) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                value = await value.read()
            fields.setdefault(name, []).append(value)
    return {
        name: values if name in _SEVERAL or len(values) > 1 else values[0]
        for name, values in fields.items()
    }


def _sentence(error: pydantic.ValidationError, kind: type[Inputs]) -> str:
    """Return the first thing that is wrong with a body; no value of it is repeated."""
    every = error.errors(include_url=False, include_context=False, include_input=False)
    where, what, message = (every[0][name] for name in ("loc", "type", "msg"))
    # A name that does not exist is the client's, and is not repeated.
    if what == "extra_forbidden":
        return f"There is a field that is none of {', '.join(kind.model_fields)}."
    if not where:
        return f"{message}."
    if what == "list_type":
        return f'`{where[0]}` must be a list, such as ["..."].'
    return f"`{where[0]}`: {message}."


def content_of(example: str | bytes) -> bytes:
    """Return the bytes of an image or a clip that came as a file, or in base64.

    Raises:
        InputError: It is no base64.

    >>> content_of("data:image/png;base64,aGk="), content_of("aGk=")
    (b'hi', b'hi')
    """
    if isinstance(example, bytes):
        return example
    if example[:5] == "data:":
        example = example.partition(",")[2]
    try:
        return base64.b64decode(example.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise errors.InputError("An example must be a file, or base64.") from None


def decode(
    content: bytes, image_size: int, resize: Resize, most_pixels: int
) -> np.ndarray:
    """Decode an image as `Artifact.predict` does, after checking its header.

    Returns:
        uint8 RGB `(image_size, image_size, 3)`.

    Raises:
        InputError: It cannot be used, in words that tell nothing of this machine.
    """
    try:
        width, height = images.check_header(content, most_pixels)
        if width * height <= _LARGE:
            return images.decode(content, image_size, resize)
        with _ONE_LARGE:
            return images.decode(content, image_size, resize)
    except errors.InputError as error:
        reason = str(error).removeprefix("Cannot use an image: it ")
        raise errors.InputError(f"The image {_ADDRESS.sub('it', reason)}") from None


def decode_clip(
    content: bytes, spec: Mapping[str, object], most_seconds: float
) -> np.ndarray:
    """Decode a clip as `Artifact.predict` does.

    Args:
        content: The file.
        spec: Input of the model, as `manifest.json` has it.
        most_seconds: Longest clip.

    Returns:
        float32 `(samples,)`.

    Raises:
        InputError: It cannot be used, in words that tell nothing of this machine.
    """
    (samples,) = spec["shape"]
    try:
        return waves.decode(
            content,
            spec["rate"],
            samples,
            noise=spec["noise"],
            most_seconds=most_seconds,
        )
    except errors.InputError as error:
        reason = str(error).removeprefix("Cannot use a clip: it ")
        raise errors.InputError(f"The clip {_ADDRESS.sub('it', reason)}") from None
