"""The errors of serving: what a request did wrong, and what keeps a server from it."""

import grpc


class RequestError(Exception):
    """A request that is answered with a status instead of a result.

    The messages follow TF Serving's wording, so that what a client matches on today
    still matches.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


class ModelLoadError(Exception):
    """A version of a model that cannot be served, and why."""


class StoreUnavailableError(ConnectionError):
    """A store of profiles or events that does not answer, and what to do about it."""


class ServerStartError(Exception):
    """A server that cannot start, and what to do about it."""


def invalid_argument(message: str) -> RequestError:
    """Returns the error for a request that can never be answered as it is."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> RequestError:
    """Returns the error for a request that names what is not served."""
    return RequestError(grpc.StatusCode.NOT_FOUND, message)
