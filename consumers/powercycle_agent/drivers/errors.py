"""What can go wrong at a switch, named for the reaction. Client libraries' exceptions are translated into these, once, in the driver."""

from __future__ import annotations


class DriverError(Exception):
    """Base of all errors that drivers raise. The text says what happened, to which device, and what to do; never a secret."""


class Unreachable(DriverError):
    """The device does not answer, or broke off: try again later. What it has done meanwhile is not known."""


class NotReached(Unreachable):
    """No connection to the device could be made, so nothing was sent: nothing was switched, for certain.

    Only a driver that knows raises it: not when a connection broke, nor when an earlier message of the same call may have
    been understood.
    """


class TurnedAway(DriverError):
    """The device answers but will not have us: a wrong password, or a host key that is not the known one. A person must act.

    From `on` and `off` it says that nothing was switched, for certain; and so do `UnknownPort` and `NotInstalled`. What goes
    wrong after the device was told is `Unreachable` or `NotConfirmed`.
    """


class NotConfirmed(DriverError):
    """The device took the command, but its port is not in the state that was asked for, or it answered with an error."""


class UnknownPort(DriverError):
    """The device has no such port."""


class NotInstalled(DriverError):
    """The Python package or program that the driver needs is not here. The text says how to install it."""
