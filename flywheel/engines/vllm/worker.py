"""The process that holds vLLM: `python -m flywheel.engines.vllm.worker FD`, started by `vllm.py` and by nothing else.

It reads the arguments of `LLM(...)` from the socket FD and then answers one question after the other until the socket
closes. An answer is ("ok", value), ("refused", (error, *its arguments)) for a question that cannot be answered, or
("failed", message) when vLLM itself failed and this process is of no more use. Rows travel as columns.
"""

import sys
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from flywheel.checkpoints.ends import end_tokens
from flywheel.engines.context import check_context
from flywheel.errors import PromptTooLong, WeightsError

Chats = list[list[dict[str, str]]]


class RefusedError(Exception):
    """The name of an error in flywheel.errors, and its message."""


class RepackHead:
    """Mixed into vLLM's worker, so that `collective_rpc` finds it by its name in whatever process the worker is."""

    model_runner: Any

    def repack_head(self) -> None:
        """vLLM's CPU kernels use a packed copy of the output head, which a reload of tied embeddings leaves stale."""
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        for module in self.model_runner.get_model().modules():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)


class Server:
    """What the parent may ask for. Every public method is a question."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        from vllm import LLM
        from vllm.platforms import current_platform

        self._cpu = current_platform.is_cpu()
        extension = "flywheel.engines.vllm.worker.RepackHead"
        self._llm = LLM(worker_extension_cls=extension, **arguments)
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._context = int(self._llm.model_config.max_model_len)
        self._ends: list[int] = []

    def about(self) -> dict[str, Any]:
        """What the parent wants to know of what was loaded."""
        import vllm

        if not self._tokenizer.chat_template:
            raise RefusedError("WeightsError", "its tokenizer has no chat template")
        template = self._tokenizer.get_chat_template()
        self._ends = self._end_tokens()
        dtype = str(self._llm.model_config.dtype).removeprefix("torch.")
        return {"version": vllm.__version__, "template": template, "context": self._context, "dtype": dtype}

    def _end_tokens(self) -> list[int]:
        """Those of flywheel.checkpoints.ends, as the local engine has them."""
        config = self._llm.model_config
        generation = SimpleNamespace(**config.try_get_generation_config())
        try:
            ends = end_tokens(self._tokenizer, generation, config.hf_text_config)
        except WeightsError as error:
            raise RefusedError("WeightsError", str(error)) from error
        return [end for end in ends if end < config.get_vocab_size()]

    def chat(self, chats: Chats, seeds: list[int], sampling: dict[str, Any]) -> dict[str, list[Any]]:
        """The columns of ANSWERS."""
        prompts = self._tokens(chats)
        check_context(((at, len(prompt), 1) for at, prompt in enumerate(prompts)), self._context)
        # vLLM refuses several greedy answers to one prompt: they would all be the same.
        copies = sampling["n"] if sampling["temperature"] == 0 else 1
        params = [
            self._params({**sampling, "n": sampling["n"] // copies}, self._context - len(prompt), seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return columns(self._generate(prompts, params), copies)

    def _params(self, sampling: dict[str, Any], context: int, seed: int) -> Any:
        """Every parameter, so that none of the model's own applies."""
        from vllm import SamplingParams

        most = min(sampling["max_tokens"], context)
        return SamplingParams(
            **{**sampling, "max_tokens": most, "min_tokens": min(sampling["min_tokens"], most)},
            stop_token_ids=self._ends,
            seed=seed,
            logprobs=0,  # of the sampled token alone, before penalties, temperature and truncation
            flat_logprobs=True,
        )

    def logprobs(self, chats: Chats, completions: list[str]) -> list[list[float]]:
        """Log-probability of each token of each completion after its chat."""
        prompts = self._tokens(chats)
        answers = [self._tokenizer.encode(text, add_special_tokens=False) for text in completions]
        check_context(((at, len(prompts[at]), len(answer)) for at, answer in enumerate(answers)), self._context)
        return self._score([(prompt + answer, len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)])

    def canary(self, token_ids: list[int]) -> list[float]:
        """Log-probability of each token but the first."""
        if len(token_ids) > self._context:
            raise RefusedError("WeightsError", f"its canary has {len(token_ids)} tokens, the context {self._context}")
        return self._score([(token_ids, 1)])[0]

    def reload(self, folder: str) -> None:
        """Replace the weights by those in a folder of the same shape."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        if self._cpu:
            self._llm.collective_rpc("repack_head")
        self._llm.reset_prefix_cache()

    def sleep(self) -> None:
        """Give the accelerator's memory back; the weights wait in the machine's own."""
        if not self._cpu:
            self._llm.sleep(level=1)

    def wake(self) -> None:
        """Take the memory again."""
        if not self._cpu:
            self._llm.wake_up()

    def _tokens(self, chats: Chats) -> list[list[int]]:
        try:
            tokens: list[list[int]] = self._tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except Exception as error:  # templates raise what they like, such as "roles must alternate"
            raise RefusedError("WeightsError", f"the chat template refuses a chat: {error}") from error
        if not all(tokens):
            raise RefusedError("WeightsError", "the chat template makes nothing of a chat")
        return tokens

    def _generate(self, prompts: list[list[int]], params: list[Any]) -> list[Any]:
        from vllm import TokensPrompt

        asked = [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
        return self._llm.generate(asked, params, use_tqdm=False)

    def _score(self, sequences: list[tuple[list[int], int]]) -> list[list[float]]:
        """For each (tokens, start): the log-probability of each token from `start` on, given those before it."""
        from vllm import SamplingParams

        scored = [tokens for tokens, start in sequences if start < len(tokens)]
        # The last token is asked for as if it were to be sampled, so that a sequence may fill the context to its end.
        params = [
            SamplingParams(
                max_tokens=1,
                temperature=0,
                prompt_logprobs=0,
                logprob_token_ids=[tokens[-1]],
                flat_logprobs=True,
                detokenize=False,
            )
            for tokens in scored
        ]
        outputs = iter(self._generate([tokens[:-1] for tokens in scored], params) if scored else [])
        return [
            token_logprobs(next(outputs), *sequence) if sequence[1] < len(sequence[0]) else [] for sequence in sequences
        ]


def columns(outputs: list[Any], copies: int) -> dict[str, list[Any]]:
    """The columns of ANSWERS, each answer `copies` times over."""
    rows = [
        (position, index, answer, len(output.prompt_token_ids))
        for position, output in enumerate(outputs)
        for index, answer in enumerate(answer for answer in output.outputs for _ in range(copies))
    ]
    return {
        "chat": [position for position, _, _, _ in rows],
        "index": [index for _, index, _, _ in rows],
        "text": [answer.text for _, _, answer, _ in rows],
        "finish_reason": [answer.finish_reason for _, _, answer, _ in rows],
        "prompt_tokens": [prompt_tokens for _, _, _, prompt_tokens in rows],
        "tokens": [len(answer.token_ids) for _, _, answer, _ in rows],
        "logprob": [answer.cumulative_logprob for _, _, answer, _ in rows],
    }


def token_logprobs(output: Any, tokens: list[int], start: int) -> list[float]:
    """Of the tokens from `start` on: all but the last were in the prompt."""
    prompt, last = output.prompt_logprobs, output.outputs[0].logprobs
    found = [prompt.logprobs[prompt.start_indices[position]] for position in range(start, len(tokens) - 1)]
    return [*found, last.logprobs[last.token_ids.index(tokens[-1])]]


def handle(server: Server, method: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    """The message for the parent; what vLLM raises goes through, to `main`."""
    try:
        return "ok", getattr(server, method)(**arguments)
    except RefusedError as refusal:
        return "refused", refusal.args
    except PromptTooLong as error:
        return "refused", ("PromptTooLong", str(error), error.prompts)


def main() -> None:
    """Serve the parent until it closes its end."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    try:
        server = Server(connection.recv())
        while True:
            connection.send(handle(server, *connection.recv()))
    except EOFError:  # the parent has closed its end
        return
    except Exception as error:
        connection.send(("failed", f"{type(error).__name__}: {error}"))
        raise


if __name__ == "__main__":
    main()
