"""What a deployment can be told: how many replicas of what. Plain values, so that a file of Serve's can say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from stemma.runtime.core.checking import check_fields, describe
from stemma.runtime.core.config import LAPTOP, SERVER, EngineConfig, engine_config
from stemma.runtime.errors import InvalidRequest
from stemma.server.config import ApiKey, ServerConfig, SharedPrompt, made_of, unknown_name

OF_TABLES: Mapping[str, type[Any]] = {"api_keys": ApiKey, "shared_prompts": SharedPrompt}
_OWN = [each.name for each in fields(ServerConfig)]
OF_ONE_SERVER = tuple(
    name for name in _OWN if name in ("role", "handover", "handover_key") or name.startswith("kv_events")
)
"""Options of a server that replicas have from elsewhere: they find each other, and tell routers what they have."""

HandoverBy = Literal["tcp", "tier"]
REPLICAS = 2
ROLES = ("prefill_replicas", "decode_replicas")
KINDS = ("replicas", *ROLES)
"""Numbers of replicas; `max_` before a name is how many there may be where Serve adds and takes away."""
MOST = 1e6
HERE, EVERYWHERE = HOSTS = ("127.0.0.1", "0.0.0.0")
SHARE_OF_HOST = 8
"""An engine takes an eighth of the host's memory; replicas on one host take it together."""


@dataclass(frozen=True, slots=True)
class ScaleConfig:
    """How replicas are run.

    replicas: how many there are; with max_replicas, how many at least.
    max_replicas: Serve adds replicas up to so many while each has more than target_running requests.
    prefill_replicas: with decode_replicas, in place of replicas: so many compute prompts for those that decode.
    decode_replicas: so many answer requests, and have their prompts computed by the others.
    max_prefill_replicas: Serve adds such up to so many while each has more than target_prompts prompts.
    max_decode_replicas: Serve adds such up to so many while each has more than target_running requests.
    handover_by: how KV comes from the one to the other: over tcp, or through the tier of kv_shared.
    target_running: requests that a replica should have at once, by which Serve adds and takes away.
    target_prompts: prompts that a replica should compute for others at once, or have waiting, likewise.
    replica_cpus: cores that Ray reserves for a replica, which are also its threads; None divides one machine's among
        its replicas, and is one on a cluster.
    replica_gpus: GPUs of a replica; 0 computes on cores.
    entrances: processes that read requests and choose a replica for each.
    events_host: the address at which a replica tells its cache's events to routers, and hands KV over. Both have
        prompts in them: 127.0.0.1 keeps them on this machine, 0.0.0.0 is for clusters whose network is their own. None
        is the first where Ray was started for this alone, else the second.
    wait_seconds: a request that no replica takes for so long is refused (503).
    drain_seconds: how long a replica that leaves may finish what it has, and hand over what is hot in its cache.
    handover_bytes: of KV that a replica that leaves gives to another one; 0 gives nothing.
    """

    replicas: int = REPLICAS
    max_replicas: int | None = None
    prefill_replicas: int = 0
    decode_replicas: int = 0
    max_prefill_replicas: int | None = None
    max_decode_replicas: int | None = None
    handover_by: HandoverBy = "tcp"
    target_running: float = 16.0
    target_prompts: float = 2.0
    replica_cpus: float | None = None
    replica_gpus: float = 0.0
    entrances: int = 1
    events_host: str | None = None
    wait_seconds: float = 30.0
    drain_seconds: float = 30.0
    handover_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("replicas", "entrances"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} must be at least 1; it is {describe(getattr(self, name))}", name)
        if self.events_host not in (None, *HOSTS):
            raise InvalidRequest(f"events_host is one of {', '.join(HOSTS)}", "events_host")
        self._check_roles()
        for name in KINDS:
            least, most = getattr(self, name), getattr(self, f"max_{name}")
            if most is not None and most < least:
                raise InvalidRequest(f"max_{name} ({most}) must be at least {name} ({least})", f"max_{name}")
        for name in ("target_running", "target_prompts", "replica_cpus", "wait_seconds", "drain_seconds"):
            if (value := getattr(self, name)) is not None and not 0 < value < MOST:
                raise InvalidRequest(f"{name} must be above 0; it is {describe(value)}", name)
        for name in ("replica_gpus", "handover_bytes"):
            if getattr(self, name) < 0:
                raise InvalidRequest(f"{name} must not be negative; it is {describe(getattr(self, name))}", name)

    def _check_roles(self) -> None:
        for name, other in (ROLES, ROLES[::-1]):
            if getattr(self, name) < 0:
                raise InvalidRequest(f"{name} must not be negative; it is {describe(getattr(self, name))}", name)
            if getattr(self, other) and not getattr(self, name):
                raise InvalidRequest(f"{other} needs {name}: one role alone answers nothing", name)
        if not self.has_roles:
            plain = {"handover_by": "tcp", "max_prefill_replicas": None, "max_decode_replicas": None}
            for name in [name for name, value in plain.items() if getattr(self, name) != value]:
                raise InvalidRequest(f"{name} is of prefill_replicas and decode_replicas: give both", name)
            return
        if self.replicas != REPLICAS or self.max_replicas is not None:
            raise InvalidRequest(
                "replicas and max_replicas are of one kind: leave them out with prefill_replicas and decode_replicas",
                "replicas",
            )

    @property
    def has_roles(self) -> bool:
        """Whether some replicas compute prompts for others."""
        return self.prefill_replicas > 0

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ROLES if self.has_roles else ("replicas",)

    @property
    def count(self) -> int:
        """How many replicas there are at least, of all kinds."""
        return sum(getattr(self, name) for name in self._kinds)

    @property
    def most(self) -> int:
        """How many replicas there may be, of all kinds."""
        return sum(getattr(self, f"max_{name}") or getattr(self, name) for name in self._kinds)

    def of_one(self) -> ScaleConfig:
        """The same, whatever the numbers of replicas are."""
        numbers: dict[str, int | None] = dict.fromkeys(self._kinds, 1)
        return replace(self, **numbers, **{f"max_{name}": None for name in self._kinds})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole deployment. model, adapters, loras, draft: as `Engine` takes them."""

    model: str | None = None
    adapters: tuple[str, ...] = ()
    loras: Mapping[str, str] = field(default_factory=dict)
    draft: str | None = None
    engine: EngineConfig = field(default_factory=EngineConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        own = {each.name: each.default for each in fields(ServerConfig)}
        for name in OF_ONE_SERVER:
            if getattr(self.server, name) != own[name]:
                raise InvalidRequest(f"{name} is one server's own: leave it out, replicas find each other", name)
        if self.scale.handover_by == "tier" and self.engine.kv_shared is None:
            raise InvalidRequest("KV is handed over through the tier of kv_shared: name one", "kv_shared")
        if not self.engine.prefix_cache:
            raise InvalidRequest("without a prefix cache there is nothing to route by: leave prefix_cache on", "engine")

    @property
    def most_at_once(self) -> int:
        """Requests that Serve may give to a replica: more than it takes, so that it is the replica who refuses one."""
        most = self.engine.max_running or max(LAPTOP.max_running, SERVER.max_running)
        return 2 * (most + self.server.max_queue)

    def of_one(self) -> Spec:
        """What each process is told. Where an engine's memory is said, that is the same however many there are, and
        Serve lets those run on that stay when the number changes."""
        if self.engine.memory is None and self.engine.kv_tokens is None:
            return self
        return replace(self, scale=self.scale.of_one())

    def engine_options(self) -> dict[str, Any]:
        """EngineConfig's fields for one replica of several on this host."""
        options = {each.name: getattr(self.engine, each.name) for each in fields(EngineConfig)}
        if options["memory"] is None and options["kv_tokens"] is None and not self.scale.replica_gpus:
            host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            options["memory"] = host // SHARE_OF_HOST // self.scale.count
        return options

    def as_values(self) -> dict[str, Any]:
        """What `spec_of` makes this of again, as a file can hold it: what is not as it is by itself."""
        values: dict[str, Any] = {name: value for name in ("model", "draft") if (value := getattr(self, name))}
        values |= {"adapters": [*self.adapters]} if self.adapters else {}
        values |= {"loras": dict(self.loras)} if self.loras else {}
        parts = {name: _said(getattr(self, name)) for name in ("engine", "server", "scale")}
        return values | {name: said for name, said in parts.items() if said}


