"""Whether the prefix cache runs compiled. Imported before all other modules: it says where they are found."""

from pathlib import Path

from stemma.compiled import prefer_compiled

is_compiled = prefer_compiled("radix", Path(__file__).parent)
