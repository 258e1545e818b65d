"""Compiles modules of the prefix cache and of structured generation where there is a C compiler: stemma/compiled.py
says which, pyproject.toml all else. Without a compiler, or without mypyc, the package is whole all the same: it runs
interpreted."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
FACTS = ROOT / "stemma/compiled.py"
ALONE = "--follow-imports=skip", "--ignore-missing-imports"  # what is not compiled is of any type
FLAGS: dict[str, tuple[str, ...]] = {"radix": (), "fsm": ALONE}
PROCESSES = 2  # of the C compiler, for each package
SCRIPT = """
from mypyc.build import mypycify
from setuptools import setup
modules = mypycify({arguments}, opt_level="{level}", multi_file={apart}, group_name="stemma_{package}")
setup(ext_modules=modules, packages=["stemma.{package}"])
"""


def facts() -> ModuleType:
    """stemma/compiled.py by itself."""
    spec = importlib.util.spec_from_file_location("compiled_facts", FACTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_into(target: Path, package: str) -> None:
    """Compile a copy of the package's sources that has nothing around it, and put what comes of it into `target`."""
    known = facts()
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inner = folder / "stemma" / package
        shutil.copytree(ROOT / package, inner, ignore=shutil.ignore_patterns(known.BUILT, "__pycache__"))
        (folder / "stemma/__init__.py").touch()
        shutil.copy(FACTS, folder / "stemma")
        paths = [f"stemma/{package}/{module}.py" for module in known.MODULES[package]]
        arguments = ["--config-file=", *FLAGS[package], *paths]
        many = len(paths) > 30  # small files, a process of the compiler each, not optimised as hard: else it takes long
        script = SCRIPT.format(arguments=arguments, level="1" if many else "2", apart=many, package=package)
        (folder / "setup.py").write_text(script, encoding="utf-8")
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel", str(PROCESSES)]
        subprocess.run(command, cwd=folder, check=True)
        target.mkdir(parents=True)
        for path in [*folder.glob(f"{known.library_of(package)}.*"), *inner.rglob("*")]:
            if path.suffix in (".so", ".pyd"):
                place = target / (path.relative_to(inner) if inner in path.parents else path.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
    (target / known.DIGEST).write_text(known.digest_of(ROOT / package), encoding="utf-8")


class BuildCompiled(build_ext):
    """All that is compiled of a package goes into one folder of it, or nothing does."""

    def run(self) -> None:
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.compile, FLAGS))

    def compile(self, package: str) -> None:
        in_place = self.inplace or self.editable_mode
        target = (ROOT / package if in_place else Path(self.build_lib) / "stemma" / package) / facts().BUILT
        try:
            compile_into(target, package)
        except (subprocess.CalledProcessError, OSError) as error:
            shutil.rmtree(target, ignore_errors=True)
            print(f"stemma.{package} was not compiled and will run interpreted, slower: {error}", file=sys.stderr)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []


setup(
    ext_modules=[Extension(f"stemma.{package}.built", []) for package in FLAGS], cmdclass={"build_ext": BuildCompiled}
)
