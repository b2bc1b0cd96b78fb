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
    const { lengthNs, numSpans, numClients, names } = this.run;
    const pixels = Math.max(Math.round(this.width - GUTTER.left - GUTTER.right), 1);
    const edges = binEdges(binOf(numSpans / Math.max(numClients, 1), 0, lengthNs, pixels), 0, lengthNs, pixels, lengthNs);
    const shares = sharesOf(this.occupancies, edges);
    const total = (at) => shares.reduce((sum, one) => sum + (one ? one[at] : 0), 0);
    let most = 1;
    for (let at = 0; at + 1 < edges.length; at++) most = Math.max(most, total(at));
    const place = { left: GUTTER.left, right: this.width - GUTTER.right, y: top, height: bottom - top, most, x: (time) => this.x(time) };
    drawStack(context, this.theme, names.map((look) => ({ ...look, hatch: "" })), edges, shares, place);
    this.paintRounds(context);
  }

  paintRounds(context) {
    context.fillStyle = this.theme.faint;
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText(fitText(context, "whole run", GUTTER.left - 12), 8, 9);
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
