"""Starting a deployment, on a cluster or on this machine, until somebody stops it; and the same as Serve's file."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus, DeploymentStatus

from stemma.kernels.cpu.machine.cores import physical_cores
from stemma.runtime.errors import InvalidRequest, StemmaError
from stemma.runtime.settings import say_by_default
from stemma.scale.ray.graph import BUILD, ENTRANCE, NAME, graph
from stemma.scale.ray.leaving import leave_all
from stemma.scale.ray.signals import Signals
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


LOOKS_SECONDS = 0.1
"""Between looks at what has come to be of a deployment."""


class NoRay(StemmaError):
    """Ray could not be started."""


class NotDeployed(StemmaError):
    """Serve could not start what it was given."""


def run(spec: Spec, address: str | None, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, and end what is under way as `stemma serve` does. ready: called with the URL when
    requests are taken.

    Raises InvalidRequest where there is no cluster at the address, NoRay where none could be started, NotDeployed where
    no replicas came to be, and SystemExit where a signal came before they did.
    """
    signals = Signals()
    signals.listen()
    try:
        with deployed(spec, address, signals) as url:
            ready(url)
            signals.told.get()
            leave_all(serve.get_deployment_handle(ENTRANCE, NAME), spec.server.shutdown_seconds, signals.told)
    except Exception:
        signals.look()  # Ray's processes may have had the same signal, and have failed by it
        raise


@contextmanager
def deployed(spec: Spec, address: str | None = None, signals: Signals | None = None) -> Iterator[str]:
    """Serve inside the block; its value is the URL. What this started ends with it, Ray included. signals: looked at
    while it starts."""
    look = signals.look if signals else lambda: None
    with signals.kept() if signals else nullcontext():
        is_ours = _connect(spec, address)
    with ExitStack() as ending:
        ending.callback(_quietly, ray.shutdown)
        look()
        if is_ours:
            spec = sized(spec, physical_cores())
        location = "HeadOnly" if is_ours else "EveryNode"
        serve.start(proxy_location=location, http_options=http_options(spec))
        ending.callback(_quietly, serve.shutdown if is_ours else partial(serve.delete, NAME))
        look()
        serve.run_many([serve.RunTarget(graph(spec), NAME)], wait_for_applications_running=False)
        while not _is_running():
            look()
            time.sleep(LOOKS_SECONDS)
        if signals:
            signals.started()
        scheme = "https" if spec.server.ssl_certfile else "http"
        yield f"{scheme}://{spec.server.host}:{spec.server.port}"


def _quietly(end: Callable[[], object]) -> None:
    """Ray tells on stdout that the calls failed by which it was ended."""
    with redirect_stdout(None):
        end()


def _is_running() -> bool:
    """Whether all replicas are there. Raises NotDeployed where they will not be."""
    found = serve.status().applications[NAME]
    if found.status == ApplicationStatus.DEPLOY_FAILED:
        failed = [each for each in found.deployments.values() if each.status == DeploymentStatus.DEPLOY_FAILED]
        reasons = {each.message.rstrip().rpartition("\n")[2] for each in failed}  # after the lines of a traceback
        raise NotDeployed(f"the replicas did not start: {'; '.join(sorted(reasons)) or found.message}")
    is_running: bool = found.status == ApplicationStatus.RUNNING
    return is_running


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
