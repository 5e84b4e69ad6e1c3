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
    connection = _connection(url)
    try:
        connection.request("GET", urlsplit(url).path)
        answer = connection.getresponse()
        said = answer.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer from {url}: {error}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(f"HTTP {answer.status}: {said}\n")
    return 0 if answer.status == http.client.OK else 1


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
