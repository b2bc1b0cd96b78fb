// The tables beside the timeline: where the time went, phases, actors, and the scenario itself.

class Tables {
  constructor(run, theme, search) {
    Object.assign(this, { run, theme, search });
    this.round = "";
  }

  refresh() {
    this.delay();
    this.phases();
    this.actors();
    document.getElementById("scenario").replaceChildren(element("pre", {}, this.run.scenario));
  }

  // Attribution along the critical path: its shares add up to the run's length.
  delay() {
    const { run } = this;
    const all = run.attribution;
    const chosen = this.round === "" ? all : all.rounds.find((one) => String(one.round) === this.round);
    const pick = element("select", { ariaLabel: "Round", onchange: (event) => { this.round = event.target.value; this.delay(); } },
      element("option", { value: "" }, "whole run"),
      ...all.rounds.map(({ round }) => element("option", { value: String(round), selected: String(round) === this.round }, round)));
    const length = Math.max(chosen.lengthNs, 1);
    const rows = chosen.shares.map((share) => this.share(share, length));
    if (chosen.leftNs) rows.push(element("tr", { className: "quiet" }, element("td", {}, "all others"), element("td", {}, duration(chosen.leftNs)), element("td", {}, percent(chosen.leftNs / length))));
    rows.push(element("tr", { className: "sum" }, element("td", {}, "together"), element("td", {}, duration(chosen.lengthNs)), element("td", {}, "100 %")));
    document.getElementById("delay").replaceChildren(
      element("p", {}, "Along the critical path, every nanosecond to one cause. ", pick),
      element("table", { className: "shares" },
        element("thead", {}, element("tr", {}, ...["what the time went into", "time", "share"].map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, ...rows)));
  }

  share(share, length) {
    const look = this.run.names.find((one) => one.name === share.phase);
    const part = share.ns / length;
    const icon = look && share.activity === "working" ? swatch(this.theme, look, 14, 10) : element("span", { className: `mark ${share.activity}` }, share.activity === "queueing" ? "⋯" : "·");
    const label = element("button", { className: "plain", title: `Find: ${share.label}`, onclick: () => this.search(`${share.actor} ${share.phase}`) }, share.label);
    const bar = element("span", { className: "bar" });
    bar.style.width = `${Math.max(100 * part, 0.5)}%`;
    bar.style.background = look ? this.theme.colour(look) : this.theme.faint;
    return element("tr", {}, element("td", {}, element("div", { className: "cause" }, icon, label), bar), element("td", {}, duration(share.ns)), element("td", {}, percent(part)));
  }

  phases() {
    const { run } = this;
    const heads = ["phase", "spans", "mean", "longest", "of run", "amount", "energy"];
    const rows = run.run.phases.map((phase) => {
      const look = run.names.find((one) => one.name === phase.name);
      return [
        element("span", {}, swatch(this.theme, look, 14, 10), ` ${look.label}`),
        count(phase.num_spans), duration(phase.mean_ns), duration(phase.longest_ns), percent(phase.covered_ns / run.lengthNs),
        phase.kind === "transfer" ? amount(phase.bits, "bit") : amount(phase.flop, "FLOP"), amount(phase.energy_j, "J"),
      ];
    });
    const energy = Object.entries(run.run.energy).filter(([, spent]) => spent > 0);
    const total = energy.reduce((sum, [, spent]) => sum + spent, 0);
    document.getElementById("phases").replaceChildren(
      element("div", { className: "wide" }, numbers(heads, rows)),
      element("h3", {}, `Energy: ${amount(total, "J")}`),
      numbers(["who, on what", "energy", "share"], energy.map(([who, spent]) => [who, amount(spent, "J"), percent(spent / (total || 1))])));
  }

  actors() {
    const { run } = this;
    const share = (ns) => percent(ns / run.lengthNs);
    const rows = [...run.run.actorTimes]
      .sort((a, b) => b.compute_ns + b.air_ns - a.compute_ns - a.air_ns)
      .map((one) => [
        element("button", { className: "plain", onclick: () => this.search(one.actor) }, one.actor),
        share(one.compute_ns), share(one.air_ns), share(one.waiting_ns), this.split(one),
      ]);
    document.getElementById("actors").replaceChildren(
      element("p", {}, "What each did with the run's time, the busiest first."),
      numbers(["actor", "compute", "on air", "waiting", ""], rows));
  }

  split(one) {
    const bar = element("span", { className: "split", ariaHidden: "true" });
    for (const [ns, kind] of [[one.compute_ns, "compute"], [one.air_ns, "air"]]) {
      const part = element("i", { className: kind });
      part.style.width = `${(100 * ns) / this.run.lengthNs}%`;
      bar.append(part);
    }
    return bar;
  }
}

function numbers(heads, rows) {
  return element("table", { className: "numbers" },
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))))));
}
