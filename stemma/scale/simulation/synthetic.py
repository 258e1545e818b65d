"""Made-up traffic in Bailian's form, from a seed: chats that grow, agents with their tools, questions on documents.

    system prompt (an application's; Zipf) -> [document, or nothing] -> turn -> answer -> turn -> answer ...

What is drawn follows published traces of such services (Bailian's: KVCache in the Wild, Wang et al. 2025; Mooncake's:
Qin et al. 2025) in kind, not in number: most chats have few turns, pauses are heavy-tailed, some applications have
most of the traffic, one of them bursts, agents come back within seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from stemma.runtime.errors import InvalidRequest
from stemma.scale.simulation.trace import BAILIAN_BLOCK, NOBODY, Record

MOST_TOKENS = 24_000
"""A chat that has grown so long is not gone on with."""
BURST = (0.4, 0.5)
"""Of the time: in this part one application has three times its traffic, all of it as new chats."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of traffic. Lengths are means of log-normal draws, in tokens; pauses medians, in seconds."""

    name: str
    share: float  # of new sessions
    num_apps: int
    system: float
    document: float
    num_documents: int
    turns: float
    message: float
    answer: float
    pause: float
    pause_spread: float


KINDS = (
    Kind("text", 0.54, 200, 500, 0, 0, 3.5, 90, 220, 30.0, 1.2),
    Kind("agent", 0.08, 40, 3000, 0, 0, 10, 350, 120, 3.0, 1.0),
    Kind("search", 0.18, 60, 700, 2500, 3000, 1.6, 40, 180, 25.0, 1.2),
    Kind("api", 0.20, 100, 1100, 0, 0, 1.0, 250, 90, 30.0, 1.0),
)


@dataclass(slots=True)
class _Session:
    kind: Kind
    chat: int
    turns_left: int
    text: list[int]  # ids of full blocks
    length: int  # in tokens
    parent: int = NOBODY
    turn: int = 1


class _Writer:
    """Draws, and gives ids to blocks: a text that begins as another has the same ids there."""

    def __init__(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)
        self.num_blocks = 0
        self._shared: dict[tuple[str, int, int], tuple[list[int], int]] = {}

    def length(self, mean: float, spread: float = 0.7) -> int:
        return max(1, int(mean * self.chance.lognormal(-spread * spread / 2, spread)))

    def zipf(self, count: int) -> int:
        """The first is the most popular."""
        return int(min(count - 1, count ** self.chance.random() - 1))

    def grow(self, text: list[int], length: int, more: int) -> int:
        """New text of so many tokens; returns the new length."""
        length += more
        while len(text) < length // BAILIAN_BLOCK:
            text.append(self.num_blocks)
            self.num_blocks += 1
        return length

    def opening(self, kind: Kind, app: int) -> tuple[list[int], int]:
        """A system prompt, and the document that is asked about."""
        text, length = self._shared_text((kind.name, app, NOBODY), [], 0, self.length(kind.system, 0.6))
        if kind.num_documents:
            document = self.zipf(kind.num_documents)
            text, length = self._shared_text((kind.name, app, document), text, length, self.length(kind.document, 0.8))
        return list(text), length

    def _shared_text(
        self, key: tuple[str, int, int], above: list[int], length: int, more: int
    ) -> tuple[list[int], int]:
        if key not in self._shared:
            text = list(above)
            self._shared[key] = text, self.grow(text, length, more)
        return self._shared[key]


def synthetic(seed: int, num_requests: int, rate: float) -> list[Record]:
    """So many requests, about `rate` of them a second once sessions come and go in equal number."""
    if num_requests < 1 or not rate > 0:
        raise InvalidRequest("there must be requests, at a rate of more than 0", "num_requests")
    writer = _Writer(seed)
    shares = np.array([kind.share for kind in KINDS])
    turns = float(sum(kind.share * kind.turns for kind in KINDS))
    total = num_requests / rate
    records: list[Record] = []
    waiting: list[tuple[float, int, _Session]] = []
    starts, chat = 0.0, 0
    while len(records) < num_requests:
        while not waiting or starts <= waiting[0][0]:
            kind = KINDS[int(writer.chance.choice(len(KINDS), p=shares))]
            bursting = BURST[0] <= starts / total < BURST[1]
            app = 0 if bursting and writer.chance.random() < 0.3 else writer.zipf(kind.num_apps)
            text, length = writer.opening(kind, app)
            left = int(writer.chance.geometric(1 / kind.turns))
            heappush(waiting, (starts, chat, _Session(kind, chat, left, text, length)))
            chat += 1
            starts += float(writer.chance.exponential(turns / rate))
        now, number, session = heappop(waiting)
        session.chat = len(records)
        records.append(_ask(writer, session, now))
        session.turns_left -= 1
        if session.turns_left > 0 and session.length < MOST_TOKENS:
            kind = session.kind
            reading = 0.02 * records[-1].output_len  # while it is written it cannot be answered
            pause = float(kind.pause * writer.chance.lognormal(0, kind.pause_spread))
            heappush(waiting, (now + reading + pause, number, session))
    return records


def _ask(writer: _Writer, session: _Session, now: float) -> Record:
    """The next turn, whose answer is then part of the session's text."""
    kind = session.kind
    session.length = writer.grow(session.text, session.length, writer.length(kind.message))
    input_len, ids = session.length, list(session.text)
    if input_len % BAILIAN_BLOCK:  # the last block is not full: its id is nobody else's
        ids.append(writer.num_blocks)
        writer.num_blocks += 1
    output_len = writer.length(kind.answer)
    session.length = writer.grow(session.text, input_len, output_len)
    record = Record(now, input_len, output_len, tuple(ids), session.chat, session.parent, kind.name, session.turn)
    session.parent, session.turn = session.chat, session.turn + 1
    return record
