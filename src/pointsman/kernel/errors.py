"""What the machine refuses, in one line."""


class KernelError(Exception):
    """The machine lacks something or refused something; the message is one line that says what to do."""
