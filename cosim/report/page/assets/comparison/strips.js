// The runs above each other on one axis: how many clients did what, and what decided the time.

const RUN_HEADER = 24;
const PATH_HEIGHT = 24;
const AROUND_CROWD = RUN_HEADER + 6 + PATH_HEIGHT + 16;
const RUN_DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 2]];

class Strips {
  constructor(content, theme, onView) {
    Object.assign(this, { content, theme, onView });
    this.scroller = document.getElementById("scroller");
    this.canvas = document.getElementById("lanes");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.lengthNs = Math.max(...content.runs.map((run) => run.lengthNs), 1);
    this.offsets = content.runs.map(() => 0);
    content.runs.forEach((run) => this.prepare(run));
    this.view = { from: 0, to: this.lengthNs };
    new ResizeObserver(() => this.resize()).observe(this.scroller);
    this.scroller.addEventListener("scroll", () => this.ask());
  }

  prepare(run) {
    const read = (what) => this.content.columns[`${run.column}.${what}`];
    const kinds = read("name");
    run.occupancies = this.content.names.map((_, kind) => {
      const pick = (values) => values.filter((_one, index) => kinds[index] === kind);
      return new Occupancy(pick(read("start")), pick(read("end")));
    });
    run.stretches = { starts: read("stretch.start"), ends: read("stretch.end"), kinds: read("stretch.kind"), causes: read("stretch.cause") };
    run.rounds = { numbers: read("round.number"), starts: read("round.start") };
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.width = this.scroller.clientWidth;
    this.height = this.scroller.clientHeight;
    const fair = (this.height - AXIS_HEIGHT) / this.content.runs.length - AROUND_CROWD;
    this.crowdHeight = Math.min(Math.max(fair, 60), 180);
    this.runHeight = this.crowdHeight + AROUND_CROWD;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    document.getElementById("spacer").style.height = `${AXIS_HEIGHT + this.content.runs.length * this.runHeight + 8}px`;
    this.show(this.view.from, this.view.to);
  }

  // Each run's time zero is where the chosen round begins; 0 aligns the runs at their start.
  align(round) {
    this.offsets = this.content.runs.map((run) => {
      const at = run.rounds.numbers.indexOf(round);
      return round && at >= 0 ? run.rounds.starts[at] : 0;
    });
    this.fit();
  }

  get from() {
    return -Math.max(...this.offsets, 0) - 0.01 * this.lengthNs;
  }

  get to() {
    return Math.max(...this.content.runs.map((run, index) => run.lengthNs - this.offsets[index])) + 0.01 * this.lengthNs;
  }

  show(from, to) {
    const span = Math.min(Math.max(to - from, 1000), this.to - this.from);
    const middle = (from + to) / 2;
    const begin = Math.min(Math.max(middle - span / 2, this.from), this.to - span);
    this.view = { from: begin, to: begin + span };
    this.onView(this.view);
    this.ask();
  }

  fit() {
    this.show(this.from, this.to);
  }

  zoom(factor, around = (this.view.from + this.view.to) / 2) {
    const { from, to } = this.view;
    this.show(around - (around - from) / factor, around + (to - around) / factor);
  }

  pan(share) {
    const by = share * (this.view.to - this.view.from);
    this.show(this.view.from + by, this.view.to + by);
  }

