// Search: words that must all be found in a span's phase, actor or peer; `round:3`, `step:2`, `#17` and `lost` too.

class Search {
  constructor(run, state, { reveal, refresh }) {
    Object.assign(this, { run, state, reveal, refresh });
    this.box = document.getElementById("search");
    this.tally = document.getElementById("tally");
    this.box.addEventListener("input", () => this.find());
    document.getElementById("previous-match").addEventListener("click", () => this.step(-1));
    document.getElementById("next-match").addEventListener("click", () => this.step(1));
  }

  ask(text) {
    this.box.value = text;
    this.find();
  }

  find() {
    const words = this.box.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.matches = [];
    this.at = -1;
    this.state.found = null;
    if (words.length) {
      const tests = words.map((word) => this.test(word));
      this.state.found = new Uint8Array(this.run.numSpans);
      for (let span = 0; span < this.run.numSpans; span++) {
        if (tests.every((test) => test(span))) {
          this.state.found[span] = 1;
          this.matches.push(span);
        }
      }
      const { start } = this.run.spans;
      this.matches.sort((a, b) => start[a] - start[b]);
    }
    this.tell();
    this.refresh();
  }

  // A word matches whole words of a name, so that client-1 is not client-10.
  test(word) {
    const { spans, names, actors } = this.run;
    const number = /^(#|round:|step:)(\d+)$/.exec(word);
    if (number) {
      const wanted = Number(number[2]);
      if (number[1] === "#") return (span) => span === wanted;
      const column = number[1] === "round:" ? spans.round : spans.step;
      return (span) => column[span] === wanted;
    }
    if (word === "critical") return (span) => this.run.onPath[span] === 1;
    if (word === "lost") return (span) => this.run.rareOf.get(span)?.delivered === false;
    const fits = (text) => (/-\d+$/.test(word) ? text.toLowerCase() === word : text.toLowerCase().includes(word));
    const isName = names.map((one) => fits(one.name) || fits(one.label));
    const isActor = actors.map(fits);
    return (span) => isName[spans.name[span]] || isActor[spans.actor[span]] || (spans.peer[span] >= 0 && isActor[spans.peer[span]]) || this.run.participants(span).some((client) => isActor[client]);
  }

  step(by) {
    if (!this.matches?.length) return;
    this.at = (this.at + by + this.matches.length) % this.matches.length;
    if (this.at < 0) this.at = 0;
    this.reveal(this.matches[this.at]);
    this.tell();
  }

  tell() {
    const { matches } = this;
    if (!this.box.value.trim()) this.tally.textContent = "";
    else if (!matches.length) this.tally.textContent = "no span";
    else this.tally.textContent = this.at < 0 ? `${count(matches.length)} span(s)` : `${count(this.at + 1)} of ${count(matches.length)}`;
  }
}
