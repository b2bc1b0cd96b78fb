// The page put together.

const PRINT_AREA = { width: 960, height: 560 }; // on a landscape A4 page below the legend, px

class App {
  constructor(run) {
    this.run = run;
    this.state = { hover: -1, chosen: -1, found: null, showPath: true, heat: false };
    this.theme = new Theme(() => this.themed());
    this.timeline = new Timeline(run, this.theme, this.state, (view) => this.followed(view));
    this.overview = new Overview(run, this.theme, this.timeline);
    this.charts = new Charts(run, this.theme, this.timeline);
    this.detail = new Detail(run, this.theme, (span) => this.choose(span, true));
    this.search = new Search(run, this.state, {
      reveal: (span) => this.choose(span, true),
      refresh: () => this.timeline.ask(),
    });
    this.tables = new Tables(run, this.theme, (text) => this.search.ask(text));
    this.input = new Input(this);
    this.bubble = document.getElementById("bubble");
    this.wire();
    this.heading();
    this.themed();
    this.detail.show(-1);
  }

  wire() {
    const on = (id, act) => document.getElementById(id).addEventListener("click", act);
    on("zoom-in", () => this.timeline.zoom(1.5));
    on("zoom-out", () => this.timeline.zoom(1 / 1.5));
    on("fit", () => this.timeline.fit());
    on("taller", () => this.timeline.grow(1.3));
    on("lower", () => this.timeline.grow(1 / 1.3));
    on("path", () => this.togglePath());
    on("heat", () => this.toggleHeat());
    on("sort", () => this.toggleSort());
    on("theme", () => this.theme.toggle());
    on("help", () => this.help());
    addEventListener("beforeprint", () => {
      const { clientWidth, clientHeight } = document.getElementById("stage");
      const zoom = Math.min(1, PRINT_AREA.width / clientWidth, PRINT_AREA.height / clientHeight);
      document.documentElement.style.setProperty("--print-zoom", String(zoom));
    });
    document.getElementById("heat").hidden = !this.run.links.some((link) => link.snr);
    const keys = KEYS.map(([key, what]) => element("tr", {}, element("th", { scope: "row" }, element("kbd", {}, key)), element("td", {}, what)));
    document.getElementById("keys").replaceChildren(...keys);
    this.tabs = new Tabs();
  }

  open(panel) {
    this.tabs.open(panel);
  }

  heading() {
    const { run } = this.run;
    document.title = `${run.name} – cosim timeline`;
    document.getElementById("name").textContent = run.name;
    const status = document.getElementById("status");
    status.textContent = run.status;
    status.className = `chip ${run.status}`;
    const facts = [`seed ${run.seed}`, `${duration(run.lengthNs)} simulated`, run.rounds, `${count(run.numSpans)} spans`];
    if (run.timingOnly) facts.push("timing only");
    if (run.freeLinks.length) facts.push(`free: ${run.freeLinks.join(", ")}`);
    const shown = document.getElementById("facts");
    shown.textContent = facts.join(" · ");
    shown.title = [...run.channel, ...run.freeLinks.map((link) => `${link} free: what it carries arrives at once`)].join("; ");
    const notice = document.getElementById("notice");
    const told = [];
    if (run.status === "failed") told.push(`This run failed and is shown as far as it came: ${run.reason}`);
    else if (run.status === "diverged") told.push(`The training of this run diverged, and it is shown as far as it came: ${run.reason}`);
    else if (run.status === "killed") told.push(`The process of this run is gone, and it is shown as far as it was recorded: ${run.reason}`);
    else if (run.status === "running") told.push("This run is still going on; it is shown as far as it was recorded.");
    else if (!run.numSpans) told.push("This run recorded no span.");
    else if (run.numNotFinite) told.push(`The training of this run diverged and went on: ${run.numNotFinite} held-out loss(es) are not finite and are in no curve.`);
    told.push(...run.notes);
    notice.hidden = !told.length;
    notice.textContent = told.join(" ");
  }

