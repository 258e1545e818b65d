"""Chat templates of real models: rendered as transformers renders them, and their calls written, read and streamed.

    pip download --no-deps --no-binary :all: llama-cpp-python; pip download --no-deps trl     # then unpack them
    python benchmarks/templates.py .../vendor/llama.cpp/models/templates .../trl/chat_templates [--show] [--json OUT]

For each template: is every chat rendered as transformers does, or refused by both; which form of calls was recognised;
does the form's grammar take what the template writes, and is what it writes by random walks read back in any pieces,
and what the template writes of these calls in history. Files named `*_training.jinja` are left out: they are others
with marks for training. Nothing is fetched. Needs transformers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from stemma.fsm import Matcher, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.errors import ChatTemplateError, InvalidRequest
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.model.tiny import byte_tokenizer
from stemma.runtime.tongues.answer_grammar import AnswerGrammar
from stemma.runtime.tongues.calls import Call
from stemma.runtime.tongues.functions import Function
from stemma.runtime.tongues.recognise import recognise
from stemma.runtime.tongues.tongue import Tongue
from tests.runtime.tongues import making

MARK = re.compile(
    r"<\|[^|>\s]{1,40}\|>|<\uff5c[^\uff5c]{1,40}\uff5c>|\[/?[A-Z_]{3,20}\]|</?[a-zA-Z_:]+\|?>|<\|[a-z_]+>|\[e~\[|\]~b\]"
)
ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<EOS>", "</s>", "<end_of_turn>",
    "<turn|>", "<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<|END_OF_TURN_TOKEN|>", "<|call|>",
    "<|return|>", "<|calls|>", "<|role_end|>", "[e~[", "<|eot|>", "<|eom|>", "<end_of_sentence>", "<|observation|>",
    "<|user|>", "<seed:eos>", "<SPECIAL_12>", "<|message_sep|>", "<sep>", "</assistant>", "<|end_of_msg|>",
    "<|assistant_end|>", "<|user_end|>", "<end_of_utterance>", "<\uff5chy_eos:opensource\uff5c>",
)  # fmt: skip
"""What models of these templates name as ends in their generation_config.json."""


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that every template can tell: each property with a description and one type."""
    told = {name: {**part, "description": "What."} for name, part in schema["properties"].items() if name != "n"}
    return {**schema, "properties": told, "required": [name for name in schema.get("required", []) if name != "n"]}


SCHEMAS = {name: described(schema) for name, schema in making.SCHEMAS.items()}
FUNCTIONS = tuple(Function(name, JSONSchema(schema)) for name, schema in SCHEMAS.items())
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "What <it> does.", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
SAMPLES = (
    [Call("get_weather", {"city": "Paris <3 \u00e9"})], [Call("get", {})], [Call("go_now", {"on": True, "why": "a b"})],
    [Call("get_weather", {"city": "Rome", "days": 3, "deep": {"a": False, "b": ["p", "q r"]}})],
    [Call("get", {}), Call("get_weather", {"city": "it's"}), Call("go_now", {"on": False, "why": "c"})],
)  # fmt: skip
NUM_WALKS = 8


@dataclass
class Result:
    """Of one template. A list of what is wrong is empty where nothing is."""

    name: str
    tongue: str
    renders: list[str] = field(default_factory=list)
    accepts: list[str] = field(default_factory=list)
    parses: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)


# Chats ----------------------------------------------------------------
def chats() -> Iterator[dict[str, Any]]:
    """Chats in many shapes, with what templates are told besides."""
    call = {"id": "abc123def", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
    user = {"role": "user", "content": "say <|im_end|> & \u00e9"}
    shapes: list[list[dict[str, Any]]] = [
        [user],
        [{"role": "system", "content": "Be <b>brief</b>."}, user],
        [user, {"role": "assistant", "content": " words "}, {"role": "user", "content": "a < b?"}],
        [user, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}, {"role": "user", "content": "more"}],
        [user, {"role": "assistant", "content": "yes", "reasoning_content": "hm"}, {"role": "user", "content": "more"}],
        [user, {"role": "assistant", "content": "", "tool_calls": [call]},
         {"role": "tool", "tool_call_id": "abc123def", "name": "get_weather", "content": '{"sun": true}'}],
        [user, {"role": "assistant", "content": "Let me.", "reasoning_content": "hm", "tool_calls": [call]},
         {"role": "tool", "tool_call_id": "abc123def", "name": "get_weather", "content": "sun"},
         {"role": "assistant", "content": "Sun."}, {"role": "user", "content": "Thanks"}],
        [user, user],
    ]  # fmt: skip
    values: list[dict[str, Any]] = [{}, {"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True}]
    for messages, tools, prompted, told in itertools.product(shapes, (None, TOOLS), (False, True), values):
        yield {"messages": messages, "tools": tools, "add_generation_prompt": prompted, **told}


def theirs(source: str, chat: dict[str, Any], special: dict[str, str]) -> str | None:
    """As transformers renders it; None if the template refuses it."""
    values = {name: value for name, value in chat.items() if name != "messages"}
    try:
        texts, _ = render_jinja_template([chat["messages"]], chat_template=source, **values, **special)
    except Exception:  # templates raise what they like
        return None
    return str(texts[0])


def ours(template: ChatTemplate, chat: dict[str, Any]) -> str | None:
    """With thoughts under both names that transformers gives them."""
    values = {name: value for name, value in chat.items() if name != "messages"}
    messages = [message | ({"thinking": thoughts} if (thoughts := message.get("reasoning_content")) else {})
                for message in chat["messages"]]  # fmt: skip
    try:
        return template.render(messages, **values)
    except ChatTemplateError:
        return None


# A tokenizer for any template ----------------------------------------------------------------
def tokenizer_for(source: str, *others: str) -> tuple[Tokenizer, dict[str, str]]:
    """Bytes, and each mark of the template as a token of its own; others: what the vocabulary has besides."""
    known = byte_tokenizer().spec["model"]["vocab"]
    marks = [
        mark for mark in dict.fromkeys([*MARK.findall(source), *others, "<BOS>", *ENDS, '<|"|>']) if mark not in known
    ]
    files = byte_tokenizer(*marks)
    special = {**files.special, "bos_token": "<BOS>", "eos_token": "<EOS>"}
    return Tokenizer(replace(files, special=special), making.FIRST + len(marks)), special


def ends_of(tokenizer: Tokenizer) -> list[int]:
    ends = [tokenizer.special[text] for text in ENDS if text in tokenizer.special]
    is_harmony = "<|channel|>" in tokenizer.special or "<|begin|>" in tokenizer.special
    return ends if is_harmony else [*ends, tokenizer.special["<|end|>"]]


# Calls ----------------------------------------------------------------
def cut(text: str, chance: random.Random) -> list[str]:
    places = sorted(chance.randrange(len(text) + 1) for _ in range(12))
    return [text[i:j] for i, j in itertools.pairwise([0, *places, len(text)])]


def written_by_template(template: ChatTemplate, tongue: Tongue, calls: Sequence[Call]) -> str | None:
    """What the template writes of these calls, if it writes any."""
    made = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments":
         json.dumps(call.arguments, ensure_ascii=False) if tongue.has_text_arguments else call.arguments}}
        for call in calls
    ]  # fmt: skip
    answer = {"role": "assistant", "content": None if tongue.has_null_content else "", "tool_calls": made}
    chat = {"messages": [{"role": "user", "content": "Q"}, answer], "tools": TOOLS, "add_generation_prompt": False}
    return ours(template, chat)


