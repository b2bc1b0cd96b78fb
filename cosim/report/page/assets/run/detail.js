// What is known of one span: times, amounts, causes, and how a transfer's rate came about.

const MOST_LISTED = 12;
const MOST_SUBCHANNELS = 64;

class Detail {
  constructor(run, theme, choose) {
    Object.assign(this, { run, theme, choose });
    this.place = document.getElementById("detail");
  }

  show(span) {
    if (span < 0) {
      this.place.replaceChildren(element("p", { className: "quiet" }, "Click a span, or press ", element("kbd", {}, "n"), " for the next one, to see its amounts, what it waited for and its link budget."));
      return;
    }
    const { run } = this;
    const look = run.names[run.spans.name[span]];
    const heading = element("h2", {}, swatch(this.theme, look), ` ${look.label}`);
    const parts = [heading, this.facts(span)];
    if (look.transfer) parts.push(...this.budget(span));
    parts.push(this.listed("Waited for", [...run.parents(span)].sort((a, b) => run.spans.end[b] - run.spans.end[a]), "nothing: it could begin at once", run.lastParent(span)));
    parts.push(this.listed("Let begin", run.children(span), "nothing: it was the last of its chain", -1));
    this.place.replaceChildren(...parts);
  }

  facts(span) {
    const { run } = this;
    const { asked, start, end, bits, flop, energy, slack, step, link } = run.spans;
    const rare = run.rareOf.get(span);
    const at = run.roundAt.get(run.roundOf(span));
    const lasts = at === undefined ? "" : ` · from ${duration(run.spans["round.start"][at])} to ${duration(run.spans["round.end"][at])}`;
    const took = end[span] - start[span];
    const isTransfer = run.names[run.spans.name[span]].transfer;
    const rows = [
      ["span", `#${span}`],
      ["who", run.who(span)],
      ["round", `${run.roundOf(span).slice("round ".length)}${step[span] ? `, local step ${step[span]}` : ""}${lasts}`],
      ["asked for at", seconds(asked[span])],
      ["waited", duration(start[span] - asked[span])],
      ["start", seconds(start[span])],
      ["end", seconds(end[span])],
      ["took", `${duration(took)} (${count(took)} ns)`],
    ];
    if (isTransfer) {
      rows.push(["payload", `${amount(bits[span], "bit")} (${count(bits[span])})`]);
      rows.push(["effective rate", took ? amount(bits[span] / (took / 1e9), "bit/s") : "at once: the link is free"]);
      if (link[span] >= 0) rows.push(["link", run.linkNames[link[span]].replace(/_/g, " ")]);
      if (rare?.resent) rows.push(["sent again", `${amount(rare.resent, "bit")} (${count(rare.resent)})`]);
      if (rare && !rare.delivered) rows.push(["delivered", "no"]);
      if (rare?.participants.length) rows.push(["participants", this.named(rare.participants)]);
    } else {
      rows.push(["work", `${amount(flop[span], "FLOP")}`]);
      if (took) rows.push(["speed", amount(flop[span] / (took / 1e9), "FLOP/s")]);
    }
    rows.push(["energy", amount(energy[span], "J")]);
    rows.push(["slack", run.onPath[span] ? "none: it is on the critical path" : duration(slack[span])]);
    return element("table", { className: "facts" }, element("tbody", {}, ...rows.map(([what, value]) =>
      element("tr", {}, element("th", { scope: "row" }, what), element("td", {}, value)))));
  }

  named(clients) {
    const names = Array.from(clients.subarray(0, MOST_LISTED), (client) => this.run.actors[client]).join(", ");
    return clients.length > MOST_LISTED ? `${names} and ${count(clients.length - MOST_LISTED)} more` : names;
  }

