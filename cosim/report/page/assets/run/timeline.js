// The timeline: the window in time and height, and one frame of it.

class Timeline {
  constructor(run, theme, state, onView) {
    this.run = run;
    this.theme = theme;
    this.state = state;
    this.onView = onView;
    this.scroller = document.getElementById("scroller");
    this.canvas = document.getElementById("lanes");
    this.spacer = document.getElementById("spacer");
    this.painter = new Painter(run, theme, this.canvas);
    this.layout = new Layout(run);
    this.stretch = 1;
    this.view = { from: 0, to: run.lengthNs };
    this.fit();
    new ResizeObserver(() => this.resize()).observe(this.scroller);
    this.scroller.addEventListener("scroll", () => this.ask());
  }

  resize() {
    const { clientWidth, clientHeight } = this.scroller;
    const ratio = devicePixelRatio || 1;
    this.width = clientWidth;
    this.height = clientHeight;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.canvas.style.width = `${clientWidth}px`;
    this.canvas.style.height = `${clientHeight}px`;
    this.arrange();
  }

  arrange() {
    this.layout.arrange(this.height, this.stretch);
    this.spacer.style.height = `${Math.max(this.layout.height, this.height)}px`;
    this.show(this.view.from, this.view.to);
  }

  // Show a stretch of time: no narrower than a microsecond over the width, no wider than the run.
  show(from, to) {
    const margin = 0.01 * this.run.lengthNs;
    const widest = this.run.lengthNs + 2 * margin;
    const span = Math.min(Math.max(to - from, 1000), widest);
    const middle = (from + to) / 2;
    const begin = Math.min(Math.max(middle - span / 2, -margin), this.run.lengthNs + margin - span);
    this.view = { from: begin, to: begin + span };
    this.onView(this.view);
    this.ask();
  }

  fit() {
    this.show(-0.01 * this.run.lengthNs, 1.01 * this.run.lengthNs);
  }

  zoom(factor, around = (this.view.from + this.view.to) / 2) {
    const { from, to } = this.view;
    const span = Math.min(Math.max((to - from) / factor, 1000), 1.02 * this.run.lengthNs);
    const share = (around - from) / (to - from);
    this.show(around - share * span, around + (1 - share) * span);
  }

  pan(share) {
    const by = share * (this.view.to - this.view.from);
    this.show(this.view.from + by, this.view.to + by);
  }

  grow(factor) {
    this.stretch = Math.min(Math.max(this.stretch * factor, 0.2), 12);
    const middle = (this.scroller.scrollTop + this.height / 2) / this.layout.height;
    this.arrange();
    this.scroller.scrollTop = middle * this.layout.height - this.height / 2;
  }

  // Bring a span into the window, with some time around it.
  reveal(span, closely = false) {
    const { start, end } = this.run.spans;
    const row = this.run.rows[this.run.rowOf[span]];
    if (!row.band) {
      const group = this.layout.groups.find((one) => one.bands.some((band) => band.row === row));
      group.open = true;
      this.arrange();
    }
    const length = Math.max(end[span] - start[span], 1000);
    if (closely) this.show(start[span] - length, end[span] + length);
    else if (start[span] < this.view.from || end[span] > this.view.to) {
      const middle = (start[span] + end[span]) / 2;
      const half = Math.max(this.view.to - this.view.from, 1.5 * length) / 2;
      this.show(middle - half, middle + half);
    }
    const { top, height } = row.band;
    const { scrollTop } = this.scroller;
    if (top - AXIS_HEIGHT - HEADER_HEIGHT < scrollTop || top + height > scrollTop + this.height) {
      this.scroller.scrollTop = top - this.height / 2;
    }
    this.ask();
  }

  ask() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.width) return;
    const began = performance.now();
    const { painter, layout, state } = this;
    const { scrollTop } = this.scroller;
    painter.begin(this.view, this.width, this.height);
    const clip = { top: AXIS_HEIGHT, bottom: this.height };
    const visible = layout.bands.filter(
      (band) => band.top - scrollTop < this.height && band.top + band.height - scrollTop > AXIS_HEIGHT);
    painter.openPixels(visible, scrollTop, this.height);
    for (const band of visible) {
      const y = band.top - scrollTop;
      if (band.kind === "row") painter.row(band, y, state);
      else if (band.kind === "occupancy") painter.occupancy(band, y);
      else if (band.kind === "queue") painter.queue(band, y);
    }
    painter.closePixels();
    painter.flush(this.run.names);
    for (const band of visible) if (band.kind === "grid") painter.grid(band, band.top - scrollTop, state, clip);
    drawMarks(painter, this);
    drawFurniture(painter, this, visible);
    this.frameMs = performance.now() - began;
  }

  // What lies under a point of the canvas.
  at(x, y) {
    const inTime = x >= GUTTER.left && x <= this.width - GUTTER.right;
    const { group, band } = y > AXIS_HEIGHT ? this.layout.at(y, this.scroller.scrollTop) : {};
    const found = { group, band, time: this.painter.time(x), span: -1 };
    if (!band || !inTime || y <= AXIS_HEIGHT) return found;
    if (band.kind === "row") found.span = this.nearest(band.row, found.time);
    if (band.kind === "grid") {
      const each = band.height / band.link.numSubchannels;
      found.subchannel = Math.floor((y + this.scroller.scrollTop - band.top) / each);
    }
    return found;
  }

  // The span of a row at a time, or the nearest within three pixels.
  nearest(row, time) {
    const reach = 3 / this.painter.scale;
    let best = -1;
    let least = reach;
    const first = Math.max(lowerBound(row.ends, time - reach) - 1, 0);
    for (let i = first; i < row.starts.length && row.starts[i] <= time + reach && i < first + 64; i++) {
      const away = Math.max(row.starts[i] - time, time - row.ends[i], 0);
      if (away < least || (away === 0 && best < 0)) {
        least = away;
        best = row.ids[i];
      }
    }
    return best;
  }
}
