"""The same server in asyncio: one task for each client.

python async_server.py 127.0.0.1:8080
"""

import asyncio
import sys

from ucxnb import EndpointError, UcxWorker

QUESTION_TAG = 1


async def answer_to(question: bytes) -> bytes:
    """Put your own work here; the other clients do not wait for it."""
    await asyncio.sleep(0.01)
    return b"the answer to " + question


async def attend_to(worker: UcxWorker, client: int) -> None:
    try:
        async for message in worker.messages(QUESTION_TAG, endpoint_id=client):
            await worker.isend_tag(client, QUESTION_TAG, await answer_to(message.data))
    except EndpointError as error:
        print(error, flush=True)  # this client has gone; the others are still there


async def serve(address: str) -> None:
    async with UcxWorker(name="server") as worker, asyncio.TaskGroup() as clients:
        print(f"listening on {worker.create_listener(address).address}", flush=True)
        while True:
            clients.create_task(attend_to(worker, await worker.accept()))


if __name__ == "__main__":
    try:
        asyncio.run(serve(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"))
    except KeyboardInterrupt:
        print("stopped")
