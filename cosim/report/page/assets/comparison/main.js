// The comparison put together: strips, a curve of every run, and tables of what changed.

class Comparison {
  constructor(content) {
    this.content = content;
    this.theme = new Theme(() => this.themed());
    this.strips = new Strips(content, this.theme, ({ from, to }) => this.plot?.setScale("x", { min: from, max: to }));
    this.strips.fit();
    this.choices();
    this.wire();
    this.tables();
    this.themed();
    new ResizeObserver(() => this.chart()).observe(document.getElementById("charts"));
  }

  choices() {
    const { runs } = this.content;
    document.getElementById("facts").textContent = `${runs.length} runs, differences against ${runs[0].title}`;
    const rounds = [...new Set(runs.flatMap((run) => [...run.rounds.numbers]))].filter((round) => round > 0).sort((a, b) => a - b);
    document.getElementById("align").replaceChildren(
      element("option", { value: "0" }, "the start of the run"),
      ...rounds.map((round) => element("option", { value: String(round) }, `the start of round ${round}`)));
    const names = [...new Map(runs.flatMap((run) => run.curves).map((curve) => [curve.name, curve.label]))];
    const preferred = names.find(([name]) => name.split(".")[0] === "eval_loss") || names[0];
    document.getElementById("curve").replaceChildren(...names.map(([name, label]) =>
      element("option", { value: name, selected: preferred && name === preferred[0] }, label)));
    document.getElementById("charts").hidden = !names.length;
    document.getElementById("parting").hidden = runs.every((run) => run.partingNs === null);
    const notes = runs.filter((run) => run.status !== "complete").map((run) => `${run.title} is ${run.status} and shown as far as it came.`);
    const notice = document.getElementById("notice");
    notice.hidden = !notes.length;
    notice.textContent = notes.join(" ");
  }

