// What is where from top to bottom: groups that fold, and the bands in them.

const HEADER_HEIGHT = 22;
const OCCUPANCY_HEIGHT = 58;
const QUEUE_HEIGHT = 30;
const HEAT_SHADES = 256;

class Layout {
  constructor(run) {
    this.run = run;
    this.shown = "";
    this.groups = [this.serverGroup(), this.clientGroup(), ...run.links.map((link) => this.linkGroup(link))];
    this.groups = this.groups.filter((group) => group.bands.length);
  }

  serverGroup() {
    const { run } = this;
    const bands = [];
    const rows = run.rows.filter((row) => row.actor >= run.numClients);
    for (const row of rows) {
      const queue = row.number === 0 ? run.queueOf(row.actor) : null;
      if (queue) {
        const most = Math.max(queue.most(2000, 0, run.lengthNs), 1);
        bands.push({ kind: "queue", queue, most, label: "queue", actor: row.actor });
      }
      bands.push({ kind: "row", row, isServer: true });
    }
    return { title: "Servers", open: true, bands };
  }

  clientGroup() {
    const { run } = this;
    const rows = run.rows.filter((row) => row.actor < run.numClients);
    const bands = rows.map((row) => ({ kind: "row", row }));
    if (run.numClients > 1 && run.numSpans) {
      const occupancies = run.occupancies((span) => run.participants(span).length || (run.clientOf(span) >= 0 ? 1 : 0));
      bands.unshift({ kind: "occupancy", occupancies, most: run.numClients, label: "how many at once" });
    }
    return { title: `Clients (${count(run.numClients)})`, open: true, bands, isClients: true };
  }

  // Clients by number, or the busiest on top.
  sortClients(byBusy) {
    const group = this.groups.find((one) => one.isClients);
    if (!group) return;
    const busy = ({ row }) => row.lengths[row.lengths.length - 1];
    const [rows, others] = [true, false].map((isRow) => group.bands.filter((band) => (band.kind === "row") === isRow));
    rows.sort((a, b) => (byBusy ? busy(b) - busy(a) : 0) || a.row.index - b.row.index);
    group.bands = [...others, ...rows];
  }

  linkGroup(link) {
    const title = `${link.label[0].toUpperCase()}${link.label.slice(1)} · ${count(link.numSubchannels)} subchannels`;
    const open = this.run.links.length < 3 || link.index < 2;
    return { title, open, link, bands: [{ kind: "grid", link }] };
  }

  // Heights for a window so high; `stretch` is the reader's own factor.
  arrange(height, stretch) {
    const { run } = this;
    const clientRows = run.rows.filter((row) => row.actor < run.numClients).length;
    const fair = (height * 0.62) / Math.max(clientRows, 1);
    this.rowHeight = Math.max(2, Math.min(26, Math.max(fair, clientRows > 60 ? 3 : 12)) * stretch);
    let top = AXIS_HEIGHT;
    this.bands = [];
    for (const group of this.groups) {
      group.top = top;
      top += HEADER_HEIGHT;
      for (const band of group.open ? group.bands : []) {
        band.group = group;
        band.top = top;
        band.height = this.heightOf(band, stretch);
        if (band.kind === "row") band.row.band = band;
        top += band.height + (band.kind === "row" && this.rowHeight < 8 ? 0 : 3);
        this.bands.push(band);
      }
      if (!group.open) group.bands.forEach((band) => band.row && (band.row.band = null));
      group.bottom = top;
      top += 4;
    }
    this.height = top + 8;
  }

  heightOf(band, stretch) {
    if (band.kind === "occupancy") return OCCUPANCY_HEIGHT;
    if (band.kind === "queue") return QUEUE_HEIGHT;
    if (band.kind === "row") return band.isServer ? Math.max(this.rowHeight, 22) : this.rowHeight;
    const each = Math.min(14, Math.max(200 / band.link.numSubchannels, 1));
    return Math.max(band.link.numSubchannels * each * stretch, 24);
  }

  // Where the name of a group is on the canvas: it stays in sight while its bands do.
  headerOf(group, scrollTop) {
    const pinned = Math.max(group.top - scrollTop, AXIS_HEIGHT);
    return group.top - scrollTop < AXIS_HEIGHT ? Math.min(pinned, group.bottom - scrollTop - HEADER_HEIGHT) : pinned;
  }

  at(y, scrollTop) {
    const group = this.groups.find((one) => {
      const top = this.headerOf(one, scrollTop);
      return y >= top && y < top + HEADER_HEIGHT;
    });
    const inContent = y + scrollTop;
    const band = group ? undefined : this.bands.find((one) => inContent >= one.top && inContent < one.top + one.height);
    return { group, band };
  }
}
