#!/usr/bin/env python3
"""Compare rendered chat templates and prompt tokens with transformers, byte for byte.

Renders every template with every conversation, with and without the generation prompt. The templates are those
below, which cover the features that transformers offers, and the published ones in `SHARED/models/templates` if that
folder exists. Also compares token ids if `SHARED/models/qwen2.5-math-1.5b` has a real tokenizer, and pi1's prompts
for training and evaluation if `SHARED/data` exists.

  cargo build --release --example render_chat
  python scripts/check_templates.py --renderer target/release/examples/render_chat [--shared ../shared]

Prints one JSON line. Exit code 0: all are equal; 1: a difference (described on stderr); 2: wrong usage.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

# Set before transformers is imported: no network access, readable stderr.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import transformers
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

DATE = "2024-07-06"
TOKENS = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<|eot_id|>"}


class FixedClock:
    """A clock with a fixed date, for `strftime_now`."""

    @staticmethod
    def now() -> datetime:
        return datetime.strptime(DATE, "%Y-%m-%d")


def turns(*contents: str, system: str | None = None) -> list[dict]:
    """Returns a conversation: user and assistant alternate, after an optional system message."""
    roles = ["user", "assistant"]
    messages = [{"role": "system", "content": system}] if system is not None else []
    return messages + [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


CONVERSATIONS = [
    turns("What is 1 + 1?"),
    turns(""),
    turns(" \t both ends \n\n"),
    turns("Größe: ∑ 你好 😀👩‍👧 \u0301 a\u200db \u00a0x\u2028y\u3000", system="Sei kurz. é "),
    turns("a", "<think>\nfirst\n</think>\n\nthe answer ", "b", "<think>x</think><think>y</think>z", "c", system=""),
    turns("a", "no end of <think> here", "b"),
    turns("a", "", "b"),
    turns("a", "last word"),
    turns(*[f"turn {i} {{{{ not a template }}}} {{% if %}} \\boxed{{{i}}} <|im_end|> \"quoted\" 'single' <b>&amp;</b>" for i in range(41)]),
    turns("line\r\nbreaks\rof\n every \\n kind", system=" \n system with spaces \n "),
    [{"role": "assistant", "content": "begins"}, {"role": "user", "content": "then asks"}],
    [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}, {"role": "system", "content": "late"}],
    [{"role": "tool", "content": "42"}],
]

TEMPLATES = {
    "blocks": "  {% for m in messages %}\n    {% if loop.first %}\nfirst\n    {% endif %}\n{{ m.role }}|{{ m['content'] }}\n  {% endfor %}\n\n",
    "minus": "{%- for m in messages -%}\n  {{- m.role -}} : {{ m.content }}  \n{%- endfor -%}\n  end\n",
    "plus": "{%+ for m in messages +%}\n  {%+ if true +%}\n{{ m.content }}{% endif +%}\n{% endfor %}",
    "comment": "a {# gone #}\n{#- tight -#}  b\n  {# alone on its line #}\nc",
    "tojson": "{{ messages | tojson }}\n{{ messages | tojson(indent=2) }}{{ {'b': [1, 2.5, none, true, 1e100], 'a': {}, 'é': '<&>\\''} | tojson }}",
    "tojson-more": "{{ messages | tojson(indent=0) }}{{ messages | tojson(separators=(',', ':'), sort_keys=true) }}{{ messages | tojson(ensure_ascii=true) }}",
    "control": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}{{ m.content }};{% endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}\n  {% generation %}\n{{ m.content }}{%- endgeneration -%}\n\n{% else %}[{{ m.content }}]{% endif %}{% endfor %}",
    "raise": "{% if messages | length > 4 %}{{ raise_exception('too many') }}{% endif %}{{ messages | length }}",
    "date": "{{ strftime_now('%d %B %Y') }}|{{ strftime_now('%Y-%m-%d') }}|{{ strftime_now('%A %a %b %e %y %j %H:%M:%S %% %-d.%-m. %D %T %I %p %h %F') }}",
    "strings": "{% for m in messages %}{{ m.content.strip() }}|{{ m.content | trim }}|{{ m.content.split('</think>')[-1].lstrip('\\n') }}|{{ m.content.startswith('<') }}|{{ m.role | upper }}|{{ m.role.title() }}|{{ m.content.replace('a', 'b') }}|{{ m.content | length }};{% endfor %}",
    "slices": "{% set rest = messages[1:] %}{{ rest | length }}{{ messages[-1].role }}{{ messages[::-1][0].content }}{{ (messages | first).role }}{{ (messages | last)['content'] }}",
    "namespace": "{% set ns = namespace(found=false, text='') %}{% for m in messages %}{% if m.role == 'system' and not ns.found %}{% set ns.found = true %}{% set ns.text = m.content %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.text }}{{ loop is defined }}",
    "tests": "{{ tools is none }}{{ documents is none }}{{ bos_token is defined }}{{ pad_token is defined }}{{ messages[0].tool_calls is defined }}{{ 'tool_calls' in messages[0] }}{{ messages is iterable }}{{ messages[0].content is string }}{{ messages[0] is mapping }}{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ add_generation_prompt }}",
    "macro": "{% macro turn(role, text='none') %}<{{ role }}>{{ text }}\n{% endmacro %}{% for m in messages %}{{ turn(m.role, text=m.content) }}{% endfor %}{{ turn('x') }}",
    "loop": "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }}{% if not loop.last %}{{ loop.nextitem.role }}{% endif %}{% if loop.previtem is defined %}{{ loop.previtem.role }}{% endif %}{% else %}none{% endfor %}",
    "arithmetic": "{{ 7 // 2 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ -7 % 3 }} {{ 1.0 }} {{ 'a' ~ 1 ~ none }} {{ 'ab' * 2 }} {{ [1, 'x', none, true] }} {{ (1, 2) }}",
    "filters": "{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | list | length }}{{ ['b', 'a'] | sort | join }}{{ missing | default('d') }}{{ {'a': 1}.items() | list | length }}{% for k, v in {'z': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}",
    "ternary": "{{ 'yes' if add_generation_prompt else 'no' }}{{ messages[0].content if messages[0].content else 'empty' }}{{ 'x' if false }}",
}


def theirs(template: str, messages: list[dict], generate: bool) -> str | None:
    """Renders with transformers; None if the template raises an error."""
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=template, add_generation_prompt=generate, **TOKENS
        )
        return rendered[0]
    except Exception:  # a template can raise anything
        return None


def ours(renderer: Path, lines: list[dict], environment: dict) -> list[dict]:
    """Renders with `render_chat`; returns one record per line."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([renderer], input=text, capture_output=True, text=True, encoding="utf-8", env=environment, check=True)
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def compare_templates(renderer: Path, templates: dict[str, str], problems: list[str]) -> int:
    """Compares every template with every conversation; returns the number of comparisons."""
    with tempfile.TemporaryDirectory() as folder:
        lines, expected, names = [], [], []
        for number, (name, source) in enumerate(templates.items()):
            path = Path(folder) / f"{number}.jinja"
            path.write_bytes(source.encode())
            for index, messages in enumerate(CONVERSATIONS):
                for generate in (False, True):
                    lines.append({"template": str(path), "tokens": TOKENS, "messages": messages, "add_generation_prompt": generate, "date": DATE})
                    expected.append(theirs(source, messages, generate))
                    names.append(f"template {name}, conversation {index}, generation prompt {generate}")
        for name, want, got in zip(names, expected, ours(renderer, lines, dict(os.environ)), strict=True):
            if got.get("text") != want:
                problems.append(f"{name}:\n  transformers {want!r}\n  rlvr         {got.get('text', got.get('error'))!r}")
    return len(lines)


