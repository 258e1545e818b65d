"""Starting a deployment, on a cluster or on this machine, until somebody stops it; and the same as Serve's file."""

from __future__ import annotations

import json
import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import ray
from ray import serve

from stemma.kernels.cpu.machine.cores import physical_cores
from stemma.runtime.errors import InvalidRequest, StemmaError
from stemma.runtime.settings import say_by_default
from stemma.scale.ray.graph import BUILD, ENTRANCE, NAME, graph
from stemma.scale.ray.leaving import leave_all
from stemma.scale.spec import HERE, Spec

STORE_BYTES = 128 << 20
"""Of Ray's shared memory, where this starts it: only what is handed over passes through it."""
LAID_DOWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # replicas are what the machine is for: at Ray's 15 whatever else runs would stop them
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # at Serve's 5 seconds a proxy on a busy machine never comes to be
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}
"""Variables of Ray where this starts it, unless they are set."""
LOCAL = "local"
"""The address of no cluster: Ray is started here, whatever else runs."""


class NoRay(StemmaError):
    """Ray could not be started."""


def run(spec: Spec, address: str | None, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, and end what is under way as `stemma serve` does. ready: called with the URL when
    requests are taken.

    Raises InvalidRequest where there is no cluster at the address, NoRay where none could be started.
    """
    told: SimpleQueue[int | None] = SimpleQueue()  # which a signal may be put into at any place

    def tell(number: int, frame: FrameType | None) -> None:
        told.put(number)

    with deployed(spec, address) as url:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, tell)
        ready(url)
        told.get()
        leave_all(serve.get_deployment_handle(ENTRANCE, NAME), spec.server.shutdown_seconds, told)


@contextmanager
def deployed(spec: Spec, address: str | None = None) -> Iterator[str]:
    """Serve inside the block; its value is the URL. What this started ends with it, Ray included."""
    is_ours = _connect(spec, address)
    try:
        if is_ours:
            spec = sized(spec, physical_cores())
        location = "HeadOnly" if is_ours else "EveryNode"
        serve.start(proxy_location=location, http_options=http_options(spec))
        serve.run(graph(spec), name=NAME, route_prefix="/")
        scheme = "https" if spec.server.ssl_certfile else "http"
        yield f"{scheme}://{spec.server.host}:{spec.server.port}"
    finally:
        with redirect_stdout(None):  # where Ray tells that the calls failed by which it was ended
            if is_ours:
                serve.shutdown()
            else:
                serve.delete(NAME)
            ray.shutdown()


def sized(spec: Spec, num_cores: int) -> Spec:
    """For one machine with so many cores, which replicas share, and keep their events to themselves; unless they were
    told otherwise."""
    scale = spec.scale
    cpus = scale.replica_cpus or float(max(1, num_cores // scale.most))
    return replace(spec, scale=replace(scale, replica_cpus=cpus, events_host=scale.events_host or HERE))


def write_config(spec: Spec, path: Path) -> None:
    """The same for a cluster, as a file for `serve deploy`: JSON, which is YAML too. Raises InvalidRequest."""
    try:
        path.write_text(json.dumps(config_of(spec), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written ({error.strerror}): name another file", "write") from error


def config_of(spec: Spec) -> dict[str, Any]:
    """What `serve deploy` reads."""
    application = {"name": NAME, "route_prefix": "/", "import_path": BUILD, "args": spec.as_values()}
    return {"proxy_location": "EveryNode", "http_options": http_options(spec), "applications": [application]}


def http_options(spec: Spec) -> dict[str, Any]:
    """Where Serve's proxies listen."""
    server = spec.server
    names = ("ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_ca_certs")
    tls = {name: str(value) for name in names if (value := getattr(server, name)) is not None}
    return {"host": server.host, "port": server.port, **tls}


def _connect(spec: Spec, address: str | None) -> bool:
    """Be part of a cluster. Returns whether it was started for this."""
    say_by_default(**LAID_DOWN)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address != LOCAL:
        try:
            ray.init(address=address or "auto", **quiet)
            return False
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address is not None:
                raise InvalidRequest(f"there is no Ray cluster at {address}: {error}", "address") from error
    each = sized(spec, physical_cores()).scale
    try:
        ray.init(
            address=LOCAL, num_cpus=math.ceil(each.most * (each.replica_cpus or 1)),
            num_gpus=math.ceil(each.most * each.replica_gpus), object_store_memory=STORE_BYTES,
            include_dashboard=False, **quiet,
        )  # fmt: skip
    except Exception as error:  # Ray raises no narrower one where its processes do not come up in time
        ray.shutdown()
        raise NoRay(
            f"Ray did not start on this machine: {error} Try again, or when the machine is less busy"
        ) from error
    return True
