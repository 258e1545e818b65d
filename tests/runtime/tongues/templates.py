"""Chat templates in the manner of each tongue, written for tests: small, with tokens of their own around turns."""

from __future__ import annotations

FRAME = """\
{%- if tools %}{{- '<|start|>system\\nTools: ' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}
{{- '<|end|>' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}{{- '<|start|>assistant\\n' }}@ANSWER@{{- '<|end|>' }}
{%- elif message.role == 'tool' %}{{- '<|start|>tool\\n' + message.content + '<|end|>' }}
{%- else %}{{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n@PROMPT@' }}{% endif %}"""
THOUGHTS = """\
{%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}"""
CALLS = "{%- for call in message.tool_calls or [] %}{% set f = call.function %}@CALL@{% endfor %}"
PAIRS = "{%- for key, value in f.arguments.items() %}@PAIR@{% endfor %}"
TEXT_OR_JSON = "(value if value is string else value | tojson)"


def framed(answer: str, prompt: str = "") -> str:
    return FRAME.replace("@ANSWER@", answer).replace("@PROMPT@", prompt)


def calling(call: str, before: str = "{{- message.content }}", behind: str = "") -> str:
    return framed(before + CALLS.replace("@CALL@", call) + behind)


HERMES = calling(
    "{{- '\\n' if message.content or not loop.first }}"
    '{{- \'<tool_call>\\n{"name": "\' + f.name + \'", "arguments": \' + (f.arguments | tojson) }}'
    "{{- '}\\n</tool_call>' }}",
    before=THOUGHTS + "{{- message.content }}",
)
FUNCTIONS = calling(
    "{{- '\\n<tool_call>\\n<function=' + f.name + '>' }}"
    + PAIRS.replace("@PAIR@", "{{- '\\n<parameter=' + key + '>\\n' + (value | string) + '\\n</parameter>' }}")
    + "{{- '\\n</function>\\n</tool_call>' }}",
)
PAIRED = calling(
    "{{- '<tool_call>' + f.name }}"
    + PAIRS.replace(
        "@PAIR@", "{{- '\\n<arg_key>' + key + '</arg_key>\\n<arg_value>' + " + TEXT_OR_JSON + " + '</arg_value>' }}"
    )
    + "{{- '\\n</tool_call>' }}",
    before="{{- '<think></think>' }}{{- message.content }}",
)
WRAPPED = calling(
    "{{- '<function name=\"' + f.name + '\">' }}"
    + PAIRS.replace(
        "@PAIR@",
        "{%- if value is string and ('<' in value or '&' in value or '\n' in value) %}"
        "{{- '<param name=\"' + key + '\"><![CDATA[' + value + ']]></param>' }}"
        "{%- else %}{{- '<param name=\"' + key + '\">' + (value | string) + '</param>' }}{% endif %}",
    )
    + "{{- '</function>' }}",
)
TYPED = calling(
    "{{- '<|call|>' + f.name + '\">' }}"
    + PAIRS.replace(
        "@PAIR@",
        "{{- '\\n<|arg|>' + key + ('\" is_text=\"yes\">' if value is string else '\" is_text=\"no\">') + "
        + TEXT_OR_JSON + " + '<|/arg|>' }}",
    )
    + "{{- '<|/call|>' }}",
)  # fmt: skip
LLAMA = calling(
    "{%- if not loop.first %}{{ raise_exception('one call only') }}{% endif %}"
    "{{- '{\"name\": \"' + f.name + '\", \"parameters\": ' + (f.arguments | tojson) + '}' }}",
)
MISTRAL = calling("{{- '[TOOL_CALLS]' + f.name + '[ARGS]' + (f.arguments | tojson) }}")
MISTRAL_LIST = calling(
    "{%- if call.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    "{{- '[TOOL_CALLS][' if loop.first else ', ' }}"
    '{{- \'{"name": "\' + f.name + \'", "arguments": \' + (f.arguments | tojson) + \', "id": "\' + call.id + \'"}\' }}'
    "{{- ']' if loop.last }}",
)
DEEPSEEK = calling(
    "{{- '<|calls|>' if loop.first }}"
    "{{- '<|call|>function<|sep|>' + f.name + '\\n```json\\n' + f.arguments + '\\n```<|/call|>' }}"
    "{{- '<|/calls|>' if loop.last }}",
)
NUMBERED = calling(
    "{{- '<|calls|>' if loop.first }}"
    "{{- '<|call|>functions.' + f.name + ':' + (loop.index0 | string) + '<|sep|>' + (f.arguments | tojson) }}"
    "{{- '<|/call|>' }}{{- '<|/calls|>' if loop.last }}",
)
IDENTIFIED = calling(
    "{{- '<|call|>' + call.id + '<|sep|>' + f.name + '<|arg|>' + (f.arguments | tojson) + '<|/call|>' }}"
)
COMMAND = framed(
    "{%- if message.reasoning_content %}{{- '<|think|>' + message.reasoning_content + '<|/think|>' }}{% endif %}"
    "{%- if message.tool_calls %}{{- '<|calls|>[' }}{% for call in message.tool_calls %}"
    '{{- \'\\n    {"id": "\' + (loop.index0 | string) + \'", "tool": "\' + call.function.name }}'
    '{{- \'", "parameters": \' }}'
    "{{- (call.function.arguments | tojson) + '}' + ('' if loop.last else ',') }}{% endfor %}{{- '\\n]<|/calls|>' }}"
    "{%- else %}{{- '<|say|>' + message.content + '<|/say|>' }}{% endif %}",
)
HARMONY = """\
{%- if tools %}{% for tool in tools %}{{- '<|start|>developer' + (tool | tojson) + '<|end|>' }}{% endfor %}{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if message.thinking %}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|eom|>' }}{% endif %}
{%- if message.tool_calls %}{% set f = message.tool_calls[0].function %}
{{- '<|start|>assistant to=functions.' + f.name + '<|channel|>commentary json<|message|>' + (f.arguments | tojson) }}
{{- '<|end|>' }}
{%- else %}{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}{% endif %}
{%- else %}{{- '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}"""
KEYWORDS = calling(
    "{{- '<|calls|>[' if loop.first else ', ' }}{{- f.name + '(' }}"
    "{%- for key, value in f.arguments.items() %}{{- ', ' if not loop.first }}"
    "{{- key + '=' + ((\"'\" + value + \"'\" if \"'\" not in value else '\"' + value + '\"') "
    "if value is string else (value | tojson if value is mapping or "
    "(value is sequence and value is not string) else value | string)) }}{% endfor %}"
    "{{- ')' }}{{- ']<|/calls|>' if loop.last }}",
)
GEMMA = """\
{%- macro written(value) %}
{%- if value is string %}{{- '<|"|>' + value + '<|"|>' }}
{%- elif value is mapping %}{{- '{' }}{% for key, item in value | dictsort %}
{{- ',' if not loop.first }}{{- key + ':' }}{{- written(item) }}{% endfor %}{{- '}' }}
{%- elif value is sequence %}{{- '[' }}{% for item in value %}
{{- ',' if not loop.first }}{{- written(item) }}{% endfor %}{{- ']' }}
{%- elif value is boolean %}{{- 'true' if value else 'false' }}
{%- else %}{{- value | string }}{% endif %}
{%- endmacro %}""" + calling("{{- '<|call|>call:' + f.name + written(f.arguments) + '<|/call|>' }}")
FUNCTIONARY = calling("{{- '<function=' + f.name + '>' + (f.arguments | tojson) + '</function>' }}")
RECIPIENTS = """\
{%- if tools %}{% for tool in tools %}{{- '<|start|>system\\n' + (tool | tojson) + '<|end|>' }}{% endfor %}{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}{{- '<|start|>assistant\\n' }}
{%- if message.content %}{{- '>>>all\\n' + message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- '>>>' + call.function.name + '\\n' + call.function.arguments }}{% endfor %}{{- '<|end|>' }}
{%- else %}{{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n>>>' }}{% endif %}"""
OPENED = framed(
    "{%- set content = message.content %}"
    "{%- if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{{- content }}"
    + CALLS.replace("@CALL@", "{{- '<|call|>' + f.name + ' ' + (f.arguments | tojson) + '<|/call|>' }}"),
    prompt="<think>\\n",
)
MUTE = """\
{%- for message in messages %}{{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}"""
SHOWING = framed("{{- message.content }}")
ALTERNATING = """\
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '<|start|>' + message.role + '\\n' + message.content + '<|end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}{% endif %}"""

CALLING = {
    "hermes": HERMES,
    "functions": FUNCTIONS,
    "pairs": PAIRED,
    "wrapped": WRAPPED,
    "typed values": TYPED,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "mistral list": MISTRAL_LIST,
    "deepseek": DEEPSEEK,
    "numbered": NUMBERED,
    "identified": IDENTIFIED,
    "command": COMMAND,
    "harmony": HARMONY,
    "keywords": KEYWORDS,
    "gemma": GEMMA,
    "functionary": FUNCTIONARY,
    "recipients": RECIPIENTS,
    "opened": OPENED,
}
TOKENS = (
    "<|tool_call_start|>", "<|tool_call_end|>",
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<|call|>", "<|/call|>", "<|calls|>", "<|/calls|>", "<|sep|>",
    "<|arg|>", "<|/arg|>", "[TOOL_CALLS]", "[ARGS]", '<|"|>', "<|think|>", "<|/think|>", "<|say|>", "<|/say|>",
    "<|channel|>", "<|message|>", "<|constrain|>", "<|eom|>", "<|python_tag|>",
)  # fmt: skip
