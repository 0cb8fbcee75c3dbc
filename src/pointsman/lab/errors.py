"""What can go wrong in a lab, as one line for the user."""


class LabError(Exception):
    """The lab cannot do what was asked; the message is one line and says what would help."""
