"""Journals over NATS JetStream: forwarded from one machine, and received on another (the extra ``nats``)."""

from flatstream.nats._order import Missing
from flatstream.nats.forwarder import Forwarder, ForwardReport, forward
from flatstream.nats.receiver import Received, Receiver, ReceiveReport, Subscription, receive

__all__ = [
    "ForwardReport",
    "Forwarder",
    "Missing",
    "ReceiveReport",
    "Received",
    "Receiver",
    "Subscription",
    "forward",
    "receive",
]
