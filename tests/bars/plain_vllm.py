"""Plain vLLM, as one would write it, in a process of its own: `LLM(...)` and `generate`, and a clock around that."""

import sys
import time
from multiprocessing.connection import Connection
from typing import Any


def main() -> None:
    from vllm import LLM, SamplingParams

    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    llm = LLM(**connection.recv())
    tokenizer: Any = llm.get_tokenizer()
    while True:
        try:
            _, asked = connection.recv()
        except EOFError:
            return
        texts = tokenizer.apply_chat_template(asked["chats"], add_generation_prompt=True, tokenize=False)
        params = [SamplingParams(seed=seed, **asked["params"]) for seed in asked["seeds"]]
        started = time.perf_counter()
        outputs = llm.generate(texts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        answers = [answer for output in outputs for answer in output.outputs]
        tokens = sum(len(answer.token_ids) for answer in answers)
        connection.send(("ok", {"seconds": seconds, "tokens": tokens, "texts": [answer.text for answer in answers]}))


if __name__ == "__main__":
    main()
