"""The key that workers must share to let each other in."""

from __future__ import annotations

import hmac
import os
from typing import NoReturn

from .errors import ConfigError

__all__ = ["KEY_VARIABLE", "SET_KEY", "AuthKey"]

KEY_VARIABLE = "UCXNB_AUTH_KEY"
"""The environment variable that holds the key of workers that were given none."""

SET_KEY = f"set the same auth_key on both workers, or {KEY_VARIABLE} where both run"
"""What to do when peers do not have the same key."""

_LEAST, _MOST = 16, 1024
_ADVICE = 'make one with: python -c "import secrets; print(secrets.token_hex(32))"'


class AuthKey:
    """A secret that does not show itself: neither in a repr nor in an error, nor in a pickle.

    Parameters
    ----------
    secret : str, bytes or AuthKey
        16 to 1,024 bytes; a text counts as its UTF-8 encoding, as it is.
    origin : str
        Where it comes from, for error messages.

    Raises
    ------
    ConfigError
        It is of another type, or too short or too long. The message does not hold it.
    """

    __slots__ = ("_secret",)
    _secret: bytes

    def __init__(self, secret: str | bytes | AuthKey, origin: str = "auth_key") -> None:
        takes = f"{origin}: it takes a text or bytes of {_LEAST} to {_MOST:,} bytes"
        if isinstance(secret, AuthKey):
            secret = secret._secret
        if not isinstance(secret, str | bytes):
            raise ConfigError(f"{takes}, not {type(secret).__name__}; {_ADVICE}")
        if isinstance(secret, str):
            if any("\ud800" <= c <= "\udfff" for c in secret):
                raise ConfigError(f"{takes}; this text cannot be written in UTF-8")
            secret = secret.encode()
        if not _LEAST <= len(secret) <= _MOST:
            raise ConfigError(f"{takes}, not {len(secret):,}; {_ADVICE}")
        self._secret = secret

    @classmethod
    def from_environment(cls) -> AuthKey | None:
        """Give the key in ``UCXNB_AUTH_KEY``, None if that is not set.

        Returns
        -------
        AuthKey or None

        Raises
        ------
        ConfigError
            It is set and no key, also if it is empty: nobody shall believe to have one.
        """
        secret = os.environb.get(KEY_VARIABLE.encode())
        return None if secret is None else cls(secret, KEY_VARIABLE)

    def sign(self, text: bytes) -> str:
        """Give the HMAC-SHA-256 of `text`, 64 hexadecimal digits.

        Parameters
        ----------
        text : bytes
            What to sign.

        Returns
        -------
        str
        """
        return hmac.digest(self._secret, text, "sha256").hex()

    def signed(self, text: bytes, proof: str) -> bool:
        """Tell whether `proof` is what `sign` gives, in a time that does not depend on it.

        Parameters
        ----------
        text : bytes
            What should be signed.
        proof : str
            What came with it.

        Returns
        -------
        bool
        """
        return hmac.compare_digest(self.sign(text).encode(), proof.encode())

    def reveal(self) -> bytes:
        """Give the secret itself, to hand it to a child process.

        Returns
        -------
        bytes
        """
        return self._secret

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AuthKey):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._secret)

    def __repr__(self) -> str:
        return "<AuthKey>"

    def __copy__(self) -> AuthKey:
        return self

    def __deepcopy__(self, memo: object) -> AuthKey:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an auth_key is not pickled, so that it goes nowhere unseen: set "
            f"{KEY_VARIABLE} where the config goes, and pickle config.replace(auth_key=None)"
        )
