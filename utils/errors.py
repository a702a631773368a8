"""The exception for everything that a user can correct."""


class UserError(Exception):
    """Bad input, a bad option or a missing file; the message is one line.

    It names the file or option, what was found, what was expected and what to do. Scripts print it without a
    trace and exit with code 2; in Python it is an ordinary exception.
    """
