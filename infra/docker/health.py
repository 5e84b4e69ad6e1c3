"""Does the server take sessions? Exit code 0 if so, else 1; what it says stands in the output.

    health.py http://127.0.0.1:8000/readyz

It runs every few seconds beside a server that needs the CPU, so it imports next to nothing.
"""

import http.client
import ssl
import sys
from urllib.parse import urlsplit

ANSWER_S = 4.0
"""For one step of the exchange."""


def main(url: str) -> int:
    try:
        status, said = _asked(url)
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer from {url}: {error}\n")
        return 1
    sys.stdout.write(f"HTTP {status}: {said}\n")
    return 0 if status == http.client.OK else 1


def _asked(url: str) -> tuple[int, str]:
    """TLS that a flag or a file asks for is in no environment: an answer that is no HTTP tells."""
    try:
        return _answer(url)
    except (http.client.HTTPException, ConnectionResetError):
        if not url.startswith("http:"):
            raise
        return _answer(url.replace("http:", "https:", 1))


def _answer(url: str) -> tuple[int, str]:
    connection = _connection(url)
    try:
        connection.request("GET", urlsplit(url).path)
        answer = connection.getresponse()
        return answer.status, answer.read(2000).decode(errors="replace")
    finally:
        connection.close()


def _connection(url: str) -> http.client.HTTPConnection:
    where = urlsplit(url)
    host = where.hostname or ""
    if where.scheme != "https":
        return http.client.HTTPConnection(host, where.port, timeout=ANSWER_S)
    # It asks itself: the certificate bears the name by which others call.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, where.port, timeout=ANSWER_S, context=context)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
