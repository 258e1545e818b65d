"""Which of its two forms a package runs in: compiled, where the installation made that, or interpreted.

`setup.py` compiles the modules of MODULES by mypyc, from the very sources that are here, into the folder `built` of
their package, where there is a C compiler. What was compiled from other sources than those that are here is not used.
Both forms say the same. A package asks before it imports any of its modules; this imports none of them.
"""

import sys
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

BUILT = "built"  # the folder
SUFFIX = EXTENSION_SUFFIXES[0]
DIGEST = "sources.sha256"  # the file that says of what
MODULES = {
    "radix": (
        "acquire", "ghost_list", "hedge", "leaves", "lease", "lease_state", "lease_table", "node", "places", "policy",
        "pool", "publish", "records", "reuse", "store", "tokens", "touches", "tree",
    ),
    "fsm": (
        *(f"languages/json_schema/{name}" for name in (
            "alternatives", "any_json", "arrays", "branches", "compiler", "context", "document", "expansion", "facts",
            "formats", "glance", "goals", "holding", "keywords", "meaning", "member_options", "members",
            "number_rules", "numbers", "object_conditions", "object_parts", "objects", "options", "plain_values",
            "possibility", "readers", "reading", "support", "texts", "values",
        )),
        *(f"syntax/{name}" for name in ("ast", "nodes", "value")),
        "automaton/program", "automaton/utf8", "work",
    ),
}  # fmt: skip


def library_of(package: str) -> str:
    """The module that all that is compiled of a package is in; one small file each leads there."""
    return f"stemma_{package}__mypyc"


def digest_of(folder: Path) -> str:
    """Of all sources of a package, by name."""
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class CompiledModules:
    """Finds the compiled modules of a package before their sources are looked for (one of `sys.meta_path`)."""

    def __init__(self, package: str, folder: Path) -> None:
        self.files = {f"stemma.{package}.{module.replace('/', '.')}": folder / (module + SUFFIX)
                      for module in MODULES[package]}  # fmt: skip

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        file = self.files.get(name)
        return None if file is None else spec_from_file_location(name, file)


def prefer_compiled(package: str, folder: Path) -> bool:
    """Whether there is a compiled form for this Python and of these sources; its modules are found first then."""
    name, built = library_of(package), folder / BUILT
    library, digest = built / (name + SUFFIX), built / DIGEST
    if not library.exists() or not digest.exists() or digest.read_text(encoding="utf-8") != digest_of(folder):
        return False
    spec = spec_from_file_location(name, library)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.meta_path.insert(0, CompiledModules(package, built))
    return True
