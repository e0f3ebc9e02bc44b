"""Who are you: the handshake of a connection, without any input or output of its own.

::

    connecting side            listening side
    HELLO        ──────────▶                    who I am, a nonce
                 ◀──────────   WELCOME          who I am, a nonce of mine
    AUTH         ──────────▶                    proof that I have the key
                 ◀──────────   AUTH, ADDRESS    proof; my UCX worker's address, signed
    ADDRESS      ──────────▶                    mine, signed
                 ◀──────────   READY

Each address comes with the window of the side that gives it: how much the other may send at first.

Either both sides have a key or none of them has: then there are neither nonces nor signatures, and
the method is "none". `proofs` tells what is proved. No worker address is given to UCX, and no
endpoint gets an id, before the peer has proved to have the key and to have signed that address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..auth_key import SET_KEY, AuthKey
from ..engine import MAX_ENDPOINT_ID
from ..errors import AuthenticationError, RejectedError
from .proofs import METHOD, NO_METHOD, Proofs, is_nonce, new_nonce
from .protocol import Frame, FrameType, ProtocolError
from .worker_address import check_worker_address

__all__ = ["Handshake", "Introduction", "sum_of_cost"]

_MAX_ADDRESS = 16 * 1024


@dataclass(frozen=True)
class Introduction:
    """What one side tells the other about itself.

    Attributes
    ----------
    name : str
        Its own name for itself.
    tag_scope : str
        Must be the same on both sides.
    features : tuple of str
        What it has switched on, of "tag", "stream" and "rma".
    worker_address : bytes
        Of its UCP worker.
    tag_prefix : int
        What the other side must put into the high bits of the tags it sends.
    window : int or None
        What the other side may send before this one has received some of it; None is no limit.
    """

    name: str
    tag_scope: str
    features: tuple[str, ...]
    worker_address: bytes = b""
    tag_prefix: int = 0
    window: int | None = None


class Handshake:
    """One side of one handshake.

    Parameters
    ----------
    me : Introduction
        What to tell the peer.
    enroll : callable
        Gives this side's `Introduction.tag_prefix` and `Introduction.window`; called once, after
        the peer authenticated.
    connecting : bool
        Whether this side connected, and so speaks first.
    key : AuthKey, optional
        What the peer must have too.

    Attributes
    ----------
    peer : Introduction or None
        Complete (with `worker_address`) as soon as `receive` took the peer's ADDRESS.
    done : bool
        Whether messages may flow.
    declined : bool
        Whether the peer sent REJECT, and needs no other.
    """

    def __init__(
        self,
        me: Introduction,
        enroll: Callable[[], tuple[int, int | None]],
        *,
        connecting: bool,
        key: AuthKey | None = None,
    ) -> None:
        self.me = me
        self._enroll = enroll
        self.peer: Introduction | None = None
        self.done = False
        self.declined = False
        self._connecting = connecting
        self._key = key
        self._method = NO_METHOD if key is None else METHOD
        self._said: dict[str, Any] = {
            "name": me.name,
            "tag_scope": me.tag_scope,
            "features": " ".join(me.features),
            "auth": self._method,
        }
        if key is not None:
            self._said["nonce"] = new_nonce()
        self._proofs: Proofs | None = None  # as soon as both said who they are
        self._expected = FrameType.WELCOME if connecting else FrameType.HELLO

    def begin(self) -> list[Frame]:
        """Frames to send first."""
        return [Frame(FrameType.HELLO, self._said)] if self._connecting else []

    def receive(self, frame: Frame) -> list[Frame]:
        """Take the peer's next frame; returns the frames to answer with.

        Raises
        ------
        ProtocolError
            It is not the frame that comes now, or a field of it is wrong.
        RejectedError
            The peer declines, or is none that this side can talk to.
        AuthenticationError
            It does not have this side's key, or something that it signed was changed.
        """
        if frame.type is FrameType.REJECT:
            self.declined = True
            raise _rejection(frame.payload)
        if frame.type is not self._expected:
            raise ProtocolError(f"it sent {frame.type.name} where {self._expected.name} comes")
        if frame.type in (FrameType.HELLO, FrameType.WELCOME):
            return self._introduced(frame.payload)
        if frame.type is FrameType.AUTH:
            return self._authenticated(frame.payload)
        if frame.type is FrameType.ADDRESS:
            return self._addressed(frame.payload)
        self.done = True
        return []

    def _introduced(self, payload: Mapping[str, Any]) -> list[Frame]:
        name = _text(payload, "name")
        tag_scope = _text(payload, "tag_scope")
        features = tuple(_text(payload, "features").split())
        if _text(payload, "auth") != self._method:
            raise AuthenticationError(f"only one side has a key: {SET_KEY}")
        if tag_scope != self.me.tag_scope:
            raise RejectedError(
                f'tag_scope differs: one side has "{tag_scope}", the other '
                f'"{self.me.tag_scope}"; make both workers with the same'
            )
        if self._key is not None:
            if not is_nonce(_text(payload, "nonce")):
                raise ProtocolError("its nonce is no hexadecimal number of 32 bytes")
            sides = (self._said, payload) if self._connecting else (payload, self._said)
            self._proofs = Proofs(self._key, *sides)
        self.peer = Introduction(name, tag_scope, features)
        self._expected = FrameType.AUTH
        if self._connecting:
            return [self._auth()]
        return [Frame(FrameType.WELCOME, self._said)]

    def _auth(self) -> Frame:
        proof = "" if self._proofs is None else self._proofs.of_key(connecting=self._connecting)
        return Frame(FrameType.AUTH, {"method": self._method, "proof": proof})

    def _authenticated(self, payload: Mapping[str, Any]) -> list[Frame]:
        if _text(payload, "method") != self._method:
            raise AuthenticationError("the peer sent a proof of a kind that nobody asked for")
        if self._proofs is not None:
            proof = _text(payload, "proof")
            if not self._proofs.proves_key(proof, connecting=not self._connecting):
                raise AuthenticationError(f"the keys differ: {SET_KEY}")
        self._expected = FrameType.ADDRESS
        if self._connecting:
            return []
        return [self._auth(), self._address()]

    def _address(self) -> Frame:
        address = self.me.worker_address.hex()
        prefix, window = self._enroll()
        fields: dict[str, Any] = {"address": address, "prefix": prefix, "window": window}
        if self._proofs is not None:
            fields["proof"] = self._proofs.of_address(
                address, prefix, window, connecting=self._connecting
            )
        return Frame(FrameType.ADDRESS, fields)

    def _addressed(self, payload: Mapping[str, Any]) -> list[Frame]:
        assert self.peer is not None
        text, prefix = _text(payload, "address", 2 * _MAX_ADDRESS), payload.get("prefix")
        if type(prefix) is not int or not 0 <= prefix <= MAX_ENDPOINT_ID:
            raise ProtocolError(f"it wants tags with the prefix {prefix!r}")
        no_limit = "window" in payload and payload["window"] is None
        window = None if no_limit else sum_of_cost(payload, "window")
        if self._proofs is not None:
            proof = _text(payload, "proof")
            if not self._proofs.proves_address(
                proof, text, prefix, window, connecting=not self._connecting
            ):
                raise AuthenticationError("its worker address was changed on its way here")
        try:
            address = bytes.fromhex(text)
        except ValueError:
            raise ProtocolError("its worker address is no hexadecimal number") from None
        if not address:
            raise ProtocolError("its worker address is empty")
        check_worker_address(address, self.me.worker_address)
        self.peer = replace(self.peer, worker_address=address, tag_prefix=prefix, window=window)
        if self._connecting:
            self._expected = FrameType.READY
            return [self._address()]
        self.done = True
        return [Frame(FrameType.READY, {})]


def sum_of_cost(payload: Mapping[str, Any], field: str) -> int:
    """Take from a frame's payload how much may be sent.

    Raises
    ------
    ProtocolError
        It is no such number.
    """
    cost = payload.get(field)
    if type(cost) is not int or not 0 <= cost < 2**63:
        raise ProtocolError(f"its field {field!r} is no number of bytes")
    return cost


def _text(payload: Mapping[str, Any], field: str, limit: int = 256) -> str:
    text = payload.get(field)
    if not isinstance(text, str) or len(text) > limit or not text.isprintable():
        raise ProtocolError(f"its field {field!r} is no printable text of at most {limit}")
    return text


def _rejection(payload: Mapping[str, Any]) -> RejectedError:
    reason = payload.get("reason")
    if not isinstance(reason, str) or not reason.isprintable():
        reason = "without a reason"
    kind = AuthenticationError if payload.get("kind") == "auth" else RejectedError
    return kind(reason[:400])
