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
        started, worked = time.perf_counter(), time.process_time()
        outputs = llm.generate(texts, params, use_tqdm=False)
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        answers = [answer for output in outputs for answer in output.outputs]
        tokens = sum(len(answer.token_ids) for answer in answers)
        made = {"seconds": seconds, "cpu": cpu, "tokens": tokens, "texts": [answer.text for answer in answers]}
        connection.send(("ok", made))


if __name__ == "__main__":
    main()
