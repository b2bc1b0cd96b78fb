r"""Text and a small language model of the project's own, so that a first run needs no download.

- ``grammar`` writes examples: a meaning representation ("name : The Blue Swan |
  food : Thai | area : harbour") and a text that says it, in nine domains.
- ``tokenizer.json``, ``config.json`` and ``model.safetensors`` are a byte-level BPE
  tokenizer and a GPT-2 of 4 layers and 128 dimensions that have read every
  domain but one. That one, ``grammar.HELD_OUT``, is what fine-tuning is for.
- ``pretrain`` makes these files again; ``pretraining.json`` says what it measured.

A training sequence is ``mr + "\n" + text + "<|endoftext|>"``, with nothing in
front. Prompt and text are tokenised one after the other, and 99 of 100
sequences have at most 64 tokens. The one special token begins, ends and pads.
The weights are stored in half precision; ask for single precision when loading:
``AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)``.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
"""Where the model's files are; a folder any Hugging Face loader takes."""

END = "<|endoftext|>"
"""The special token: beginning, end and padding."""

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
REPORT_FILE = "pretraining.json"