  themed() {
    if (!this.timeline) return;
    this.legend();
    this.overview.refresh();
    this.charts.refresh();
    this.tables.refresh();
    this.detail.show(this.state.chosen);
    this.timeline.draw(); // at once: a print takes the picture before the next frame
  }

  legend() {
    const { run } = this;
    const chips = run.names.map((look) => element("button", {
      className: "key", title: `Find ${look.label}`, onclick: () => this.search.ask(this.search.box.value === look.name ? "" : look.name),
    }, swatch(this.theme, look), ` ${look.label}`));
    const line = (name, text) => element("span", { className: "key" }, element("i", { className: `line ${name}` }), ` ${text}`);
    document.getElementById("legend").replaceChildren(...chips, line("critical", "critical path"),
      element("span", { className: "key", title: "Where spans are too many to be told apart, heights are shares of time" }, element("i", { className: "box" }), " waiting"),
      element("span", { className: "key" }, element("i", { className: "instant" }), " takes no time"), line("wait", "waited for its turn"), line("cause", "cause of the chosen"));
  }

  followed(view) {
    this.overview?.draw();
    this.charts?.follow(view);
  }

  hover(span) {
    if (this.state.hover !== span) {
      this.state.hover = span;
      this.timeline.ask();
    }
    if (span < 0) this.bubble.hidden = true;
  }

  hoverAt(found, event) {
    this.hover(found.span);
    const lines = found.span >= 0 ? this.spanLines(found.span) : this.bandLines(found);
    this.timeline.canvas.style.cursor = found.group || found.span >= 0 ? "pointer" : "";
    this.bubble.hidden = !lines.length;
    if (!lines.length) return;
    this.bubble.replaceChildren(...lines.map((text, index) => element(index ? "div" : "strong", {}, text)));
    const { offsetWidth, offsetHeight } = this.bubble;
    this.bubble.style.left = `${Math.min(event.clientX + 14, innerWidth - offsetWidth - 8)}px`;
    this.bubble.style.top = `${event.clientY + 16 + offsetHeight > innerHeight ? event.clientY - offsetHeight - 10 : event.clientY + 16}px`;
  }

  spanLines(span) {
    const { run } = this;
    const { asked, start, end, bits, flop, energy } = run.spans;
    const took = end[span] - start[span];
    const isTransfer = run.names[run.spans.name[span]].transfer;
    const rare = run.rareOf.get(span);
    const lost = rare && !rare.delivered ? " · not delivered" : "";
    const moved = isTransfer
      ? `${amount(bits[span], "bit")}${took ? ` at ${amount(bits[span] / (took / 1e9), "bit/s")}` : ", at once"}`
      : amount(flop[span], "FLOP");
    const waited = start[span] > asked[span] ? `, after waiting ${duration(start[span] - asked[span])}` : "";
    return [
      run.title(span),
      `${duration(took)} from ${duration(start[span])}${waited}`,
      `${moved}, ${amount(energy[span], "J")}${run.onPath[span] ? " · on the critical path" : ""}${lost}`,
    ];
  }

  bandLines({ band, time, subchannel }) {
    if (!band || time < 0 || time > this.run.lengthNs) return [];
    if (band.kind === "grid") return this.gridLines(band.link, subchannel, time);
    const reach = 1 / this.timeline.painter.scale;
    if (band.kind === "queue") return [`${Math.round(band.queue.mean(time, time + reach))} waiting at ${this.run.actors[band.actor]}`, duration(time)];
    if (band.kind !== "occupancy") return [];
    const lines = band.occupancies.map((one, kind) => [one.starts.length ? one.mean(time, time + reach) : 0, this.run.names[kind].label]);
    return [duration(time), ...lines.filter(([mean]) => mean >= 0.05).map(([mean, label]) => `${mean.toFixed(1)} × ${label}`)];
  }

