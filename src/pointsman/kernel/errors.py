"""What the machine refuses, in one line."""


class KernelError(Exception):
    """The machine lacks something or refused something; the message is one line that says what to do."""

    is_mistake = False
    """Whether what was asked is wrong, and not how things are."""
