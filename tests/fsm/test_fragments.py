"""Rules that many grammars have: the states that are pasted read what the states that were made first read."""

import pytest

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.fragments import RETURN_STATE
from stemma.fsm.automaton.program import Program, fragment_of
from stemma.fsm.errors import LimitError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.kernels.tables import Limits
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import choice, concat, repeat, text, without

SCHEMAS = [
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "email", "maxLength": 40},
    {"type": "string", "pattern": "^[a-f]+-x", "minLength": 3, "maxLength": 9},
    {"type": ["string", "null"], "pattern": "^(?!tmp)[a-z]{2,7}$"},
    {"type": "number", "minimum": -3, "exclusiveMaximum": 97.25},
    {"type": "integer", "multipleOf": 7, "minimum": 20},
    {"type": "array", "items": {"anyOf": [{"format": "uuid"}, {"type": "integer", "maximum": 12}]}, "maxItems": 2},
]


def walked(automaton: Automaton, limit: int = 400) -> list[tuple[dict[int, int], bool]]:
    """The rows in the order in which configurations are met, by numbers of that order, and whether each may end."""
    order = {automaton.start: 0}
    todo = [automaton.start]
    found = []
    for config in todo:
        if len(found) == limit:
            break
        row = automaton.row(config).tolist()
        for following in row:
            if following and following not in order:
                order[following] = len(order)
                todo.append(following)
        found.append(
            (
                {byte: order[following] for byte, following in enumerate(row) if following},
                automaton.is_accepting(config),
            )
        )
    return found


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: "-".join(map(str, schema)))
def test_a_grammar_whose_parts_are_known_reads_what_the_first_one_read(schema: dict[str, object]) -> None:
    first, *others = [walked(Automaton(JSONSchema(schema).grammar())) for _ in range(3)]
    assert all(other == first for other in others)
    assert len(first) > 3


def test_pasted_states_stand_behind_others_and_call_the_rules_of_their_grammar() -> None:
    digits = repeat(ast.Characters(((48, 57),)), 2, 3)
    inner = concat((digits, ast.RuleRef("tail"), without(repeat(digits, 0, None), text("77"))))
    kept = ast.Kept(lambda: choice((inner, text("none"), text("nothing"))))
    node = choice((text("first"), concat((text("<"), ast.RuleRef(kept), text(">"), ast.RuleRef(kept)))))
    rules = {"tail": text("%")}
    grammars = [ast.Grammar(node, rules.__getitem__) for _ in range(2)]
    plain, pasted = map(Automaton, grammars)
    assert walked(plain) == walked(pasted)
    assert kept.num_programs == 2
    for data, is_whole in ((b"<12%345>99%", True), (b"<none>nothing", True), (b"<12%77>none", False), (b"<1%>", False)):
        config = pasted.step_bytes(pasted.start, data)
        assert (config != 0 and pasted.is_accepting(config)) == is_whole


def test_a_rule_that_ends_at_once_is_the_state_in_which_rules_end() -> None:
    nothing = ast.Kept(lambda: ast.Concatenation(()))
    assert fragment_of(nothing).entry == RETURN_STATE
    for automaton in [Automaton(ast.Grammar(ast.RuleRef(nothing), {}.__getitem__)) for _ in range(2)]:
        assert automaton.is_accepting(automaton.start)


def test_what_is_pasted_counts_among_the_states() -> None:
    kept = ast.Kept(lambda: text("long" * 50))
    for _ in range(2):
        program = Program(ast.Grammar(ast.RuleRef(kept), {}.__getitem__), Limits(states=100))
        with pytest.raises(LimitError, match="more than 100 states"):
            program.build_rule(0)
