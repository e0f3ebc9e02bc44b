"""A server: it answers each client on the endpoint that the question came from.

python server.py 127.0.0.1:8080
"""

import sys

from ucxnb import BufferTooSmallError, EndpointError, UcxWorker

QUESTION_TAG = 1


def answer_to(question: bytes) -> bytes:
    """Put your own work here."""
    return b"the answer to " + question


def serve(address: str) -> None:
    with UcxWorker(name="server", buffer_size=128 * 1024) as worker:
        listener = worker.create_listener(address)
        print(f"listening on {listener.address}", flush=True)
        buffer = bytearray(worker.config.buffer_size)
        while True:
            try:
                message = worker.receive_message(None, QUESTION_TAG, buffer)
            except BufferTooSmallError as error:
                buffer = bytearray(error.needed)  # nothing is lost: receive it again
                continue
            question = bytes(memoryview(buffer)[: message.nbytes])
            try:
                worker.send_tag(message.endpoint_id, QUESTION_TAG, answer_to(question))
            except EndpointError as error:
                print(error, flush=True)  # this client has gone; the others are still there


if __name__ == "__main__":
    try:
        serve(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0")
    except KeyboardInterrupt:
        print("stopped")
