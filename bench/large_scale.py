"""How long the large scale of a whole network takes."""

from statistics import median
from time import process_time

from bench.ratio import Ratio
from cosim.radio.channel import Channel
from cosim.radio.settings import Radio

NUM_CLIENTS, REPEATS, LIMIT_S = 570, 5, 2.0


def measure() -> list[Ratio]:
    """Return the processor time for 57 sectors and 570 clients over its limit; states belong to places."""
    radio = Radio.model_validate(
        {
            "carrier_frequency_hz": 6e9,
            "antenna_gain_db": 0.0,
            "base_stations": {"kind": "hexagonal"},
            "placement": {"kind": "hexagonal"},
            "path_loss": {"kind": "tr_38901_uma"},
            "shadowing": {"kind": "tr_38901"},
        }
    )
    times_s = []
    for seed in range(REPEATS):
        begin_s = process_time()
        Channel.build(radio, NUM_CLIENTS, seed).large_scale_at(0)
        times_s.append(process_time() - begin_s)
    taken_s = median(times_s)
    name = "57 sectors x 570 clients, large scale / 2 s"
    return [Ratio(name, taken_s / LIMIT_S, 1.0, note=f"{taken_s:.2f} s")]
