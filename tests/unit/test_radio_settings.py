"""The radio tables: defaults, and one clear sentence for each fault."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.parts import make
from cosim.radio.channel_settings import LINKS, DownlinkSettings, LinkSettings
from cosim.radio.fading import Fading
from cosim.radio.placement import Placement
from cosim.radio.rate import RateModel
from cosim.radio.settings import Radio
from cosim.rng import stream


def test_the_defaults_are_twenty_subchannels_of_500_khz_on_every_link():
    radio = Radio()
    for link in LINKS:
        assert radio.link(link).widths_hz == (500e3,) * 20


def test_the_default_noise_is_thermal_noise_and_a_noise_figure_of_9_db():
    assert Radio().noise_psd_w_per_hz == pytest.approx(10 ** ((-174 + 9 - 30) / 10))


def test_uplinks_share_600_mw_and_downlinks_are_free_unless_told_otherwise():
    radio = Radio()
    assert radio.main_uplink.max_total_tx_power_w == pytest.approx(0.6, rel=0.01)
    assert not radio.main_downlink.modelled
    assert not radio.federated_downlink.modelled
    assert DownlinkSettings(modelled=True, tx_power_dbm=40.0).tx_power_w == pytest.approx(10.0)


def test_a_link_without_a_limit_has_none():
    assert LinkSettings().max_total_tx_power_w is None


def test_listed_widths_stand_for_the_total_and_the_count():
    link = LinkSettings.model_validate({"subchannel_bandwidths_hz": [180e3, 360e3]})
    assert link.num_subchannels == 2
    assert link.bandwidth_hz is None
    assert link.widths_hz == (180e3, 360e3)


@pytest.mark.parametrize(
    "given", [{}, {"subchannel_bandwidths_hz": [1e5, 2e5]}, {"num_subchannels": 4, "bandwidth_hz": 1e6}]
)
def test_a_link_written_out_reads_back_the_same(given):
    link = LinkSettings.model_validate(given)
    assert LinkSettings.model_validate(link.model_dump(exclude_none=True)) == link


def test_the_radio_table_written_out_reads_back_the_same():
    radio = Radio.model_validate(
        {"fading": {"kind": "jakes", "doppler_hz": 5.0}, "placement": {"kind": "disc", "radius_m": 90.0}}
    )
    for given in (Radio(), radio):
        assert Radio.model_validate_json(given.model_dump_json(exclude_none=True)) == given


def test_the_schema_names_every_kind_of_fading():
    schema = str(Radio.model_json_schema())
    for kind in ("jakes", "nakagami", "none", "rayleigh_block", "rician"):
        assert f"'{kind}'" in schema


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (
            LinkSettings,
            {"subchannel_bandwidths_hz": [1e5, 1e5], "bandwidth_hz": 1e6},
            "bandwidth_hz 1e\\+06 and subchannel_bandwidths_hz were both given; give one of them",
        ),
        (
            LinkSettings,
            {"subchannel_bandwidths_hz": [1e5, 1e5], "num_subchannels": 3},
            "subchannel_bandwidths_hz has 2 entries for num_subchannels 3; give one for each",
        ),
        (LinkSettings, {"bandwidth_hz": None}, "no width was given; give bandwidth_hz or"),
        (LinkSettings, {"num_subchannels": 0}, "greater than 0"),
        (LinkSettings, {"bandwidth_hz": -1.0}, "greater than 0"),
        (LinkSettings, {"subchannel_bandwidths_hz": [1e5, 0.0]}, "greater than 0"),
        (LinkSettings, {"subchannel_bandwidths_hz": []}, "at least 1 item"),
        (LinkSettings, {"colour": 1}, "Extra inputs"),
        (
            DownlinkSettings,
            {"tx_power_dbm": 46.0, "max_total_tx_power_dbm": 40.0},
            "tx_power_dbm 46 is above max_total_tx_power_dbm 40; lower the one or raise the other",
        ),
        (Radio, {"noise_figure_db": -1.0}, "greater than or equal to 0"),
        (Radio, {"fading": {"kind": "rayleigh"}}, "rayleigh_block"),
    ],
)
def test_a_fault_in_a_table_is_told(table, given, message):
    with pytest.raises(ValidationError, match=message):
        table.model_validate(given)


@pytest.mark.parametrize(
    ("base", "given", "message"),
    [
        (
            Fading,
            {"kind": "jakes"},
            "got no speed; give doppler_hz alone, or speed_m_per_s together with carrier_hz",
        ),
        (Fading, {"kind": "jakes", "speed_m_per_s": 1.0}, "got speed_m_per_s; give doppler_hz alone"),
        (
            Fading,
            {"kind": "jakes", "doppler_hz": 5.0, "carrier_hz": 2e9},
            "got doppler_hz and carrier_hz; give doppler_hz alone",
        ),
        (Fading, {"kind": "nakagami", "m": 0.4}, "greater than or equal to 0.5"),
        (Fading, {"kind": "rician", "k_factor": -1.0}, "greater than or equal to 0"),
        (Fading, {"kind": "rayleigh_block", "coherence_time_s": 0.0}, "greater than or equal to 0.000000001"),
        (Placement, {"kind": "disc", "radius_m": 5.0, "min_distance_m": 5.0}, "leaves no room in a disc"),
        (Placement, {"kind": "annulus", "inner_m": 9.0, "outer_m": 5.0}, "inner_m 9 lies outside outer_m 5"),
        (
            Placement,
            {"kind": "given", "positions_m": [[1.0, 0.0], [0.0, 0.0]]},
            r"position 1 is \[0, 0\], where the base station is",
        ),
        (RateModel, {"kind": "constant_bandwidth"}, "neither was given; give either rate_bit_per_s or"),
        (
            RateModel,
            {
                "kind": "constant_bandwidth",
                "rate_bit_per_s": 1.0,
                "spectral_efficiency_bit_per_s_per_hz": 1.0,
            },
            "both were given; give either rate_bit_per_s or",
        ),
        (RateModel, {"kind": "shannon", "snr_gap_db": -3.0}, "greater than or equal to 0"),
    ],
)
def test_a_fault_in_a_part_is_told(base, given, message):
    with pytest.raises(ValidationError, match=message):
        make(base, given)


def test_listed_positions_must_be_as_many_as_the_clients():
    placement = make(Placement, {"kind": "given", "positions_m": [[1.0, 0.0], [2.0, 0.0]]})
    with pytest.raises(ScenarioError, match=r"radio.placement.positions_m has 2 position\(s\) for 3 client"):
        placement.place(stream(1, "placement"), 3)


def test_a_link_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no link 'sidelink'; there are main_uplink, federated_uplink"):
        Radio().link("sidelink")


def test_reading_radio_settings_loads_no_torch_and_no_scipy():
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, cosim.radio.settings, cosim.radio.channel; "
            "print([name for name in ('torch', 'scipy', 'transformers') if name in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"
