"""The text that a custom tool is given, out of the JSON that a call of it is: `{"input": "..."}`, as it comes."""

from __future__ import annotations

import json
import re

from stemma.server.wire.tools import INPUT

BEGIN = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')
RUN = re.compile(r'[^"\\]+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u]')
"""What is decoded by itself: characters, an escape, the two escapes of one character."""


class InputReader:
    """Used once, for one call."""

    def __init__(self) -> None:
        self._buffer = ""
        self._has_begun = False

    def push(self, text: str) -> str:
        """What has become certain of the text."""
        self._buffer += text
        if not self._has_begun:
            found = BEGIN.match(self._buffer)
            if found is None:
                return ""
            self._has_begun, self._buffer = True, self._buffer[found.end() :]
        at, told = 0, ""
        while (run := RUN.match(self._buffer, at)) is not None:
            told += json.loads(f'"{run[0]}"', strict=False)
            at = run.end()
        self._buffer = self._buffer[at:]
        return told
