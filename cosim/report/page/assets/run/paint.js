// Drawing on the canvas. What is shorter than a pixel is drawn as the column it fills only part of, so
// that a frame costs at most one step per pixel of a row, however many spans the run has.

const SHADES_OF_FULLNESS = 6;
const PROBES = 8;
const LOW_ROW = 8;

function fullnessOf(width, share) {
  return width > 1 ? SHADES_OF_FULLNESS : Math.max(1, Math.min(SHADES_OF_FULLNESS, Math.ceil(share * SHADES_OF_FULLNESS)));
}

// A colour as the four bytes of a pixel.
function packed(colour) {
  const parts = colour.startsWith("#")
    ? [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))
    : colour.match(/\d+/g).map(Number);
  return ((255 << 24) | (parts[2] << 16) | (parts[1] << 8) | parts[0]) >>> 0;
}

class Painter {
  constructor(run, theme, canvas) {
    this.run = run;
    this.theme = theme;
    this.context = canvas.getContext("2d", { alpha: false });
    this.heat = new Map();
  }

  begin(view, width, height) {
    const ratio = devicePixelRatio || 1;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.fillStyle = this.theme.ground;
    this.context.fillRect(0, 0, width, height);
    this.view = view;
    this.width = width;
    this.left = GUTTER.left;
    this.right = width - GUTTER.right;
    this.scale = (this.right - this.left) / (view.to - view.from);
    this.buckets = new Map();
    this.instants = [];
    this.pixels = null;
  }

  // How long a bin of a row's shares is, ns; 0 where its spans can be told apart. What was searched for is never binned.
  binOf(row, state) {
    if (state.found) return 0;
    const number = lowerBound(row.starts, this.view.to) - lowerBound(row.ends, this.view.from);
    return binOf(number, this.view.from, this.view.to, this.right - this.left);
  }

  // The shares of time of a row: calls `put(x, width, shares)` for each bin in sight.
  eachBin(row, bin, put) {
    row.occupancies ??= this.run.names.map((_, kind) => {
      const pick = (values) => values.filter((_one, index) => row.classes[index] === kind);
      return new Occupancy(pick(row.starts), pick(row.ends));
    });
    const edges = binEdges(bin, this.view.from, this.view.to, 1, this.run.lengthNs);
    const shares = sharesOf(row.occupancies, edges);
    for (let at = 0; at + 1 < edges.length; at++) {
      const x = Math.max(this.x(edges[at]), this.left);
      const width = Math.min(this.x(edges[at + 1]), this.right) - x;
      if (width > 0) put(x, width, shares.map((one) => (one ? one[at] : 0)));
    }
  }

  // Where spans are too many to be seen one by one: how high a colour is says for how much of the time that was done.
  shares(row, bin, y, height) {
    this.eachBin(row, bin, (x, width, shares) => {
      const unit = height / Math.max(shares.reduce((sum, one) => sum + one, 0), 1);
      let base = y + height;
      shares.forEach((share, kind) => {
        if (share * unit < 0.2) return;
        base -= share * unit;
        this.put(kind, x, base, width, share * unit, 1, false);
      });
    });
  }

  // What takes no time: a mark at the top of its row, as many as there is room for.
  marks(row, y, height) {
    row.instants ??= Array.from(row.ids.keys()).filter((index) => row.starts[index] === row.ends[index]);
    const last = new Map();
    for (const index of row.instants) {
      const x = this.x(row.starts[index]);
      const kind = row.classes[index];
      if (x < this.left || x > this.right || x - (last.get(kind) ?? -Infinity) < 8) continue;
      last.set(kind, x);
      this.instants.push([kind, x, y, height]);
    }
  }

  drawInstants(looks) {
    const { context, theme } = this;
    for (const [kind, x, y, height] of this.instants) {
      context.fillStyle = theme.colour(looks[kind]);
      context.strokeStyle = theme.ink;
      context.lineWidth = 0.6;
      context.fillRect(x - 0.75, y, 1.5, height);
      context.beginPath();
      context.moveTo(x - 4, y);
      context.lineTo(x + 4, y);
      context.lineTo(x, y + 7);
      context.closePath();
      context.fill();
      context.stroke();
    }
    this.instants = [];
  }

