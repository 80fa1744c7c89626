"""The models of a training: loaded without dropout, and with adapters where wanted."""

from typing import Any

from flywheel.errors import TrainingError, WeightsError
from flywheel.training.plan import Spec
from flywheel.training.settings import Lora, Reward, Training


def load_network(spec: Spec) -> tuple[Any, Any]:
    """Tokenizer and model. Weights that train are fp32, also where the arithmetic is bf16."""
    from transformers import AutoTokenizer, set_seed

    tokenizer = AutoTokenizer.from_pretrained(spec.init_from)
    if not tokenizer.chat_template:
        raise TrainingError(f"the tokenizer of {spec.init_from} has no chat template")
    set_seed(spec.seed)  # for the head of a new reward model
    return tokenizer, network(spec.init_from, spec.settings, frozen=spec.settings.lora is not None)


def network(weights: str, settings: Training, frozen: bool) -> Any:
    """A model without dropout. Frozen on a GPU, it is as it was stored."""
    import torch
    from trl.trainer.utils import disable_dropout_in_model

    dtype = stored_dtype(weights) if frozen and torch.accelerator.is_available() else torch.float32
    options = {"dtype": dtype, **settings.trl.get("model_init_kwargs", {}), "output_loading_info": True}
    if isinstance(settings, Reward):
        options["num_labels"] = 1
    model, report = architecture(settings).from_pretrained(weights, **options)
    body = f"{model.base_model_prefix}."  # a causal model has no head for rewards yet
    if missing := sorted(key for key in report["missing_keys"] if key.startswith(body)):
        raise WeightsError(f"{weights} is incomplete: {len(missing)} tensors are missing, such as {missing[0]}")
    disable_dropout_in_model(model)
    for module in model.modules():
        if getattr(module, "attention_dropout", None):
            module.attention_dropout = 0.0
    return model


def architecture(settings: Training) -> Any:
    """The class that loads and saves the model."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification if isinstance(settings, Reward) else AutoModelForCausalLM


def stored_dtype(init_from: str) -> Any:
    """The dtype of the base, in which its descendants are saved too."""
    import torch
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(init_from).dtype or torch.float32


def adapter(settings: Training) -> Any:
    """The PEFT configuration, or None for full fine-tuning."""
    lora = settings.lora
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_modules(lora),
        task_type="SEQ_CLS" if isinstance(settings, Reward) else "CAUSAL_LM",
    )


def _modules(lora: Lora) -> str | list[str]:
    return lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
