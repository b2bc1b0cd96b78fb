// Pointer and keys.

const KEYS = [
  ["← →", "move in time (with shift: by a window)"],
  ["+ −", "zoom in and out"],
  ["↑ ↓", "scroll"],
  ["[ ]", "lower and higher rows"],
  ["0", "the whole run"],
  ["n p", "next and previous span of the same row"],
  ["N P", "next and previous span of the critical path"],
  ["u d", "what it waited for longest; what it let begin"],
  ["z or Enter", "zoom to the chosen span"],
  ["c", "critical path on and off"],
  ["h", "subchannels by owner or by SNR"],
  ["s", "clients by number or the busiest first"],
  ["t", "light and dark"],
  ["/", "search; Enter and shift Enter go through what was found"],
  ["Esc", "let go of search and span"],
  ["?", "this help"],
];

class Input {
  constructor(app) {
    this.app = app;
    this.timeline = app.timeline;
    const { canvas } = this.timeline;
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.pinch = new Pinch(canvas, (factor, x) => this.timeline.zoom(factor, this.timeline.painter.time(x)));
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointercancel", () => { this.grip = null; canvas.classList.remove("dragging"); });
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerleave", () => app.hover(-1));
    canvas.addEventListener("dblclick", (event) => this.doubleClick(event));
    addEventListener("keydown", (event) => this.key(event));
  }

  wheel(event) {
    const { timeline } = this;
    const time = timeline.painter.time(event.offsetX);
    if (event.ctrlKey || event.metaKey) timeline.zoom(Math.exp(-event.deltaY / 240), time);
    else if (event.altKey) timeline.grow(Math.exp(-event.deltaY / 400));
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) timeline.pan((event.deltaX || event.deltaY) / timeline.width);
    else if (timeline.layout.height <= timeline.height) timeline.zoom(Math.exp(-event.deltaY / 240), time);
    else return; // the page's own scrolling
    event.preventDefault();
  }

  press(event) {
    if (event.button !== 0) return;
    const { timeline } = this;
    timeline.canvas.setPointerCapture(event.pointerId);
    this.grip = { x: event.offsetX, y: event.offsetY, view: timeline.view, scroll: timeline.scroller.scrollTop, moved: false };
    timeline.canvas.addEventListener("pointerup", (up) => this.release(up), { once: true });
  }

  move(event) {
    const { timeline, grip } = this;
    if (!grip) {
      this.app.hoverAt(timeline.at(event.offsetX, event.offsetY), event);
      return;
    }
    if (this.pinch.isOn()) {
      Object.assign(grip, { x: event.offsetX, y: event.offsetY, view: timeline.view, moved: true });
      return;
    }
    const dx = event.offsetX - grip.x;
    const dy = event.offsetY - grip.y;
    if (!grip.moved && Math.hypot(dx, dy) < 4) return;
    grip.moved = true;
    timeline.canvas.classList.add("dragging");
    const by = (-dx / (timeline.width - GUTTER.left - GUTTER.right)) * (grip.view.to - grip.view.from);
    timeline.show(grip.view.from + by, grip.view.to + by);
    timeline.scroller.scrollTop = grip.scroll - dy;
  }

  release(event) {
    const { timeline, grip } = this;
    this.grip = null;
    timeline.canvas.classList.remove("dragging");
    if (!grip || grip.moved) return;
    const { group, span } = timeline.at(event.offsetX, event.offsetY);
    if (group) {
      group.open = !group.open;
      timeline.arrange();
    } else this.app.choose(span);
  }

  doubleClick(event) {
    const { span, time } = this.timeline.at(event.offsetX, event.offsetY);
    if (span >= 0) this.timeline.reveal(span, true);
    else this.timeline.zoom(2, time);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { app, timeline } = this;
    if (document.getElementById("help-dialog").open && event.key !== "?") return; // it closes by itself
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") app.letGo();
      if (event.key === "Enter" && event.target.id === "search") app.search.step(event.shiftKey ? -1 : 1);
      return;
    }
    if (event.target.matches("button") && (event.key === "Enter" || event.key === " ")) return;
    if (event.target.matches("[role=tab]") && event.key.startsWith("Arrow")) return;
    const scroll = (by) => timeline.scroller.scrollBy(0, by);
    const actions = {
      ArrowLeft: () => timeline.pan(event.shiftKey ? -0.9 : -0.15),
      ArrowRight: () => timeline.pan(event.shiftKey ? 0.9 : 0.15),
      ArrowUp: () => scroll(-60),
      ArrowDown: () => scroll(60),
      "+": () => timeline.zoom(1.5),
      "=": () => timeline.zoom(1.5),
      "-": () => timeline.zoom(1 / 1.5),
      "[": () => timeline.grow(1 / 1.3),
      "]": () => timeline.grow(1.3),
      0: () => timeline.fit(),
      n: () => app.stepInRow(1),
      p: () => app.stepInRow(-1),
      N: () => app.stepOnPath(1),
      P: () => app.stepOnPath(-1),
      u: () => app.stepToCause(),
      d: () => app.stepToEffect(),
      z: () => app.zoomToChosen(),
      Enter: () => app.zoomToChosen(),
      c: () => app.togglePath(),
      h: () => app.toggleHeat(),
      s: () => app.toggleSort(),
      t: () => app.theme.toggle(),
      "/": () => app.search.box.focus(),
      "?": () => app.help(),
      Escape: () => app.letGo(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }
}