  // The link budget at the begin of a transfer, term by term, then subchannel by subchannel.
  budget(span) {
    const { run } = this;
    const client = run.clientOf(span);
    const heading = element("h3", {}, "Link budget");
    const link = run.links.find((one) => one.name === run.linkNames[run.spans.link[span]]);
    if (client < 0 || run.spans.end[span] === run.spans.start[span] || !link) return [];
    const grants = this.grants(span, client, link);
    const terms = [];
    if (run.air) {
      const read = (what) => run.spans[`air.${what}`][client];
      terms.push(
        ["distance", `${read("distance").toFixed(1)} m`],
        ["path loss", `${read("pathLoss").toFixed(2)} dB`],
        ["shadowing", `${read("shadowing").toFixed(2)} dB`],
        ["antenna gain", `${run.air.antennaGainDb.toFixed(2)} dB`],
        ["thermal noise", `${run.air.noisePsdDbm.toFixed(1)} dBm/Hz`],
        ["noise figure", `${run.air.noiseFigureDb.toFixed(1)} dB`],
      );
    }
    const power = grants.reduce((sum, grant) => sum + grant.power, 0);
    terms.push(["power", `${amount(power, "W")} on ${count(grants.length)} subchannel(s)`]);
    if (run.budgetOf.has(span)) terms.push(["rate at start", amount(grants.reduce((sum, grant) => sum + grant.rate, 0), "bit/s")]);
    const facts = element("table", { className: "facts" }, element("tbody", {}, ...terms.map(([what, value]) =>
      element("tr", {}, element("th", { scope: "row" }, what), element("td", {}, value)))));
    const when = run.budgetOf.has(span) ? "At the start of the transfer." : `Gains as they were when granted; exact at this start: cosim explain RUN ${span}.`;
    return [heading, facts, this.subchannels(grants, client, link), element("p", { className: "quiet" }, when)];
  }

  grants(span, client, link) {
    const { run } = this;
    const index = run.budgetOf.get(span);
    const found = [];
    if (index !== undefined) {
      const begins = run.spans["budget.begins"];
      for (let i = begins[index]; i < begins[index + 1]; i++) {
        const read = (what) => run.spans[`budget.${what}`][i];
        found.push({ subchannel: read("subchannel"), power: read("power"), gain: read("gain"), width: read("width"), rate: read("rate") });
      }
      return found;
    }
    const number = run.numberOf(client);
    for (const row of link.rows) {
      const at = lowerBound(row.ends, run.spans.start[span] + 1);
      if (at < row.starts.length && row.clients[at] === number && row.starts[at] < run.spans.end[span]) {
        const split = link.split[row.first + at];
        const width = Number.isFinite(split) ? split : link.width ? link.width[row.number] : NaN;
        found.push({ subchannel: row.number, power: link.power[row.first + at], gain: link.gain[row.first + at], width });
      }
    }
    return found;
  }

  subchannels(grants, client, link) {
    const { run } = this;
    const decibels = (value) => (10 * Math.log10(value)).toFixed(1);
    const noise = run.air ? 10 ** ((run.air.noisePsdDbm + run.air.noiseFigureDb - 30) / 10) : NaN;
    const mean = run.air ? run.air.antennaGainDb - run.spans["air.pathLoss"][client] - run.spans["air.shadowing"][client] : NaN;
    const heads = ["sub- channel", "width kHz", "power dBm", "fading dB", "gain dB", "SNR dB", "rate kbit/s"];
    const rows = grants.slice(0, MOST_SUBCHANNELS).map((grant) => {
      const width = grant.width;
      const snr = (grant.power * grant.gain) / (noise * width);
      return [
        String(grant.subchannel),
        Number.isFinite(width) ? (width / 1e3).toFixed(1) : "–",
        (10 * Math.log10(grant.power) + 30).toFixed(1),
        Number.isFinite(mean) ? (10 * Math.log10(grant.gain) - mean).toFixed(1) : "–",
        decibels(grant.gain),
        Number.isFinite(snr) ? decibels(snr) : "–",
        grant.rate === undefined ? "–" : (grant.rate / 1e3).toFixed(1),
      ];
    });
    const more = grants.length > MOST_SUBCHANNELS ? element("caption", {}, `the first ${MOST_SUBCHANNELS} of ${grants.length}`) : null;
    return element("div", { className: "wide" }, element("table", { className: "numbers" }, more,
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell)))))));
  }

  listed(heading, spans, none, last) {
    const { run } = this;
    const items = spans.slice(0, MOST_LISTED).map((span) => element("li", {},
      element("button", { className: "plain", onclick: () => this.choose(span) }, run.title(span)),
      element("span", { className: "quiet" }, span === last ? ` the last, ended at ${duration(run.spans.end[span])}` : "")));
    if (spans.length > MOST_LISTED) items.push(element("li", { className: "quiet" }, `and ${count(spans.length - MOST_LISTED)} more`));
    return element("section", {}, element("h3", {}, `${heading} (${count(spans.length)})`),
      spans.length ? element("ul", {}, ...items) : element("p", { className: "quiet" }, none));
  }
}