  // Rows too low for hatches are written pixel by pixel: hundreds of them cost less than their boxes would.
  openPixels(bands, scrollTop, height) {
    const low = bands.filter((band) => band.kind === "row" && band.height < LOW_ROW);
    if (!low.length) return;
    const ratio = devicePixelRatio || 1;
    const top = Math.max(Math.floor((low[0].top - scrollTop) * ratio), 0);
    const last = low[low.length - 1];
    const bottom = Math.min(Math.ceil((last.top + last.height - scrollTop) * ratio), Math.ceil(height * ratio));
    const left = Math.round(this.left * ratio);
    const width = Math.round(this.right * ratio) - left;
    if (bottom <= top || width < 1) return;
    const image = this.context.createImageData(width, bottom - top);
    const words = new Uint32Array(image.data.buffer);
    words.fill(packed(this.theme.ground));
    const shades = this.run.names.map((look) => [1, 0.18].map((share) =>
      Array.from({ length: SHADES_OF_FULLNESS + 1 }, (_, one) => packed(this.theme.mixed(this.theme.colour(look), (0.25 + (0.75 * one) / SHADES_OF_FULLNESS) * share)))));
    this.pixels = { image, words, shades, top, left, width, height: bottom - top, ratio };
  }

  closePixels() {
    if (this.pixels) this.context.putImageData(this.pixels.image, this.pixels.left, this.pixels.top);
    this.pixels = null;
  }

  lowRow(band, y, state) {
    const { row } = band;
    const { words, shades, top, left, width: across, height: down, ratio } = this.pixels;
    const first = Math.max(Math.round(y * ratio) - top, 0);
    const last = Math.min(Math.max(Math.round((y + band.height) * ratio) - top - (band.height >= 4 ? 1 : 0), first + 1), down);
    const fill = (kind, fullness, dim, x, width) => {
      const word = shades[kind][dim][fullness];
      const from = Math.max(Math.round(x * ratio) - left, 0);
      const to = Math.min(Math.max(Math.round((x + width) * ratio) - left, from + 1), across);
      for (let line = first; line < last; line++) {
        const end = line * across + to;
        for (let at = line * across + from; at < end; at++) words[at] = word;
      }
    };
    const bin = this.binOf(row, state);
    if (bin) {
      this.eachBin(row, bin, (x, width, shares) => { // no room for a stack: what was done most, as strong as all was together
        const busy = shares.reduce((sum, one) => sum + one, 0);
        if (busy > 0) fill(shares.indexOf(Math.max(...shares)), fullnessOf(1, Math.min(busy, 1)), 0, x, width);
      });
      return;
    }
    this.eachVisible(row, (x, width, index, share) => {
      fill(row.classes[index], fullnessOf(width, share), state.found && !state.found[row.ids[index]] ? 1 : 0, x, width);
    });
  }

  x(time) {
    return this.left + (time - this.view.from) * this.scale;
  }

  time(x) {
    return this.view.from + (x - this.left) / this.scale;
  }

  // The spans of one row. Calls `put(x, width, index, share)` for each span, or each pixel of short ones.
  eachVisible(row, put) {
    const { starts, ends, lengths } = row;
    const { from, to } = this.view;
    const { left, right, scale } = this;
    const perPixel = 1 / scale;
    let i = lowerBound(ends, from);
    while (i < starts.length && starts[i] < to) {
      const x = left + (starts[i] - from) * scale;
      const width = (ends[i] - starts[i]) * scale;
      if (width >= 1) {
        const begin = Math.max(x, left);
        put(begin, Math.min(x + width, right) - begin, i, 1);
        i++;
        continue;
      }
      const column = Math.floor(x);
      const until = from + (column + 1 - left) / scale;
      let reach = 1;
      while (i + reach < starts.length && starts[i + reach] < until) reach *= 2;
      let next = lowerBound(starts, until, i + (reach >> 1) + (reach > 1 ? 0 : 1), Math.min(i + reach, starts.length));
      next = Math.max(next, i + 1);
      // Spans of a row do not overlap: of those that begin in this pixel only the last can leave it.
      if (next > i + 1 && left + (ends[next - 1] - from) * scale > column + 1) next--;
      let longest = i;
      const stride = Math.max(1, Math.floor((next - i) / PROBES));
      for (let j = i; j < next; j += stride) {
        if (ends[j] - starts[j] > ends[longest] - starts[longest]) longest = j;
      }
      const share = (lengths[next] - lengths[i]) / perPixel;
      if (column >= left - 1 && column < right) put(Math.max(column, left), 1, longest, share);
      i = next;
    }
  }

