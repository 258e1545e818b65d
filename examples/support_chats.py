"""Chat sessions that share a system prompt: it is computed once, and each turn costs only its new tokens.

python examples/support_chats.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import stemma

SYSTEM = (
    "You are the help desk of a railway. Trains run from six to midnight, every half hour. A ticket costs four euros, "
    "a day ticket nine. Dogs travel free, bicycles need a ticket of their own. Answer in one short sentence."
)


def talk(llm: stemma.Engine, max_tokens: int = 32) -> list[stemma.Usage]:
    usages: list[stemma.Usage] = []
    chat = stemma.Chat(llm, system=SYSTEM, max_tokens=max_tokens)
    for question in ("What does a ticket cost?", "And for my dog?"):
        reply = chat.send(question)
        for part in reply:
            print(part.text, end="", flush=True)
        print()
        usages.append(reply.usage)

    other = chat.fork()  # the same past, at no cost
    other.send("May I bring a bicycle?").result()
    chat.regenerate(temperature=0.7, seed=1).result()
    chat.edit(0, "When does the last train leave?").result()  # the second turn goes with the first

    with TemporaryDirectory() as folder:
        other.save(Path(folder) / "chat.json")
        again = stemma.Chat.load(llm, Path(folder) / "chat.json", max_tokens=max_tokens)
        reply = again.send("Thank you.")
        reply.result()
        usages.append(reply.usage)
    for each in (chat, other, again):
        each.release()
    return usages


def main() -> None:
    with stemma.Engine() as llm:
        for usage in talk(llm):
            print(f"{usage.cached_tokens} cached, {usage.prefilled_tokens} prefilled, {usage.decoded_tokens} decoded")


if __name__ == "__main__":
    main()