def check_calls(result: Result, template: ChatTemplate, tokenizer: Tokenizer, tongue: Tongue) -> None:
    ends, chance = ends_of(tokenizer), random.Random(1)
    most = 1 if tongue.calls.again is None else 4
    exact = replace(tongue, calls=replace(tongue.calls, variants=()))
    compiled = compile(AnswerGrammar(exact, FUNCTIONS, most), make_vocabulary(tokenizer, ends))
    for sample in SAMPLES:
        calls = [call._replace(id=f"abc123de{at}") for at, call in enumerate(sample[:most])]
        text, matcher = tongue.calls.write(calls), Matcher(compiled)
        if not (all(map(matcher.advance, tokenizer.encode_template(text))) and matcher.is_complete):
            result.accepts.append(text)
        check_reading(result, tongue, text, [(call.name, call.arguments) for call in calls], chance)
        if tongue.is_written and text not in (written_by_template(template, tongue, calls) or ""):
            result.history.append(text)
    for _ in range(NUM_WALKS):
        text = making.shown(making.walk(Matcher(compiled), tokenizer, chance, ends), tokenizer)
        answer = making.parsed(tongue, [text], functions=FUNCTIONS)
        check_reading(result, tongue, text, None, chance)
        calls = [Call(call.name, json.loads(call.arguments), call.id) for call in answer.calls]
        if tongue.is_written and text not in (written_by_template(template, tongue, calls) or ""):
            result.history.append(text)


def check_reading(result: Result, tongue: Tongue, text: str, expected: Any, chance: random.Random) -> None:
    whole, pieces = (making.parsed(tongue, each, functions=FUNCTIONS) for each in ([text], cut(text, chance)))
    found = [(call.name, json.loads(call.arguments)) for call in whole.calls]
    if whole.content or not found or (expected is not None and found != expected):
        result.parses.append(text)
    if [(c.name, c.arguments) for c in whole.calls] != [(c.name, c.arguments) for c in pieces.calls] or pieces.content:
        result.streams.append(text)


def check(path: Path) -> Result:
    source = path.read_text(encoding="utf-8")
    is_lfm = path.stem.lower().startswith("lfm2")
    tokenizer, special = tokenizer_for(source, *(("<|tool_call_start|>", "<|tool_call_end|>") if is_lfm else ()))
    template = ChatTemplate(source, tokenizer)
    tongue = recognise(template, tokenizer, ends_of(tokenizer))
    how = (", told here" if tongue.is_written else ", told and written here") if not tongue.is_told else ""
    how = ", written here" if tongue.is_told and not tongue.is_written else how
    result = Result(path.stem, tongue.calls.name + how)
    for chat in chats():
        if theirs(source, chat, special) != ours(template, chat):
            result.renders.append(json.dumps(chat, ensure_ascii=False))
    try:
        check_calls(result, template, tokenizer, tongue)
    except InvalidRequest as error:
        result.accepts.append(str(error))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--show", action="store_true", help="show the first of what is wrong")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paths = [path for folder in options.folders for path in sorted(folder.glob("*.jinja"))]
    results = [check(path) for path in paths if not path.stem.endswith("_training")]
    columns = ("renders", "accepts", "parses", "history", "streams")
    for result in results:
        wrong = {column: getattr(result, column) for column in columns if getattr(result, column)}
        print(
            f"{result.name:52} {result.tongue:30} " + (", ".join(f"{n}: {len(v)}" for n, v in wrong.items()) or "all")
        )
        if options.show:
            for column, cases in wrong.items():
                print(f"    {column}: {cases[0]:.300}")
    print(f"\n{len(results)} templates")
    for column in columns:
        print(f"{column:10} {sum(not getattr(result, column) for result in results)}")
    for tongue, count in Counter(result.tongue for result in results).most_common():
        print(f"{tongue:40} {count}")
    if options.json:
        options.json.write_text(json.dumps([vars(result) for result in results], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
