"""What crosses the API: requests, items, events, errors. Imports nothing of ours outside this package."""

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""One JSON object, decoded. Items and content parts stay in this form from the edge to the store: the API has
33 kinds of input items and grows by several a year, and an item that a client sends back must come back whole."""

Id: TypeAlias = str
"""An opaque identifier such as ``resp_…``, ``msg_…``, ``fc_…``; prefix by kind, 128 random bits or more."""
