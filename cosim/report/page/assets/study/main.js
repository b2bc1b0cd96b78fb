// The page put together: an answer in words, the cards, and the table behind them.

const MOST_ROWS = 500;

class StudyPage {
  constructor(content) {
    this.content = content;
    this.panels = new Panels(content);
    this.panels.onChange = () => this.draw();
    this.sorted = null;
    this.head();
    this.theme = new Theme(() => {});
    this.wire();
    this.draw();
  }

  get measure() { return this.content.measures[Number(document.getElementById("measure").value)]; }

  head() {
    const { name, description, cases, measures, failed, diverged, credibility, unvaried } = this.content;
    document.getElementById("name").textContent = name;
    const replications = (credibility.find(([what]) => what === "replications") || ["", ""])[1];
    document.getElementById("facts").textContent = `${cases.length} cases, ${replications}`;
    document.getElementById("question").textContent = description;
    document.getElementById("measure").replaceChildren(...measures.map((one, at) => element("option", { value: String(at) }, one.label)));
    const notice = document.getElementById("notice");
    const listed = (runs, what) => runs.length ? [`${runs.length} ${what} and are in no number: ${runs.slice(0, 3).map((one) => `${one.case}, replication ${one.replication}: ${one.reason}`).join("; ")}`] : [];
    const notices = [...unvaried, ...listed(failed, "run(s) failed"), ...listed(diverged, "training(s) diverged")];
    notice.hidden = !notices.length;
    notice.replaceChildren(...notices.map((line) => element("div", {}, line)));
  }