  row(band, y, state) {
    const { row, height } = band;
    if (height < LOW_ROW) {
      this.lowRow(band, y, state);
      return;
    }
    const inset = height >= 8 ? 1 : 0;
    this.waiting(y, height);
    const bin = this.binOf(row, state);
    if (height >= 12) this.marks(row, y, height);
    if (bin) {
      this.shares(row, bin, y + inset, height - 2 * inset);
      return;
    }
    this.waits(row, y, height);
    this.eachVisible(row, (x, width, index, share) => {
      const isDim = state.found && !state.found[row.ids[index]];
      this.put(row.classes[index], x, y + inset, width, height - 2 * inset, share, isDim);
    });
  }

  // The ground of a lane: as long as the run goes on, what is not done is waiting.
  waiting(y, height) {
    const from = Math.max(this.x(0), this.left);
    this.context.fillStyle = this.theme.waiting;
    this.context.fillRect(from, y, Math.max(Math.min(this.x(this.run.lengthNs), this.right) - from, 0), height);
  }

  // A thin line from being asked for to the begin: it stood in a queue, or waited for the air.
  waits(row, y, height) {
    const { asked } = this.run.spans;
    const { context } = this;
    context.fillStyle = this.theme.ink;
    let i = lowerBound(row.ends, this.view.from);
    const last = lowerBound(row.starts, this.view.to);
    if (last - i > 2000) return;
    for (; i < last + 1 && i < row.starts.length; i++) {
      const from = asked[row.ids[i]];
      if (from >= row.starts[i]) continue;
      const x = Math.max(this.x(from), this.left);
      const end = Math.min(this.x(row.starts[i]), this.right);
      if (end > x) context.fillRect(x, y + height / 2 - 0.5, end - x, 1);
    }
  }

  put(kind, x, y, width, height, share, isDim) {
    const fullness = fullnessOf(width, share);
    const key = (kind * (SHADES_OF_FULLNESS + 1) + fullness) * 2 + (isDim ? 1 : 0);
    let bucket = this.buckets.get(key);
    if (!bucket) this.buckets.set(key, (bucket = []));
    bucket.push(x, y, width, height);
  }

  // One colour after the other: changing the colour costs more than a rectangle.
  flush(looks) {
    const { context, theme } = this;
    for (const [key, boxes] of this.buckets) {
      const isDim = key % 2 === 1;
      const fullness = (key >> 1) % (SHADES_OF_FULLNESS + 1);
      const look = looks[Math.floor((key >> 1) / (SHADES_OF_FULLNESS + 1))];
      const share = (0.25 + (0.75 * fullness) / SHADES_OF_FULLNESS) * (isDim ? 0.18 : 1);
      context.fillStyle = theme.mixed(theme.colour(look), share);
      for (let i = 0; i < boxes.length; i += 4) context.fillRect(boxes[i], boxes[i + 1], boxes[i + 2], boxes[i + 3]);
      if (!look.hatch || isDim) continue;
      context.fillStyle = theme.pattern(context, look.hatch);
      for (let i = 0; i < boxes.length; i += 4) {
        if (boxes[i + 2] >= 3 && boxes[i + 3] >= 6) context.fillRect(boxes[i], boxes[i + 1], boxes[i + 2], boxes[i + 3]);
      }
    }
    this.buckets.clear();
    this.drawInstants(looks);
  }

  // How many clients do what at a time, one kind upon the other.
  occupancy(band, y) {
    const { height, most, occupancies } = band;
    const pixels = Math.max(1, Math.round(this.right - this.left));
    const { from, to } = this.view;
    const number = occupancies.reduce((sum, one) => sum + lowerBound(one.starts, to) - lowerBound(one.starts, from), 0);
    const edges = binEdges(binOf(number / most, from, to, pixels), from, to, pixels, this.run.lengthNs);
    this.waiting(y, height);
    const place = { left: this.left, right: this.right, y, height, most, x: (time) => this.x(time) };
    drawStack(this.context, this.theme, this.run.names, edges, sharesOf(occupancies, edges), place);
    this.scaleMark(y, String(most), "0", height);
  }

