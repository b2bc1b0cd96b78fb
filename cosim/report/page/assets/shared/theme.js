// Light and dark, the colours of the canvas, and the hatches that say the same as the colours.

class Theme {
  constructor(onChange) {
    this.onChange = onChange;
    this.patterns = new Map();
    const preferred = matchMedia("(prefers-color-scheme: dark)");
    this.apply(preferred.matches ? "dark" : "light");
    preferred.addEventListener("change", () => this.apply(preferred.matches ? "dark" : "light"));
    addEventListener("beforeprint", () => {
      this.beforePrint = this.name;
      this.apply("light");
    });
    addEventListener("afterprint", () => this.apply(this.beforePrint));
  }

  get isDark() {
    return this.name === "dark";
  }

  toggle() {
    this.apply(this.isDark ? "light" : "dark");
  }

  apply(name) {
    this.name = name;
    document.documentElement.dataset.theme = name;
    const style = getComputedStyle(document.documentElement);
    const read = (what) => style.getPropertyValue(`--${what}`).trim();
    this.ground = read("ground");
    this.panel = read("panel");
    this.lane = read("lane");
    this.line = read("line");
    this.ink = read("ink");
    this.faint = read("faint");
    this.accent = read("accent");
    this.path = read("path");
    this.waiting = read("waiting");
    this.hatch = this.isDark ? "rgba(0,0,0,.62)" : "rgba(20,20,20,.62)";
    this.patterns.clear();
    this.onChange();
  }

  colour(look) {
    return this.isDark ? look.dark : look.light;
  }

  // A colour mixed with the ground: what a span looks like that fills only part of a pixel.
  mixed(colour, share) {
    const parts = [colour, this.ground].map((hex) =>
      [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    return `rgb(${parts[0].map((one, i) => Math.round(one * share + parts[1][i] * (1 - share))).join(",")})`;
  }

  pattern(context, hatch) {
    const ratio = devicePixelRatio || 1;
    const key = `${hatch}${ratio}`;
    if (!this.patterns.has(key)) {
      const pattern = context.createPattern(hatchTile(hatch, this.hatch, ratio), "repeat");
      pattern.setTransform(new DOMMatrix().scale(1 / ratio));
      this.patterns.set(key, pattern);
    }
    return this.patterns.get(key);
  }
}

// What text on a colour is written in.
function inkOn(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? "#fff" : "#000";
}

// Shares of each kind stacked over bins; `place` has left, right, y, height and how many make the whole height, and x of a time.
function drawStack(context, theme, looks, edges, kinds, place) {
  const base = new Float64Array(edges.length - 1);
  kinds.forEach((shares, kind) => {
    if (!shares) return;
    const path = new Path2D();
    shares.forEach((share, at) => {
      const x = Math.max(place.x(edges[at]), place.left);
      const width = Math.min(place.x(edges[at + 1]), place.right) - x;
      const tall = (share * place.height) / place.most;
      if (tall > 0.05 && width > 0) path.rect(x, place.y + place.height - base[at] - tall, width, tall);
      base[at] += tall;
    });
    context.fillStyle = theme.colour(looks[kind]);
    context.fill(path);
    if (!looks[kind].hatch) return;
    context.fillStyle = theme.pattern(context, looks[kind].hatch);
    context.fill(path);
  });
}

const TILE = 8;

function hatchTile(hatch, colour, ratio) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = TILE * ratio;
  const context = tile.getContext("2d");
  context.scale(ratio, ratio);
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  const line = (...points) => {
    context.moveTo(points[0], points[1]);
    context.lineTo(points[2], points[3]);
  };
  const middle = TILE / 2;
  if (hatch === "/" || hatch === "x") [-TILE, 0, TILE].forEach((x) => line(x, TILE, x + TILE, 0));
  if (hatch === "\\" || hatch === "x") [-TILE, 0, TILE].forEach((x) => line(x, 0, x + TILE, TILE));
  if (hatch === "+" || hatch === "-") line(0, middle, TILE, middle);
  if (hatch === "+" || hatch === "|") line(middle, 0, middle, TILE);
  context.stroke();
  if (hatch === ".") {
    for (const [x, y] of [[2, 2], [6, 6]]) {
      context.beginPath();
      context.arc(x, y, 1, 0, 7);
      context.fill();
    }
  }
  if (hatch === "o" || hatch === "*") {
    context.beginPath();
    context.arc(middle, middle, hatch === "o" ? 2.2 : 1.6, 0, 7);
    if (hatch === "o") context.stroke();
    else context.fill();
  }
  return tile;
}

function swatch(theme, look, width = 26, height = 12) {
  const ratio = devicePixelRatio || 1;
  const canvas = element("canvas", { width: width * ratio, height: height * ratio, ariaHidden: "true" });
  canvas.style.cssText = `width:${width}px;height:${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = theme.colour(look);
  context.fillRect(0, 0, width, height);
  if (look.hatch) {
    context.fillStyle = theme.pattern(context, look.hatch);
    context.fillRect(0, 0, width, height);
  }
  context.strokeStyle = theme.faint;
  context.strokeRect(0.5, 0.5, width - 1, height - 1);
  return canvas;
}

// Shades of an SNR, from cividis (Nuñez, Anderton and Renslow, 2018): made for all kinds of colour vision.
const CIVIDIS = [
  [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115],
  [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56],
];

function shade(share) {
  const at = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
  const index = Math.min(Math.floor(at), CIVIDIS.length - 2);
  return CIVIDIS[index].map((one, i) => Math.round(one + (CIVIDIS[index + 1][i] - one) * (at - index)));
}
