"""The error that torch's side has of its own."""

from .._errors import MFACError


class WindowLost(MFACError):
    """The window is not what the optimizer left: gradients were lost (a worker has died), or others have come. No weight was
    changed. ``accept_window`` of the optimizer goes on from what is there."""

    code = "window_lost"
