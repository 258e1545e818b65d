"""Whether front ends and emitter run compiled. Imported before all other modules: it says where they are found."""

from pathlib import Path

from stemma.compiled import prefer_compiled

is_compiled = prefer_compiled("fsm", Path(__file__).parent)
