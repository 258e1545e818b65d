"""The two forms of the cache, compiled and interpreted: which one runs, and that both decide the same to the block."""

import shutil
from pathlib import Path

import pytest

from stemma import compiled, radix
from stemma.compiled import BUILT, DIGEST, MODULES, digest_of
from tests.forms_of_packages import said

PACKAGE = Path(radix.__file__).parent
PROGRAM = """
import hashlib, random
from stemma.radix import NextUse, PrefixCache, is_compiled, lru
numbers, digest, now = random.Random(5), hashlib.sha256(), 0
texts = [[numbers.randrange(40_000) for _ in range(numbers.randrange(20, 400))] for _ in range(60)]
caches = [PrefixCache(1500, 1, clock=lambda: float(now)), PrefixCache(100, 16, clock=lambda: float(now))]
caches.append(PrefixCache(100, 16, lru, lambda: float(now)))
for now in range(800):
    number = int(60 ** numbers.random()) - 1
    texts[number] += [numbers.randrange(40_000) for _ in range(numbers.randrange(30))]
    if len(texts[number]) > 900:
        del texts[number][numbers.randrange(200) :]
        texts[number] += [number]
    hint = numbers.choice(list(NextUse))
    for cache in caches:
        lease = cache.acquire(texts[number], max_hit=len(texts[number]) - 1)
        lease.reserve(len(texts[number]) - lease.hit_len)
        lease.extend(texts[number][lease.hit_len :])
        lease.commit()
        digest.update(f"{lease.hit_len} {list(lease.blocks)} {cache.stats().evicted_blocks}".encode())
        lease.release(hint)
for cache in caches:
    cache.check()
print(is_compiled, digest.hexdigest())
"""


def copy_of(folder: Path, *, with_built: bool) -> Path:
    """The package with nothing around it; returns its folder."""
    package = folder / "stemma/radix"
    package.mkdir(parents=True)
    (folder / "stemma/__init__.py").touch()
    shutil.copy(compiled.__file__, folder / "stemma")
    for path in PACKAGE.glob("*.py"):
        shutil.copy(path, package)
    if with_built:
        shutil.copytree(PACKAGE / BUILT, package / BUILT)
    return package


def test_all_that_is_compiled_is_there() -> None:
    assert {f"{name}.py" for name in MODULES["radix"]} <= {path.name for path in PACKAGE.glob("*.py")}


@pytest.mark.skipif(not radix.is_compiled, reason="this installation was made without a C compiler")
def test_both_forms_decide_the_same(tmp_path: Path) -> None:
    copy_of(tmp_path / "one", with_built=True)
    copy_of(tmp_path / "other", with_built=False)
    compiled, interpreted = said(PROGRAM, tmp_path / "one"), said(PROGRAM, tmp_path / "other")
    assert (compiled[0], interpreted[0]) == ("True", "False")
    assert compiled[1] == interpreted[1]


def test_what_was_compiled_from_other_sources_is_not_used(tmp_path: Path) -> None:
    package = copy_of(tmp_path, with_built=radix.is_compiled)
    if not radix.is_compiled:
        (package / BUILT).mkdir()
        (package / BUILT / DIGEST).write_text(digest_of(package))
    with (package / "tokens.py").open("a") as file:
        file.write("\n# one line more\n")
    assert digest_of(package) != (package / BUILT / DIGEST).read_text()
    assert said(PROGRAM, tmp_path)[0] == "False"
