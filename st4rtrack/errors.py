"""Errors shown to users."""


class UserError(Exception):
    """Invalid user input; the message names the problem and a fix in one sentence. Commands print it and exit with code 2.

    Names from files may contain line breaks and terminal control sequences; they are shown as escapes, never interpreted.
    """

    def __init__(self, sentence: object) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(sentence)))
