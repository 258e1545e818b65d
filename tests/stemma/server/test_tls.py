"""The server over TLS, with a certificate made here; spans to a collector that is a few lines."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.server import ServerConfig, make_server
from tests.stemma.server.live import STOP_SECONDS, wait_until


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key of its own and a certificate signed by it."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = builder.sign(key, hashes.SHA256())
    keyfile, certfile = folder / "server.key", folder / "server.pem"
    private = serialization.PrivateFormat.PKCS8
    keyfile.write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    certfile.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return keyfile, certfile


def test_a_server_speaks_tls(engine: Engine, tmp_path: Path) -> None:
    keyfile, certfile = certificate(tmp_path)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = make_server(engine, ServerConfig(ssl_keyfile=keyfile, ssl_certfile=certfile, shutdown_seconds=1))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    place = f"localhost:{listening.getsockname()[1]}"
    trusted = ssl.create_default_context(cafile=str(certfile))
    try:
        with httpx.Client(verify=trusted) as http:
            wait_until(lambda: http.get(f"https://{place}/health").status_code == 200)
            answer = http.post(f"https://{place}/v1/completions", json={"prompt": "x", "max_tokens": 2}).json()
        assert answer["usage"]["completion_tokens"] == 2
        with pytest.raises(httpx.TransportError):
            httpx.get(f"https://{place}/health")  # who does not know the certificate
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{place}/health")
    finally:
        server.stop()
        thread.join(timeout=STOP_SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize("given", [{"ssl_keyfile": "key"}, {"ssl_certfile": "cert"}, {"ssl_ca_certs": "authority"}])
def test_half_of_a_certificate_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="ssl_certfile"):
        ServerConfig(**{name: Path(path) for name, path in given.items()})


COLLECT = """
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from stemma.server.http.exporting import export_spans

came = []
class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        for of in body.resource_spans:
            named = {each.key: each.value.string_value for each in of.resource.attributes}
            spans = [span for scope in of.scope_spans for span in scope.spans]
            came.extend([self.path, named["service.name"], span.name] for span in spans)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *told):
        pass

server = HTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
end = export_spans(f"http://127.0.0.1:{server.server_port}/")
with trace.get_tracer("stemma.server").start_as_current_span("POST /v1/completions"):
    pass
end()
print(json.dumps(came))
"""


def test_spans_are_sent_to_a_collector() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["/v1/traces", "stemma", "POST /v1/completions"]]


def test_what_is_no_collector_is_refused() -> None:
    from stemma.server.http.exporting import export_spans

    with pytest.raises(InvalidRequest, match="http://localhost:4318"):
        export_spans("localhost:4317")
