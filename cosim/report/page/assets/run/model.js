// The run as the page works with it: rows of spans, what lies where, and who is a span's cause.

class Run {
  constructor(content) {
    Object.assign(this, content);
    this.spans = content.columns;
    this.numSpans = this.spans.name.length;
    this.lengthNs = Math.max(content.run.lengthNs, 1);
    this.onPath = new Uint8Array(this.numSpans);
    for (const span of this.spans.path) this.onPath[span] = 1;
    this.rowOf = new Uint32Array(this.numSpans);
    // What several clients share has a row with each of them; it is pointed at in the first.
    for (let index = this.rows.length - 1; index >= 0; index--) this.fillRow(this.rows[index], index);
    this.fillRare();
    this.fillRounds();
    this.budgetOf = new Map();
    if (this.air) this.spans["budget.span"].forEach((span, index) => this.budgetOf.set(span, index));
    this.links.forEach((link, index) => this.fillLink(link, index));
    this.effectsBegin = null;
  }

  // A row keeps begins, ends and lengths so far of its spans side by side: drawing reads nothing else.
  fillRow(row, index) {
    const { "row.begins": begins, "row.spans": spans, start, end } = this.spans;
    row.index = index;
    row.ids = spans.subarray(begins[index], begins[index + 1]);
    const length = row.ids.length;
    row.starts = new Float64Array(length);
    row.ends = new Float64Array(length);
    row.classes = new Uint8Array(length);
    row.lengths = new Float64Array(length + 1);
    for (let i = 0; i < length; i++) {
      const span = row.ids[i];
      this.rowOf[span] = index;
      row.starts[i] = start[span];
      row.ends[i] = end[span];
      row.classes[i] = this.spans.name[span];
      row.lengths[i + 1] = row.lengths[i] + end[span] - start[span];
    }
    row.label = this.actors[row.actor] + (row.number ? ` (${row.number + 1})` : "");
  }

  // What few spans have: clients that send or receive at once, a payload that was lost or sent again.
  fillRare() {
    const read = (what) => this.spans[`rare.${what}`];
    const begins = read("begins");
    this.rareOf = new Map();
    read("span").forEach((span, index) => this.rareOf.set(span, {
      delivered: read("delivered")[index] === 1,
      resent: read("resent")[index],
      superposed: read("superposed")[index] === 1,
      participants: read("members").subarray(begins[index], begins[index + 1]),
    }));
  }

  fillRounds() {
    const { "round.number": numbers } = this.spans;
    this.roundAt = new Map();
    numbers.forEach((_, index) => this.roundAt.set(this.roundLabel(index), index));
  }

  // Rounds of several tasks have labels of their own.
  roundLabel(index) {
    return this.roundLabels ? this.roundLabels[index] : `round ${this.spans["round.number"][index]}`;
  }

  taskOf(span) {
    return this.spans.task ? this.tasks[this.spans.task[span]] : "";
  }

  roundOf(span) {
    const task = this.taskOf(span);
    return `round ${this.spans.round[span]}${task ? ` of ${task}` : ""}`;
  }

  participants(span) {
    return this.rareOf.get(span)?.participants ?? [];
  }

  fillLink(link, index) {
    const read = (what) => this.spans[`${link.column}.${what}`];
    link.index = index;
    link.width = read("width");
    link.times = read("time");
    link.snr = read("snr");
    link.power = read("power");
    link.gain = read("gain");
    link.split = read("split");
    link.clients = read("client");
    const begins = read("begins");
    link.rows = Array.from({ length: link.numSubchannels }, (_, number) => {
      const row = { number, first: begins[number] };
      row.starts = read("start").subarray(begins[number], begins[number + 1]);
      row.ends = read("end").subarray(begins[number], begins[number + 1]);
      row.clients = link.clients.subarray(begins[number], begins[number + 1]);
      row.classes = Uint8Array.from(row.clients, (client) => client % this.owners.length);
      row.lengths = Occupancy.sums(row.ends.map((end, i) => end - row.starts[i]));
      return row;
    });
  }

