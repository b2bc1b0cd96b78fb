// What is drawn over the spans: the critical path, causes of the chosen span, axis, rounds and labels.

function drawMarks(painter, timeline) {
  const { context, left, right } = painter;
  context.save();
  context.beginPath();
  context.rect(left, AXIS_HEIGHT, right - left, timeline.height - AXIS_HEIGHT);
  context.clip();
  drawRounds(painter, timeline);
  if (timeline.state.showPath) drawPath(painter, timeline);
  if (timeline.state.hover >= 0) outline(painter, timeline, timeline.state.hover, painter.theme.ink, 1);
  if (timeline.state.chosen >= 0) drawChosen(painter, timeline);
  context.restore();
}

// Where a span is on the canvas; null where its group is folded.
function boxOf(painter, timeline, span) {
  const { run, scroller } = timeline;
  const { band } = run.rows[run.rowOf[span]];
  if (!band) return null;
  const x = painter.x(run.spans.start[span]);
  const width = Math.max(painter.x(run.spans.end[span]) - x, 1);
  return { x, width, y: band.top - scroller.scrollTop, height: band.height };
}

function outline(painter, timeline, span, colour, width) {
  const box = boxOf(painter, timeline, span);
  if (!box) return;
  const { context } = painter;
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(box.x - 0.5, box.y + 0.5, box.width + 1, Math.max(box.height - 1, 2));
}

// One line through all that decided how long the run took; what a pixel holds together is one point.
function drawPath(painter, timeline) {
  const { run, view } = timeline;
  const { path, start, end } = run.spans;
  const { context, theme } = painter;
  const first = Math.max(bisectPath(path, end, view.from) - 1, 0);
  const points = [];
  const tall = [];
  let lastColumn = -Infinity;
  for (let i = first; i < path.length && start[path[i]] <= view.to; i++) {
    const box = boxOf(painter, timeline, path[i]);
    if (!box) continue;
    const isWide = box.width >= 2;
    if (!isWide && box.x - lastColumn < 1.5) continue;
    lastColumn = box.x + box.width;
    const middle = box.y + box.height / 2;
    const isTall = isWide && box.height >= LOW_ROW;
    points.push([Math.max(box.x, painter.left - 4), middle, isTall], [Math.min(box.x + box.width, painter.right + 4), middle, false]);
    if (isTall) tall.push(box);
  }
  if (points.length > (painter.right - painter.left) / 6) {
    drawPathShares(painter, timeline);
    return;
  }
  // A span with an outline of its own needs no line through it.
  const trace = () => {
    context.beginPath();
    points.forEach(([x, y], index) => {
      const isOutlined = index > 0 && points[index - 1][2];
      if (index && !isOutlined) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.stroke();
  };
  context.lineJoin = "round";
  context.strokeStyle = theme.ground;
  context.lineWidth = 4;
  trace();
  context.strokeStyle = theme.path;
  context.lineWidth = 2;
  trace();
  for (const box of tall) context.strokeRect(box.x + 1, box.y + 1, Math.max(box.width - 2, 1), box.height - 2);
}

// A path of too many spans for a line: below each row, the stronger the more of the time it was there.
function drawPathShares(painter, timeline) {
  const { run, view, layout, scroller } = timeline;
  const { context, theme } = painter;
  const { path, start, end } = run.spans;
  const inSight = bisectPath(path, end, view.to) - bisectPath(path, end, view.from);
  const edges = binEdges(binOf(inSight, view.from, view.to, painter.right - painter.left), view.from, view.to, 200, run.lengthNs);
  run.pathRows ??= grouped(path, run.rowOf);
  context.fillStyle = theme.path;
  for (const band of layout.bands) {
    const spans = band.kind === "row" && band.height >= LOW_ROW ? run.pathRows.get(band.row.index) : null;
    if (!spans) continue;
    band.row.onPath ??= new Occupancy(spans.map((span) => start[span]), spans.map((span) => end[span]));
    const y = band.top - scroller.scrollTop + band.height - 3;
    sharesOf([band.row.onPath], edges)[0].forEach((share, at) => {
      if (share < 0.02) return;
      context.globalAlpha = Math.min(0.25 + share, 1);
      const x = painter.x(edges[at]);
      context.fillRect(x, y, painter.x(edges[at + 1]) - x, 3);
    });
  }
  context.globalAlpha = 1;
}

function grouped(values, key) {
  const groups = new Map();
  for (const one of values) {
    if (!groups.has(key[one])) groups.set(key[one], []);
    groups.get(key[one]).push(one);
  }
  return groups;
}

function bisectPath(path, end, time) {
  let from = 0;
  let to = path.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (end[path[middle]] < time) from = middle + 1;
    else to = middle;
  }
  return from;
}

const MOST_ARROWS = 300;

function drawChosen(painter, timeline) {
  const { run, state } = timeline;
  const box = boxOf(painter, timeline, state.chosen);
  if (!box) return;
  const { context, theme } = painter;
  const last = run.lastParent(state.chosen);
  context.lineWidth = 1.2;
  [...run.parents(state.chosen)].slice(-MOST_ARROWS).forEach((parent) => {
    arrow(painter, boxOf(painter, timeline, parent), box, parent === last ? theme.accent : theme.faint, []);
  });
  run.children(state.chosen).slice(0, MOST_ARROWS).forEach((child) => {
    arrow(painter, box, boxOf(painter, timeline, child), theme.faint, [4, 3]);
  });
  outline(painter, timeline, state.chosen, theme.ground, 5);
  outline(painter, timeline, state.chosen, theme.accent, 2.5);
}

function arrow(painter, from, to, colour, dashes) {
  if (!from || !to) return;
  const { context } = painter;
  const begin = [from.x + from.width, from.y + from.height / 2];
  const end = [to.x, to.y + to.height / 2];
  const bend = Math.min(40, Math.abs(end[0] - begin[0]) / 2 + 12);
  context.strokeStyle = context.fillStyle = colour;
  context.setLineDash(dashes);
  context.beginPath();
  context.moveTo(...begin);
  context.bezierCurveTo(begin[0] + bend, begin[1], end[0] - bend, end[1], ...end);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(...end);
  context.lineTo(end[0] - 6, end[1] - 3.5);
  context.lineTo(end[0] - 6, end[1] + 3.5);
  context.fill();
}

function drawRounds(painter, timeline) {
  const { context, theme } = painter;
  const { "round.start": starts } = timeline.run.spans;
  context.fillStyle = theme.line;
  let last = -Infinity;
  for (let i = lowerBound(starts, painter.view.from); i < starts.length && starts[i] <= painter.view.to; i++) {
    const x = Math.round(painter.x(starts[i]));
    if (x - last < 4) continue;
    last = x;
    context.fillRect(x, AXIS_HEIGHT, 1, timeline.height);
  }
}

function drawFurniture(painter, timeline, visible) {
  const { context, theme, left, right } = painter;
  const { scrollTop } = timeline.scroller;
  context.fillStyle = theme.ground;
  context.fillRect(0, AXIS_HEIGHT, left, timeline.height);
  drawLabels(painter, timeline, visible);
  for (const group of timeline.layout.groups) {
    const y = timeline.layout.headerOf(group, scrollTop);
    if (y < -HEADER_HEIGHT || y > timeline.height) continue;
    context.fillStyle = theme.panel;
    context.fillRect(0, y, timeline.width, HEADER_HEIGHT - 2);
    context.fillStyle = theme.ink;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "middle";
    const what = group.link && timeline.state.heat && group.link.snr ? " · shaded by SNR" : group.link ? " · by who holds them" : "";
    context.fillText(`${group.open ? "▾" : "▸"} ${group.title}${what}`, 8, y + HEADER_HEIGHT / 2 - 1);
  }
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, timeline.width, AXIS_HEIGHT);
  drawAxis(painter, timeline, left, right);
}

