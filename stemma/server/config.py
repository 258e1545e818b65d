"""What a server can be told, in one frozen dataclass; the options of `stemma serve` are made from it."""

from __future__ import annotations

import difflib
import json
import re
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

from stemma.runtime.core.checking import check_fields, describe
from stemma.runtime.errors import InvalidRequest

T = TypeVar("T")
LogFormat = Literal["text", "json"]
Role = Literal["both", "prefill", "decode"]
EventForm = Literal["maps", "arrays"]
EventHashes = Literal["int", "bytes"]
KEY_NAME = re.compile(r"[\w.-]{1,64}")
MAX_PORT = 2**16 - 1
AT_LEAST_ONE = (
    "max_body_bytes", "max_choices", "default_max_tokens", "max_grammar_bytes", "max_requests_per_key", "batch_lines",
    "kv_events_kept",
)  # fmt: skip
NOT_NEGATIVE = (
    "max_queue", "turn_memory_bytes", "max_saved_bytes", "max_state_objects", "max_state_bytes", "max_files_bytes",
)  # fmt: skip
MAX_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may come in. `name` is the tenant: the cache namespace of all that comes with this key.

    is_admin: may see and change the cache of every tenant.
    """

    name: str
    key: str
    is_admin: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not KEY_NAME.fullmatch(self.name):
            raise InvalidRequest(f"a key's name is 1 to 64 letters, digits, '.', '_', '-': {self.name!r}", "api_keys")
        if not (self.key.isascii() and self.key.isprintable() and self.key.strip() == self.key != ""):
            raise InvalidRequest(f"the key of {self.name} must be printable ASCII, not empty", "api_keys")


@dataclass(frozen=True, slots=True)
class SharedPrompt:
    """What prompts of all keys may begin with. One of: a chat (`system`, `messages`, `tools`), a text, token ids.

    name: for messages about it. system: a system message. messages: the first messages. tools: as in a request.
    chat_template_kwargs: likewise. prompt: the beginning of plain prompts. tokens: the same as ids.
    """

    name: str = "of no name"
    system: str | None = None
    messages: tuple[Mapping[str, object], ...] = ()
    tools: tuple[Mapping[str, object], ...] = ()
    chat_template_kwargs: Mapping[str, object] | None = None
    prompt: str | None = None
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        is_chat = bool(self.system is not None or self.messages or self.tools)
        if is_chat + (self.prompt is not None) + bool(self.tokens) != 1:
            what = "a chat (system, messages, tools), or a prompt, or tokens: one of them"
            raise InvalidRequest(f"the shared prompt {self.name!r} is {what}", "shared_prompts")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Options of a server; the defaults suit one machine and a few hundred clients.

    host: the address to listen at.
    port: the port to listen at; 0 takes a free one.
    model_name: what /v1/models calls the model; None takes its hub id, or the name of its file or folder.
    also_called: other names by which requests may ask for the model; "*" in one is any letters.
    api_keys: with none, everybody may come in and all share one namespace.
    shared_prompts: what prompts of all keys may begin with; it is computed at the start and kept.
    max_body_bytes: larger bodies are refused with 413.
    max_queue: sequences that may wait beyond the engine's max_running; more are refused with 429.
    max_requests_per_key: requests of one key at once; None is no limit.
    max_choices: completions of one request (n, times the prompts).
    default_max_tokens: tokens of a chat answer when the request names no limit and the context leaves as many.
    max_grammar_bytes: size of a schema, regex or grammar.
    compile_seconds: who waits so long for a grammar to be compiled is told to come back (503); it goes on compiling.
    compute_ahead: where the chat template changes earlier turns, what the next turn will begin with is computed while
        nobody asks for anything.
    turn_memory_bytes: memory for answers that are kept to be recognised when they come back.
    write_seconds: a reader that takes nothing for so long is let go.
    heartbeat_seconds: after so long without an event a stream has a comment, which clients skip and proxies see.
    cors_origins: web pages from these origins may call the server from a browser; "*" is any. None by default.
    shutdown_seconds: how long a stopping server waits for requests under way.
    cache_folder: where /cache/save writes; None refuses it.
    max_saved_bytes: of all files of one tenant.
    keep_state: answers, conversations, files and batches are kept for their callers, in the cache folder if there is
        one (then they survive a restart), else in memory; without, a request that needs them is refused.
    max_state_objects: answers and conversations that are kept for one tenant; the oldest go first.
    max_state_bytes: what they may take together.
    state_days: how long an answer is kept.
    max_files_bytes: of all files and batches of one tenant.
    batch_lines: requests of batches that are under way at once.
    strict_fields: a field that nobody knows is refused (400), instead of named in the answer's headers.
    incremental_streaming_output: each chunk of SGLang's /generate has what is new, not all of the answer so far.
    vllm_metric_names: /metrics also uses vLLM's names, for its dashboards and gateways.
    sglang_metric_names: /metrics also uses SGLang's names.
    open_metrics: /metrics needs no key and tells all; for where only the scraper can reach it.
    access_log: a line in the log for each request: names, numbers and times, no text.
    log_format: "text", or "json": a line of JSON for each request and each other message.
    otlp: where spans go, a collector of OpenTelemetry's that takes OTLP over HTTP, such as http://localhost:4318.
    role: "both"; "prefill" computes prompts for others, "decode" has them computed and goes on.
    handover: the path of the socket at which the two find each other on one host, or tcp://HOST:PORT.
    handover_key: what both sides of a tcp:// handover must know. It proves who calls and hides nothing.
    kv_events: where routers hear what is cached, in the form of vLLM's KV events: an endpoint of ZeroMQ's such as
        tcp://*:5557 to listen at; a host elsewhere is connected to. It tells all texts: for a network one trusts.
    kv_events_replay: where they ask for what they missed, such as tcp://*:5558.
    kv_events_topic: the first frame of each message; llm-d wants kv@ADDRESS@MODEL.
    kv_events_form: maps, as vLLM sends events today, or arrays, as it did before the summer of 2026.
    kv_events_hashes: int are 64 bits, which every reader takes; bytes are whole.
    kv_events_kept: messages that are kept for who missed them.
    kv_events_tiers: also tell what is on disk or in host memory, with that medium: for readers that heed it.
    kv_events_marks: models with windows or states also tell where one can go on, in events that others skip.
    ssl_keyfile: the key of a TLS certificate (PEM); with it the server speaks HTTPS.
    ssl_certfile: the certificate, with those between it and its authority.
    ssl_keyfile_password: what the key is encrypted with.
    ssl_ca_certs: authorities of clients' certificates; with them a client needs one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    model_name: str | None = None
    also_called: tuple[str, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    shared_prompts: tuple[SharedPrompt, ...] = ()
    max_body_bytes: int = 8 << 20
    max_queue: int = 256
    max_requests_per_key: int | None = None
    max_choices: int = 512
    default_max_tokens: int = 1024
    max_grammar_bytes: int = 256 << 10
    compile_seconds: float = 10.0
    compute_ahead: bool = True
    turn_memory_bytes: int = 16 << 20
    write_seconds: float = 60.0
    heartbeat_seconds: float = 15.0
    cors_origins: tuple[str, ...] = ()
    shutdown_seconds: float = 10.0
    cache_folder: Path | None = None
    max_saved_bytes: int = 16 << 30
    keep_state: bool = True
    max_state_objects: int = 10_000
    max_state_bytes: int = 64 << 20
    state_days: float = 30.0
    max_files_bytes: int = 256 << 20
    batch_lines: int = 8
    strict_fields: bool = False
    incremental_streaming_output: bool = False
    vllm_metric_names: bool = False
    sglang_metric_names: bool = False
    open_metrics: bool = False
    access_log: bool = False
    log_format: LogFormat = "text"
    otlp: str | None = None
    role: Role = "both"
    handover: str | Path | None = None
    handover_key: str | None = None
    kv_events: str | None = None
    kv_events_replay: str | None = None
    kv_events_topic: str = ""
    kv_events_form: EventForm = "maps"
    kv_events_hashes: EventHashes = "int"
    kv_events_kept: int = 10_000
    kv_events_tiers: bool = False
    kv_events_marks: bool = False
    ssl_keyfile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.port <= MAX_PORT:
            raise InvalidRequest(f"port must be between 0 and {MAX_PORT}; it is {describe(self.port)}", "port")
        for name in AT_LEAST_ONE:
            if (value := getattr(self, name)) is not None and value < 1:
                raise InvalidRequest(f"{name} must be at least 1; it is {describe(value)}", name)
        for name in NOT_NEGATIVE:
            if (value := getattr(self, name)) < 0:
                raise InvalidRequest(f"{name} must not be negative; it is {describe(value)}", name)
        for name in ("compile_seconds", "write_seconds", "shutdown_seconds", "heartbeat_seconds"):
            if not 0 <= (value := getattr(self, name)) <= threading.TIMEOUT_MAX:
                raise InvalidRequest(f"{name} must be seconds that a clock can wait; it is {describe(value)}", name)
        if not 0 < self.state_days <= MAX_DAYS:
            raise InvalidRequest(f"state_days are days; it is {describe(self.state_days)}", "state_days")
        if self.heartbeat_seconds == 0:
            raise InvalidRequest("heartbeat_seconds must be more than 0", "heartbeat_seconds")
        if (self.role == "both") != (self.handover is None):
            raise InvalidRequest("a role needs a handover, the path of a socket, and a handover a role", "handover")
        if str(self.handover).startswith("tcp:") != (self.handover_key is not None):
            raise InvalidRequest("a handover over tcp:// needs a handover_key, and no other has one", "handover_key")
        if self.kv_events_replay is not None and self.kv_events is None:
            raise InvalidRequest("kv_events_replay is for what was missed of kv_events: give both", "kv_events_replay")
        if self.ssl_keyfile is None or self.ssl_certfile is None:
            for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"):
                if getattr(self, name) is not None:
                    raise InvalidRequest("TLS needs both ssl_keyfile and ssl_certfile", name)
        if len({key.name for key in self.api_keys}) < len(self.api_keys):
            raise InvalidRequest("two API keys have the same name; the name is the cache's namespace", "api_keys")


def read_api_keys(path: Path) -> tuple[ApiKey, ...]:
    """Keys from a file: a line is `name key` or `name key admin`; empty lines and those with # are left out."""
    keys = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3) or words[2:] not in ([], ["admin"]):
            raise InvalidRequest(f"{path}, line {number}: write `name key` or `name key admin`", "api_keys")
        keys.append(ApiKey(words[0], words[1], is_admin=len(words) == 3))
    return tuple(keys)


