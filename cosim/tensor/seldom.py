"""Rates of what is seldom sent, worked out for the blocks in which it is, many channels in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from cosim.radio.settings import Radio
from cosim.tensor.draws import Air, Draws, Flow, bandwidths_of, of_fading
from cosim.tensor.philox import Keys, Rows
from cosim.units import Floats, Ints


@dataclass(frozen=True, eq=False)
class Seldom:
    """The rates of some flows in channels that differ in seed, places and noise alone.

    Attributes
    ----------
    radio
        Settings of the first channel.
    flows
        Link and client of each flow.
    columns, psd
        Of each, the subchannels and what is sent on them, W/Hz, shape (num_flows, num_owned).
    bandwidths_hz
        How wide they are, shape (num_owned,).
    means, noise_psd
        Of each channel, the gain of each client before fading, and the noise, W/Hz.
    seeds
        Of the air of each channel.
    """

    radio: Radio
    flows: Sequence[tuple[str, int]]
    columns: Ints
    psd: Floats
    bandwidths_hz: Floats
    means: Floats
    noise_psd: Floats
    seeds: Sequence[int]

    @classmethod
    def of(cls, airs: Sequence[Air], flows: Sequence[Flow], draws: Draws) -> Self | None:
        """Return it, None where the channels differ in more, or what they are granted in shape."""
        first = airs[0]
        links = {link for link, _ in flows}
        is_alike = all(
            air.grants is first.grants
            and air.radio.is_plain
            and (air.radio.fading, air.radio.rate) == (first.radio.fading, first.radio.rate)
            and all(air.radio.link(link) == first.radio.link(link) for link in links)
            for air in airs
        )
        grants = [first.grant(flow) for flow in flows]
        widths = [
            bandwidths_of(first.radio, link, grant) for (link, _), grant in zip(flows, grants, strict=True)
        ]
        is_same_band = all(np.array_equal(one, widths[0]) for one in widths)
        is_single = all(len(members) == 1 for _, members in flows)
        if not (is_alike and is_same_band and is_single) or any(
            one.bandwidths_hz is not None for one in grants
        ):
            return None
        seeds = [air.radio.air_seed(air.seed) for air in airs]
        return cls(
            first.radio,
            [(link, members[0]) for link, members in flows],
            np.array([grant.subchannels for grant in grants]),
            np.array([grant.tx_power_w for grant in grants]) / widths[0],
            widths[0],
            np.array([draws.mean_gains(air.radio, seed) for air, seed in zip(airs, seeds, strict=True)]),
            np.array([air.radio.noise_psd_w_per_hz for air in airs]),
            seeds,
        )

    def rates(self, flow: Ints, channel: Ints, blocks: Ints) -> Floats:
        """Return the rate of each flow in a channel and a block, shape (num,); by the operations of bands."""
        fading, links = self.radio.fading, [link for link, _ in self.flows]
        width = 1 if fading.selectivity == "flat" else self.radio.link(links[0]).num_subchannels
        clients = np.array([client for _, client in self.flows])[flow]
        rows = Rows.of(self._keys, channel * len(self.flows) + flow, blocks)
        drawn = fading.draw(rows, Rows.OWN, len(flow), width)
        if width > 1:
            drawn = np.take_along_axis(drawn, self.columns[flow], axis=1)
        gains = self.means[channel, clients][:, np.newaxis] * drawn
        gains = self.psd[flow] * gains
        gains /= self.noise_psd[channel][:, np.newaxis]
        return np.asarray(self.radio.rate.rates(gains, self.bandwidths_hz))

    @cached_property
    def _keys(self) -> Keys:
        """Of each channel, those of each flow."""
        flows = [(seed, *one) for seed in self.seeds for one in self.flows]
        return Keys([of_fading(seed, link).child(client) for seed, link, client in flows])
