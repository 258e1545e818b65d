"""Token boundaries: places in a text that no token spans whatever legally follows: a tokenizer always cuts there.

llguidance and SGLang's jump-forward meet the same question: forced bytes are not forced tokens. With the tokens `":`
and `:t`:

    "ok"|:|?    the place before `:`     spanned by `":`: no boundary
                the place behind `:`     spanned by `:t` if the automaton reads t next; else a boundary

Byte-pair and unigram tokenizers only join what is a token in the end, so what lies left of a token boundary is encoded
the same with any continuation. Kernels; they need the automaton for what may follow, and know nothing of encoders.
"""

from __future__ import annotations

from stemma.fsm.kernels.columns import PATH, SPAN
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.rows import ensure_row
from stemma.fsm.kernels.tables import Int64s, Tables
from stemma.fsm.kernels.trie import Trie


@helper
def child_of(trie: Trie, node: int, byte: int) -> int:
    """The child of `node` by `byte`, or -1."""
    low = trie.first[node]
    high = trie.first[node + 1] - 1
    while low <= high:
        middle = (low + high) >> 1
        if trie.byte[middle] == byte:
            return int(middle)
        if trie.byte[middle] < byte:
            low = middle + 1
        else:
            high = middle - 1
    return -1


@helper
def reads_any(t: Tables, trie: Trie, path: Int64s, node: int, config: int) -> int:
    """1 if `config` can read any string below `node`, 0 if none; -1 if rules or room are missing."""
    path[0, PATH.node] = node
    path[0, PATH.config] = config
    depth = 1
    while depth > 0:
        depth -= 1
        here = path[depth, PATH.node]
        config = path[depth, PATH.config]
        if not ensure_row(t, config):
            return -1
        for child in range(trie.first[here], trie.first[here + 1]):
            following = t.rows[config, trie.byte[child]]
            if following:
                if trie.key[child] >= 0:
                    return 1
                if trie.first[child] < trie.first[child + 1]:
                    path[depth, PATH.node] = child
                    path[depth, PATH.config] = following
                    depth += 1
    return 0


@helper
def find_boundaries(t: Tables, trie: Trie, path: Int64s, text: bytes, config: int, spanned: Int64s) -> bool:
    """Mark in `spanned` (len(text) + 1) each place that a token can span, given that `config` reads what follows."""
    spanned[:] = 0
    length = len(text)
    for start in range(length):
        node = 0
        end = start
        position = start
        while position < length and node >= 0:
            node = child_of(trie, node, text[position])
            if node >= 0:
                position += 1
                if trie.key[node] >= 0:
                    end = position
        if node >= 0 and end < length + 1:
            further = reads_any(t, trie, path, node, config)
            if further < 0:
                return False
            if further:
                end = length + 1
        spanned[start + 1 : end] = 1
    return True


@helper
def spans_below(
    t: Tables, trie: Trie, path: Int64s, node: int, config: int, cuts: Int64s, start: int, spans: Int64s, count: int
) -> int:
    """Add the tokens below `node` that `config` can read, but for those whose next byte is in `cuts`."""
    root = node
    path[0, PATH.node] = node
    path[0, PATH.config] = config
    depth = 1
    while depth > 0 and count < len(spans) - 1:
        depth -= 1
        node = path[depth, PATH.node]
        config = path[depth, PATH.config]
        if not ensure_row(t, config):
            return -1
        for child in range(trie.first[node], trie.first[node + 1]):
            following = t.rows[config, trie.byte[child]]
            if following and not (node == root and cuts[trie.byte[child]]):
                if trie.key[child] >= 0 and count < len(spans) - 1:
                    spans[count, SPAN.start] = start
                    spans[count, SPAN.token] = trie.key[child]
                    count += 1
                if trie.first[child] < trie.first[child + 1]:
                    path[depth, PATH.node] = child
                    path[depth, PATH.config] = following
                    depth += 1
    return count


@helper
def find_spans(t: Tables, trie: Trie, path: Int64s, text: bytes, config: int, cuts: Int64s, spans: Int64s) -> int:
    """Write to `spans` (start, token) the tokens of two bytes and more that `text` may hold, given that `config` reads
    what follows, but for those that go on behind `text` with a byte in `cuts`. Returns how many; -1 if rules or room
    are missing. Where there are too many, the last one has token -1: any may begin there or later."""
    count = 0
    room = len(spans) - 1
    for start in range(len(text)):
        node = 0
        position = start
        while position < len(text) and node >= 0:
            node = child_of(trie, node, text[position])
            position += 1
            if node >= 0 and trie.key[node] >= 0 and position > start + 1:
                if count == room:
                    break
                spans[count, SPAN.start] = start
                spans[count, SPAN.token] = trie.key[node]
                count += 1
        if node >= 0 and count < room:
            count = spans_below(t, trie, path, node, config, cuts, start, spans, count)
            if count < 0:
                return -1
        if count == room:
            spans[count, SPAN.start] = start
            spans[count, SPAN.token] = -1
            return count + 1
    return count