  queue(band, y) {
    const { context, theme } = this;
    const { height, most, queue } = band;
    context.fillStyle = theme.lane;
    context.fillRect(this.left, y, this.right - this.left, height);
    context.fillStyle = theme.faint;
    let before = queue.until(this.view.from);
    for (let x = this.left; x < this.right; x++) {
      const now = queue.until(this.time(x + 1));
      const mean = (now - before) * this.scale;
      before = now;
      if (mean > 0) context.fillRect(x, y + height - (mean / most) * height, 1, (mean / most) * height);
    }
    this.scaleMark(y, String(Math.round(most)), "0", height);
  }

  scaleMark(y, high, low, height) {
    const { context } = this;
    context.fillStyle = this.theme.faint;
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "top";
    context.fillText(high, this.right + 6, y);
    context.textBaseline = "bottom";
    context.fillText(low, this.right + 6, y + height);
  }

  grid(band, y, state, clip) {
    const { link, height } = band;
    const { context } = this;
    context.fillStyle = this.theme.lane;
    context.fillRect(this.left, y, this.right - this.left, height);
    const each = height / link.numSubchannels;
    if (state.heat && link.snr) {
      this.heatMap(link, y, height);
      return;
    }
    const step = Math.max(1, Math.floor(1 / each));
    const labels = [];
    const first = Math.max(0, Math.floor((clip.top - y) / each));
    const last = Math.min(link.numSubchannels, Math.ceil((clip.bottom - y) / each));
    for (let number = first - (first % step); number < last; number += step) {
      const row = link.rows[number];
      const top = y + number * each;
      this.eachVisible(row, (x, width, index, share) => {
        this.put(row.classes[index], x, top, width, Math.max(each * step - (each > 4 ? 1 : 0), 1), share, false);
        if (each >= 10 && width >= 16) labels.push([row.clients[index], x, top, width]);
      });
    }
    this.flush(this.run.owners.map((colour) => ({ light: colour, dark: colour, hatch: "" })));
    this.owners(labels, each);
  }

  owners(labels, each) {
    const { context } = this;
    context.font = `${Math.min(10, each - 2)}px system-ui, sans-serif`;
    context.textAlign = "left";
    context.textBaseline = "middle";
    for (const [client, x, top, width] of labels) {
      context.fillStyle = inkOn(this.run.owners[client % this.run.owners.length]);
      const text = String(client);
      for (let at = x + 4; at + 8 * text.length < x + width; at += 220) context.fillText(text, at, top + each / 2);
    }
  }

  heatMap(link, y, height) {
    const { context } = this;
    if (!this.heat.has(link.index)) this.heat.set(link.index, this.heatImage(link));
    const image = this.heat.get(link.index);
    const covered = link.times.length > 1 ? (link.times[1] - link.times[0]) * link.times.length : this.run.lengthNs;
    const scale = image.width / covered;
    const from = Math.max(this.view.from, 0);
    const to = Math.min(this.view.to, covered);
    if (to <= from) return;
    context.imageSmoothingEnabled = false;
    context.drawImage(
      image, from * scale, 0, (to - from) * scale, image.height,
      this.x(from), y, (to - from) * this.scale, height,
    );
    this.scaleMark(y, `${link.snrTo} dB`, `${link.snrFrom} dB`, height);
    const gradient = context.createLinearGradient(0, y + height - 14, 0, y + 14);
    for (let i = 0; i <= 8; i++) gradient.addColorStop(i / 8, `rgb(${shade(i / 8).join(",")})`);
    context.fillStyle = gradient;
    context.fillRect(this.right + 6, y + 14, 8, Math.max(height - 28, 0));
  }

  // The heat map once as an image, one pixel a subchannel and instant.
  heatImage(link) {
    const columns = link.times.length;
    const canvas = element("canvas", { width: columns, height: link.numSubchannels });
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, link.numSubchannels);
    const shades = Array.from({ length: HEAT_SHADES }, (_, one) => shade((one - 1) / (HEAT_SHADES - 2)));
    link.snr.forEach((one, index) => {
      if (!one) return;
      image.data.set(shades[one], 4 * index);
      image.data[4 * index + 3] = 255;
    });
    context.putImageData(image, 0, 0);
    return canvas;
  }
}
