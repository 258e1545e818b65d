"""Slices of a vocabulary (llguidance's word; XGrammar: context-independent tokens): the tokens of some bytes alone.

The longest beginning of a token inside the set of bytes is its *run*; where that is not all of it, the token has an
*exit*, the node of the trie where it leaves the set:

    set a-z    token  the     run 3 characters, in the slice
                      the,    run 3 characters, exit at `,`
                      ,       no run, exit at `,`

Slices belong to a vocabulary, are built on first use and serve every grammar: inside a string, a mask is a copy of one
and a walk from its exits. Of the non-ASCII characters a slice holds all, or none, or all but the line separators.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.fsm.kernels.columns import LENGTH, PATH
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.tables import Int32s, Int64s
from stemma.fsm.kernels.trie import Trie

NUM_CUMULATIVE = 24  # masks by number of characters are stored up to here; few tokens are longer

# Where inside a UTF-8 character: UTF8_ACCEPT, then by what may follow.
UTF8_ACCEPT, ONE, TWO, THREE, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4, AFTER_E2, AFTER_E280, UTF8_REJECT = range(11)

# What a run holds of non-ASCII characters, in inside[128]: none, all, or all but U+2028 and U+2029 (`.` in a regex).
NONE, WHOLE, BUT_LINES = range(3)


class TokenSlice(NamedTuple):
    """Tokens by their longest prefix inside a set of bytes."""

    whole: npt.NDArray[np.uint32]  # (words,): tokens that never leave the set (they may end inside a character)
    cumulative: npt.NDArray[np.uint32]  # (NUM_CUMULATIVE + 1, words): those of at most n characters
    tokens: Int32s  # the same tokens by number of characters
    lengths: Int32s  # their numbers of characters, ascending
    exits: Int64s  # trie nodes whose byte is the first outside the set, by that byte
    exit_keys: Int64s  # the token that ends there, or -1
    exit_ends: Int64s  # whether no longer token goes on from there
    exit_lengths: Int64s  # characters before that byte
    exit_start: Int64s  # (257,): where the exits of each byte start


class SliceSizes(NamedTuple):
    """What `find_slice` has found."""

    num_tokens: int
    num_exits: int
    longest: int  # the most characters of a token


@helper
def after_lead(byte: int, beyond: int) -> int:
    if byte < 0xC2 or byte > 0xF4:
        return UTF8_REJECT
    if byte < 0xE0:
        return ONE
    if byte < 0xF0:
        if byte == 0xE0:
            return AFTER_E0
        if byte == 0xE2 and beyond == BUT_LINES:
            return AFTER_E2
        return AFTER_ED if byte == 0xED else TWO
    if byte == 0xF0:
        return AFTER_F0
    return AFTER_F4 if byte == 0xF4 else THREE


@helper
def after_continuation(place: int, byte: int) -> int:
    if byte < 0x80 or byte > 0xBF:
        return UTF8_REJECT
    if place == ONE:
        return UTF8_ACCEPT
    if place == AFTER_E2:
        return AFTER_E280 if byte == 0x80 else ONE
    if place == AFTER_E280:
        return UTF8_REJECT if byte in (0xA8, 0xA9) else UTF8_ACCEPT
    if place == TWO:
        return ONE
    if place == THREE:
        return TWO
    if place == AFTER_E0:
        return ONE if byte >= 0xA0 else UTF8_REJECT
    if place == AFTER_ED:
        return ONE if byte < 0xA0 else UTF8_REJECT
    if place == AFTER_F0:
        return TWO if byte >= 0x90 else UTF8_REJECT
    return TWO if byte < 0x90 else UTF8_REJECT


@helper
def find_slice(trie: Trie, inside: Int64s, path: Int64s, found: Int64s, exits: Int64s) -> SliceSizes:
    """Walk the part of the trie that stays inside. `inside[b]` for ASCII b, `inside[128]`: which of the rest.

    Fills `found` with tokens and `exits` with nodes, and their numbers of characters (`LENGTH`).
    """
    path[0, PATH.node] = 0
    path[0, PATH.characters] = 0
    path[0, PATH.place] = UTF8_ACCEPT
    depth = 1
    num_found = 0
    num_exits = 0
    while depth > 0:
        depth -= 1
        node = path[depth, PATH.node]
        length = path[depth, PATH.characters]
        place = path[depth, PATH.place]
        for child in range(trie.first[node], trie.first[node + 1]):
            byte = int(trie.byte[child])
            if place == UTF8_ACCEPT:
                if inside[min(byte, 128)] == 0:
                    exits[num_exits, LENGTH.key] = child
                    exits[num_exits, LENGTH.characters] = length
                    num_exits += 1
                    continue
                following = UTF8_ACCEPT if byte < 128 else after_lead(byte, inside[128])
                characters = length + 1
            else:
                following = after_continuation(place, byte)
                characters = length
            if following == UTF8_REJECT:
                continue
            if trie.key[child] >= 0:
                found[num_found, LENGTH.key] = trie.key[child]
                found[num_found, LENGTH.characters] = characters
                num_found += 1
            if trie.first[child] < trie.first[child + 1]:
                path[depth, PATH.node] = child
                path[depth, PATH.characters] = characters
                path[depth, PATH.place] = following
                depth += 1
    longest = 0
    for position in range(num_found):
        longest = max(longest, int(found[position, LENGTH.characters]))
    return SliceSizes(num_found, num_exits, longest)


@helper
def sort_slice(
    found: Int64s, number: int, starts: Int64s, tokens: Int32s, lengths: Int32s, masks: npt.NDArray[np.uint32]
) -> None:
    """Sort the first `number` (token, characters) pairs by characters into `tokens` and `lengths`, and set their bits
    in `masks`: row n has those of at most n characters, the last row all. starts: room for a count a length."""
    for position in range(number):
        starts[found[position, LENGTH.characters] + 1] += 1
    for length in range(1, len(starts)):
        starts[length] += starts[length - 1]
    for position in range(number):
        length = found[position, LENGTH.characters]
        place = starts[length]
        tokens[place] = found[position, LENGTH.key]
        lengths[place] = length
        starts[length] = place + 1
    row = 1
    for position in range(number):
        while row < min(lengths[position], len(masks) - 1):
            row += 1
            copy_into(masks[row], masks[row - 1])
        token = tokens[position]
        masks[row, token >> 5] |= np.uint32(1) << np.uint32(token & 31)
    while row < len(masks) - 1:
        row += 1
        copy_into(masks[row], masks[row - 1])


@helper
def copy_into(out: npt.NDArray[np.uint32], mask: npt.NDArray[np.uint32]) -> None:
    for word in range(len(out)):
        out[word] = mask[word]
