"""What holds of a regular expression's tree: what it tells apart, and whether it looks around."""

from __future__ import annotations

from collections.abc import Iterator

from stemma.fsm.languages.regex.tree import Ahead, Assertion, Behind, Class, Concat, Either, Repeated, Tree
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.characters import Ranges

ANY_CHARACTER = Class(characters.SCALARS)


NO_LINE_AFTER = Concat((Class(((10, 10),)), Ahead(ANY_CHARACTER, negative=True)))


def atoms(tree: Tree) -> list[Ranges]:
    """Sets of characters that no part of a tree tells apart."""
    found: list[Ranges] = [characters.SCALARS]
    for asked in dict.fromkeys(classes(tree)):
        halves = [(characters.intersection(each, asked), characters.difference(each, asked)) for each in found]
        found = [half for pair in halves for half in pair if half]
    return found


def classes(tree: Tree) -> Iterator[Ranges]:
    if isinstance(tree, Class):
        yield tree.ranges
    elif isinstance(tree, (Concat, Either)):
        for part in tree.parts:
            yield from classes(part)
    elif isinstance(tree, Assertion):
        yield tree.word or ((10, 10),)
    else:
        yield from classes(tree.part)


def looks_around(tree: Tree) -> bool:
    if isinstance(tree, (Concat, Either)):
        return any(map(looks_around, tree.parts))
    if isinstance(tree, Repeated):
        return tree.possessive or looks_around(tree.part)
    return not isinstance(tree, Class)


def looks_ahead(tree: Tree) -> bool:
    if isinstance(tree, (Concat, Either)):
        return any(map(looks_ahead, tree.parts))
    if isinstance(tree, Repeated):
        return tree.possessive or looks_ahead(tree.part)
    return isinstance(tree, Ahead) or (isinstance(tree, Assertion) and tree.kind != "start")


def is_obvious(tree: Tree) -> bool:
    """Whether each text has one match, and that the longest: characters, the last of them repeated or optional."""
    parts = tree.parts if isinstance(tree, Concat) else (tree,)
    fixed = all(isinstance(part, Class) for part in parts[:-1])
    last = parts[-1] if parts else None
    is_run = isinstance(last, Repeated) and isinstance(last.part, Class) and not last.lazy and not last.possessive
    return fixed and (last is None or isinstance(last, Class) or is_run)


def around(tree: Assertion) -> Tree:
    """An anchor or a boundary as looking around."""
    if tree.kind == "start":
        return Behind(ANY_CHARACTER, negative=True)
    if tree.kind == "end":
        return Ahead(ANY_CHARACTER, negative=True)
    if tree.kind == "last":
        return Either((Ahead(ANY_CHARACTER, negative=True), Ahead(NO_LINE_AFTER, negative=False)))
    word = Class(tree.word)
    is_boundary = tree.kind == "boundary"
    return Either(
        tuple(
            Concat((Behind(word, negative=negative), Ahead(word, negative=negative == (not is_boundary))))
            for negative in (False, True)
        )
    )
