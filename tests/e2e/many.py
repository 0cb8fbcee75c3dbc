"""Thousands of HTTP connections at once, kept: `many ADDRESS PORT COUNT`, then a line of input for each round.

Every round asks once on each connection that still stands, and prints how many each node answered, how many came from
another node than before, and how many connections were lost, by the node that they were on.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from collections import Counter

PATIENCE = 5.0
AT_ONCE = 500


class Crowd:
    def __init__(self, address: str, port: int) -> None:
        self._to = (address, port)
        self._inet = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._request = (
            f"GET / HTTP/1.1\r\nHost: {'[' + address + ']' if ':' in address else address}\r\n\r\n".encode()
        )
        self._connections: dict[int, socket.socket] = {}
        self._node: dict[int, str] = {}
        self._poll = select.epoll()

    def open(self, count: int) -> None:
        """In portions, as a listening socket's queue is finite."""
        while len(self._connections) < count:
            opening = {}
            for _ in range(min(AT_ONCE, count - len(self._connections))):
                handle = socket.socket(self._inet, socket.SOCK_STREAM)
                handle.setblocking(False)
                handle.connect_ex(self._to)
                opening[handle.fileno()] = handle
                self._poll.register(handle, select.EPOLLOUT)
            end = time.monotonic() + PATIENCE
            while opening and time.monotonic() < end:
                for number, _ in self._poll.poll(0.2):
                    self._poll.modify(number, select.EPOLLIN)
                    handle = opening.pop(number)
                    if handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise SystemExit("a connection was refused")
                    self._connections[number] = handle
            if opening:
                raise SystemExit(f"{len(opening)} connections were not answered")

    def ask(self) -> dict[str, object]:
        answered: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        moved = 0
        waiting = set()
        for number, handle in self._connections.items():
            try:
                handle.send(self._request)
                waiting.add(number)
            except OSError:
                lost[self._node.get(number, "")] += 1
        end = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < end:
            for number, _ in self._poll.poll(0.2):
                if number not in waiting:
                    continue
                waiting.discard(number)
                try:
                    answer = self._connections[number].recv(4096).decode()
                except OSError:
                    answer = ""
                node = answer.rpartition("\r\n\r\n")[2].strip()
                if not node:
                    lost[self._node.get(number, "")] += 1
                    continue
                answered[node] += 1
                moved += self._node.setdefault(number, node) != node
        for number in waiting:
            lost[self._node.get(number, "")] += 1
        return {"answered": answered, "lost": lost, "moved": moved}


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(sys.argv[1], int(sys.argv[2]))
    crowd.open(int(sys.argv[3]))
    print("open", flush=True)
    for _ in sys.stdin:
        print(json.dumps(crowd.ask()), flush=True)


if __name__ == "__main__":
    main()
