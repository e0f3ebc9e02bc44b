"""UCX's choice of protocols, read from what it prints."""

from __future__ import annotations

from .estimates import Candidate, Estimate, read_graphs
from .explanation import Explanation, explain_printed, time_text
from .table import Lane, Printed, ProtocolRange, read_printed
from .words import describe_protocol

__all__ = [
    "Candidate",
    "Estimate",
    "Explanation",
    "Lane",
    "Printed",
    "ProtocolRange",
    "describe_protocol",
    "explain_printed",
    "read_graphs",
    "read_printed",
    "time_text",
]
