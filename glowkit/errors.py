"""The one exception the library raises on bad input."""


class GlowkitError(ValueError):
    """Bad input, told in one line: what was wrong, where, and what would be right.

    The command line prints the message and exits with status 1; a notebook shows the line without a stack.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython calls this hook instead of printing the stack: the line says all there is to say.
        return [f"{type(self).__name__}: {self}"]
