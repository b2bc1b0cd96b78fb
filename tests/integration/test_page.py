"""The pages in a real browser: nothing leaves them or fails in them, and they answer to pointer and keys."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosim.channel_replay import replay_channel
from cosim.record.digests import sealed
from cosim.record.folder import Record, RunFolder
from cosim.record.log import Log
from cosim.report.page import write_comparison_page, write_page
from cosim.runs import run
from tests.made_runs import write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
NASTY = "<script>window.broken=1</script><!-- </script>&amp;"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Return a headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def record(tiny_scenario, tmp_path_factory) -> Record:
    """Return a run of three clients that really learned, over a fading channel."""
    scenario = tiny_scenario(
        {
            "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-3},
            "radio.main_downlink.modelled": True,
        }
    )
    return Record.open(run(scenario, tmp_path_factory.mktemp("page") / "run"))


class Opened:
    """A page, with all that it asked of the network and all that went wrong in it."""

    def __init__(
        self, browser, path: Path, scheme: str = "light", size: tuple[int, int] = (1600, 950)
    ) -> None:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        self.page = context.new_page()
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        self.page.on(
            "console",
            lambda message: (
                self.faults.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]", state="attached")
        self.settle()

    def settle(self) -> None:
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.settle()

    def ask(self, expression: str):
        return self.page.evaluate(expression)

    @property
    def view(self) -> tuple[float, float]:
        view = self.ask("cosim.timeline.view")
        return view["from"], view["to"]

    def place_of(self, span: int) -> tuple[float, float]:
        """Return where the middle of a span is in the window."""
        return tuple(
            self.ask(
                f"""(() => {{
                const {{ timeline, run }} = cosim;
                const box = timeline.canvas.getBoundingClientRect();
                const {{ band }} = run.rows[run.rowOf[{span}]];
                const middle = (run.spans.start[{span}] + run.spans.end[{span}]) / 2;
                const y = band.top - timeline.scroller.scrollTop + band.height / 2;
                return [box.x + timeline.painter.x(middle), box.y + y];
            }})()"""
            )
        )


@pytest.fixture
def opened(browser, record, tmp_path) -> Iterator[Opened]:
    path = tmp_path / "page.html"
    write_page(record, path, air=replay_channel(record))
    page = Opened(browser, path)
    yield page
    assert page.faults == []
    page.page.context.close()


def test_a_page_asks_nothing_of_anybody(opened):
    opened.press("+")
    opened.press("h")
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [url for url in opened.requests if url.startswith("file:")] == [opened.page.url]


def test_a_page_shows_the_run_and_where_its_time_went(opened, record):
    assert opened.page.inner_text("#name") == "tiny"
    assert f"{record.spans.num_rows} spans" in opened.page.inner_text("#facts")
    shares = opened.ask("cosim.run.attribution.shares.map((share) => share.ns).reduce((a, b) => a + b, 0)")
    length = opened.ask("cosim.run.attribution.lengthNs")
    assert shares == length
    assert "together" in opened.page.inner_text("#delay")


def test_a_page_holds_every_time_and_amount_to_the_bit(opened, record):
    for column, name in (("start", "start_ns"), ("end", "end_ns"), ("bits", "bits"), ("flop", "flop")):
        shown = opened.ask(f"Array.from(cosim.run.spans.{column})")
        assert shown == record.spans[name].to_pylist()
    parents = opened.ask(
        "Array.from({length: cosim.run.numSpans}, (_, span) => [...cosim.run.parents(span)])"
    )
    assert [sorted(some) for some in parents] == [
        sorted(some) for some in record.spans["parents"].to_pylist()
    ]


def test_children_are_the_spans_that_name_a_span_as_their_parent(opened, record):
    parents = record.spans["parents"].to_pylist()
    for span in (0, len(parents) // 2, len(parents) - 1):
        expected = [child for child, causes in enumerate(parents) if span in causes]
        assert sorted(opened.ask(f"cosim.run.children({span})")) == expected


def test_keys_zoom_move_and_go_back_to_the_whole_run(opened):
    whole = opened.view
    opened.press("+")
    near = opened.view
    assert near[1] - near[0] == pytest.approx((whole[1] - whole[0]) / 1.5)
    opened.press("ArrowRight")
    assert opened.view[0] > near[0]
    opened.press("0")
    assert opened.view == pytest.approx(whole)


def test_ctrl_and_wheel_zoom_around_the_pointer(opened):
    box = opened.page.locator("#lanes").bounding_box()
    x = 700.0
    opened.page.mouse.move(box["x"] + x, box["y"] + 200)
    under = opened.ask(f"cosim.timeline.painter.time({x})")
    opened.page.keyboard.down("Control")
    opened.page.mouse.wheel(0, -240)
    opened.page.keyboard.up("Control")
    deadline = time.monotonic() + 10.0
    while opened.view[1] - opened.view[0] > opened.ask("cosim.run.lengthNs") / 2:
        assert time.monotonic() < deadline
        opened.settle()
    opened.settle()
    assert opened.ask(f"cosim.timeline.painter.time({x})") == pytest.approx(under, rel=1e-3)


def test_dragging_moves_in_time(opened):
    opened.press("+")
    before = opened.view
    box = opened.page.locator("#lanes").bounding_box()
    opened.page.mouse.move(box["x"] + 800, box["y"] + 150)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 700, box["y"] + 150, steps=4)
    opened.page.mouse.up()
    assert opened.view[0] > before[0]


def test_pointing_at_a_span_tells_what_it_is_and_a_click_tells_all(opened, record):
    spans = record.spans.to_pylist()
    upload = max(
        (row for row in spans if row["name"] == "activation_upload"),
        key=lambda row: row["end_ns"] - row["start_ns"],
    )
    opened.ask(f"cosim.timeline.reveal({upload['id']}, true)")
    opened.settle()
    x, y = opened.place_of(upload["id"])
    opened.page.mouse.move(x, y)
    opened.page.wait_for_selector("#bubble:visible")
    assert "activation upload" in opened.page.inner_text("#bubble")
    opened.page.mouse.click(x, y)
    detail = opened.page.inner_text("#detail")
    assert f"#{upload['id']}" in detail
    assert f"{upload['end_ns'] / 1e9:.9f} s" in detail
    assert "Link budget" in detail
    assert "path loss" in detail
    assert re.search(r"Waited for \(1\)", detail)


def test_the_rate_of_a_link_budget_is_the_sum_over_its_subchannels(opened, record):
    """Without another block in between, the effective rate is the rate at the start."""
    air = replay_channel(record)
    rows = record.spans.to_pylist()
    for index, span in enumerate(air.budgets.spans.tolist()):
        row = rows[span]
        if row["end_ns"] // 1_000_000 == row["start_ns"] // 1_000_000:
            entries = slice(air.budgets.offsets[index], air.budgets.offsets[index + 1])
            effective = row["bits"] / (row["end_ns"] - row["start_ns"]) * 1e9
            assert air.budgets.rate_bit_per_s[entries].sum() == pytest.approx(effective, rel=1e-4)
            return
    pytest.fail("no transfer lies within one block")


def test_search_finds_whole_names_and_steps_through_them(opened, record):
    opened.press("/")
    opened.page.keyboard.type("client-1 upload")
    rows = record.spans.to_pylist()
    expected = [row for row in rows if "upload" in row["name"] and row["actor"] == "client-1"]
    assert opened.page.inner_text("#tally") == f"{len(expected)} span(s)"
    opened.press("Enter")
    assert opened.page.inner_text("#tally") == f"1 of {len(expected)}"
    first = min(expected, key=lambda row: row["start_ns"])
    assert opened.ask("cosim.state.chosen") == first["id"]
    opened.press("Escape")
    assert opened.page.input_value("#search") == ""
    assert opened.ask("cosim.state.found") is None


def test_keys_walk_along_rows_causes_and_the_critical_path(opened, record):
    opened.press("Shift+N")
    first = opened.ask("cosim.state.chosen")
    assert first == opened.ask("cosim.run.spans.path[0]")
    opened.press("Shift+N")
    second = opened.ask("cosim.state.chosen")
    assert first in record.spans["parents"].to_pylist()[second]
    opened.press("u")
    assert opened.ask("cosim.state.chosen") == first
    opened.press("n")
    after = opened.ask("cosim.state.chosen")
    starts = record.spans["start_ns"].to_pylist()
    assert after != first
    assert starts[after] >= starts[first]
    opened.press("z")
    assert opened.view[1] - opened.view[0] < opened.ask("cosim.run.lengthNs")


def test_help_opens_and_closes_by_key_and_theme_and_path_toggle(opened):
    opened.press("?")
    assert opened.page.is_visible("#help-dialog")
    opened.press("Escape")
    assert not opened.page.is_visible("#help-dialog")
    opened.press("t")
    assert opened.ask("document.documentElement.dataset.theme") == "dark"
    opened.press("c")
    assert opened.page.get_attribute("#path", "aria-pressed") == "false"
    opened.press("s")
    assert opened.page.get_attribute("#sort", "aria-pressed") == "true"


def test_losses_share_the_time_axis_of_the_lanes(opened):
    opened.press("+")
    opened.press("ArrowRight")
    plot = "cosim.charts.shown[0].plot"
    shown = opened.ask(f"[{plot}.scales.x.min, {plot}.scales.x.max]")
    assert shown == pytest.approx(opened.view)
    ends = opened.ask(f"[{plot}.bbox.left, {plot}.bbox.width].map((one) => one / devicePixelRatio)")
    left, right = opened.ask("[cosim.timeline.painter.left, cosim.timeline.painter.right]")
    assert ends[0] == pytest.approx(left, abs=1.0)
    assert ends[0] + ends[1] == pytest.approx(right, abs=1.0)


def test_lanes_heat_map_and_search_change_the_picture(opened):
    lanes = opened.page.locator("#lanes")
    pictures = {lanes.screenshot()}
    for key in ("h", "c", "s", "+", "t"):
        opened.press(key)
        pictures.add(lanes.screenshot())
    assert opened.page.get_attribute("#heat", "aria-pressed") == "true"
    assert len(pictures) >= 5  # three clients may already stand in order of how busy they were


def test_shares_of_a_lane_add_up_to_the_time_of_its_spans(opened):
    """Where spans are too many to be told apart a lane is a stack of shares, without loss."""
    found = opened.ask(
        """(() => { const { painter } = cosim.timeline;
        cosim.timeline.fit();
        return cosim.run.rows.map((row) => {
          let total = 0;
          painter.eachBin(row, 2 ** 18, (x, width, shares) => {
            for (const one of shares) total += (one * width) / painter.scale;
          });
          return [total, row.lengths.at(-1)];
        }); })()"""
    )
    assert all(shares == pytest.approx(length, rel=1e-6) for shares, length in found)


def test_a_phone_has_lanes_and_pages_that_scroll(browser, record, tmp_path):
    write_page(record, tmp_path / "run.html", air=replay_channel(record))
    write_comparison_page([record, record], tmp_path / "both.html")
    for name in ("run.html", "both.html"):
        opened = Opened(browser, tmp_path / name, "dark", (390, 844))
        assert opened.page.locator("#lanes").bounding_box()["height"] > 350
        assert opened.ask("document.documentElement.scrollWidth") <= 390
        opened.page.focus("[role=tab]")
        opened.press("ArrowRight")
        assert opened.ask("document.activeElement.getAttribute('aria-selected')") == "true"
        assert opened.page.locator("[role=tabpanel]:visible").count() == 1
        assert opened.faults == []


def test_markup_in_a_name_stays_text(browser, tiny_scenario, tmp_path):
    folder = run(tiny_scenario(), tmp_path / "run", timing_only=True)
    manifest = folder / "manifest.json"
    manifest.write_bytes(sealed(json.loads(manifest.read_text()) | {"name": NASTY}))
    path = tmp_path / "nasty.html"
    write_page(Record.open(folder), path)
    opened = Opened(browser, path)
    assert opened.page.inner_text("#name") == NASTY
    assert opened.page.title().startswith(NASTY)
    assert opened.ask("window.broken") is None
    assert opened.faults == []
    other = tmp_path / "comparison.html"
    write_comparison_page([Record.open(folder)] * 2, other)
    compared = Opened(browser, other)
    assert compared.ask("window.broken") is None
    assert compared.faults == []


def test_a_failed_run_and_an_empty_one_are_shown_and_marked(browser, tiny_scenario, tmp_path):
    folder = run(tiny_scenario(), tmp_path / "run", timing_only=True)
    resumed = RunFolder.reopen(Record.open(folder), {})
    resumed.finish(Log(), "failed", reason="the cable was pulled")
    path = tmp_path / "failed.html"
    write_page(Record.open(folder), path)
    opened = Opened(browser, path)
    assert "the cable was pulled" in opened.page.inner_text("#notice")
    opened.press("n")
    opened.press("+")
    assert opened.faults == []


def test_many_clients_stay_fluid_and_are_drawn(browser, tiny_scenario, tmp_path):
    scenario = tiny_scenario(
        {
            "clients.count": 500,
            "allocator": {"kind": "time_shared"},
            "data.source.num_train": 1000,
            "scheme.num_rounds": 1,
            "scheme.local_steps": 2,
        }
    )
    record = Record.open(run(scenario, tmp_path / "run", timing_only=True))
    path = tmp_path / "many.html"
    write_page(record, path)
    for scheme in ("light", "dark"):
        opened = Opened(browser, path, scheme)
        assert opened.ask("document.documentElement.dataset.theme") == scheme
        drawn = opened.ask(
            """(async () => { const times = [];
            for (let i = 0; i < 20; i++) { cosim.timeline.pan(0.01); await new Promise(requestAnimationFrame);
              times.push(cosim.timeline.frameMs); }
            return times.sort((a, b) => a - b)[10]; })()"""
        )
        assert drawn < 200.0  # about 5 ms on a desk; a shared machine may be busy
        assert len(opened.page.screenshot()) > 30_000
        assert opened.faults == []


def test_print_is_light_and_shows_the_table(opened):
    opened.press("t")
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.ask("document.documentElement.dataset.theme") == "light"
    assert opened.page.is_visible("#delay")
    assert not opened.page.is_visible(".tools")
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.ask("document.documentElement.dataset.theme") == "dark"


def test_a_comparison_aligns_runs_by_round_and_finds_where_they_part(
    browser, record, tiny_scenario, tmp_path
):
    wide = tiny_scenario(
        {
            "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 1e-3},
            "radio.main_downlink.modelled": True,
            "radio.main_uplink.bandwidth_hz": 20e6,
        }
    )
    other = Record.open(run(wide, tmp_path / "wide"))
    path = tmp_path / "comparison.html"
    write_comparison_page([record, other], path)
    opened = Opened(browser, path)
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert "What was learned is the same" in opened.page.inner_text("#totals")
    assert opened.ask("cosim.content.runs[1].partingNs") is not None
    opened.page.select_option("#align", "2")
    begins = opened.ask(
        "cosim.content.runs.map((run) => run.rounds.starts[Array.from(run.rounds.numbers).indexOf(2)])"
    )
    assert opened.ask("cosim.strips.offsets") == begins
    opened.press("d")
    opened.press("+")
    opened.settle()
    assert opened.faults == []


@pytest.mark.parametrize("made", ["overlapping", "no rounds", "two tasks", "going on"])
def test_a_page_shows_rounds_that_overlap_or_are_absent_and_what_the_air_did(made, browser, tmp_path):
    record = write_run(tmp_path / "run", made)
    write_page(record, tmp_path / "run.html", air=replay_channel(record))
    opened = Opened(browser, tmp_path / "run.html")
    label = "no rounds" if made == "no rounds" else "10 round(s), up to 3 at a time"
    assert label in opened.page.inner_text("#facts")
    superposed = record.spans["name"].to_pylist().index("superposed_upload")
    opened.page.evaluate(f"cosim.choose({superposed}, true)")
    detail = opened.page.inner_text("#detail")
    assert "3 clients → federated-server" in detail
    assert "client-0, client-1, client-2" in detail
    opened.page.evaluate("cosim.search.ask('lost')")
    assert opened.page.inner_text("#tally") == "1 span(s)"
    opened.page.evaluate("cosim.search.step(1)")
    lost = " ".join(opened.page.inner_text("#detail").split())
    assert "delivered no" in lost
    assert "sent again 2.5 kbit" in lost
    opened.page.evaluate("cosim.open('delay')")
    found = opened.page.eval_on_selector_all("#delay option", "all => all.map((one) => one.textContent)")
    of_task = " of text" if made == "two tasks" else ""
    assert (f"round 10{of_task}" in found) == (made != "no rounds")
    assert opened.faults == []
    both = tmp_path / "both.html"
    write_comparison_page([record, write_run(tmp_path / "slow", made, 2)], both)
    compared = Opened(browser, both)
    compared.page.evaluate("cosim.strips.align(2)")
    assert compared.faults == []
