"""What UCX's protocols do, in plain words."""

from __future__ import annotations

__all__ = ["describe_protocol"]

# In the order in which they are told; a protocol's name is made of these.
_PARTS = (
    ("no data fetch", "nothing is left to move"),
    ("rendezvous", "the sender announces the message and waits until the receiver has a buffer"),
    ("eager", "the data goes at once, whether or not the receiver is ready"),
    ("offloaded", "the network card matches tags"),
    ("stream", "bytes in order, without message boundaries"),
    (
        "software emulation",
        "messages do it, and the peer's UCX touches the memory: it must progress",
    ),
    ("multi-frag", "cut into pieces of the transport's segment size"),
    ("fragmented", "cut into pieces of the transport's segment size"),
    ("pipeline", "piece after piece, while others are on their way"),
    ("short", "written straight into the transport, no buffer between"),
    ("copy-in", "the sender copies it into the transport's buffers"),
    ("zero-copy", "the transport takes it from your buffer, no copy at the sender"),
    ("copy-out", "the receiver copies it out of the transport's buffers"),
    ("read from remote", "the receiver's side reads the sender's memory"),
    ("write to remote", "the sender's side writes into the receiver's memory"),
    ("copy from mapped", "the receiver copies it from the sender's memory, mapped into its own"),
    ("copy to mapped", "the sender copies it into the receiver's memory, mapped into its own"),
)


def describe_protocol(protocol: str) -> str:
    """Say what a protocol does.

    Parameters
    ----------
    protocol : str
        UCX's name of it, as ``"multi-frag eager copy-in copy-out"``.

    Returns
    -------
    str
        A sentence or two; empty if nothing of the name is known here.
    """
    told = [words for name, words in _PARTS if name in protocol]
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
