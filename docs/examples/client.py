"""A client: it asks the server of this folder, one question and then many at once.

python client.py 127.0.0.1:8080
"""

import sys

from ucxnb import UcxWorker, wait_all

QUESTION_TAG = 1


def ask(address: str) -> None:
    with UcxWorker(name="client") as worker:
        server = worker.connect(address)
        worker.send_tag(server, QUESTION_TAG, b"GET /api/data")
        print(worker.receive_tag(server, QUESTION_TAG, timeout=10).decode())

        # All are under way together; answers of one tag come in the order of the questions.
        answers = [worker.ireceive_tag(server, QUESTION_TAG) for _ in range(100)]
        for number in range(100):
            worker.isend_tag(server, QUESTION_TAG, b"GET /api/data/%d" % number)
        messages = wait_all(answers, timeout=10)
        print(f"{len(messages)} more, the last: {messages[-1].data.decode()}")


if __name__ == "__main__":
    ask(sys.argv[1])
