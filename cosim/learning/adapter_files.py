"""An adapter as PEFT's own files."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from torch import Tensor

RESIDUAL_TEXT = """This adapter belongs to a changed base: add `base_residual.safetensors` to its weights.

    model = PeftModel.from_pretrained(base_model, folder)
    parameters = dict(model.named_parameters())
    for name, residual in safetensors.torch.load_file(folder / "base_residual.safetensors").items():
        parameters[name].data += residual
"""
"""Is beside an adapter whose aggregator merged something into the base."""


def adapter_files(
    settings: Mapping[str, Any],
    adapter: Mapping[str, Tensor],
    residual: Mapping[str, Tensor],
    labels: Sequence[str] = (),
) -> dict[str, bytes]:
    """Return an adapter in PEFT's format, by file name; the same adapter gives the same bytes.

    Parameters
    ----------
    settings
        PEFT's settings of the adapter.
    adapter
        Its tensors, by the names PEFT saves them under.
    residual
        What was merged into the base, by names of parameters of the ``PeftModel``;
        a file beside it, where there is any, and a text that says how to add it.
    labels
        The classes in the order of a classifier's scores: ``id2label`` in the table
        ``auto_mapping``, the one place where PEFT takes more than it knows in silence.
    """
    if labels:
        named = {str(number): label for number, label in enumerate(labels)}
        settings = {**settings, "auto_mapping": {"id2label": named}}
    # PEFT itself writes sets in the order of their hashes, another one in every process.
    text = json.dumps({**settings, "inference_mode": True}, indent=2, sort_keys=True, default=_plain)
    files = {"adapter_config.json": (text + "\n").encode(), "adapter_model.safetensors": packed(adapter)}
    if residual:
        files["base_residual.safetensors"] = packed(residual)
        files["README.md"] = RESIDUAL_TEXT.encode()
    return files


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file of these tensors."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return bytes(save(plain, metadata={"format": "pt"}))


def _plain(value: Any) -> Any:
    """Return a value of PEFT's settings as JSON has it."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return value.value if isinstance(value, Enum) else str(value)
