"""The rules of the tests themselves: each can fail, none hides what fails, and a module of the core has its file."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
TREES = {path.relative_to(TESTS).as_posix(): ast.parse(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
ASSERTING = {"raises", "warns", "fail", "run_state_machine_as_test"}
"""Calls that fail a test, besides helpers of our own and those of numpy and torch, whose names begin with `assert_`."""
A_TEST_FILE_A_MODULE = ("runtime/core",)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def calls(node: ast.AST) -> set[str]:
    """Names of what is called, without what it belongs to."""
    called = [each.func for each in ast.walk(node) if isinstance(each, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in called}


def asserts(node: ast.AST, helpers: set[str]) -> bool:
    called = calls(node)
    return (
        any(isinstance(each, ast.Assert) for each in ast.walk(node))
        or bool(called & (ASSERTING | helpers))
        or any(name.startswith("assert_") for name in called)
    )


def asserting_helpers() -> set[str]:
    """Functions of the tests that assert, or call one that does."""
    own = [function for tree in TREES.values() for function in functions(tree) if not function.name.startswith("test_")]
    found: set[str] = set()
    while more := {function.name for function in own if asserts(function, found)} - found:
        found |= more
    return found


def test_every_test_can_fail():
    helpers = asserting_helpers()
    tests = [(path, each) for path, tree in TREES.items() for each in functions(tree) if each.name.startswith("test_")]
    assert [f"{path}: {test.name}" for path, test in tests if not asserts(test, helpers)] == []


def test_no_test_swallows_what_fails():
    """An assertion inside `try` is not caught on the way, nor is any error expected."""
    caught = [
        f"{path}:{handler.lineno}"
        for path, tree in TREES.items()
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException", "AssertionError"))
        and all(isinstance(line, ast.Pass | ast.Continue) for line in handler.body)
    ]
    expected = [
        f"{path}:{call.lineno}"
        for path, tree in TREES.items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.raises"
        and ast.unparse(call.args[0]) in ("Exception", "BaseException")
    ]  # fmt: skip
    assert caught + expected == []


def test_no_test_has_parameters_of_one_case():
    single = [
        f"{path}:{call.lineno}"
        for path, tree in TREES.items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.parametrize"
        and isinstance(call.args[1], ast.List | ast.Tuple) and len(call.args[1].elts) < 2
    ]  # fmt: skip
    assert single == []


def test_every_module_has_a_test_file_of_its_name():
    for folder in A_TEST_FILE_A_MODULE:
        modules = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
        tests = {path.stem.removeprefix("test_") for path in (TESTS / folder).glob("test_*.py")}
        assert modules
        assert tests == modules, f"tests/{folder} has no test file of its name for a module, or one for none"
