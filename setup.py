"""Compiles the prefix cache where there is a C compiler (radix/compiled.py says why and what); all else is said in
pyproject.toml. Without a compiler, or without mypyc, the package is whole all the same: it runs interpreted."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path(__file__).parent / "radix"
SCRIPT = """
from mypyc.build import mypycify
from setuptools import setup
paths = ["--config-file=", *(f"stemma/radix/{{name}}.py" for name in {modules})]
setup(ext_modules=mypycify(paths, opt_level="2", group_name="stemma_radix"), packages=["stemma.radix"])
"""


def facts() -> ModuleType:
    """radix/compiled.py by itself."""
    spec = importlib.util.spec_from_file_location("compiled_facts", SOURCES / "compiled.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compile_into(target: Path) -> None:
    """Compile a copy of the sources that has nothing around it, and put what comes of it into the folder `target`."""
    known = facts()
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = folder / "stemma/radix"
        package.mkdir(parents=True)
        (folder / "stemma/__init__.py").touch()
        for path in SOURCES.glob("*.py"):
            shutil.copy(path, package)
        (folder / "setup.py").write_text(SCRIPT.format(modules=known.MODULES), encoding="utf-8")
        subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=folder, check=True)
        target.mkdir(parents=True)
        for path in [*folder.glob(f"{known.LIBRARY}.*"), *package.glob("*")]:
            if path.suffix in (".so", ".pyd"):
                shutil.copy(path, target)
    (target / known.DIGEST).write_text(known.digest_of(SOURCES), encoding="utf-8")


class BuildCompiled(build_ext):
    """All that is compiled goes into one folder of the package, or nothing does."""

    def run(self) -> None:
        in_place = self.inplace or self.editable_mode
        package = SOURCES if in_place else Path(self.build_lib) / "stemma/radix"
        try:
            compile_into(package / facts().BUILT)
        except (subprocess.CalledProcessError, OSError) as error:
            shutil.rmtree(package / facts().BUILT, ignore_errors=True)
            print(
                f"stemma.radix was not compiled and will run interpreted, at half the speed: {error}", file=sys.stderr
            )

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []


setup(ext_modules=[Extension("stemma.radix.built", [])], cmdclass={"build_ext": BuildCompiled})
