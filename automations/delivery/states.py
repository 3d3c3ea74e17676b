"""The states of an alert and of its deliveries; `outbox.sql` mirrors them in its CHECKs."""

from enum import StrEnum


class AlertState(StrEnum):
    """How far an alert has come."""

    WAITING = "waiting"  # an event may still make it needless
    GATHERED = "gathered"  # in a storm, or in the hours of silence: a digest tells of it
    PENDING = "pending"  # to be delivered
    DELIVERED = "delivered"
    SUMMED_UP = "summed up"  # another one tells of it, a digest as a rule
    CANCELLED = "cancelled"  # over before it was told


class DeliveryState(StrEnum):
    """How far an alert has come on one channel."""

    PENDING = "pending"
    SENDING = "sending"  # claimed by a process, until a time
    DELIVERED = "delivered"
