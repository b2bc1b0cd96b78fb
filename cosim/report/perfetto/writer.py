"""Writes a trace to a file: first what tracks there are, then slices and counters, block by block."""

from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cosim.errors import RecordError
from cosim.report.perfetto.flows import Flows
from cosim.report.perfetto.packets import Shape, Slot
from cosim.report.perfetto.tracks import Samples, Tracks
from cosim.report.spans import Spans
from cosim.units import Ints

_ROWS_AT_ONCE = 8192
_SEQUENCE = 1
_NOTES: dict[str, Slot] = {
    "span": "varint",
    "round": "varint",
    "local_step": "varint",
    "queued_ns": "varint",
    "bits": "double",
    "flop": "double",
    "energy_j": "double",
}
_FACTS: tuple[tuple[str, str, Slot | bool], ...] = (
    ("on_critical_path", "bool_value", True),
    ("task", "string_value_iid", "varint"),
    ("participants", "string_value_iid", "varint"),
    ("delivered", "bool_value", False),
    ("resent_bits", "double_value", "double"),
)
"""Notes of some slices only: name, field, and what each slice says for itself or all of them say."""

_MOST_NAMED = 40


class Writer:
    """Writes packets to a file as they come; only their shapes are kept.

    Slices of one track must be handed over in their order. Other packets may
    come in any order: readers sort by time.

    Raises
    ------
    RecordError
        If the package ``perfetto`` is not installed.
    """

    def __init__(self, file: IO[bytes]) -> None:
        try:
            from perfetto.protos.perfetto.trace import perfetto_trace_pb2
            from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
        except ImportError:
            raise RecordError(
                "a Perfetto trace needs the package perfetto: install it by pip install perfetto."
            ) from None
        self._protos: Any = perfetto_trace_pb2
        self._builder = StreamingTraceProtoBuilder(file)
        self._file = file
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._texts: dict[str, int] = {}

    def describe(self, tracks: Tracks, names: Sequence[str], texts: Sequence[str] = ()) -> None:
        """Write what processes and tracks there are, the names of slices, and the texts in their notes."""
        packet = self._packet(self._protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED)
        for number, name in enumerate(names, 1):
            packet.interned_data.event_names.add(iid=number, name=name)
        for number, name in enumerate((*_NOTES, *(name for name, *_ in _FACTS)), 1):
            packet.interned_data.debug_annotation_names.add(iid=number, name=name)
        for number, text in enumerate(texts, 1):
            packet.interned_data.debug_annotation_string_values.add(iid=number, str=text.encode())
        self._texts = {text: number for number, text in enumerate(texts, 1)}
        self._builder.write_packet(packet)
        kinds = self._protos.TrackDescriptor
        for number, name in enumerate(tracks.processes):
            packet = self._packet()
            described = packet.track_descriptor
            described.uuid = len(tracks.tracks) + number + 1
            described.process.pid = number + 1
            described.process.process_name = name
            described.child_ordering = kinds.EXPLICIT
            described.process_ordering = kinds.PROCESS_ORDERING_EXPLICIT
            described.sibling_order_rank = (number + 1) % len(tracks.processes)  # the run itself on top
            self._builder.write_packet(packet)
        for number, track in enumerate(tracks.tracks):
            packet = self._packet()
            described = packet.track_descriptor
            described.uuid = number + 1
            described.parent_uuid = len(tracks.tracks) + track.process + 1
            described.name = track.name
            described.sibling_order_rank = number
            described.sibling_merge_behavior = kinds.SIBLING_MERGE_BEHAVIOR_NONE
            if track.unit is not None:
                described.counter.unit_name = track.unit
            self._builder.write_packet(packet)

    def spans(self, spans: Spans, track: Ints, on_path: Ints) -> None:
        """Write every span as a slice, with what is known of it and arrows to where its tensors go."""
        flows = Flows.of(spans)
        is_critical = np.zeros(len(spans), dtype=np.int64)
        is_critical[on_path] = 1
        # A transfer carries its own flow, what is computed those of the transfers it made and used.
        num_made = np.where(spans.is_transfer, 1, np.diff(flows.made_end, prepend=0))
        num_used = np.diff(flows.used_end, prepend=0)
        facts = self._facts(spans, is_critical)
        bases = 2, 1 << len(_FACTS), int(num_made.max()) + 1, int(num_used.max()) + 1
        has = sum((column > 0).astype(np.int64) << bit for bit, column in enumerate(facts))
        keys = np.ravel_multi_index((spans.is_transfer, has, num_made, num_used), bases)
        columns = (
            *(spans.start_ns, track + 1, spans.name + 1),
            *(np.arange(len(spans)), spans.round, spans.local_step, spans.start_ns - spans.asked_ns),
            *(spans.bits, spans.flop, spans.energy_j),
        )
        order = np.lexsort((spans.end_ns, spans.start_ns))
        for begin in range(0, len(order), _ROWS_AT_ONCE):
            block = order[begin : begin + _ROWS_AT_ONCE]
            pieces = [b""] * len(block)
            for number, places in _grouped(keys[block]):
                key = tuple(int(one) for one in np.unravel_index(number, bases))
                rows = block[places]
                made = _those_of(rows, flows.made, flows.made_end, key[2]) if not key[0] else [rows]
                used = _those_of(rows, flows.used, flows.used_end, key[3])
                arrows = [transfer + 1 for transfer in (*made, *used)]
                told = [facts[bit][rows] for bit in _facts_in(key[1]) if isinstance(_FACTS[bit][2], str)]
                values = [*(column[rows] for column in columns), *told, *arrows]
                ends = spans.end_ns[rows], track[rows] + 1
                filled = self._span_shape(*key[1:]).fill([*values, *ends])
                for place, piece in zip(places.tolist(), filled, strict=True):
                    pieces[place] = piece
            self._file.write(b"".join(pieces))

    def _facts(self, spans: Spans, is_critical: Ints) -> list[NDArray[Any]]:
        """Return for each of the facts what a span's is, 0 for none: numbers of texts, numbers, or 1."""
        tasks = np.array([self._texts.get(task, 0) for task in spans.tasks], dtype=np.int64)
        participants = np.zeros(len(spans), dtype=np.int64)
        for span in np.flatnonzero(spans.is_joint).tolist():
            participants[span] = self._texts[participants_in_words(spans, span)]
        return [is_critical, tasks[spans.task], participants, ~spans.delivered, spans.resent_bits]

    def slices(self, track: Ints, name: Ints, start_ns: Ints, end_ns: Ints) -> None:
        """Write slices about which nothing more is known; ``name`` counts the names described from 0."""
        self._write(self._slice_shape(), [start_ns, track + 1, name + 1, end_ns, track + 1])

    def samples(self, samples: Samples) -> None:
        """Write what counters come to."""
        self._write(self._sample_shape(), [samples.time_ns, samples.track + 1, samples.value])

    def _write(self, shape: Shape, columns: Sequence[NDArray[Any]]) -> None:
        for begin in range(0, len(columns[0]), _ROWS_AT_ONCE):
            self._file.write(b"".join(shape.fill([one[begin : begin + _ROWS_AT_ONCE] for one in columns])))

    def _span_shape(self, has: int, num_made: int, num_used: int) -> Shape:
        """Return slices with notes and arrows; the numbers left open are in the order of :meth:`spans`.

        ``has`` says which of the facts there are, a bit for each.
        """
        key = has, num_made, num_used
        open_: list[Slot] = [slot for bit in _facts_in(has) if isinstance(slot := _FACTS[bit][2], str)]
        if key not in self._shapes:

            def make(values: Sequence[Any]) -> bytes:
                head, (*notes_and_arrows, end_ns, track) = values[:3], values[3:]
                notes, rest = notes_and_arrows[: len(_NOTES)], notes_and_arrows[len(_NOTES) :]
                told, arrows = iter(rest[: len(open_)]), rest[len(open_) :]
                begin = self._begin(*head)
                for number, (slot, value) in enumerate(zip(_NOTES.values(), notes, strict=True), 1):
                    note = begin.track_event.debug_annotations.add(name_iid=number)
                    setattr(note, "int_value" if slot == "varint" else "double_value", value)
                for bit in _facts_in(has):
                    _, name, value = _FACTS[bit]
                    note = begin.track_event.debug_annotations.add(name_iid=len(_NOTES) + 1 + bit)
                    setattr(note, name, value if isinstance(value, bool) else next(told))
                begin.track_event.flow_ids.extend(arrows[:num_made])
                begin.track_event.terminating_flow_ids.extend(arrows[num_made:])
                return self._serialised(begin, self._end(end_ns, track))

            arrows: list[Slot] = ["fixed"] * (num_made + num_used)
            notes = [*_NOTES.values(), *open_]
            slots: list[Slot] = ["varint", "varint", "varint", *notes, *arrows, "varint", "varint"]
            self._shapes[key] = Shape(slots, make)
        return self._shapes[key]

    def _slice_shape(self) -> Shape:
        def make(values: Sequence[Any]) -> bytes:
            return self._serialised(self._begin(*values[:3]), self._end(*values[3:]))

        return Shape(["varint"] * 5, make)

    def _sample_shape(self) -> Shape:
        def make(values: Sequence[Any]) -> bytes:
            packet = self._event(self._protos.TrackEvent.TYPE_COUNTER, *values[:2])
            packet.track_event.double_counter_value = values[2]
            return self._serialised(packet)

        return Shape(["varint", "varint", "double"], make)

    def _begin(self, start_ns: int, track: int, name: int) -> Any:
        packet = self._event(self._protos.TrackEvent.TYPE_SLICE_BEGIN, start_ns, track)
        packet.track_event.name_iid = name
        return packet

    def _end(self, end_ns: int, track: int) -> Any:
        return self._event(self._protos.TrackEvent.TYPE_SLICE_END, end_ns, track)

    def _event(self, kind: int, time_ns: int, track: int) -> Any:
        packet = self._packet(self._protos.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE)
        packet.timestamp = time_ns
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        return packet

    def _packet(self, flags: int = 0) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        if flags:
            packet.sequence_flags = flags
        return packet

    def _serialised(self, *packets: Any) -> bytes:
        written: bytes = self._protos.Trace(packet=packets).SerializeToString()
        return written


def texts_of(spans: Spans) -> list[str]:
    """Return the different texts that notes of spans have."""
    several = (participants_in_words(spans, span) for span in np.flatnonzero(spans.is_joint).tolist())
    return sorted({*several, *(task for task in spans.tasks if task)})


def participants_in_words(spans: Spans, span: int) -> str:
    """Return who took part in a transfer with several senders or receivers, the first of many by name."""
    names = spans.participants_of(span)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _facts_in(has: int) -> list[int]:
    return [bit for bit in range(len(_FACTS)) if has >> bit & 1]


def _grouped(keys: Ints) -> Iterator[tuple[int, Ints]]:
    """Return each different key and where it is."""
    order = np.argsort(keys, kind="stable")
    different, begins = np.unique(keys[order], return_index=True)
    return zip(different.tolist(), np.split(order, begins[1:]), strict=True)


def _those_of(rows: Ints, members: Ints, ends: Ints, count: int) -> list[Ints]:
    """Return the first, second, ... of the ``count`` members each row has."""
    return [members[ends[rows] - count + number] for number in range(count)]
