"""The one exception that is meant for the reader, not for the developer."""


class UserError(ValueError):
    """Something outside the code is wrong: a file, an argument, the network.

    The message names what was found, what was expected and what to do. The command line prints it
    without a traceback and exits with status 1.
    """
