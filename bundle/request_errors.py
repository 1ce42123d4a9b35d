"""What is wrong with a request, by the status that tells it."""

from __future__ import annotations


class RequestError(Exception):
    """A request that cannot be met as it is; the message says why and what can be done."""

    status = 422


class NotFoundError(RequestError):
    """It names an image, a model or a session that does not exist."""

    status = 404


class TooLargeError(RequestError):
    """It holds more than is taken."""

    status = 413


class NotReadyError(RequestError):
    """The weights are being replaced, or are not there."""

    status = 503
