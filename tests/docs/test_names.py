"""Whatever a page names in backticks, pictures or examples is there: files, folders, modules, classes, attributes.

A name of the form `NEW`, in capitals where a name would stand, is one that the reader is to choose.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from functools import reduce
from importlib import import_module
from itertools import pairwise

import pydantic
import pytest

import stemma
from stemma.server.status.own_metrics import KINDS
from tests.docs.pages import Page, pages
from tests.docs.source import Names, has_file, has_folder, names, requirements, text_of

FILE = re.compile(r"(?<![\w/.{}(-])((?:[\w*.-]+/)*[\w*.-]*[\w*]\.(?:py|md|sh|html|svg|png|mjs|toml))\b(?![\w/])")
FOLDER = re.compile(r"(?<![\w/.:{<\\-])((?:[\w.-]{2,}/)+)(?![\w.*<{])")
DOTTED = re.compile(r"\bstemma(?:\.[A-Za-z_]\w*)+")
NAME = re.compile(r"(?<![\w\\{/<|-])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?![\w/-])")
CHOSEN = re.compile(r"(?:\b|_)NEW")
INSTANCES = {"llm", "lease", "matcher", "model", "ops", "runner", "sampler", "scheduler"}  # as pictures call objects
DATA = re.compile(r".*\.(?:jsonl?|gguf|txt|kv|sqlite)")
MADE = frozenset(f"stemma_{kind}_tokens" for kind in KINDS)
"""Names that the source puts together: metrics of tokens."""
ABOUT = {  # a file without a folder before it stands below the one that the page is about
    "docs/fsm.md": "fsm/",
    "docs/schemas.md": "fsm/",
    "docs/radix.md": "radix/",
    "docs/kernels.md": "kernels/",
    "docs/kernels-gpu.md": "kernels/",
    "docs/model.md": "runtime/model/",
    "docs/dsl.md": "stemma/lang/",
}
# Names of other libraries, files and instruction sets.
OF_OTHERS = """
typing_extensions.TypedDict UUID UUID1 UUID8 IPv4 IPv6 IPvAny ZoneInfo Decimal json_schema_input_type json_schema_extra
PaymentCardNumber gguf.GGUFReader rope_freqs apply_chat_template RustUnifiedTreeCore RadixCache llama.cpp grimp
ESCAPED_STRING dynamic_complete basic contextual remotes jsonschema aab
sgl.set_default_backend sgl.RuntimeEndpoint chat_template_name run_batch litellm.register_model litellm_provider
supports_response_schema dspy.LM api_base MD_JSON PARALLEL_TOOLS chat_template.jinja consolidated.safetensors
num_x x_len vLLM OpenAI general.architecture hidden_activation fnmatch.fnmatchcase
Accept OTEL_SERVICE_NAME TimeoutStopSec terminationGracePeriodSeconds gen_throughput server.pem
gen_ai.operation.name gen_ai.request.max_tokens gen_ai.request.model gen_ai.request.temperature gen_ai.response.id
gen_ai.response.finish_reasons gen_ai.usage.cache_read.input_tokens gen_ai.usage.input_tokens gen_ai.usage.output_tokens
ProviderStrategy ToolStrategy apiBaseUrl return_direct similar stop_after_tool_call stop_on_first_tool file_search
response.custom_tool_call_input
ZeroMQ sdot smmla smull saddlp addp bfdot bfmmla casal ldaddal ldar stlr isb
vpdpbusd vpdpwssd pmaddubsw pmaddwd mypyc vpmaddubsw vpmaddwd vdpbf16ps SiLU
"""


def every(page: Page) -> list[str]:
    return [*page.spans, *page.pictures, *page.blocks("sh", "bash")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_files_and_folders(page):
    about = ABOUT.get(page.name, "")
    found = [path for text in every(page) for path in FILE.findall(text) if not CHOSEN.search(path)]
    below = {path: [""] if "/" in path else [about, f"tests/{about}"] for path in found}
    assert [path for path in found if not any(has_file(path, folder) for folder in below[path])] == []
    folders = [path for text in every(page) for path in FOLDER.findall(text) if not CHOSEN.search(path)]
    assert [path for path in folders if not has_folder(path)] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_dotted_names(page):
    for name in set(DOTTED.findall(page.text)):
        assert resolves(name), f"{page.name}: there is no {name}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_names_in_backticks_and_pictures(page):
    found = {name for text in [*page.spans, *page.pictures] for name in NAME.findall(text) if is_name(name)}
    found |= {span for span in page.spans if re.fullmatch(r"[A-Za-z]\w{3,}", span) and span not in requirements()}
    ours = [
        name for name in found if not any(kind.search(name) for kind in (CHOSEN, DATA)) and not FILE.fullmatch(name)
    ]
    own = Names()  # what the page defines itself
    for code in page.blocks("python", "py"):
        own.visit(parsed(code, page))
    wrong = [name for name in ours if not (is_there(name) or own.words.issuperset(name.split(".")))]
    assert sorted(wrong) == []


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/serving.md"])
def test_the_way_of_a_request_names_the_file_where_each_thing_stands(name):
    """Of a line with names on its left and files on its right, each name is in one of the files."""
    (page,) = (page for page in pages() if page.name == name)
    (way,) = page.section("The way of one request").blocks("")
    lines = [
        (line[: files[0].start()], [file[0] for file in files])
        for line in way.splitlines()
        if (files := list(FILE.finditer(line)))
    ]
    assert len(lines) >= 8
    for left, files in lines:
        texts = "\n".join(text_of(path) for path in files)
        for part in {
            part for name in NAME.findall(left) if is_name(name) or f"{name}(" in left for part in name.split(".")
        }:
            assert part in INSTANCES or re.search(rf"\b{part}\b", texts), f"{part} is not in {files}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_examples(page):
    """They compile, and what they import from here is there."""
    for code in page.blocks("python", "py"):
        for node in ast.walk(parsed(code, page)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "stemma":
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    assert CHOSEN.search(name) or resolves(name), f"{page.name}: there is no {name}"


def test_every_public_name_is_on_a_page():
    texts = "\n".join(page.text for page in pages())
    assert [name for name in stemma.__all__ if not re.search(rf"stemma\.{name}\b", texts)] == []


def parsed(code: str, page: Page) -> ast.AST:
    compile(code, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return ast.parse(code)


def is_name(word: str) -> bool:
    """Whether it is no word of a language."""
    return "_" in word.strip("_") or "." in word or bool(re.search(r"[a-z][A-Z]|[A-Z]{2,}[a-z]", word))


def is_there(name: str) -> bool:
    """Whether the source has such a name; of a class of ours, whether it has the attribute."""
    others = MADE.union(keyword.kwlist, OF_OTHERS.split())
    if name in others or any(hasattr(home, name) for home in (builtins, pydantic)):
        return True
    source = names()
    parts = name.split(".")
    classes = [part for part in parts if part[0].isupper() and not part.isupper()]
    if not source.words.issuperset(parts) or not source.defined.issuperset(classes):
        return False
    return all(part in source.members.get(owner, [part]) for owner, part in pairwise(parts))


def resolves(name: str) -> bool:
    first, *rest = name.split(".")
    for cut in range(len(rest), -1, -1):
        try:
            module = import_module(".".join([first, *rest[:cut]]))
        except ImportError:
            continue
        try:
            reduce(getattr, rest[cut:], module)
        except AttributeError:
            return False
        return True
    return False