  wire() {
    document.getElementById("measure").addEventListener("change", () => { this.sorted = null; this.draw(); });
    document.getElementById("theme").addEventListener("click", () => this.theme.toggle());
    addEventListener("keydown", (event) => {
      if (event.target.matches("select, input") || event.ctrlKey || event.metaKey || event.key !== "t") return;
      this.theme.toggle();
    });
    const bubble = document.getElementById("bubble");
    const show = (event) => {
      const told = event.target instanceof Element && event.target.closest("[data-told]");
      bubble.hidden = !told;
      if (!told) return;
      bubble.replaceChildren(...told.dataset.told.split("\n").map((text, at) => element(at ? "div" : "strong", {}, text)));
      const place = told.getBoundingClientRect();
      const [x, y] = event.type === "focusin" ? [place.right, place.bottom] : [event.clientX, event.clientY];
      bubble.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - bubble.offsetWidth - 8))}px`;
      bubble.style.top = `${Math.max(8, Math.min(y + 16, innerHeight - bubble.offsetHeight - 8))}px`;
    };
    for (const kind of ["pointermove", "focusin"]) document.addEventListener(kind, show);
    for (const kind of ["pointerleave", "focusout", "scroll"]) document.addEventListener(kind, () => { bubble.hidden = true; }, true);
  }

  draw() {
    const { measure, panels } = this;
    const { design } = this.content;
    document.getElementById("answer").replaceChildren(...this.answer(measure));
    const cards = [
      measure.response ? panels.response(measure) : null,
      panels.forest(measure),
      measure.effects.length > 1 ? panels.effects(measure) : null,
      measure.heat.length ? panels.heat(measure) : null,
      design === "ranges" ? panels.points(measure) : null,
      panels.front(),
      panels.convergence(),
      panels.sensitivity(measure),
      this.credible(),
      this.table(measure),
    ];
    document.getElementById("cards").replaceChildren(...cards.filter(Boolean));
  }

  answer(measure) {
    const { cases, against } = this.content;
    const { panels } = this;
    if (!measure.differs) return [element("p", {}, `${this.panels.capital(measure.label)} is the same in every case and replication that can be compared.`)];
    const lines = [];
    const known = measure.cases.map((row, at) => [row, at]).filter(([row]) => row.mean !== null);
    if (known.length) {
      known.sort(([one], [other]) => one.mean - other.mean);
      const say = ([row, at]) => `${panels.told(measure, row.mean)} (${cases[at].label})`;
      lines.push(`${panels.capital(measure.label)}: from ${say(known[0])} to ${say(known.at(-1))}.`);
    }
    if (measure.indices) {
      const { first, total } = measure.indices;
      const order = this.content.factors.map((_, at) => at).sort((one, other) => total.value[other] - total.value[one]);
      lines.push(`What matters: ${order.slice(0, 3).map((at) => `${this.content.factors[at].label} (${percent(Math.max(first.value[at], 0))} of the variance alone, ${percent(Math.max(total.value[at], 0))} with others)`).join(", ")}.`);
    }
    const rows = panels.compared(measure);
    const of = (verdict) => rows.filter(([, row]) => row.detectable === verdict);
    if (rows.length) {
      const found = of("yes");
      lines.push(`Of ${rows.length} comparison(s) with ${against}, ${found.length} detectable.`);
      found.sort(([, one], [, other]) => Math.abs(other.difference) - Math.abs(one.difference));
      if (found.length) {
        const [, amountTold, interval] = panels.difference(measure, ...found[0]);
        lines.push(`The largest: ${found[0][0].label}, ${amountTold}, ${interval}.`);
      }
      const none = of("no");
      if (none.length) lines.push(`No detectable difference: ${none.slice(0, 6).map(([one]) => one.label).join("; ")}${none.length > 6 ? `; and ${none.length - 6} more` : ""}.`);
      const censored = of("censored");
      if (censored.length) lines.push(`Missed the target in some replications, so not compared fairly: ${censored.slice(0, 6).map(([one]) => one.label).join("; ")}.`);
    }
    return lines.map((text) => element("p", {}, text));
  }

  credible() {
    const made = card("Why to believe it, and how far", element("table", {}, element("tbody", {}, ...this.content.credibility.map(([what, told]) => element("tr", {}, element("th", { scope: "row" }, what), element("td", {}, told))))));
    made.classList.add("whole", "credible");
    return made;
  }

  table(measure) {
    const { cases } = this.content;
    const { panels } = this;
    const range = (low, high) => (low === null ? "–" : `${number(low / measure.scale, 4)} to ${number(high / measure.scale, 4)}`);
    const share = (value) => (value === null ? "–" : `${number(100 * value)} %`);
    const unless = (row, text) => (row.difference === null ? "" : text());
    const drawn = this.content.design === "ranges" ? this.content.factors : [];
    const columns = [
      ["case", (row, at) => cases[at].label, (row, at) => cases[at].label],
      ...drawn.map((factor, which) => [factor.label, (row, at) => factor.levels[cases[at].levels[which]], (row, at) => cases[at].levels[which]]),
      ["n", (row) => row.n, (row) => row.n],
      ["missed", (row) => row.missing || "", (row) => row.missing],
      ...(measure.cases.some((row) => row.diverged) ? [["diverged", (row) => row.diverged || "", (row) => row.diverged]] : []),
      ["mean", (row) => panels.told(measure, row.mean), (row) => row.mean],
      [`${panels.level} interval`, (row) => range(row.low, row.high), (row) => row.low],
      ["half-width", (row) => share(row.relative_half_width), (row) => row.relative_half_width],
    ];
    if (panels.compared(measure).length) {
      columns.push(
        ["difference", (row) => unless(row, () => panels.told(measure, row.difference)), (row) => row.difference],
        ["its interval", (row) => unless(row, () => range(row.difference_low, row.difference_high)), (row) => row.difference_low],
        ["relative", (row) => unless(row, () => share(row.relative_difference)), (row) => row.relative_difference],
        ["pairs worth", (row) => (row.variance_reduction === null ? "" : `${number(row.variance_reduction)}×`), (row) => row.variance_reduction],
        ["detectable", (row) => row.detectable || "", (row) => row.detectable]);
    }
    const heads = columns.map(([head]) => head);
    const rows = measure.cases.map((row, at) => ({ keys: columns.map(([, , key]) => key(row, at)), cells: columns.map(([, cell]) => cell(row, at)) }));
    if (this.sorted !== null) {
      const [at, sign] = this.sorted;
      const order = (one, other) => (one.keys[at] === null ? 1 : other.keys[at] === null ? -1 : one.keys[at] < other.keys[at] ? -sign : one.keys[at] > other.keys[at] ? sign : 0);
      rows.sort(order);
    }
    const left = rows.length - MOST_ROWS;
    const head = heads.map((text, at) => {
      const direction = this.sorted && this.sorted[0] === at ? (this.sorted[1] > 0 ? "ascending" : "descending") : "none";
      return element("th", { scope: "col", "aria-sort": direction }, element("button", { type: "button", className: "plain", onclick: () => { this.sorted = [at, direction === "ascending" ? -1 : 1]; this.draw(); } }, text));
    });
    const made = card(`All numbers: ${measure.label}`, scrolling(`All numbers: ${measure.label}`, element("table", { className: "numbers" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows.slice(0, MOST_ROWS).map(({ cells }) => element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell)))))))));
    made.classList.add("whole");
    if (left > 0) made.append(note(`And ${left} more; summary.csv has all of them.`));
    return made;
  }
}

try {
  window.cosim = new StudyPage(JSON.parse(document.getElementById("content").textContent));
  document.documentElement.dataset.ready = "yes";
} catch (fault) {
  const notice = document.getElementById("notice");
  notice.hidden = false;
  notice.textContent = `This page cannot be shown: ${fault.message}`;
  throw fault;
}
