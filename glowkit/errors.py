"""The one exception the library raises on bad input."""


class GlowkitError(ValueError):
    """Bad input, told in one line: what was wrong, where, and what would be right.

    The command line prints the message and exits with status 1; a notebook shows the line without a stack.

    >>> try:
    ...     glowkit.load("nobody")
    ... except glowkit.GlowkitError as error:
    ...     print(str(error).split(";")[0])
    nobody: no model there
    """

    def __init__(self, message: str) -> None:
        # Names of files and what other libraries say may hold anything: line breaks, commands for a terminal.
        line = " ".join(str(message).split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))

    def _render_traceback_(self) -> list[str]:
        # IPython calls this hook instead of printing the stack: the line says all there is to say.
        return [f"{type(self).__name__}: {self}"]