  gridLines(link, number, time) {
    const row = link.rows[number];
    if (!row) return [];
    const at = lowerBound(row.ends, time);
    const lines = [`${link.label}, subchannel ${number}`, duration(time)];
    if (at < row.starts.length && row.starts[at] <= time) {
      lines.push(`held by client-${row.clients[at]}, ${amount(link.power[row.first + at], "W")}`);
      if (link.snr) {
        const instant = Math.max(lowerBound(link.times, time + 1) - 1, 0);
        const one = link.snr[number * link.times.length + instant];
        if (one) lines.push(`SNR about ${(link.snrFrom + ((one - 1) / 254) * (link.snrTo - link.snrFrom)).toFixed(1)} dB`);
      }
    } else lines.push("held by nobody");
    return lines;
  }

  choose(span, reveal = false) {
    this.state.chosen = span;
    if (span >= 0) this.open("detail");
    this.detail.show(span);
    if (span >= 0 && reveal) this.timeline.reveal(span);
    document.getElementById("spoken").textContent = span >= 0 ? this.spanLines(span).join(". ") : "";
    this.timeline.ask();
  }

  stepInRow(by) {
    const { run, state } = this;
    if (!run.numSpans) return;
    if (state.chosen < 0) {
      this.choose(this.firstShown(), true);
      return;
    }
    const row = run.rows[run.rowOf[state.chosen]];
    const next = row.ids[row.ids.indexOf(state.chosen) + by];
    if (next !== undefined) this.choose(next, true);
  }

  firstShown() {
    const { run, timeline } = this;
    const { path, end } = run.spans;
    return path[Math.min(bisectPath(path, end, Math.max(timeline.view.from, 0)), path.length - 1)];
  }

  stepOnPath(by) {
    const { path, start } = this.run.spans;
    if (!path.length) return;
    const { chosen } = this.state;
    let at = chosen >= 0 ? path.indexOf(chosen) : -1;
    if (at < 0) at = chosen >= 0 ? lowerBound(Array.from(path, (span) => start[span]), start[chosen]) - (by > 0 ? 1 : 0) : -1;
    this.choose(path[Math.min(Math.max(at + by, 0), path.length - 1)], true);
  }

  stepToCause() {
    const cause = this.state.chosen >= 0 ? this.run.lastParent(this.state.chosen) : -1;
    if (cause >= 0) this.choose(cause, true);
  }

  stepToEffect() {
    const [effect] = this.state.chosen >= 0 ? this.run.children(this.state.chosen) : [];
    if (effect !== undefined) this.choose(effect, true);
  }

  zoomToChosen() {
    if (this.state.chosen >= 0) this.timeline.reveal(this.state.chosen, true);
  }

  togglePath() {
    this.state.showPath = !this.state.showPath;
    document.getElementById("path").setAttribute("aria-pressed", String(this.state.showPath));
    this.timeline.ask();
  }

  toggleHeat() {
    this.state.heat = !this.state.heat;
    document.getElementById("heat").setAttribute("aria-pressed", String(this.state.heat));
    this.timeline.ask();
  }

  toggleSort() {
    this.state.byBusy = !this.state.byBusy;
    document.getElementById("sort").setAttribute("aria-pressed", String(this.state.byBusy));
    this.timeline.layout.sortClients(this.state.byBusy);
    this.timeline.arrange();
  }

  help() {
    const dialog = document.getElementById("help-dialog");
    if (dialog.open) dialog.close();
    else dialog.showModal();
  }

  letGo() {
    this.search.ask("");
    this.search.box.blur();
    this.choose(-1);
    this.timeline.canvas.focus();
  }
}

readContent("content")
  .then((content) => {
    window.cosim = new App(new Run(content));
    document.documentElement.dataset.ready = "yes";
  })
  .catch((fault) => {
    const notice = document.getElementById("notice");
    notice.hidden = false;
    notice.textContent = `This page cannot be shown: ${fault.message}`;
    throw fault;
  });
