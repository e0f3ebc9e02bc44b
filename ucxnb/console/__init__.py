"""Commands in words: one grammar for the terminal, for scripts and for notebook magics."""

from __future__ import annotations

from .session import Session

__all__ = ["Session"]
