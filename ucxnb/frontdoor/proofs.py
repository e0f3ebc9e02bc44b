"""What two sides of a handshake prove to each other when they have a key.

Each side sends a nonce of 32 random bytes with its introduction. Each then proves to have the key
with an HMAC-SHA-256 over the protocol version, both introductions (name, tag scope, method, nonce:
the connecting side's first) and its own role; and it signs its worker address and tag prefix in
the same way. So

- a proof that was heard in another handshake is of no use: the nonces differ;
- a proof that is sent back to its maker is of no use: the role differs;
- what a third party between the two changes, in an introduction or an address, is noticed;
- who does not have the key learns no more than that: one answer to all that is wrong.

The key itself never goes over the wire. It should be random: proofs can be listened to, and who
did can try words for as long as they like. What comes after the handshake is not protected: UCX
neither encrypts nor signs messages.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from ..auth_key import AuthKey
from .protocol import VERSION

__all__ = ["METHOD", "NO_METHOD", "Proofs", "is_nonce", "new_nonce"]

METHOD = "hmac-sha256"
NO_METHOD = "none"
_INTRODUCED = ("name", "tag_scope", "auth", "nonce")
_NONCE = re.compile(r"[0-9a-f]{64}\Z")


def new_nonce() -> str:
    """Give 32 random bytes, as hexadecimal digits."""
    return secrets.token_hex(32)


def is_nonce(text: str) -> bool:
    """Tell whether a text has the form of one."""
    return _NONCE.match(text) is not None


class Proofs:
    """The proofs of one handshake, to make and to check.

    Parameters
    ----------
    key : AuthKey
        This side's.
    connecting, listening : mapping of str to object
        What the two sides said in HELLO and WELCOME.
    """

    def __init__(
        self, key: AuthKey, connecting: Mapping[str, Any], listening: Mapping[str, Any]
    ) -> None:
        self._key = key
        self._both = [side[field] for side in (connecting, listening) for field in _INTRODUCED]

    def of_key(self, *, connecting: bool) -> str:
        """Prove that a side, the connecting one or the other, has the key."""
        return self._key.sign(self._text("key", connecting))

    def of_address(self, address: str, prefix: int, window: int | None, *, connecting: bool) -> str:
        """Prove that a worker address, tag prefix and window are that side's."""
        return self._key.sign(self._text("address", connecting, address, prefix, window))

    def proves_key(self, proof: str, *, connecting: bool) -> bool:
        """Tell whether a proof is what `of_key` gives."""
        return self._key.signed(self._text("key", connecting), proof)

    def proves_address(
        self, proof: str, address: str, prefix: int, window: int | None, *, connecting: bool
    ) -> bool:
        """Tell whether a proof is what `of_address` gives."""
        return self._key.signed(self._text("address", connecting, address, prefix, window), proof)

    def _text(self, what: str, connecting: bool, *more: str | int | None) -> bytes:
        role = "connecting" if connecting else "listening"
        return json.dumps(["ucxnb", VERSION, what, role, *self._both, *more]).encode()