  parents(span) {
    const set = this.spans["cause.set"][span];
    if (set < 0) return [];
    const begins = this.spans["cause.begins"];
    return this.spans["cause.members"].subarray(begins[set], begins[set + 1]);
  }

  lastParent(span) {
    let last = -1;
    for (const parent of this.parents(span)) {
      if (last < 0 || this.spans.end[parent] > this.spans.end[last]) last = parent;
    }
    return last;
  }

  // What waited for a span; the way back is worked out once, when first asked for.
  children(span) {
    if (!this.effectsBegin) this.turnCausesRound();
    const found = [];
    for (let i = this.setsBegin[span]; i < this.setsBegin[span + 1]; i++) {
      const set = this.setsOf[i];
      for (let j = this.effectsBegin[set]; j < this.effectsBegin[set + 1]; j++) found.push(this.effects[j]);
    }
    return found.sort((a, b) => this.spans.start[a] - this.spans.start[b]);
  }

  turnCausesRound() {
    const { "cause.set": which, "cause.begins": begins, "cause.members": members } = this.spans;
    const numSets = begins.length - 1;
    const owner = new Uint32Array(members.length);
    for (let set = 0; set < numSets; set++) owner.fill(set, begins[set], begins[set + 1]);
    [this.setsBegin, this.setsOf] = Run.turned(members, this.numSpans, (index) => owner[index]);
    [this.effectsBegin, this.effects] = Run.turned(which, numSets, (index) => index);
  }

  static turned(keys, numKeys, value) {
    const begins = new Uint32Array(numKeys + 1);
    for (const key of keys) if (key >= 0) begins[key + 1]++;
    for (let i = 0; i < numKeys; i++) begins[i + 1] += begins[i];
    const next = begins.slice();
    const values = new Uint32Array(begins[numKeys]);
    keys.forEach((key, index) => {
      if (key >= 0) values[next[key]++] = value(index);
    });
    return [begins, values];
  }

  // The client of a span, as an index into the actors; -1 for what servers do alone.
  clientOf(span) {
    const { actor, peer } = this.spans;
    const client = actor[span] < this.numClients ? actor[span] : peer[span];
    return client >= 0 && client < this.numClients ? client : -1;
  }

  numberOf(client) {
    return Number(this.actors[client].slice(this.actors[client].lastIndexOf("-") + 1));
  }

  who(span) {
    const { actor, peer } = this.spans;
    const rare = this.rareOf.get(span);
    if (rare?.participants.length) {
      const { length } = rare.participants;
      const ends = [length > 1 ? `${count(length)} clients` : this.actors[rare.participants[0]], this.actors[actor[span]]];
      return (rare.superposed ? ends : ends.reverse()).join(" → ");
    }
    const to = peer[span] >= 0 ? ` → ${this.actors[peer[span]]}` : "";
    return this.actors[actor[span]] + to;
  }

  title(span) {
    const { name, step } = this.spans;
    const when = `${this.roundOf(span)}${step[span] ? `, step ${step[span]}` : ""}`;
    return `${this.names[name[span]].label} · ${this.who(span)} · ${when}`;
  }

  // How many spans of each name go on at a time; `times` says how often one counts.
  occupancies(times) {
    const starts = this.names.map(() => []);
    const ends = this.names.map(() => []);
    const { name, start, end } = this.spans;
    for (let span = 0; span < this.numSpans; span++) {
      for (let left = end[span] > start[span] ? times(span) : 0; left > 0; left--) {
        starts[name[span]].push(start[span]);
        ends[name[span]].push(end[span]);
      }
    }
    return this.names.map((_, index) => new Occupancy(starts[index], ends[index]));
  }

  // How many pieces of work stand in a server's queue; null where none ever did.
  queueOf(actor) {
    const { asked, start, actor: actors, peer } = this.spans;
    const from = [];
    const to = [];
    for (let span = 0; span < this.numSpans; span++) {
      const isOwn = actors[span] === actor && peer[span] < 0 && !this.names[this.spans.name[span]].transfer;
      if (isOwn && start[span] > asked[span]) {
        from.push(asked[span]);
        to.push(start[span]);
      }
    }
    return from.length ? new Occupancy(from, to) : null;
  }
}
