"""The error for a request that a model server has refused."""


class ServingError(Exception):
    """A model server answered with an error; the message is the server's.

    Attributes:
        code: the error's kind in gRPC's words, such as `"INVALID_ARGUMENT"`
            for inputs that do not fit the model and `"NOT_FOUND"` for a
            model or version that the server does not have.
    """

    def __init__(self, message: str, code: str = "UNKNOWN"):
        super().__init__(message)
        self.code = code
