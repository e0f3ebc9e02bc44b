"""How a snapshot travels: as JSON, packed with the one before as the dictionary."""

from __future__ import annotations

import zlib

import msgspec

from ..errors import HandshakeError
from ..snapshot import Snapshot

__all__ = ["LARGEST_SAMPLE", "SAMPLE_TAG", "Packer", "Unpacker"]

SAMPLE_TAG = 1
LARGEST_SAMPLE = 4 << 20
"""Bytes of one sample; larger ones are not made, and not taken."""

_WINDOW = 32_000  # that zlib looks back to

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Snapshot).decode


class Packer:
    """Pack the snapshots for one watcher. Every one that is packed must be sent, in order."""

    def __init__(self) -> None:
        self._before = b""

    def pack(self, snapshot: Snapshot) -> bytes:
        """Pack a snapshot.

        Parameters
        ----------
        snapshot : Snapshot
            The next one.

        Returns
        -------
        bytes
            One or two hundred, for a few connections.
        """
        text = _encode(snapshot)
        packer = zlib.compressobj(level=6, zdict=self._before)
        self._before = text[:_WINDOW]
        return packer.compress(text) + packer.flush()


class Unpacker:
    """Unpack what a `Packer` packed, in the same order. Nothing is trusted."""

    def __init__(self) -> None:
        self._before = b""

    def unpack(self, packed: bytes) -> Snapshot:
        """Unpack a snapshot.

        Parameters
        ----------
        packed : bytes
            The next one.

        Returns
        -------
        Snapshot

        Raises
        ------
        HandshakeError
            It is none: what sent it is no publisher of this release.
        """
        try:
            unpacker = zlib.decompressobj(zdict=self._before)
            text = unpacker.decompress(packed, LARGEST_SAMPLE)
            if not unpacker.eof or unpacker.unused_data:
                raise ValueError("it is cut, or too large")
            snapshot = _decode(text)
        except (zlib.error, msgspec.DecodeError, ValueError) as error:
            raise HandshakeError(
                f"what it sent is no snapshot: {error}; check that a ucxnb publisher of the same "
                "release is there"
            ) from None
        self._before = text[:_WINDOW]
        return snapshot
