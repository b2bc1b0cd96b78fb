// Loss and perplexity over the same time as the lanes. uPlot draws them: small, without
// dependencies, and its scales can be set from outside, so both always show the same stretch.

const CURVE_LOOKS = {
  train_loss: { light: "#56B4E9", dark: "#56B4E9", width: 1, points: false, scale: "loss" },
  eval_loss: { light: "#000000", dark: "#FFFFFF", width: 2, points: true, scale: "loss" },
  eval_perplexity: { light: "#D55E00", dark: "#F08A4B", width: 1.5, points: true, scale: "other", dash: [6, 4] },
  eval_accuracy: { light: "#009E73", dark: "#3CC79C", width: 1.5, points: true, scale: "other", dash: [6, 4] },
};
const CHART_HEIGHT = 150;

class Charts {
  constructor(run, theme, timeline) {
    Object.assign(this, { run, theme, timeline });
    this.place = document.getElementById("charts");
    this.place.hidden = !run.curves.length;
    if (run.curves.length) new ResizeObserver(() => this.resize()).observe(this.place);
  }

  refresh() {
    if (!this.run.curves.length || !this.place.clientWidth) return;
    this.plot?.destroy();
    const { curves, spans } = this.run;
    const tables = curves.map(({ column }) => [spans[`${column}.time`], spans[`${column}.value`]].map((one) => Array.from(one)));
    const data = uPlot.join(tables);
    const names = new Set(curves.map((curve) => CURVE_LOOKS[curve.name].scale));
    const axis = { stroke: this.theme.ink, grid: { stroke: this.theme.line, width: 1 }, ticks: { stroke: this.theme.line }, font: "11px system-ui, sans-serif", labelFont: "11px system-ui, sans-serif" };
    const other = curves.find((curve) => CURVE_LOOKS[curve.name].scale === "other");
    this.plot = new uPlot({
      width: this.place.clientWidth,
      height: CHART_HEIGHT,
      padding: [10, names.has("other") ? 0 : GUTTER.right, 0, names.has("loss") ? 0 : GUTTER.left],
      scales: {
        x: { time: false, auto: false, range: () => [this.timeline.view.from, this.timeline.view.to] },
        loss: { range: () => this.range("loss") },
        other: { range: () => [0, this.range("other")[1]] }, // from zero, or it would lie upon the loss
      },
      cursor: { drag: { x: false, y: false }, points: { size: 7 } },
      legend: { live: true },
      axes: [
        { ...axis, size: 28, splits: () => this.splits().map((tick) => tick.time), values: (_, times) => { const steps = this.splits(); return times.map((time, i) => steps[i]?.label ?? ""); } },
        { ...axis, scale: "loss", size: GUTTER.left - 18, label: "loss, nats", labelSize: 18, show: names.has("loss") },
        { ...axis, scale: "other", side: 1, size: GUTTER.right - 16, label: other?.label ?? "", labelSize: 16, grid: { show: false }, show: names.has("other") },
      ],
      series: [
        { label: "time", value: (_, time) => (time === null ? "–" : duration(time)) },
        ...curves.map((curve) => this.series(curve)),
      ],
    }, data, this.place);
  }

  series({ name, label }) {
    const look = CURVE_LOOKS[name];
    const colour = this.theme.isDark ? look.dark : look.light;
    return {
      label,
      scale: look.scale,
      stroke: colour,
      width: look.width,
      dash: look.dash,
      spanGaps: true,
      points: { show: look.points, size: look.scale === "loss" ? 6 : 5, fill: look.scale === "loss" ? colour : this.theme.ground },
      value: (_, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString()),
    };
  }

  range(scale) {
    const mine = this.run.curves.filter(({ name }) => CURVE_LOOKS[name].scale === scale);
    const tables = mine.map(({ column }) => [this.run.spans[`${column}.time`], this.run.spans[`${column}.value`]]);
    return valueRange(tables, this.timeline.view.from, this.timeline.view.to);
  }

  splits() {
    const { from, to } = this.timeline.view;
    return timeSteps(from, to, this.place.clientWidth - GUTTER.left - GUTTER.right);
  }

  resize() {
    if (!this.plot) this.refresh();
    else if (this.plot.width !== this.place.clientWidth) this.plot.setSize({ width: this.place.clientWidth, height: CHART_HEIGHT });
  }

  follow({ from, to }) {
    this.plot?.setScale("x", { min: from, max: to });
  }
}
