"""Special tokens of a grammar, as one vocabulary has them: by text, by id, or any but one.

`<|name|>` is the special token of that text, or an ordinary token of it, which is its text. `<[128]>` is a token by its
id, `<[128,130-132]>` one of several. `!<...>` is any token but a special one: any text, as no text is a special token.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import replace

from stemma.fsm.errors import FormError
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Characters, Choice, Concatenation, Grammar, Literal, Node, Repeat, Special
from stemma.fsm.syntax.nodes import choice, concat, repeat
from stemma.fsm.vocabulary.vocabulary import Vocabulary

IDS = re.compile(r"<\[(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\]>")
MAXIMUM_IDS = 10_000


def settled(grammar: Grammar, vocabulary: Vocabulary) -> Grammar:
    """`grammar` with special tokens that `vocabulary` has; a `FormError` names those that it lacks."""
    named = [text for text in grammar.specials if text not in vocabulary.special]
    if not named:
        return grammar
    nodes = {text: _excluding(text, vocabulary) if text[0] == "!" else _asked(text, vocabulary) for text in named}
    missing = [text for text, node in nodes.items() if node is None]
    if missing:
        names = ", ".join(missing)
        raise FormError(f"the grammar asks for special tokens that the vocabulary does not have: {names}")

    def replaced(node: Node) -> Node:
        if isinstance(node, Special):
            return nodes.get(node.text) or node
        if isinstance(node, Concatenation):
            return concat(map(replaced, node.parts))
        if isinstance(node, Choice):
            return choice(map(replaced, node.parts))
        return repeat(replaced(node.part), node.minimum, node.maximum) if isinstance(node, Repeat) else node

    def rule(name: Hashable) -> Node:
        return replaced(grammar.rule(name))

    return replace(grammar, start=replaced(grammar.start), rule=rule)


def _asked(text: str, vocabulary: Vocabulary) -> Node | None:
    ids = IDS.fullmatch(text)
    if ids is None:
        data = text.encode()
        return Literal(data) if data in vocabulary.token_bytes else None
    return choice(_by_id(token, vocabulary) for token in _listed(ids[1], vocabulary))


def _listed(ids: str, vocabulary: Vocabulary) -> list[int]:
    found: list[int] = []
    for each in ids.split(","):
        low, _, high = each.partition("-")
        first, last = int(low[:12]), int((high or low)[:12])
        if first > last or last >= vocabulary.size:
            raise FormError(f"<[{each}]> is no token: ids go from 0 to {vocabulary.size - 1}")
        if len(found) + last - first >= MAXIMUM_IDS:
            raise FormError(f"<[{each}]> asks for more than {MAXIMUM_IDS} tokens; say their texts")
        found += range(first, last + 1)
    return found


def _by_id(token: int, vocabulary: Vocabulary) -> Node:
    """A special token, or the text of an ordinary one."""
    for text, number in vocabulary.special.items():
        if number == token:
            return Special(text)
    data = vocabulary.token_bytes[token]
    if not data:
        raise FormError(f"<[{token}]> has neither a text nor a name among the special tokens")
    return Literal(data)


def _excluding(text: str, vocabulary: Vocabulary) -> Node | None:
    name = text[1:]
    node = Special(name) if name in vocabulary.special else _asked(name, vocabulary)
    if node is None:
        return None
    if not isinstance(node, Special):
        raise FormError(f"{text}: only a special token can be excluded; what ordinary tokens spell is text")
    return Characters(characters.SCALARS)
