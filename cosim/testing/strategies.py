"""Random cells for the allocators."""

from dataclasses import dataclass

import numpy as np

from cosim.control.knobs import (
    ASSIGNMENT_BITS,
    DELIVERY_RATE,
    PARTICIPATION,
    QUANTISATION_BITS,
    SPARSIFICATION_RATIO,
    SPECTRAL_EFFICIENCY,
    WEIGHT,
    Setting,
    local_steps_up_to,
)
from cosim.control.stages import Round
from cosim.control.state import CellState, LinkState
from cosim.learning.amounts import SplitAmounts
from cosim.radio.rate.shannon import Shannon
from cosim.rng import stream
from cosim.schemes.stages import split_round

NOISE_PSD_W_PER_HZ = 10 ** ((-174 + 9 - 30) / 10)


@dataclass(frozen=True)
class Gpt2Rounds:
    """Rounds of a GPT-2-like model by the closed forms of `cosim.learning.flop`, for one mini-batch."""

    num_clients: int
    local_steps: int
    num_layers: int = 12
    width: int = 768
    vocabulary: int = 50257
    tokens: int = 128
    batch: int = 8

    def __call__(self, setting: Setting) -> Round:
        each = [
            self.amounts(cut, setting.lora_rank) if setting.takes_part(client) else None
            for client, cut in enumerate(setting.cuts(self.num_clients))
        ]
        return split_round(each, self.local_steps)

    def amounts(self, cut_layer: int, lora_rank: int) -> SplitAmounts:
        n, d, r, b = self.tokens, self.width, lora_rank, self.batch
        forward = 24 * n * d * d + 4 * n * n * d + 8 * n * d * r
        backward = 24 * n * d * d + 8 * n * n * d + 16 * n * d * r
        head = 4 * n * d * self.vocabulary
        server = (self.num_layers - cut_layer) * (forward + backward) + head
        adapter_bits = 32 * cut_layer * 4 * d * r
        return SplitAmounts(
            client_forward_flop=b * cut_layer * forward,
            client_backward_flop=b * (cut_layer * backward - 6 * n * d * d - 2 * n * d * r),
            server_flop=b * server,
            activation_bits=32 * b * n * d,
            gradient_bits=32 * b * n * d,
            adapter_bits=adapter_bits,
            adapter_download_bits=adapter_bits,
        )


def random_cell(
    seed: int,
    num_clients: int = 5,
    num_subchannels: int = 20,
    *,
    is_flat: bool = False,
    has_even_widths: bool = True,
    has_downlinks: bool = False,
    has_sum_limit: bool = True,
    num_layers: int = 12,
) -> CellState:
    """Return a cell of random positions, shadowing, speeds and limits, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    distance_km = rng.uniform(0.05, 0.3, num_clients)
    loss_db = 128.1 + 37.6 * np.log10(distance_km) + rng.normal(0.0, 8.0, num_clients) - 10.0
    mean = 10.0 ** (-loss_db / 10.0)
    limits = rng.uniform(0.05, 0.4, num_clients)

    def up_total_w() -> float:
        return rng.uniform(0.3, 1.1) * limits.sum() if has_sum_limit else np.inf

    def link(name: str, count: int, width_hz: float) -> LinkState:
        fading = np.ones((num_clients, count)) if is_flat else rng.exponential(size=(num_clients, count))
        widths = np.full(count, width_hz / count)
        if not has_even_widths:
            widths = widths * rng.uniform(0.3, 1.7, count)
        down = name.endswith("downlink")
        return LinkState(
            name=name,
            bandwidths_hz=widths,
            mean_gains=np.repeat(mean[:, None], count, axis=1),
            gains=mean[:, None] * np.maximum(fading, 1e-3),
            noise_psd_w_per_hz=NOISE_PSD_W_PER_HZ,
            max_tx_power_w=np.full(num_clients, 20.0) if down else limits,
            max_total_tx_power_w=20.0 if down else up_total_w(),
            rate=Shannon(snr_gap_db=float(rng.choice([0.0, 3.0]))),
        )

    names = ["main_uplink", "federated_uplink"]
    if has_downlinks:
        names += ["main_downlink", "federated_downlink"]
    client_speed = 10.0 ** rng.uniform(11.3, 12.3) * rng.uniform(1.0, 1.6, num_clients)
    links = {name: link(name, num_subchannels, 10.0 ** rng.uniform(5.7, 7.3)) for name in names}
    server_speed = float(client_speed.mean() * num_clients * 10.0 ** rng.uniform(-0.3, 1.5))
    local_steps = int(rng.choice([1, 5, 10]))
    return CellState(
        time_ns=0,
        round=1,
        links=links,
        client_flop_per_s=client_speed,
        main_server_flop_per_s=server_speed,
        federated_server_flop_per_s=server_speed,
        phases=Gpt2Rounds(num_clients, local_steps, num_layers=num_layers),
        cut_layer=num_layers // 2,
        cut_layers=tuple(range(1, num_layers)),
        may_cut_apart=True,
        lora_rank=4,
        local_steps=local_steps,
        knobs=(
            PARTICIPATION,
            local_steps_up_to(local_steps),
            WEIGHT,
            SPARSIFICATION_RATIO,
            DELIVERY_RATE,
            QUANTISATION_BITS,
            SPECTRAL_EFFICIENCY,
            ASSIGNMENT_BITS,
        ),
        weights=np.full(num_clients, 1.0 / num_clients),
        stream=stream(seed, "allocation", 1),
    )
