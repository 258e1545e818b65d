"""UUIDs, addresses of networks, mail and web, as pydantic reads them: only what it surely accepts.

URLs are written as they are normalised, ASCII hosts only, so that nothing in them is refused or grows; mail has no
quoted local parts, no addresses of numbers and no domains that are reserved (email-validator refuses them).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from stemma.fsm.languages.regex.regex import Regex
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.nodes import choice, concat, of_length, text, without

HEX = "[0-9a-fA-F]"
OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = rf"{OCTET}(?:\.{OCTET}){{3}}"
H16 = f"{HEX}{{1,4}}"
IPV6 = "(?:" + "|".join((
    f"(?:{H16}:){{7}}{H16}", f"(?:{H16}:){{6}}{IPV4}", "::",
    *(f"(?:{H16}:){{1,{before}}}(?::{H16}){{1,{7 - before}}}" for before in range(1, 7)),
    f"(?:{H16}:){{1,7}}:", f":(?::{H16}){{1,7}}", f"::(?:{H16}:){{0,4}}{IPV4}",
)) + ")"  # fmt: skip

LABEL = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,24}"
TOP = "[A-Za-z]{2,20}"
DOMAIN = rf"{LABEL}(?:\.{LABEL}){{0,2}}\."
RESERVED = "|".join(
    "".join(f"[{letter}{letter.upper()}]" for letter in word)
    for word in ("arpa", "invalid", "local", "localhost", "onion", "test")
)
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
LOCAL = rf"(?:{ATOM}{{1,64}}|{ATOM}{{1,31}}\.{ATOM}{{1,32}}|{ATOM}{{1,20}}(?:\.{ATOM}{{1,20}}){{2}})"
NAME = r"[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f]"

PORT = "(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
LETTERS = "[A-Za-z0-9](?:-?[A-Za-z0-9])*"
HOST = rf"(?:(?:{LETTERS}\.)*[A-Za-z](?:-?[A-Za-z0-9])*|{IPV4})"
PART = r"(?:[A-Za-z0-9._~!$&()*+,;=:@-]|%[0-9A-F]{2})"
USER = r"(?:[A-Za-z0-9._~-]+(?::[A-Za-z0-9._~-]+)?@)?"
TAIL = rf"(?:/(?:{PART}|/)*)?(?:\?(?:{PART}|[/?])*)?(?:#(?:{PART}|[/?])*)?"
PATH = rf"(?:/{PART}+)+"
WEB = ("http", "https", "ws", "wss", "ftp")


@cache
def _language(source: str) -> Node:
    return Regex(source).language()


def uuid(version: int | None) -> Node:
    """With dashes; of a version, of the variant that has versions."""
    if version is None:
        return _language(f"{HEX}{{8}}(?:-{HEX}{{4}}){{3}}-{HEX}{{12}}")
    return _language(f"{HEX}{{8}}-{HEX}{{4}}-{version:x}{HEX}{{3}}-[89abAB]{HEX}{{3}}-{HEX}{{12}}")


def internet(kind: str, version: int | None) -> Node:
    """`kind`: address, network or interface; `version`: 4, 6, or None for either."""
    if version is None:
        return choice((internet(kind, 4), internet(kind, 6)))
    if kind == "network":
        return choice(map(_language, _networks_4() if version == 4 else _networks_6()))
    address = IPV4 if version == 4 else IPV6
    largest = "(?:3[0-2]|[12]?[0-9])" if version == 4 else "(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])"
    return _language(f"{address}(?:/{largest})?" if kind == "interface" else address)


def _networks_4() -> Iterable[str]:
    """One pattern a length of prefix: all bits behind it are 0."""
    for prefix in range(33):
        full, bits = divmod(prefix, 8)
        octets = [OCTET] * full
        if full < 4:
            step = 1 << (8 - bits)
            octets += ["(?:" + "|".join(map(str, range(0, 256, step))) + ")" if bits else "0"] + ["0"] * (3 - full)
        yield r"\.".join(octets) + (f"/{prefix}" if prefix < 32 else "(?:/32)?")


def _networks_6() -> Iterable[str]:
    """Prefixes of whole groups."""
    yield "::/0"
    for groups in range(1, 8):
        yield ":".join([H16] * groups) + f"::/{16 * groups}"
    yield ":".join([H16] * 8) + "(?:/128)?"


def email() -> Node:
    return concat((_language(f"{LOCAL}@{DOMAIN}"), without(_language(TOP), _language(RESERVED))))


def named_email() -> Node:
    """`Ada Lovelace <ada@example.com>`, or the address alone."""
    name = _language(rf"{NAME}{{1,30}}(?: {NAME}{{1,30}}){{0,3}} <")
    return choice((email(), concat((name, email(), text(">")))))


def url(schemes: tuple[str, ...], longest: int | None, many_hosts: bool, with_host: bool) -> Node:
    """With a host, which files have if `with_host`. Without schemes: any, those of the web with what they may have."""
    languages = [_of_scheme(scheme, many_hosts, with_host) for scheme in schemes if scheme == scheme.lower()]
    if not schemes:
        plain = _language(f"[a-z][a-z0-9]{{1,15}}://{HOST}(?:{PATH})?")
        languages = [*(_of_scheme(scheme, many_hosts, with_host) for scheme in WEB), plain]
    found = choice(languages)
    return found if longest is None else of_length(found, 1, longest - 1)  # a slash is added where there is no path


def _of_scheme(scheme: str, many_hosts: bool, with_host: bool) -> Node:
    if scheme == "file":
        return concat((text("file://"), _language(f"{HOST}{PATH}" if with_host else PATH)))
    hosts = f"{HOST}{PORT}" + (f"(?:,{HOST}{PORT})*" if many_hosts else "")
    return concat((text(f"{scheme}://"), _language(f"{USER}{hosts}{TAIL}")))