def parse_api_keys(texts: Sequence[str], path: Path | None = None) -> tuple[ApiKey, ...]:
    """Keys from `name:key` texts, and from a file if there is one."""
    keys = []
    for text in texts:
        name, colon, key = text.partition(":")
        if not colon:
            raise InvalidRequest("an API key is given as NAME:KEY; the name is the tenant's cache namespace", "api_key")
        keys.append(ApiKey(name, key))
    return (*keys, *(read_api_keys(path) if path is not None else ()))


def read_shared_prompts(path: Path) -> tuple[SharedPrompt, ...]:
    """Prompts from a file: JSON, a list of objects with SharedPrompt's fields, or TOML with `[[shared_prompts]]`."""
    text = path.read_text(encoding="utf-8")
    try:
        found = tomllib.loads(text).get("shared_prompts") if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", "shared_prompts") from error
    return made_of(SharedPrompt, found, "shared_prompts", str(path))


def made_of(kind: type[T], values: object, name: str, where: str) -> tuple[T, ...]:
    """A list of tables as dataclasses. Raises InvalidRequest, which says where it stands."""
    if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
        raise InvalidRequest(f"{where}: {name} is a list of tables; it is {describe(values)}", name)
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for field in (field for each in values for field in each):
        if field not in known:
            raise unknown_name(field, known, f"{where}: {name}")
    try:
        return tuple(kind(**each) for each in values)
    except TypeError as error:
        raise InvalidRequest(f"{where}: {name} has tables with {', '.join(known)}", name) from error


def unknown_name(name: str, known: Sequence[str], where: str) -> InvalidRequest:
    """The error for a name that is none of those known, with the one that was meant."""
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
    return InvalidRequest(f"{where} has no {name!r}: {meant}", name)
