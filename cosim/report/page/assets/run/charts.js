// What was measured over the same time as the lanes: what is learned, and how rounds keep a limit.
// uPlot draws it: small, without dependencies, and its scales can be set from outside, so all
// always show the same stretch.

const CURVE_LOOKS = {
  train_loss: { panel: "learning", light: "#56B4E9", dark: "#56B4E9", width: 1, points: 0, scale: "left" },
  eval_loss: { panel: "learning", light: "#000000", dark: "#FFFFFF", width: 2, points: 6, scale: "left" },
  eval_perplexity: { panel: "learning", light: "#D55E00", dark: "#F08A4B", width: 1.5, points: 5, scale: "right", dash: [6, 4], hollow: true },
  eval_accuracy: { panel: "learning", light: "#009E73", dark: "#3CC79C", width: 1.5, points: 5, scale: "right", dash: [6, 4], hollow: true },
  latency_s: { panel: "limit", light: "#0072B2", dark: "#5AB4E5", width: 1, points: 5, scale: "left" },
  mean_latency_s: { panel: "limit", light: "#000000", dark: "#FFFFFF", width: 2, points: 0, scale: "left" },
  latency_limit_s: { panel: "limit", light: "#D55E00", dark: "#F08A4B", width: 1.5, points: 0, scale: "left", dash: [6, 4] },
  queue_s: { panel: "limit", light: "#CC79A7", dark: "#E3A3C6", width: 1.5, points: 0, scale: "left" },
  epsilon: { panel: "privacy", light: "#0072B2", dark: "#5AB4E5", width: 1.5, points: 4, scale: "left" }, // each curve has a colour of its own
  kept: { panel: "limit", light: "#8A8A8A", dark: "#A0A0A0", width: 1, points: 5, scale: "right", hollow: true },
};
const PANELS = { learning: { left: "loss, nats", isFromZero: false }, limit: { left: "latency, s", isFromZero: true }, privacy: { left: "epsilon", isFromZero: true } };
const CHART_HEIGHT = 150;

class Charts {
  constructor(run, theme, timeline) {
    this.place = document.getElementById("charts");
    const tasks = [...new Set(run.curves.map(({ task }) => task))]; // each has a chart of its own: scales differ
    this.shown = Object.keys(PANELS)
      .flatMap((panel) => tasks.map((task) => [panel, run.curves.filter((curve) => CURVE_LOOKS[curve.look].panel === panel && curve.task === task)]))
      .filter(([, curves]) => curves.length)
      .map(([panel, curves]) => new Chart(run, theme, timeline, panel, curves, this.place));
    this.place.hidden = !this.shown.length;
    if (this.shown.length) new ResizeObserver(() => this.shown.forEach((chart) => chart.resize())).observe(this.place);
  }

  refresh() {
    this.shown.forEach((chart) => chart.refresh());
  }

  follow(view) {
    this.shown.forEach((chart) => chart.follow(view));
  }
}

class Chart {
  constructor(run, theme, timeline, panel, curves, around) {
    Object.assign(this, { run, theme, timeline, curves, around, panel: PANELS[panel] });
    this.place = around.appendChild(element("div", {}));
  }

  refresh() {
    if (!this.around.clientWidth) return;
    this.plot?.destroy();
    const { curves, panel } = this;
    const data = uPlot.join(curves.map((curve) => this.table(curve).map((one) => Array.from(one))));
    const scales = new Set(curves.map((curve) => CURVE_LOOKS[curve.look].scale));
    const axis = { stroke: this.theme.ink, grid: { stroke: this.theme.line, width: 1 }, ticks: { stroke: this.theme.line }, font: "11px system-ui, sans-serif", labelFont: "11px system-ui, sans-serif" };
    const right = curves.find((curve) => CURVE_LOOKS[curve.look].scale === "right");
    this.plot = new uPlot({
      width: this.around.clientWidth,
      height: CHART_HEIGHT,
      padding: [10, scales.has("right") ? 0 : GUTTER.right, 0, scales.has("left") ? 0 : GUTTER.left],
      scales: {
        x: { time: false, auto: false, range: () => [this.timeline.view.from, this.timeline.view.to] },
        left: { range: () => (panel.isFromZero ? [0, this.range("left")[1]] : this.range("left")) },
        right: { range: () => [0, this.range("right")[1]] }, // from zero, or it would lie upon the left one
      },
      cursor: { drag: { x: false, y: false }, points: { size: 7 } },
      legend: { live: true },
      axes: [
        { ...axis, size: 28, splits: () => this.splits().map((tick) => tick.time), values: (_, times) => { const steps = this.splits(); return times.map((time, i) => steps[i]?.label ?? ""); } },
        { ...axis, scale: "left", size: GUTTER.left - 18, label: panel.left, labelSize: 18, show: scales.has("left") },
        { ...axis, scale: "right", side: 1, size: GUTTER.right - 16, label: right?.label ?? "", labelSize: 16, grid: { show: false }, show: scales.has("right") },
      ],
      series: [
        { label: "time", value: (_, time) => (time === null ? "–" : duration(time)) },
        ...curves.map((curve) => this.series(curve)),
      ],
    }, data, this.place);
  }

  series({ look: name, label, colour: own }) {
    const look = CURVE_LOOKS[name];
    const colour = own ?? (this.theme.isDark ? look.dark : look.light);
    return {
      label,
      scale: look.scale,
      stroke: colour,
      width: look.width,
      dash: look.dash,
      spanGaps: true,
      points: { show: look.points > 0, size: look.points, fill: look.hollow ? this.theme.ground : colour },
      value: (_, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString()),
    };
  }

  table({ column }) {
    return [this.run.spans[`${column}.time`], this.run.spans[`${column}.value`]];
  }

  range(scale) {
    const mine = this.curves.filter(({ look }) => CURVE_LOOKS[look].scale === scale);
    return valueRange(mine.map((curve) => this.table(curve)), this.timeline.view.from, this.timeline.view.to);
  }

  splits() {
    const { from, to } = this.timeline.view;
    return timeSteps(from, to, this.around.clientWidth - GUTTER.left - GUTTER.right);
  }

  resize() {
    if (!this.plot) this.refresh();
    else if (this.plot.width !== this.around.clientWidth) this.plot.setSize({ width: this.around.clientWidth, height: CHART_HEIGHT });
  }

  follow({ from, to }) {
    this.plot?.setScale("x", { min: from, max: to });
  }
}