  ask() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.draw();
    });
  }

  x(time) {
    return this.left + (time - this.view.from) * this.scale;
  }

  time(x) {
    return this.view.from + (x - this.left) / this.scale;
  }

  draw() {
    if (!this.width) return;
    const { context, theme } = this;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = theme.ground;
    context.fillRect(0, 0, this.width, this.height);
    this.left = GUTTER.left;
    this.right = this.width - GUTTER.right;
    this.scale = (this.right - this.left) / (this.view.to - this.view.from);
    this.content.runs.forEach((run, index) => this.run(run, index));
    context.fillStyle = theme.ground;
    context.fillRect(0, 0, this.width, AXIS_HEIGHT);
    this.axis();
  }

  run(run, index) {
    const { context, theme } = this;
    const y = AXIS_HEIGHT + index * this.runHeight - this.scroller.scrollTop;
    if (y > this.height || y + this.runHeight < 0) return;
    context.fillStyle = theme.panel;
    context.fillRect(0, y, this.width, RUN_HEADER - 3);
    context.strokeStyle = runColour(theme, index);
    context.lineWidth = 3;
    context.setLineDash(RUN_DASHES[index % RUN_DASHES.length]);
    context.beginPath();
    context.moveTo(10, y + 10);
    context.lineTo(38, y + 10);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = theme.ink;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(run.title, 46, y + 11);
    this.crowd(run, index, y + RUN_HEADER);
    this.decided(run, index, y + RUN_HEADER + this.crowdHeight + 6);
    this.label("clients at once", y + RUN_HEADER + this.crowdHeight / 2);
    this.label(this.left < 100 ? "decisive" : "what decided the time", y + RUN_HEADER + this.crowdHeight + 6 + PATH_HEIGHT / 2);
    this.marks(run, index, y + RUN_HEADER);
  }

  label(text, y) {
    this.context.fillStyle = this.theme.faint;
    this.context.font = "11px system-ui, sans-serif";
    this.context.textAlign = "right";
    this.context.textBaseline = "middle";
    this.context.fillText(fitText(this.context, text, this.left - 12), this.left - 8, y);
  }

  // The ground of a run's strips, as long as it goes on: what is not done is waiting.
  ground(run, index, y, height) {
    const [from, to] = [0, run.lengthNs].map((time) => Math.min(Math.max(this.x(time - this.offsets[index]), this.left), this.right));
    this.context.fillStyle = this.theme.waiting;
    this.context.fillRect(from, y, to - from, height);
  }

  // Shares stacked; an actor has `number` spans in sight, and bins hold so many that none is told apart.
  stack(run, occupancies, number, most, index, y, height) {
    const pixels = Math.max(1, Math.round(this.right - this.left));
    const offset = this.offsets[index];
    const [from, to] = [this.view.from + offset, this.view.to + offset];
    const edges = binEdges(binOf(number, from, to, pixels), from, to, pixels, run.lengthNs);
    const place = { left: this.left, right: this.right, y, height, most, x: (time) => this.x(time - offset) };
    drawStack(this.context, this.theme, this.content.names, edges, sharesOf(occupancies, edges), place);
  }

  crowd(run, index, y) {
    const most = Math.max(run.numClients, 1);
    const [from, to] = [this.view.from + this.offsets[index], this.view.to + this.offsets[index]];
    const number = run.occupancies.reduce((sum, one) => sum + lowerBound(one.starts, to) - lowerBound(one.starts, from), 0) / most;
    this.ground(run, index, y, this.crowdHeight);
    this.stack(run, run.occupancies, number, most, index, y, this.crowdHeight);
  }

  // The critical path as one strip: the cause of every instant, or shares of them.
  decided(run, index, y) {
    const { context, theme } = this;
    const { starts, ends, kinds } = run.stretches;
    const offset = this.offsets[index];
    const first = lowerBound(ends, this.view.from + offset);
    const last = lowerBound(starts, this.view.to + offset);
    this.ground(run, index, y, PATH_HEIGHT);
    if (binOf(last - first, this.view.from, this.view.to, this.right - this.left)) {
      run.decisive ??= this.content.names.map((_, kind) => {
        const pick = (values) => values.filter((_one, at) => kinds[at] === kind);
        return new Occupancy(pick(starts), pick(ends));
      });
      this.stack(run, run.decisive, last - first, 1, index, y, PATH_HEIGHT);
      return;
    }
    for (let i = first; i < last; i++) {
      const look = this.content.names[kinds[i]];
      if (!look) continue;
      const x = Math.max(this.x(starts[i] - offset), this.left);
      const width = Math.max(Math.min(this.x(ends[i] - offset), this.right) - x, 0.5);
      context.fillStyle = theme.colour(look);
      context.fillRect(x, y, width, PATH_HEIGHT);
      if (!look.hatch || width <= 3) continue;
      context.fillStyle = theme.pattern(context, look.hatch);
      context.fillRect(x, y, width, PATH_HEIGHT);
    }
  }

  marks(run, index, y) {
    const { context, theme } = this;
    const height = this.crowdHeight + 6 + PATH_HEIGHT;
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "left";
    let last = -Infinity;
    run.rounds.starts.forEach((start, at) => {
      const x = Math.round(this.x(start - this.offsets[index]));
      if (x < this.left || x > this.right) return;
      context.fillStyle = theme.faint;
      context.fillRect(x, y, 1, height + 3);
      const label = `round ${run.rounds.numbers[at]}`;
      if (x - last < context.measureText(label).width + 12) return;
      last = x;
      context.fillText(label, x + 3, y + height + 7);
    });
    if (run.partingNs === null) return;
    const x = this.x(run.partingNs - this.offsets[index]);
    if (x < this.left || x > this.right) return;
    context.fillStyle = theme.path;
    context.fillRect(x - 1, y - 3, 2, height + 6);
    context.beginPath();
    context.moveTo(x - 6, y - 3);
    context.lineTo(x + 6, y - 3);
    context.lineTo(x, y + 5);
    context.fill();
  }

  axis() {
    const { context, theme } = this;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    for (const { time, label } of timeSteps(this.view.from, this.view.to, this.right - this.left)) {
      const x = this.x(time);
      context.fillStyle = theme.faint;
      context.fillText(label, x, 9);
      context.fillRect(x, 18, 1, 5);
    }
    context.textAlign = "left";
    context.fillText(this.left < 100 ? "time" : "simulated time", 8, 10);
  }

  at(x, y) {
    const index = Math.floor((y + this.scroller.scrollTop - AXIS_HEIGHT) / this.runHeight);
    const run = this.content.runs[index];
    if (!run || x < this.left || x > this.right || y < AXIS_HEIGHT) return null;
    return { run, time: this.time(x) + this.offsets[index] };
  }
}

const RUN_COLOURS = [["#000000", "#FFFFFF"], ["#D55E00", "#F08A4B"], ["#0072B2", "#56B4E9"], ["#009E73", "#3CC79C"], ["#CC79A7", "#E6A5C8"], ["#7A6A00", "#F0E442"]];

function runColour(theme, index) {
  return RUN_COLOURS[index % RUN_COLOURS.length][theme.isDark ? 1 : 0];
}