function drawLabels(painter, timeline, visible) {
  const { context, theme, left } = painter;
  const { scrollTop } = timeline.scroller;
  context.textAlign = "right";
  context.textBaseline = "middle";
  let last = -Infinity;
  for (const band of visible) {
    const y = band.top - scrollTop + band.height / 2;
    if (band.kind === "grid") {
      labelGrid(painter, timeline, band);
      continue;
    }
    if (y - last < 12) continue;
    last = y;
    const isHovered = band.row && timeline.state.hover >= 0 && timeline.run.rowOf[timeline.state.hover] === band.row.index;
    context.fillStyle = band.kind === "row" ? theme.ink : theme.faint;
    context.font = `${isHovered ? "600 " : ""}11px system-ui, sans-serif`;
    context.fillText(fitText(context, band.row ? band.row.label : band.label, left - 12), left - 8, y);
  }
}

function labelGrid(painter, timeline, band) {
  const { context, theme, left } = painter;
  const each = band.height / band.link.numSubchannels;
  const every = Math.max(1, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((one) => one * each >= 12) || 1000);
  context.fillStyle = theme.faint;
  context.font = "10px system-ui, sans-serif";
  for (let number = 0; number < band.link.numSubchannels; number += every) {
    const y = band.top - timeline.scroller.scrollTop + (number + 0.5) * each;
    if (y > AXIS_HEIGHT && y < timeline.height) context.fillText(String(number), left - 8, y);
  }
}

function drawAxis(painter, timeline, left, right) {
  const { context, theme } = painter;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (const { time, label } of timeSteps(painter.view.from, painter.view.to, right - left)) {
    const x = painter.x(time);
    if (x < left - 1 || x > right + 1) continue;
    context.fillStyle = theme.faint;
    context.fillText(label, x, 9);
    context.fillRect(x, 18, 1, 5);
  }
  context.fillStyle = theme.line;
  context.fillRect(left, AXIS_HEIGHT - 3, right - left, 1);
  context.textAlign = "left";
  context.fillStyle = theme.faint;
  context.fillText(left < 100 ? "time" : "simulated time", 8, 10);
}
