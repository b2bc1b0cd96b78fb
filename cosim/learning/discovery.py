"""The shape of a model that no family describes, found in the modules that transformers builds of its config.

They are built on torch's meta device, which holds no numbers. What is found is held against torch's own count
of FLOP and against the list of parameters; a model that does not add up is refused.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cosim.errors import ScenarioError
from cosim.learning.architectures import Architecture
from cosim.learning.config_values import LARGEST, refuse_values, shown
from cosim.learning.layers import Linear, Parameter, Role, Weight
from cosim.learning.shape import ModelShape, ModelTask
from cosim.learning.transformers_models import meta_model, one_line, quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

_PROBE = (1, 8)
"""One example, as some models need a padding token for two, and its tokens."""

_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


@lru_cache(maxsize=64)
def discover(text: str, task: ModelTask, num_labels: int) -> ModelShape:
    """Return the sizes of a model.

    Parameters
    ----------
    text
        Contents of its ``config.json``, of a ``model_type`` that is no family.
    task, num_labels
        What the model is used for, and among how many labels a classifier chooses.

    Raises
    ------
    ScenarioError
        If transformers does not know the model, or it is not a list of blocks of attention and MLP.
    """
    config = json.loads(text)
    _refuse_unknown(config)
    refuse_values(config)
    model = meta_model(config, task, num_labels)
    try:
        with quiet():
            return _Discovery(model, config["model_type"], task, num_labels).shape()
    except _Unclear as reason:
        raise ScenarioError(
            f"model config: a model of {config['model_type']!r} is no family of `cosim parts model_type`, "
            f"and its modules do not say how it computes: {reason}; take another model"
        ) from None


class _Unclear(Exception):
    """What of a model is not as it is known here."""


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    from transformers import CONFIG_MAPPING, __version__

    if config["model_type"] not in CONFIG_MAPPING:
        raise ScenarioError(
            f"model config: a model_type {shown(config['model_type'])} is known neither here "
            f"(`cosim parts model_type`) nor to transformers {__version__}"
        )


class _Discovery:
    """What the modules of one model say."""

    def __init__(self, model: Any, model_type: str, task: ModelTask, num_labels: int) -> None:
        self._model, self._config = model, model.config
        self._family, self._task, self._num_labels = model_type, task, num_labels
        self._blocks = self._list_of_blocks()
        self._inner = self._blocks.partition(".")[0]
        self._calls = self._called()

    def shape(self) -> ModelShape:
        """Return the shape, held against what torch counts."""
        listed = tuple(self._parameters())
        blocks = [self._block(number) for number in range(1, self._num_layers + 1)]
        weights = [sum(one.numbers for one in listed if one.block == at + 1) for at in range(len(blocks))]
        first = blocks[0]
        names = self._names(first, listed)
        heads, width = self._heads(first), first["attention_output"].d_out
        front = tuple(
            Weight(one.name.removeprefix(f"{self._inner}."), one.shape) for one in listed if one.block == 0
        )
        behind = [one for one in listed if one.block > self._num_layers]
        made = ModelShape(
            family=self._family,
            names=names,
            task=self._task,
            num_labels=self._num_labels,
            num_layers=self._num_layers,
            hidden_size=width,
            num_heads=heads,
            num_key_value_heads=int(getattr(self._config, "num_key_value_heads", None) or heads),
            head_dim=first["attention_output"].d_in // heads,
            vocab_size=self._model.get_input_embeddings().num_embeddings,
            max_positions=self._positions(),
            front=front,
            embedding_weights=sum(one.numbers for one in listed if one.block == 0),
            block_weights=weights[0],
            head_weights=sum(one.numbers for one in behind),
            trained_head_weights=sum(one.numbers for one in behind if one.role == "classifier"),
            has_tied_head=self._has_tied_head(),
            blocks_see_front=self._blocks_see(front),
            listed=listed,
            **first,
        )
        if any(one != first for one in blocks) or len(set(weights)) > 1:
            made = replace(
                made,
                blocks=tuple(
                    replace(made, block_weights=of_block, **one)
                    for one, of_block in zip(blocks, weights, strict=True)
                ),
            )
        self._hold_against_torch(made)
        return made

    def _list_of_blocks(self) -> str:
        """Return the path of the list that has as many modules as the config has layers."""
        import torch

        self._num_layers = int(getattr(self._config, "num_hidden_layers", 0) or 0)
        found: dict[str, int] = {
            name: sum(one.numel() for one in module.parameters())
            for name, module in self._model.named_modules()
            if isinstance(module, torch.nn.ModuleList) and len(module) == self._num_layers
        }
        if not (found and self._num_layers):
            raise _Unclear(f"it has no list of {self._num_layers} blocks")
        return max(found, key=lambda name: found[name])

    def _called(self) -> "dict[str, tuple[Linear, bool]]":
        """Return the linear layers that a forward pass calls, and whether they store inputs first."""
        import torch
        from transformers.pytorch_utils import Conv1D

        found: dict[str, tuple[Linear, bool]] = {}
        handles = []

        def told(name: str) -> Any:
            def look(module: Any, inputs: "tuple[Tensor, ...]", output: "Tensor") -> None:
                sizes = inputs[0].shape[-1], output.shape[-1]
                has_bias = module.bias is not None
                found[name] = Linear(self._inside(name), *sizes, has_bias), isinstance(module, Conv1D)

            return look

        for name, module in self._model.named_modules():
            if isinstance(module, torch.nn.Linear | Conv1D):
                handles.append(module.register_forward_hook(told(name)))
        try:
            self._forward()
        finally:
            for handle in handles:
                handle.remove()
        return found

    def _forward(self) -> Any:
        """Run the model without numbers."""
        import torch

        ids = torch.zeros(_PROBE, dtype=torch.long, device="meta")
        with suppress(AttributeError):
            self._config.use_cache = False
        reason = ""
        for mask in (torch.ones_like(ids), None):  # some models look at what one holds, others make one
            try:
                return self._model(input_ids=ids, attention_mask=mask)
            except Exception as fault:  # of any model of transformers
                reason = reason or one_line(fault)
        raise _Unclear(f"it cannot be run without its numbers ({reason})")

    def _place(self, name: str) -> int:
        """Return the block of a parameter or module; 0 in front of the blocks, one more than all behind."""
        if name.startswith(f"{self._blocks}."):
            return int(name[len(self._blocks) + 1 :].partition(".")[0]) + 1
        return 0 if name in self._front else self._num_layers + 1

    def _inside(self, name: str) -> str:
        """Return a name as a block has it; the whole of it outside."""
        if not name.startswith(f"{self._blocks}."):
            return name
        return name[len(self._blocks) + 1 :].partition(".")[2]

    def _parameters(self) -> Iterator[Parameter]:
        names = [name for name, _ in self._model.named_parameters()]
        names = [name for name in names if name.startswith(f"{self._inner}.")]
        at = next(index for index, name in enumerate(names) if name.startswith(f"{self._blocks}."))
        tables = {f"{name}.weight" for name, module in self._model.named_modules() if _is_table(module)}
        # tables are read in front of the blocks, wherever the model lists them
        self._front = {*names[:at], *(name for name in names if name in tables)}
        for name, weights in self._model.named_parameters():
            block = self._place(name)
            yield Parameter(name, tuple(weights.shape), block, self._role(name, block, weights.dim()))

    def _role(self, name: str, block: int, dims: int) -> Role:
        module = name.rpartition(".")[0]
        if 1 <= block <= self._num_layers:
            if module not in self._calls:
                if dims > 1:
                    raise _Unclear(f"{name} is of no linear layer, and its FLOP are not known")
                return "norm"
            return "attention" if _is_attention(self._inside(name)) else "mlp"
        if module in self._calls and block == 0:
            raise _Unclear(f"{module} is a linear layer in front of the blocks")
        if not name.startswith(f"{self._inner}."):
            return "head" if self._task == "causal_lm" else "classifier"
        if module in self._calls:
            return "head"
        return "norm" if block > 0 or not _is_table(self._model.get_submodule(module)) else "embedding"

    def _block(self, number: int) -> dict[str, Any]:
        """Return the linear layers of a block by what they do."""
        here = [one for name, (one, _) in self._calls.items() if self._place(name) == number]
        attention = [one for one in here if _is_attention(one.name)]
        rest = [one for one in here if one not in attention]
        if len(attention) not in (2, 4):
            raise _Unclear(
                f"block {number} has {len(attention)} linear layers of attention where there are four, "
                "or two with queries, keys and values in one"
            )
        if len(rest) < 2:
            raise _Unclear(f"block {number} has no MLP of two or more linear layers")
        inputs = attention[:-1] * (3 if len(attention) == 2 else 1)
        return {
            "queries_keys_values": tuple(inputs),
            "attention_output": attention[-1],
            "mlp_inputs": tuple(rest[:-1]),
            "mlp_output": rest[-1],
        }

    def _heads(self, block: Mapping[str, Any]) -> int:
        heads = int(getattr(self._config, "num_attention_heads", 0) or 0)
        if heads < 1 or block["attention_output"].d_in % heads:
            raise _Unclear(f"{block['attention_output'].d_in} numbers are not shared by {heads} heads")
        return heads

    def _names(self, block: Mapping[str, Any], listed: tuple[Parameter, ...]) -> Architecture:
        queries, keys, values = (one.name for one in block["queries_keys_values"])
        stored = {first for name, (_, first) in self._calls.items() if name.startswith(f"{self._blocks}.")}
        if len(stored) > 1:
            raise _Unclear("some linear layers store inputs first, others outputs")
        inner = f"{self._inner}."
        poolers = [name for name in self._calls if name.startswith(inner) and self._place(name) != 0]
        poolers = [name for name in poolers if not name.startswith(f"{self._blocks}.")]
        if len(poolers) > 1:
            raise _Unclear(f"{', '.join(poolers)} are behind the blocks")
        heads = [name for name in self._calls if not name.startswith(inner)]
        if self._task == "causal_lm" and heads != ["lm_head"]:
            raise _Unclear(f"its head is {', '.join(heads) or 'none'}, not one linear layer lm_head")
        classifier = tuple(heads) if self._task == "classification" else ("score",)
        norms = tuple(dict.fromkeys(self._inside(one.name).rpartition(".")[0] for one in listed
                                    if one.role == "norm" and one.block == 1))  # fmt: skip
        return Architecture(
            tasks=(self._task,),
            blocks=self._blocks,
            front=(),
            queries_keys_values=(queries, keys, values),
            attention_output=block["attention_output"].name,
            mlp_inputs=tuple(one.name for one in block["mlp_inputs"]),
            mlp_output=block["mlp_output"].name,
            norms=tuple((name, "") for name in norms),
            default_targets=tuple(dict.fromkeys(name.rpartition(".")[2] for name in (queries, values))),
            defaults={},
            listed=tuple(one.name for one in self._calls_of_block()),
            pooler=poolers[0].removeprefix(inner) if poolers else "",
            classifier=classifier,
            stores_inputs_first=stored == {True},
            is_causal=self._is_causal(),
            is_parallel=self._is_parallel(block),
            norms_outputs=True,
        )

    def _calls_of_block(self) -> list[Linear]:
        order = [name for name, _ in self._model.named_modules() if name in self._calls]
        return [self._calls[name][0] for name in order if self._place(name) == 1]

    def _is_causal(self) -> bool:
        """Whether positions see those before them alone, as models do that classify by a ``score``.

        Whether those that predict the next token do is held against their scores, once there are weights.
        """
        return self._task == "causal_lm" or hasattr(self._model, "score")

    def _is_parallel(self, block: Mapping[str, Any]) -> bool:
        """Whether the MLP sees nothing of what attention makes."""
        inputs = self._first().get_submodule(block["mlp_inputs"][0].name)
        output = f"{self._blocks}.0.{block['attention_output'].name}.weight"
        return not self._seen(output.__eq__, inputs, lambda given, named: given[0].requires_grad)

    def _blocks_see(self, front: Sequence[Weight]) -> bool:
        """Whether a block is called with what parameters in front make, beside what it computes on."""
        from torch.utils._pytree import tree_leaves

        names = {f"{self._inner}.{one.name}" for one in front}
        return self._seen(
            names.__contains__,
            self._first(),
            lambda given, named: any(
                getattr(one, "requires_grad", False) for one in tree_leaves((given[1:], named))
            ),
        )

    def _first(self) -> "nn.Module":
        first: nn.Module = self._model.get_submodule(f"{self._blocks}.0")
        return first

    def _seen(
        self, is_followed: Callable[[str], bool], module: "nn.Module", sees: Callable[[Any, Any], bool]
    ) -> bool:
        """Return whether a module is called with what depends on the parameters that are followed."""
        found: list[bool] = []
        handle = module.register_forward_pre_hook(
            lambda module, given, named: found.append(sees(given, named)), with_kwargs=True
        )
        wanted = {name: one.requires_grad for name, one in self._model.named_parameters()}
        for name, weights in self._model.named_parameters():
            weights.requires_grad_(is_followed(name))
        try:
            self._forward()
        finally:
            handle.remove()
            for name, weights in self._model.named_parameters():
                weights.requires_grad_(wanted[name])
        return found[0]

    def _has_tied_head(self) -> bool:
        if self._task != "causal_lm":
            return False
        return self._model.lm_head.weight is self._model.get_input_embeddings().weight

    def _positions(self) -> int:
        """Return the longest sequence; a table that skips those up to its padding has fewer."""
        asked = next(
            (getattr(self._config, name) for name in _POSITIONS if hasattr(self._config, name)), None
        )
        longest = asked if isinstance(asked, int) and asked > 0 else LARGEST
        for name, module in self._model.named_modules():
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                longest -= module.padding_idx + 1
        return longest

    def _hold_against_torch(self, shape: ModelShape) -> None:
        from cosim.learning.torch_flop import TorchFlop

        with TorchFlop() as counted:
            self._forward()
        expected = _forward_flop(shape)
        if counted.total != expected:
            raise _Unclear(
                f"torch counts {counted.total} FLOP in a forward pass, and its layers make {expected}"
            )


def _forward_flop(shape: ModelShape) -> int:
    """Return the FLOP of one forward pass; counted here, as flop.py decides no key."""
    examples, length = _PROBE
    tokens, width = examples * length, shape.hidden_size
    made = 0
    for at in (shape.at(block) for block in range(1, shape.num_layers + 1)):
        made += 2 * tokens * sum(one.d_in * one.d_out for one in at.linears)
        made += 4 * tokens * at.num_heads * at.head_dim * length
    if shape.task == "causal_lm" or shape.names.is_causal:
        return made + 2 * tokens * width * (
            shape.vocab_size if shape.task == "causal_lm" else shape.num_labels
        )
    squares = len(shape.names.classifier) - 1 + bool(shape.names.pooler)
    return made + 2 * examples * width * (squares * width + shape.num_labels)


def _is_attention(name: str) -> bool:
    return "att" in name.lower()


def _is_table(module: "nn.Module") -> bool:
    import torch

    return isinstance(module, torch.nn.Embedding)
