"""The nodes of a training, with their amounts; nothing is computed here and no clock is known."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache, cached_property, lru_cache, partial
from importlib import metadata
from typing import Any

from cosim.graph.code_identity import code_of
from cosim.graph.node import Graph, Node, Params, Ref
from cosim.learning.amounts import (
    SplitAmounts,
    WholeAmounts,
    split_amounts,
    split_amounts_of,
    whole_amounts,
    whole_amounts_of,
)
from cosim.learning.codec import Codec
from cosim.learning.data.draws import BatchDraws
from cosim.learning.lesson import Lesson
from cosim.learning.operations.average import mean
from cosim.learning.operations.evaluate import evaluate, export
from cosim.learning.operations.split_step import client_backward, client_forward, server_step
from cosim.learning.operations.start import start
from cosim.learning.operations.superpose import sent_power, superpose
from cosim.learning.operations.transmit import transmit
from cosim.learning.operations.whole_step import update, whole_gradient
from cosim.learning.payload import Transmission
from cosim.learning.regularizer import Regularizer
from cosim.learning.sides import Exchange, LocalRound, LocalStep, Side
from cosim.rng import stream


class Training:
    """Adds the nodes of one training to the graph.

    Parameters
    ----------
    lesson
        What is learned.
    cut_layer, lora_rank
        As decided; the lesson's own rank is not used.
    client_cut_layers
        The cut of each client, where they differ; ``cut_layer`` is then the smallest.

    Attributes
    ----------
    graph
        Takes the nodes.
    cuts
        Blocks each client keeps.
    params_of
        Returns a part as parameters of a node.
    """

    def __init__(
        self,
        lesson: Lesson,
        cut_layer: int,
        lora_rank: int,
        client_cut_layers: tuple[int, ...] | None = None,
    ) -> None:
        self.lesson = lesson
        self.cut_layer = cut_layer
        self.cuts = client_cut_layers or (cut_layer,) * lesson.num_clients
        self.lora_rank = lora_rank
        self.graph = Graph("cosim.learning.learner")
        self._trains = tuple(lesson.client_trains(cut) for cut in self.cuts)
        self._split = cache(partial(split_amounts_of, lesson))
        self._split_in = lru_cache(maxsize=2)(self._split_amounts_in)
        self._whole = cache(partial(whole_amounts_of, lesson, lora_rank))
        self.params_of = cache(Params.of)
        self.optimizer = self.params_of(lesson.training.optimizer)
        self._draws = [
            BatchDraws(len(share), lesson.training.batch_size, stream(lesson.seed, "batches", client))
            for client, share in enumerate(lesson.shares)
        ]

    @cached_property
    def amounts(self) -> SplitAmounts:
        """What a client computes and sends at most behind a cut."""
        return split_amounts(self.lesson, self.cut_layer, self.lora_rank)

    def amounts_of(self, client: int, round_: int) -> SplitAmounts:
        """Return what a client computes and sends in a round behind a cut."""
        return self._split_in(round_)[client]

    def _split_amounts_in(self, round_: int) -> list[SplitAmounts]:
        return [
            self._split(cut, self.lora_rank, self._rank(client), self._kind(round_))
            for client, cut in enumerate(self.cuts)
        ]

    def trains(self, client: int) -> bool:
        """Return whether a client has an adapter: if not, no gradient is for it and nothing is averaged."""
        return self._trains[client]

    @cached_property
    def _base(self) -> Params:
        """What decides numbers that no adapter does."""
        lesson = self.lesson
        settings = {
            "base": lesson.model_hash,
            "dtype": lesson.model.dtype,
            "device": lesson.model.torch_device,
            "torch": _version("torch"),
            "transformers": _version("transformers"),
        }
        return Params(settings | lesson.executor_settings, code_of(lesson.model.base))

    @cached_property
    def whole(self) -> WholeAmounts:
        """What a client computes and sends at most that holds the uncut model."""
        return whole_amounts(self.lesson, self.lora_rank)

    def whole_of(self, client: int, round_: int) -> WholeAmounts:
        """Return what a client that holds the uncut model computes and sends in a round."""
        return self._whole(self._rank(client), self._kind(round_))

    def _rank(self, client: int) -> int:
        return self.lesson.aggregator.rank(client, self.lora_rank)

    def _kind(self, round_: int) -> int:
        """Return the first round that is like this one."""
        return (round_ - 1) % self.lesson.aggregator.period + 1

    def start(self, part: str, cut_layer: int | None = None) -> Side:
        """Return the initial adapter and optimiser of ``part``: client, server or whole.

        Without ``cut_layer`` at the cut of the training, the smallest where they differ.
        """
        lesson = self.lesson
        node = self.graph.add(
            start,
            (),
            part=part,
            base=lesson.model_hash,
            base_code=code_of(lesson.model.base),
            task=lesson.shape.task,
            num_labels=lesson.shape.num_labels,
            dtype=lesson.model.dtype,
            device=lesson.model.torch_device,
            trainable=Params(
                {"kind": lesson.trainable.kind, **lesson.trainable.deciding(self.lora_rank)},
                code_of(lesson.trainable),
            ),
            cut_layer=None if part == "whole" else cut_layer or self.cut_layer,
            optimizer=self.optimizer,
            seed=stream(lesson.seed, "adapter").torch_seed(),
            torch=_version("torch"),
            transformers=_version("transformers"),
            peft=_version("peft"),
            **lesson.executor_settings,
        )
        return Side(node.ref("adapter"), node.ref("optimizer"))

    def exchange(
        self,
        client: int,
        mine: Side,
        server: Side,
        step: int,
        memories: tuple[Ref | None, Ref | None] = (None, None),
    ) -> Exchange:
        """Return the nodes of one mini-batch; ``step`` counts from 0 over the whole run.

        The server works on the activations it decodes, and sends back the
        gradient of the loss by those; the client goes back with what it decodes of
        it as if it were the gradient by its own activations. The derivative of the
        codecs, zero almost everywhere, is left out, as real systems do.

        Parameters
        ----------
        memories
            :attr:`Exchange.memories` of this client's exchange before.
        """
        codecs = self.lesson.codecs
        batch, cut_layer = self._batch(client, step), self.cuts[client]
        dropout = self._dropout(client, step)
        if self.trains(client):
            forward = self.graph.add(
                client_forward,
                mine.model,
                batch=batch,
                cut_layer=cut_layer,
                dropout=dropout,
                **mine.told,
            )
        else:  # the base alone decides, and the same mini-batch gives the same
            forward = self.graph.add(
                client_forward, (), batch=batch, cut_layer=cut_layer, dropout=None, base=self._base
            )
        upload = self.transmit(
            codecs.activation, forward.ref("activations"), "main_uplink", client, step, memory=memories[0]
        )
        at_server = self.graph.add(
            server_step,
            (server.adapter, upload.tensors),
            batch=batch,
            cut_layer=cut_layer,
            dropout=dropout,
        )
        if not self.trains(client):
            return Exchange(client, mine, forward, upload, at_server, None, None)
        download = self.transmit(
            codecs.gradient, at_server.ref("gradient"), "main_downlink", client, step, memory=memories[1]
        )
        backward = self.graph.add(
            client_backward,
            (
                mine.adapter,
                mine.optimizer,
                forward.ref("activations"),
                forward.ref("leaves"),
                download.tensors,
            ),
            **self._optimizer_step(step),
        )
        return Exchange(client, mine, forward, upload, at_server, download, backward)

    def transmit(
        self,
        codec: Codec,
        tensors: Ref,
        link: str,
        client: int,
        step: int,
        *,
        reference: Ref | None = None,
        memory: Ref | None = None,
        keep_ratio: float | None = None,
    ) -> Transmission:
        """Return a sending through a codec; nothing is added where the codec changes nothing.

        Parameters
        ----------
        tensors
            What is sent: tensors by name, or a single one.
        link, client, step
            Whose sending it is; chance is its own. ``step`` counts as the scheme
            counts what goes over this link.
        reference, memory
            What both ends have; what the sender holds back from earlier.
        keep_ratio
            As an allocator decided; told to codecs that obey one.
        """
        if codec.is_transparent:
            return Transmission(tensors.node, tensors)
        told = {"reference": reference, "memory": memory if codec.keeps_memory else None}
        given = {name: output for name, output in told.items() if output is not None}
        chance = stream(self.lesson.seed, "codec", link, client, step)
        node = self.graph.add(
            transmit,
            (tensors, *given.values()),
            codec=self.params_of(codec),
            given=tuple(given),
            keep_ratio=keep_ratio if codec.keeps_ratio else None,
            seed=chance.torch_seed() if codec.needs_chance else None,
        )
        names = ["bits", *codec.figure_names]
        names += [name for name, has in (("memory", codec.keeps_memory), ("mask", codec.has_mask)) if has]
        return Transmission(node, node.ref("tensors"), {name: node.ref(name) for name in names})

    def server_update(self, server: Side, exchanges: Sequence[Exchange], step: int) -> Side:
        """Return the server's side after one step on the weighted sum of the clients' losses."""
        gradients = [one.server.ref("adapter_gradient") for one in exchanges]
        return self._update(server, gradients, [one.client for one in exchanges], step)

    def mean(self, adapters: Mapping[int, Ref], weights: Sequence[float] | None = None) -> Node:
        """Return the mean of what clients have, factor by factor, by their data without weights."""
        shares = self.weights(adapters) if weights is None else list(weights)
        return self.graph.add(mean, list(adapters.values()), weights=shares)

    def superpose(
        self,
        reference: Ref,
        senders: Sequence[Ref],
        weights: Sequence[float],
        noise_std: float,
        max_rms: float,
        chance: Sequence[str | int],
        uneven: Mapping[str, Any] | None = None,
    ) -> Ref:
        """Return what a server has after updates were sent at once over a medium that adds.

        Parameters
        ----------
        reference
            What all senders began from.
        senders, weights
            What each of them has now, and its share in the sum.
        noise_std, max_rms
            Noise on each number of the sum; largest root mean square an update is sent with.
        chance
            Names of the stream of the noise.
        uneven
            What differs between the numbers, as the medium says it.
        """
        chances = stream(self.lesson.seed, *chance)
        node = self.graph.add(
            superpose,
            [reference, *senders],
            weights=list(weights),
            noise_std=noise_std,
            max_rms=max_rms,
            seed=chances.torch_seed() if noise_std > 0.0 else None,
            **(
                {}
                if uneven is None
                else {"uneven": uneven, "order_seed": chances.child("order").torch_seed()}
            ),
        )
        return node.ref("adapter")

    def sent_power(self, reference: Ref, sender: Ref, max_rms: float) -> Ref:
        """Return the power of an update as it is sent over such a medium, as a share of the most."""
        return self.graph.add(sent_power, [reference, sender], max_rms=max_rms).ref("share")

    def local_round(
        self, client: int, whole: Side, steps: Sequence[int], regularizer: Regularizer | None = None
    ) -> LocalRound:
        """Return the nodes of one client's mini-batches; ``steps`` count from 0 over the whole run."""
        done = []
        for step in steps:
            one = self._whole_gradient(client, whole, step)
            whole = self._update(whole, [one.ref("adapter_gradient")], [client], step, regularizer)
            done.append(LocalStep(whole.adapter.node, one.ref("loss")))
        return LocalRound(client, tuple(done), whole)

    def whole_step(self, whole: Side, step: int) -> tuple[Side, list[Ref]]:
        """Return the uncut model's side after a step on the clients' mini-batches, and their losses."""
        clients = range(self.lesson.num_clients)
        gradients = [self._whole_gradient(client, whole, step) for client in clients]
        side = self._update(whole, [one.ref("adapter_gradient") for one in gradients], clients, step)
        return side, [one.ref("loss") for one in gradients]

    def evaluate(self, *adapters: Ref, residual: Ref | None = None) -> Node:
        """Return the evaluation on held-out examples.

        Parameters
        ----------
        adapters
            Both sides' or the whole's.
        residual
            What is merged into the base, where anything is.
        """
        return self.graph.add(
            evaluate,
            (*adapters, *_if_any(residual)),
            data=self.lesson.tokens.key,
            batch_size=self.lesson.training.evaluation_batch_size,
            **_has(residual),
        )

    def export(self, *adapters: Ref, residual: Ref | None = None) -> Ref:
        """Return the files of what was trained; arguments as for :meth:`evaluate`."""
        node = self.graph.add(
            export,
            (*adapters, *_if_any(residual)),
            base=self.lesson.model.base.name_or_path,
            **({"labels": list(self.lesson.labels)} if self.lesson.labels else {}),
            **({} if self.lesson.trainable.is_added else {"tokenizer": self.lesson.tokens.tokenizer.key}),
            **_has(residual),
        )
        return node.ref("files")

    def _whole_gradient(self, client: int, side: Side, step: int) -> Node:
        return self.graph.add(
            whole_gradient,
            side.model,
            batch=self._batch(client, step),
            dropout=self._dropout(client, step),
            **side.told,
        )

    def _update(
        self,
        side: Side,
        gradients: Sequence[Ref],
        clients: Sequence[int],
        step: int,
        regularizer: Regularizer | None = None,
    ) -> Side:
        told = {}
        if regularizer is not None and not regularizer.is_none:
            told["regularizer"] = self.params_of(regularizer)
        node = self.graph.add(
            update,
            (side.adapter, side.optimizer, *gradients),
            weights=self.weights(clients),
            **self._optimizer_step(step),
            **told,
        )
        return side.stepped(node)

    def weights(self, clients: Collection[int]) -> list[float]:
        """Return the clients' shares in the data of those who take part, adding up to one."""
        total = sum(len(self.lesson.shares[client]) for client in clients)
        return [len(self.lesson.shares[client]) / total for client in clients]

    def _optimizer_step(self, step: int) -> dict[str, object]:
        # a run that goes on for longer is the same so far, unless the rate has fallen with the end in sight
        knows_the_end = self.lesson.training.optimizer.knows_the_end
        return {
            "optimizer": self.optimizer,
            "step": step,
            "num_steps": self.lesson.num_steps if knows_the_end else 0,
        }

    def _batch(self, client: int, step: int) -> Params:
        """Name a mini-batch by its content: the data and the rows drawn."""
        share = self.lesson.shares[client]
        rows = [share[row] for row in self._draws[client].rows(step).tolist()]
        return Params({"data": self.lesson.tokens.key, "rows": rows})

    def _dropout(self, client: int, step: int) -> int | None:
        if not self.lesson.trainable.drops:
            return None
        return stream(self.lesson.seed, "dropout", client, step).torch_seed()


def _if_any(output: Ref | None) -> tuple[Ref, ...]:
    return () if output is None else (output,)


def _has(residual: Ref | None) -> dict[str, bool]:
    """Return the parameter of a node whose last input is what is merged into the base."""
    return {} if residual is None else {"residual": True}


@cache
@cache
def _version(package: str) -> str:
    return metadata.version(package)  # parses a long file
