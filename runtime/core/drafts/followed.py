"""A guess that reaches further than one step, followed for as long as it is right."""

from __future__ import annotations


class Followed:
    """tokens  |---------- of the sequence ----------|
    the guess          first |------ agreed -----|---- rest ----|
    """

    __slots__ = ("_first", "_guess", "_seen", "agreed")

    def __init__(self) -> None:
        self._guess: list[int] = []
        self._first = self._seen = 0
        self.agreed = 0  # tokens in a row in which this guess, and those before it, were right

    def begin(self, guess: list[int], num_tokens: int) -> None:
        """Another guess, of what comes behind so many tokens."""
        self._guess, self._first, self._seen = guess, num_tokens, num_tokens

    def rest(self, tokens: list[int]) -> list[int]:
        """What the guess says of what comes next; nothing once the sequence has gone on otherwise."""
        end = min(len(tokens), self._first + len(self._guess))
        while self._seen < end:
            if self._guess[self._seen - self._first] != tokens[self._seen]:
                self._guess, self.agreed = [], 0
                return []
            self._seen += 1
            self.agreed += 1
        return self._guess[len(tokens) - self._first :]
