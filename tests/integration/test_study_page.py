"""The page of a study in a real browser: nothing leaves it or fails in it, and it answers."""

import shutil

import pytest

from cosim.report.study import write_report
from cosim.scenario.load import to_toml
from cosim.studies.load import load_study
from cosim.studies.run_study import run_study

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
STUDY = """
base = "tiny.toml"
description = "<b>why?</b>"
timing_only = true
replications = 3
measures = ["total_s", "energy_j"]
baseline = { "allocator.kind" = "equal" }
[vary.grid]
"radio.noise_figure_db" = [3.0, 9.0, 15.0]
"allocator.kind" = ["equal", "time_shared"]
[[vary.cases]]
name = "as it is"
set = { "radio.antenna_gain_db" = 0.0 }
[[vary.cases]]
name = "something stands in the way of all of them"
set = { "radio.antenna_gain_db" = -10.0 }
[[vary.cases]]
name = "something else does"
set = { "radio.antenna_gain_db" = -5.0 }
[[vary.cases]]
name = "nothing does"
set = { "radio.antenna_gain_db" = 5.0 }
"""
OVERLAPS = """
// Text of a picture that reaches out of it or stands on other text; what is askew only stands on axes' names.
() => [...document.querySelectorAll("#cards svg")].flatMap((picture) => {
  const whole = picture.getBoundingClientRect();
  const isShown = (one) => getComputedStyle(one).visibility !== "hidden";
  const shown = [...picture.querySelectorAll("text")].filter(isShown);
  const boxes = shown.map((one) => [one, one.getBoundingClientRect()]);
  const out = boxes.filter(([, box]) => box.left < whole.left - 1 || box.right > whole.right + 1
    || box.top < whole.top - 1 || box.bottom > whole.bottom + 1);
  const flat = boxes.filter(([one]) => !(one.getAttribute("transform") || "").includes("-28"));
  const hit = flat.flatMap(([one, a]) => boxes.filter(([other, b]) => other !== one
    && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
    .map(([other]) => [one, other]));
  const told = (ones) => ones.map((one) => one.textContent).join(" on ");
  return [...out.map(([one]) => [one]), ...hit].map(told);
})
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def report(tiny_scenario, tmp_path_factory):
    """Return the page of a small study that was really played."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.toml").write_text(to_toml(tiny_scenario()), encoding="utf-8")
    (folder / "small.toml").write_text(STUDY, encoding="utf-8")
    run_study(load_study(folder / "small.toml"), folder / "out", workers=1)
    return write_report(folder / "out")[0]


@pytest.fixture(params=["light", "dark"])
def opened(request, report):
    """Return the page in a browser, what it asked of the network, and what went wrong in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        page = browser.new_context(color_scheme=request.param).new_page()
        asked, faults = [], []
        page.on("request", lambda one: asked.append(one.url))
        page.on("pageerror", lambda one: faults.append(str(one)))
        page.on("console", lambda one: faults.append(one.text) if one.type == "error" else None)
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        yield page, asked, faults
        browser.close()


def test_a_page_asks_nothing_of_anybody_and_answers(opened, report):
    page, asked, faults = opened
    heads = page.locator(".card h2").all_inner_texts()
    assert heads[:2] == ["Total delay over noise figure", "Paired differences"]
    assert "detectable" in page.inner_text("#answer")
    assert page.inner_text("#question") == "<b>why?</b>"
    assert page.evaluate(OVERLAPS) == []
    page.select_option("#measure", label="energy")
    assert page.evaluate(OVERLAPS) == []
    assert page.locator(".card h2").first.inner_text().startswith("Energy over")
    page.locator("svg [data-told]").first.hover()
    assert page.locator("#bubble").is_visible()
    point = page.locator("svg .named").first
    assert not point.locator("text").is_visible()
    point.focus()
    assert point.locator("text").is_visible()
    page.get_by_role("button", name="mean", exact=True).click()
    means = page.locator(".numbers tbody td:nth-child(4)").all_inner_texts()
    assert means == sorted(means, key=lambda text: float(text.split()[0]))
    page.click("#theme")
    assert asked == [report.as_uri()]
    assert faults == []
