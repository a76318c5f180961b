"""What is measured on which pictures, as YAML files: a file here for each published protocol, or the user's own."""

from .protocol import Protocol, ProtocolError, RandomSplits, RatedSet, load_protocol, protocol_names

__all__ = ["Protocol", "ProtocolError", "RandomSplits", "RatedSet", "load_protocol", "protocol_names"]