def spec_of(values: Mapping[str, Any] = MappingProxyType({})) -> Spec:
    """A deployment from plain values, such as `args` of a file of Serve's. Raises InvalidRequest, naming the field."""
    known = [each.name for each in fields(Spec)]
    for name in values:
        if name not in known:
            raise unknown_name(name, known, "args")
    given = dict(values)
    return Spec(
        **{name: given[name] for name in ("model", "draft", "loras", "adapters") if name in given},
        engine=engine_config(_table(given, "engine")),
        server=_server(_table(given, "server")),
        scale=ScaleConfig(**_named(ScaleConfig, _table(given, "scale"), "args.scale")),
    )


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, Mapping):
        raise InvalidRequest(f"args.{name} is a table; it is {describe(found)}", name)
    return dict(found)


def _named(kind: type[Any], values: dict[str, Any], where: str) -> dict[str, Any]:
    known = [each.name for each in fields(kind)]
    for name in values:
        if name not in known:
            raise unknown_name(name, known, where)
    return values


def _server(values: dict[str, Any]) -> ServerConfig:
    options = _named(ServerConfig, values, "args.server")
    made = {
        name: made_of(kind, options[name], name, "args.server") for name, kind in OF_TABLES.items() if name in options
    }
    return ServerConfig(**{**options, **made})


def _said(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as they are by themselves, as plain values."""
    own = {each.name: getattr(config, each.name) for each in fields(config)}
    plain = {each.name: each.default for each in fields(config)}
    return {name: _plain(value) for name, value in own.items() if value != plain[name]}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return _said(value)
    return value if value is None or isinstance(value, bool | int | float | str | Mapping) else str(value)
