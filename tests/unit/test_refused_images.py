"""Whether a server's words say that its model takes no images at all."""

from __future__ import annotations

import msgspec
import pytest

from antiphon.models.chat.errors import error_of_answer, is_refusal_of_images
from antiphon.wire.errors import ApiError

NO_IMAGES = (
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    "image input is not supported by this server",
    "At most 0 image(s) may be provided in one request.",
    "At most 0 image(s) may be provided in one prompt.",
    "Qwen/Qwen3-8B is not a multimodal model",
    "This model does not support image inputs",
    "Invalid content type. image_url is only supported by certain models.",
    "Image inputs are not supported by this model.",
    "messages[0]: unknown variant `image_url`, expected `text` at line 1 column 99",
    "Failed to process inputs: this model is missing data required for image input",
    "Model does not support images. Please use a model that does",
    "No endpoints found that support image input",
    "messages[0].content must be a string",
    "Image input modality is not enabled for models/gemma-3-1b-it",
    "model doesn't support image input",
    "Input contains images but the model does not support images",
    "Content type 'image_url' is not supported",
    "This model doesn't support the image content block that you provided. Remove it",
    "image content is not supported for this model",
    "unsupported content[].type",
    "This model only supports text input",
    "Multimodal input is not supported",
    "The model is not a vision model",
    "This model does not have vision capabilities",
    "model 'x' does not support vision",
    "The requested model does not support multimodal inputs",
    "Vision is not supported by this model",
    "Images are not allowed for this model",
    " 'content' must be a string",
    "unsupported content type: image_url",
    "only text content is supported",
    "The model does not accept image content",
)
THIS_IMAGE = (
    "Invalid image: could not decode",
    "Image is too large: not more than 20 MB",
    "unsupported image format: only png, jpeg are supported",
    "cannot identify image file",
    "The image data you provided does not represent a valid image. Please check your input",
    "Invalid image URL",
    "Failed to download image from https://x",
    "does not support image format webp",
    "does not support images larger than 20MB",
    "Too many images: at most 10 images may be provided",
    "Image URL is not allowed",
    "could not process image",
    "Unsupported MIME type: image/bmp",
    "You uploaded an unsupported image. Please make sure your image has of one the following formats",
    "At most 2 image(s) may be provided in one request",
    "The image was not found",
    "Rate limit",
    "image dimensions exceed max allowed size",
    "Your input image may contain content that is not allowed by our safety system.",
    "does not support image URLs",
)


def refused(status: int, words: str) -> bool:
    error = error_of_answer(status, msgspec.json.encode({"error": {"message": words}}), {})
    assert isinstance(error, ApiError)
    return is_refusal_of_images(error)


@pytest.mark.parametrize("words", NO_IMAGES)
def test_a_model_that_takes_none(words: str) -> None:
    assert all(refused(status, words) for status in (400, 404, 422, 500))


@pytest.mark.parametrize("words", THIS_IMAGE)
def test_an_image_that_is_not_good(words: str) -> None:
    assert not refused(400, words)