  wire() {
    const { strips, theme } = this;
    const on = (id, what, act) => document.getElementById(id).addEventListener(what, act);
    on("zoom-in", "click", () => strips.zoom(1.5));
    on("zoom-out", "click", () => strips.zoom(1 / 1.5));
    on("fit", "click", () => strips.fit());
    on("theme", "click", () => theme.toggle());
    on("parting", "click", () => this.toParting());
    on("align", "change", (event) => { strips.align(Number(event.target.value)); this.chart(); });
    on("curve", "change", () => this.chart());
    this.tabs = new Tabs();
    const keys = { ArrowLeft: () => strips.pan(-0.15), ArrowRight: () => strips.pan(0.15), "+": () => strips.zoom(1.5), "=": () => strips.zoom(1.5), "-": () => strips.zoom(1 / 1.5), 0: () => strips.fit(), t: () => theme.toggle(), d: () => this.toParting() };
    addEventListener("keydown", (event) => {
      if (event.target.matches("select, input, .wide, [role=tab]") || event.ctrlKey || event.metaKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    this.pointer();
  }

  pointer() {
    const { strips } = this;
    const { canvas } = strips;
    canvas.addEventListener("wheel", (event) => {
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) strips.pan((event.deltaX || event.deltaY) / strips.width);
      else if (event.ctrlKey || event.metaKey || strips.scroller.scrollHeight <= strips.scroller.clientHeight + 1) strips.zoom(Math.exp(-event.deltaY / 240), strips.time(event.offsetX));
      else return;
      event.preventDefault();
    }, { passive: false });
    let grip = null;
    const pinch = new Pinch(canvas, (factor, x) => strips.zoom(factor, strips.time(x)));
    canvas.addEventListener("pointercancel", () => { grip = null; });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      grip = { x: event.offsetX, view: strips.view };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!grip) {
        this.hover(event);
        return;
      }
      if (pinch.isOn()) {
        grip = { x: event.offsetX, view: strips.view };
        return;
      }
      const by = ((grip.x - event.offsetX) / (strips.right - strips.left)) * (grip.view.to - grip.view.from);
      strips.show(grip.view.from + by, grip.view.to + by);
    });
    canvas.addEventListener("pointerup", () => { grip = null; });
    canvas.addEventListener("pointerleave", () => { document.getElementById("bubble").hidden = true; });
  }

  hover(event) {
    const bubble = document.getElementById("bubble");
    const found = this.strips.at(event.offsetX, event.offsetY);
    bubble.hidden = !found || found.time < 0 || found.time > found.run.lengthNs;
    if (bubble.hidden) return;
    const { run, time } = found;
    const { starts, ends, causes } = run.stretches;
    const at = lowerBound(ends, time);
    const reach = 1 / this.strips.scale;
    const crowd = run.occupancies.map((one, kind) => [one.starts.length ? one.mean(time, time + reach) : 0, this.content.names[kind].label]);
    const lines = [`${run.title}, ${duration(time)}`];
    if (at < starts.length) lines.push(`decided by: ${run.causes[causes[at]]}, ${duration(ends[at] - starts[at])}`);
    lines.push(...crowd.filter(([mean]) => mean >= 0.05).map(([mean, label]) => `${mean.toFixed(1)} × ${label}`));
    bubble.replaceChildren(...lines.map((text, index) => element(index ? "div" : "strong", {}, text)));
    bubble.style.left = `${Math.min(event.clientX + 14, innerWidth - bubble.offsetWidth - 8)}px`;
    bubble.style.top = `${Math.min(event.clientY + 16, innerHeight - bubble.offsetHeight - 8)}px`;
  }

  toParting() {
    const { runs } = this.content;
    const index = runs.findIndex((run) => run.partingNs !== null);
    if (index < 0) return;
    const at = runs[index].partingNs - this.strips.offsets[index];
    const half = Math.max(...runs.map((run) => run.lengthNs / Math.max(run.rounds.numbers.length, 1))) / 4;
    this.strips.show(at - half, at + half);
  }

  themed() {
    if (!this.strips) return;
    const { names } = this.content;
    document.getElementById("legend").replaceChildren(
      ...names.map((look) => element("span", { className: "key" }, swatch(this.theme, look), ` ${look.label}`)),
      element("span", { className: "key" }, element("i", { className: "box" }), " queueing or waiting"),
      element("span", { className: "key" }, element("i", { className: "line" }), " first difference"));
    this.strips.draw(); // at once: a print takes the picture before the next frame
    this.chart();
  }

  // One curve of every run over the same time; a line's dashes say which run, like its colour.
  chart() {
    const place = document.getElementById("charts");
    const name = document.getElementById("curve").value;
    this.plot?.destroy();
    this.plot = null;
    if (!name || !place.clientWidth) return;
    const { runs, columns } = this.content;
    const shown = runs.map((run, index) => [run, index]).filter(([run]) => run.curves.some((curve) => curve.name === name));
    const tables = shown.map(([run, index]) => {
      const { column, label } = run.curves.find((curve) => curve.name === name);
      this.curveLabel = label;
      return [Array.from(columns[`${column}.time`], (time) => time - this.strips.offsets[index]), Array.from(columns[`${column}.value`])];
    });
    const data = uPlot.join(tables);
    const { theme, strips } = this;
    const axis = { stroke: theme.ink, grid: { stroke: theme.line, width: 1 }, ticks: { stroke: theme.line }, font: "11px system-ui, sans-serif", labelFont: "11px system-ui, sans-serif" };
    const steps = () => timeSteps(strips.view.from, strips.view.to, place.clientWidth - GUTTER.left - GUTTER.right);
    this.plot = new uPlot({
      width: place.clientWidth,
      height: 210,
      padding: [10, GUTTER.right, 0, 0],
      scales: { x: { time: false, auto: false, range: () => [strips.view.from, strips.view.to] }, y: { range: () => valueRange(tables, strips.view.from, strips.view.to) } },
      cursor: { drag: { x: false, y: false } },
      axes: [
        { ...axis, size: 28, splits: () => steps().map((tick) => tick.time), values: (_, times) => { const ticks = steps(); return times.map((_one, i) => ticks[i]?.label ?? ""); } },
        { ...axis, size: GUTTER.left - 18, label: this.curveLabel, labelSize: 18 },
      ],
      series: [
        { label: "time", value: (_, time) => (time === null ? "–" : duration(time)) },
        ...shown.map(([run, index]) => ({
          label: run.title, stroke: runColour(theme, index), width: 2, dash: RUN_DASHES[index % RUN_DASHES.length], spanGaps: true,
          points: { show: name.startsWith("eval"), size: 5 },
          value: (_, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString()),
        })),
      ],
    }, data, place);
  }

  tables() {
    const { runs, totals, rounds } = this.content;
    const changed = (first, value) => {
      if (!first || value === first) return value === first ? "same" : "new";
      return `${Number((value / first).toPrecision(3))}×`;
    };
    const told = (kind, value) => (value === null ? "–" : kind === "time" ? duration(value) : kind === "share" ? percent(value) : amount(value, kind));
    const row = (label, kind, values) => [label, ...values.map((value, index) =>
      index && value !== null && values[0] !== null ? `${told(kind, value)} (${kind === "share" ? `${(100 * (value - values[0])).toFixed(1)} pt` : changed(values[0], value)})` : told(kind, value))];
    const heads = runs.map((run) => run.title);
    const partings = runs.slice(1).map((run) => element("p", {}, element("strong", {}, `${run.title}: `), run.settings, " ", run.parting, " ", run.learning));
    document.getElementById("totals").replaceChildren(
      ...partings,
      scrolling("Totals", this.table(["", ...heads], totals.map(({ label, kind, values }) => row(label, kind, values)))));
    const causes = [...new Set(runs.flatMap((run) => run.shares.map((share) => share.label)))];
    const time = (run, label) => run.shares.find((share) => share.label === label)?.ns ?? 0;
    causes.sort((a, b) => Math.max(...runs.map((run) => time(run, b))) - Math.max(...runs.map((run) => time(run, a))));
    document.getElementById("causes").replaceChildren(
      element("p", {}, "Along the critical path of each run."),
      scrolling("Where time went", this.table(["cause", ...heads], causes.map((label) => row(label, "time", runs.map((run) => time(run, label)))))));
    document.getElementById("rounds").replaceChildren(!rounds.length ? element("p", {}, "None of these runs has rounds.") :
      scrolling("Rounds", this.table(["round", ...heads], rounds.map(({ round, lengths }) => row(String(round), "time", lengths)))));
  }

  table(heads, rows) {
    return element("table", { className: "numbers" },
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))))));
  }
}

readContent("content")
  .then((content) => {
    window.cosim = new Comparison(content);
    document.documentElement.dataset.ready = "yes";
  })
  .catch((fault) => {
    const notice = document.getElementById("notice");
    notice.hidden = false;
    notice.textContent = `This page cannot be shown: ${fault.message}`;
    throw fault;
  });
