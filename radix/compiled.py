"""Which of its two forms the prefix cache runs in: compiled, where the installation made that, or interpreted.

`setup.py` compiles the modules that a request goes through by mypyc, from these very sources, into the folder `built`,
where there is a C compiler. What was compiled from other sources than those that are here is not used. Both forms
decide the same. Imported before all other modules of the package; knows none of them.
"""

import sys
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

BUILT = "built"  # the folder
LIBRARY = "stemma_radix__mypyc"  # what all compiled modules are in; one small file each leads there
DIGEST = "sources.sha256"  # the file that says of what
MODULES = (
    "acquire",
    "ghost_list",
    "hedge",
    "leaves",
    "lease",
    "lease_state",
    "lease_table",
    "node",
    "places",
    "policy",
    "pool",
    "publish",
    "records",
    "reuse",
    "store",
    "tokens",
    "touches",
    "tree",
)


def digest_of(folder: Path) -> str:
    """Of all sources of the package, by name."""
    digest = sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _prefer_compiled(package: ModuleType | None) -> bool:
    """Let the package find its compiled modules first, if there are any for this Python and of these sources."""
    here = Path(__file__).parent
    library, digest = here / BUILT / (LIBRARY + EXTENSION_SUFFIXES[0]), here / BUILT / DIGEST
    if (
        package is None
        or not library.exists()
        or not digest.exists()
        or digest.read_text(encoding="utf-8") != digest_of(here)
    ):
        return False
    spec = spec_from_file_location(LIBRARY, library)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[LIBRARY] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    package.__path__.insert(0, str(here / BUILT))
    return True


is_compiled = _prefer_compiled(sys.modules.get(__package__ or ""))
