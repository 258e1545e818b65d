"""The rules of the house: layers, types, lint, packaging, and what the README promises about set-up."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINKED = ("radix", "fsm", "runtime", "kernels")
OURS = "stemma-llm"


def run(*command: str, cwd: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_lint():
    run(sys.executable, "-m", "ruff", "check", ".")
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_types():
    run(sys.executable, "-m", "mypy", "-p", "stemma")


def test_layers():
    run(str(Path(sys.executable).parent / "lint-imports"))


def test_no_file_has_more_than_400_lines():
    files = run("git", "ls-files", "*.py").split()
    long = {name: count for name in files if (count := len((ROOT / name).read_text().splitlines())) > 400}
    assert long == {}


def test_every_folder_with_code_is_packaged():
    setuptools = PROJECT["tool"]["setuptools"]
    folders = {"stemma": "stemma"}
    for top in (*LINKED, *(f"stemma/{path.name}" for path in (ROOT / "stemma").iterdir() if not path.is_symlink())):
        for folder in [ROOT / top, *(ROOT / top).rglob("*/")]:
            if any(folder.glob("*.py")):
                name = folder.relative_to(ROOT).as_posix().replace("/", ".").removeprefix("stemma.")
                folders[f"stemma.{name}"] = folder.relative_to(ROOT).as_posix()
    assert set(setuptools["packages"]) == set(folders)
    for name, folder in setuptools["package-dir"].items():
        assert folders[name] == folder
    mapped = {name for name, folder in folders.items() if folder != name.replace(".", "/")}
    assert mapped <= set(setuptools["package-dir"])


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), ".")
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"stemma"}
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        assert any(name.startswith(package.replace(".", "/") + "/") for name in names), package


def test_importing_stemma_imports_nothing_heavy():
    heavy = ["torch", "numpy", "numba", "pydantic", "transformers"]
    script = f"import sys, stemma; print([name for name in {heavy} if name in sys.modules])"
    assert run(sys.executable, "-c", script).strip() == "[]"


def test_the_command_is_there_at_once():
    """What a command needs is imported when it runs."""
    heavy = ["torch", "tokenizers", "llvmlite", "asyncio", "httpx", "starlette", "stemma.runtime.engine"]
    script = f"import sys, stemma.cli; print([name for name in {heavy} if name in sys.modules])"
    assert run(sys.executable, "-c", script).strip() == "[]"


def test_every_public_name_is_there():
    run(sys.executable, "-c", "import stemma\nfor name in stemma.__all__: getattr(stemma, name)")


def test_a_wrong_public_name_says_what_there_is():
    import stemma

    with pytest.raises(AttributeError, match="Engine"):
        _ = stemma.Engin


def test_transformers_can_be_imported_from_the_root_and_from_elsewhere(tmp_path):
    for folder in (ROOT, tmp_path):
        run(sys.executable, "-c", "import stemma, transformers", cwd=folder)


def test_torch_stays_out_of_generation_without_an_engine():
    script = "import sys, stemma.radix, stemma.fsm; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", script).strip() == "False"


def test_ci_runs_the_readmes_two_commands():
    readme = re.findall(r"^python3 -m venv .*$|^\.venv/bin/.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(readme) >= 2
    ci = (ROOT / ".ci/run").read_text().splitlines()
    assert readme[0] in ci
    assert readme[1] in ci


def test_every_dependency_has_its_reason_and_no_reason_is_left_over():
    project = PROJECT["project"]
    groups = {"always": project["dependencies"], **project["optional-dependencies"]}
    names = {group: {re.split(r"[\[<>=;]", item)[0] for item in items} - {OURS} for group, items in groups.items()}
    explained: set[str] = set()
    for section in (ROOT / "docs/dependencies.md").read_text().split("\n## ")[1:]:
        title, *rows = section.splitlines()
        reasons = dict(re.fullmatch(r"\| `(.+?)` \| (.+) \|", row).groups() for row in rows if row.startswith("| `"))
        needed = set().union(*(names[group] for group in groups if re.search(rf"\b{group}\b", title.lower())))
        assert set(reasons) - needed == set(), f"{title}: nothing of these extras needs it"
        explained |= set(reasons)
    assert set().union(*names.values()) - explained == set(), "docs/dependencies.md does not say why"


def modules() -> list[Path]:
    """The product's own files, those of an empty `__init__` left out."""
    found = [path for top in (*LINKED, "stemma") for path in (ROOT / top).rglob("*.py") if path.read_text().strip()]
    assert {path.relative_to(ROOT).parts[0] for path in found} == {*LINKED, "stemma"}
    return found


def test_every_module_says_what_it_is():
    said = {path.relative_to(ROOT).as_posix(): ast.get_docstring(ast.parse(path.read_text())) for path in modules()}
    assert [path for path, doc in said.items() if doc is None or len(doc.split()) < 3] == []


def test_text_files_are_opened_with_an_encoding():
    """The locale is no help: while llvmlite prints a module in any thread, it is C for the whole process."""
    calls = ((path, call) for path in modules() for call in ast.walk(ast.parse(path.read_bytes())) if opens_text(call))
    bare = [f"{path.relative_to(ROOT)}:{call.lineno}" for path, call in calls if "encoding" not in ast.unparse(call)]
    assert bare == []


def opens_text(node: ast.AST) -> bool:
    """Whether it is a call of `open`, `read_text` or `write_text` that is not known to be of something else."""
    if not isinstance(node, ast.Call):
        return False
    text = ast.unparse(node.func)
    is_binary = any(isinstance(arg, ast.Constant) and "b" in str(arg.value) for arg in node.args)
    of_bytes = text in ("os.open", "archive.open") or is_binary
    return text.rpartition(".")[2] in ("read_text", "write_text") or (
        text.rpartition(".")[2] == "open" and not of_bytes
    )
