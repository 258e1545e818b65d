"""Forms of Python types keep their promise: no text that the grammar admits is refused by the type."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.errors import FormError
from stemma.fsm.languages.forms import form_of

from .typed_kinds import ENFORCED, REFUSED

NUM_WALKS = 200
NUM_CONFIGS = 500  # after which walks through what counts its characters are enough
USUAL_LENGTH = 40


class Walker:
    """Random texts of one grammar; most of them short."""

    def __init__(self, automaton: Automaton, seed: int) -> None:
        self.automaton = automaton
        self.chance = random.Random(seed)
        self.bytes: dict[int, tuple[list[int], list[int]]] = {}

    def text(self) -> str | None:
        """None where it has not come to an end."""
        automaton, chance = self.automaton, self.chance
        config, text, length = automaton.start, bytearray(), chance.choice((0, USUAL_LENGTH))
        while len(text) < 8 * USUAL_LENGTH:
            likely, ending = self.after(config)
            if automaton.is_accepting(config) and (not likely or len(text) > length or chance.random() < 0.3):
                return text.decode()
            assert likely, f"stuck after {bytes(text)!r}"
            byte = chance.choice(ending if ending and (len(text) > length or chance.random() < 0.1) else likely)
            text.append(byte)
            config = automaton.step(config, byte)
        return None

    def after(self, config: int) -> tuple[list[int], list[int]]:
        """The bytes that may follow, and those of them that end something."""
        found = self.bytes.get(config)
        if found is None:
            allowed = [byte for byte, following in enumerate(self.automaton.row(config)) if following > 0]
            found = self.bytes[config] = (allowed, [byte for byte in allowed if byte in b'"]}'])
        return found


def named(value: object) -> str:
    """A test's name: the same in every process, without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize("kind", ENFORCED, ids=named)
def test_no_text_of_a_form_is_refused_by_its_type(kind: Any) -> None:
    form = form_of(kind)
    walker = Walker(Automaton(form.grammar()), seed=1)
    texts = set()
    for _ in range(NUM_WALKS):
        if len(walker.bytes) < NUM_CONFIGS:
            texts.add(walker.text())
    texts.discard(None)
    assert texts
    for text in sorted(texts):
        form.validate(text)


@pytest.mark.parametrize(("kind", "said"), REFUSED, ids=named)
def test_what_no_grammar_enforces_is_refused_where_it_stands(kind: Any, said: str) -> None:
    with pytest.raises(FormError, match=said):
        form_of(kind)