def compare_tokens(renderer: Path, model: Path, data: Path, problems: list[str]) -> int:
    """Compares the token ids of every conversation and of pi1's prompts; returns the number of prompts."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    common = {"model": str(model), "add_generation_prompt": True, "date": DATE}
    lines = [{**common, "messages": messages} for messages in CONVERSATIONS]
    if data.exists():
        lines += [{**common, "example": "pi1", "training": training} for training in (True, False)]
    else:
        did_not_run("pi1's prompts", data)
    for line, got in zip(lines, ours(renderer, lines, {**os.environ, "RLVR_DATA_DIR": str(data)} if data.exists() else dict(os.environ)), strict=True):
        if "error" in got:
            problems.append(f"{line}: {got['error']}")
            continue
        text = tokenizer.apply_chat_template(got["messages"], tokenize=False, add_generation_prompt=True)
        ids = tokenizer.apply_chat_template(got["messages"], add_generation_prompt=True)["input_ids"]
        if (text, ids) != (got["text"], got["ids"]):
            problems.append(f"{line}:\n  transformers {text!r} {ids}\n  rlvr         {got['text']!r} {got['ids']}")
    if data.exists():
        problems += published_prompt(data, lines, renderer)
    return len(lines)


def published_prompt(data: Path, lines: list[dict], renderer: Path) -> list[str]:
    """Checks that pi1's training prompt equals that in the published Parquet file; returns the problems."""
    import pyarrow.parquet

    published = pyarrow.parquet.read_table(data / "train/pi1_r128.parquet").column("prompt")[0].as_py()
    got = ours(renderer, lines[-2:-1], {**os.environ, "RLVR_DATA_DIR": str(data)})[0]["messages"]
    return [] if got == published else [f"pi1's prompt is {got!r}; the published one is {published!r}"]


def did_not_run(what: str, missing: Path) -> None:
    """Reports a skipped comparison like src/testing.rs: an error if the shared folder is required, else a line on stderr and in a file."""
    line = f"check_templates: {what}\t{missing} does not exist (set RLVR_SHARED_DIR to the folder that contains it)"
    if os.environ.get("RLVR_REQUIRE_SHARED") == "1":
        sys.exit(f"{line}, and RLVR_REQUIRE_SHARED=1 requires it")
    print(f"DID NOT RUN: {line}", file=sys.stderr)
    if record := os.environ.get("RLVR_DID_NOT_RUN"):
        with open(record, "a") as lines:
            print(line, file=lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renderer", type=Path, required=True, help="the built example render_chat")
    parser.add_argument("--shared", type=Path, default=os.environ.get("RLVR_SHARED_DIR", Path(__file__).parents[1] / ".." / "shared"))
    args = parser.parse_args()
    if not args.renderer.exists():
        parser.error(f"{args.renderer} does not exist: cargo build --release --example render_chat")
    args.renderer, shared = args.renderer.resolve(), Path(args.shared).resolve()
    chat_template_utils.datetime = FixedClock

    templates, problems, prompts = dict(TEMPLATES), [], 0
    published = sorted((shared / "models/templates").glob("*.jinja"))
    templates |= {path.name: path.read_bytes().decode() for path in published}
    renders = compare_templates(args.renderer, templates, problems)
    if published:
        prompts = compare_tokens(args.renderer, shared / "models/qwen2.5-math-1.5b", shared / "data", problems)
    else:
        did_not_run("published templates and tokenizer", shared)
    for problem in problems:
        print(problem, file=sys.stderr)
    line = {"ok": not problems, "templates": len(templates), "renders": renders, "prompts": prompts}
    print(json.dumps({**line, "problems": len(problems), "transformers": transformers.__version__}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
