"""Ask a lab's servers, each time from a new port: `python -m pointsman.lab.ask tcp|udp ADDRESS PORT [TIMES]`.

With `--unanswered` before that it is as it should be if nobody answers, not even by a reset or an ICMP error.
"""

from __future__ import annotations

import socket
import sys

_PATIENCE = 3.0
_SILENCE = 1.0
"""How long nothing must come back before a question counts as unanswered."""


def ask(protocol: str, address: str, port: int, patience: float = _PATIENCE) -> str:
    """One question from a port of its own, and the first line of the answer behind HTTP's header."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as handle:
        handle.settimeout(patience)
        handle.connect((address, port))
        question = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n" if protocol == "tcp" else b"hello"
        handle.sendall(question)
        answer = handle.recv(65536).decode(errors="replace")
        return answer.rpartition("\r\n\r\n")[2].strip() or "(an empty answer)"


def main() -> int:
    """Ask so many times; exit status 1 where a question stays without an answer."""
    words = sys.argv[1:]
    if words[0] == "--unanswered":
        return _unanswered(*words[1:4])
    protocol, address, port, *times = words
    status = 0
    for _ in range(int(times[0]) if times else 1):
        try:
            said = ask(protocol, address, int(port))
        except OSError as problem:
            said, status = f"no answer: {problem}", 1
        sys.stdout.write(f"{said}\n")
    return status


def _unanswered(protocol: str, address: str, port: str) -> int:
    try:
        said = ask(protocol, address, int(port), _SILENCE)
    except TimeoutError:
        sys.stdout.write("no answer, as it should be\n")
        return 0
    except OSError as problem:
        said = str(problem)
    sys.stdout.write(f"answered: {said}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
