"""Errors that users meet."""


class UserError(Exception):
    """A mistake of the user's: one sentence that names the thing and the way out. Commands end with it and exit code 2.

    Names that come out of files may hold line breaks and orders to the terminal; they are shown as escapes, never obeyed.
    """

    def __init__(self, sentence: object) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(sentence)))
