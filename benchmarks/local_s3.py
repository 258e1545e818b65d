"""An object store that speaks S3, on this machine for as long as it is needed: moto's server, which keeps objects in
memory. For tests and timings; nobody's keys are asked for."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

REGION = "us-east-1"


@contextmanager
def local_s3(bucket: str) -> Iterator[dict[str, str]]:
    """A server with this bucket. Its value are the variables by which programs find it. Raises ImportError where
    moto[s3], flask and flask-cors are not installed."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")).close()
        keys = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": REGION}
        yield {f"AWS_{name}": value for name, value in keys.items()}
    finally:
        running.stop()
