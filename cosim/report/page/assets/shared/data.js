// Reading the page's own data: plain values and one compressed block of columns.

async function readContent(id) {
  const content = JSON.parse(document.getElementById(id).textContent);
  const { places, block } = content.columns;
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser cannot unpack gzip; take Chrome 80, Firefox 113, Safari 16.4 or later.");
  }
  const packed = Uint8Array.from(atob(block), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const kinds = { Uint8Array, Uint16Array, Uint32Array, Int32Array, Float32Array, Float64Array };
  const columns = {};
  for (const [name, [kind, offset, length]] of Object.entries(places)) {
    columns[name] = new kinds[kind](buffer, offset, length);
  }
  content.columns = columns;
  return content;
}

// The first index in [from, to) whose value is at least `value`; `to` if there is none.
function lowerBound(values, value, from = 0, to = values.length) {
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (values[middle] < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

// How many of a set of intervals go on at a time, on average over any stretch of it: exact at
// every zoom for two binary searches, by sums over the sorted begins and ends.
class Occupancy {
  constructor(starts, ends) {
    this.starts = Float64Array.from(starts).sort();
    this.ends = Float64Array.from(ends).sort();
    this.startSums = Occupancy.sums(this.starts);
    this.endSums = Occupancy.sums(this.ends);
  }

  static sums(values) {
    const sums = new Float64Array(values.length + 1);
    for (let i = 0; i < values.length; i++) sums[i + 1] = sums[i] + values[i];
    return sums;
  }

  until(time) {
    const begun = lowerBound(this.starts, time);
    const ended = lowerBound(this.ends, time);
    return begun * time - this.startSums[begun] - (ended * time - this.endSums[ended]);
  }

  mean(from, to) {
    return to > from ? (this.until(to) - this.until(from)) / (to - from) : 0;
  }

  most(bins, from, to) {
    let most = 0;
    let before = this.until(from);
    for (let bin = 1; bin <= bins; bin++) {
      const now = this.until(from + ((to - from) * bin) / bins);
      most = Math.max(most, ((now - before) * bins) / (to - from));
      before = now;
    }
    return most;
  }
}

// Numbers as people read them.
const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];

function amount(value, unit) {
  if (!Number.isFinite(value)) return "–";
  for (const [scale, prefix] of PREFIXES) {
    if (Math.abs(value) >= 0.9995 * scale) return `${Number((value / scale).toPrecision(3))} ${prefix}${unit}`;
  }
  return `${Number(value.toPrecision(3))} ${unit}`;
}

function duration(ns) {
  if (ns < 60e9) return amount(ns / 1e9, "s");
  const seconds = Math.round(ns / 1e9);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function count(number) {
  return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
}

function seconds(ns) {
  return `${(ns / 1e9).toFixed(9)} s`;
}

const GUTTER = { left: 148, right: 58 }; // on both sides of everything that is drawn over time, px

function fitGutter() {
  Object.assign(GUTTER, innerWidth < 700 ? { left: 84, right: 30 } : { left: 148, right: 58 });
}
fitGutter();
addEventListener("resize", fitGutter);
const AXIS_HEIGHT = 26;

// How long a bin is of which shares are drawn, ns; 0 where spans can be told apart. A bin holds a dozen spans of
// an actor or more, as finer ones would show the beat of bins and spans, and lasts a power of two: panning moves
// the picture and does not change it.
function binOf(numSpans, from, to, pixels) {
  if (numSpans <= pixels / 4) return 0;
  const wanted = Math.min(Math.max((16 * pixels) / numSpans, 6), 40);
  return 2 ** Math.round(Math.log2((wanted * (to - from)) / pixels));
}

// The edges of bins so long that cover a stretch of time of a run that lasts until `end`; bins of a pixel where it is 0.
function binEdges(bin, from, to, pixels, end) {
  if (!bin) return Float64Array.from({ length: pixels + 1 }, (_, at) => from + ((to - from) * at) / pixels);
  const first = Math.max(Math.floor(from / bin), 0);
  const number = Math.max(Math.ceil(Math.min(to, end) / bin) - first, 1);
  return Float64Array.from({ length: number + 1 }, (_, at) => Math.min((first + at) * bin, end));
}

// How many spans of each kind go on, on average over each bin.
function sharesOf(occupancies, edges) {
  return occupancies.map((one) => {
    if (!one.starts.length) return null;
    const shares = new Float64Array(edges.length - 1);
    let before = one.until(edges[0]);
    for (let at = 0; at < shares.length; at++) {
      const now = one.until(edges[at + 1]);
      shares[at] = Math.max(now - before, 0) / Math.max(edges[at + 1] - edges[at], 1e-9);
      before = now;
    }
    return shares;
  });
}

// A label cut to the room there is.
function fitText(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let kept = text.length;
  while (kept > 1 && context.measureText(`${text.slice(0, kept)}…`).width > room) kept--;
  return `${text.slice(0, kept)}…`;
}

// Tabs for pointer, keys and screen readers; calls `opened` with the panel's id.
class Tabs {
  constructor() {
    this.tabs = [...document.querySelectorAll("[role=tab]")];
    for (const tab of this.tabs) {
      tab.id ||= `tab-${tab.getAttribute("aria-controls")}`;
      this.panel(tab).setAttribute("aria-labelledby", tab.id);
      this.panel(tab).tabIndex = 0;
      tab.addEventListener("click", () => this.open(tab.getAttribute("aria-controls")));
      tab.addEventListener("keydown", (event) => this.key(event, tab));
    }
  }

  panel(tab) {
    return document.getElementById(tab.getAttribute("aria-controls"));
  }

  key(event, tab) {
    const at = this.tabs.indexOf(tab);
    const other = { ArrowLeft: this.tabs[at - 1], ArrowRight: this.tabs[at + 1], Home: this.tabs[0], End: this.tabs.at(-1) }[event.key];
    if (!other) return;
    event.preventDefault();
    event.stopPropagation();
    other.focus();
    this.open(other.getAttribute("aria-controls"));
  }

  open(panel) {
    for (const tab of this.tabs) {
      const isOpen = tab.getAttribute("aria-controls") === panel;
      tab.setAttribute("aria-selected", String(isOpen));
      tab.tabIndex = isOpen ? 0 : -1;
      this.panel(tab).hidden = !isOpen;
    }
  }
}

// Two fingers zoom; `isOn` says whether they are down, so that neither moves the picture by itself.
class Pinch {
  constructor(canvas, zoom) {
    const fingers = new Map();
    const apart = () => {
      const [one, other] = [...fingers.values()];
      return Math.max(Math.abs(one.offsetX - other.offsetX), 20);
    };
    this.isOn = () => fingers.size > 1;
    canvas.addEventListener("pointerdown", (event) => { if (event.pointerType === "touch") fingers.set(event.pointerId, event); });
    canvas.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      const before = fingers.size > 1 ? apart() : 0;
      fingers.set(event.pointerId, event);
      if (!before) return;
      const middle = [...fingers.values()].reduce((sum, one) => sum + one.offsetX, 0) / fingers.size;
      zoom(apart() / before, middle);
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  }
}

// A table that scrolls by itself, with its head and first column in sight; the keyboard reaches it.
function scrolling(label, table) {
  return element("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": label }, table);
}

// Steps of a time axis: 1, 2 or 5 times a power of ten, in the unit that suits the step.
function timeSteps(from, to, pixels) {
  const rough = ((to - from) / Math.max(pixels / 110, 1)) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const [scale, unit] = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]].find(([one]) => step >= one) || [1, "ns"];
  const digits = Math.max(0, -Math.floor(Math.log10(step / scale) + 1e-9));
  const ticks = [];
  for (let index = Math.ceil(from / step); index * step <= to; index++) {
    ticks.push({ time: index * step, label: `${((index * step) / scale).toFixed(digits)} ${unit}` });
  }
  return ticks;
}

// Elements without a line of markup in any string: text stays text.
function element(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// The values of some curves over a stretch of time, with the points just outside: lines go on to them.
function valueRange(curves, from, to) {
  let low = Infinity;
  let high = -Infinity;
  for (const [times, values] of curves) {
    const first = Math.max(lowerBound(times, from) - 1, 0);
    const last = Math.min(lowerBound(times, to) + 1, times.length);
    for (let i = first; i < last; i++) {
      low = Math.min(low, values[i]);
      high = Math.max(high, values[i]);
    }
  }
  if (low > high) return [0, 1];
  const margin = 0.06 * (high - low) || 0.5;
  return [low - margin, high + margin];
}
