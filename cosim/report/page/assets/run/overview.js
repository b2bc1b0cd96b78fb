// The whole run in a strip, with the window that is shown below.

const OVERVIEW_HEIGHT = 46;

class Overview {
  constructor(run, theme, timeline) {
    Object.assign(this, { run, theme, timeline });
    this.canvas = document.getElementById("overview");
    this.image = document.createElement("canvas");
    this.occupancies = run.occupancies(() => 1);
    new ResizeObserver(() => this.refresh()).observe(this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
  }

  refresh() {
    const ratio = devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    for (const canvas of [this.canvas, this.image]) {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = OVERVIEW_HEIGHT * ratio;
    }
    this.paint();
    this.draw();
  }

  x(time) {
    return GUTTER.left + (time / this.run.lengthNs) * (this.width - GUTTER.left - GUTTER.right);
  }

  time(x) {
    return ((x - GUTTER.left) / (this.width - GUTTER.left - GUTTER.right)) * this.run.lengthNs;
  }

  // All that does not change while panning, once.
  paint() {
    const context = this.image.getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = this.theme.ground;
    context.fillRect(0, 0, this.width, OVERVIEW_HEIGHT);
    const bottom = OVERVIEW_HEIGHT - 2;
    const top = 15;
    const columns = [];
    for (let x = GUTTER.left; x < this.width - GUTTER.right; x++) {
      columns.push(this.occupancies.map((one) => (one.starts.length ? one.mean(this.time(x), this.time(x + 1)) : 0)));
    }
    const most = Math.max(1, ...columns.map((column) => column.reduce((sum, one) => sum + one, 0)));
    columns.forEach((column, index) => {
      let y = bottom;
      column.forEach((share, kind) => {
        const height = (share / most) * (bottom - top);
        context.fillStyle = this.theme.colour(this.run.names[kind]);
        context.fillRect(GUTTER.left + index, y - height, 1, height);
        y -= height;
      });
    });
    this.paintRounds(context);
  }

  paintRounds(context) {
    context.fillStyle = this.theme.faint;
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText("whole run", 8, 9);
    const { "round.start": starts } = this.run.spans;
    let last = -Infinity;
    starts.forEach((start, index) => {
      const x = this.x(start);
      context.fillRect(x, 12, 1, 4);
      const label = this.run.roundLabel(index);
      if (x - last < context.measureText(label).width + 14) return;
      last = x;
      context.fillText(label, x + 3, 8);
    });
  }

  draw() {
    if (!this.width) return;
    const context = this.canvas.getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.image, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const from = Math.max(this.x(this.timeline.view.from), GUTTER.left);
    const to = Math.min(this.x(this.timeline.view.to), this.width - GUTTER.right);
    context.globalAlpha = 0.6;
    context.fillStyle = this.theme.ground;
    context.fillRect(GUTTER.left, 15, from - GUTTER.left, OVERVIEW_HEIGHT);
    context.fillRect(to, 15, this.width - GUTTER.right - to, OVERVIEW_HEIGHT);
    context.globalAlpha = 1;
    context.strokeStyle = this.theme.accent;
    context.lineWidth = 1.5;
    context.strokeRect(from, 15, Math.max(to - from, 2), OVERVIEW_HEIGHT - 16);
  }

  grab(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const { from, to } = this.timeline.view;
    const time = this.time(event.offsetX);
    const isInside = time > from && time < to;
    const grip = isInside ? time - (from + to) / 2 : 0;
    const move = (at) => {
      const middle = this.time(at.offsetX) - grip;
      this.timeline.show(middle - (to - from) / 2, middle + (to - from) / 2);
    };
    move(event);
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", () => this.canvas.removeEventListener("pointermove", move), { once: true });
  }
}
