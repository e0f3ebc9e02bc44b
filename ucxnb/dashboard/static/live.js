// Keeps the plots of a dashboard up to date from the kernel's binary messages (see live.py).

const TICK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600];

function toFloats(view) {
  const { buffer, byteOffset, byteLength } = view;
  return new Float64Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

function joined(old, added, length) {
  const all = new Float64Array(old.length + added.length);
  all.set(old);
  all.set(added, old.length);
  return all.slice(Math.max(0, all.length - length));
}

// As time_ticks in plots.py.
function timeTicks(window, now) {
  const step = TICK_STEPS.find((seconds) => window / seconds <= 5) ?? window / 5;
  const ticks = [];
  for (let i = Math.floor(window / step + 1e-9); i >= 0; i -= 1) ticks.push(now - step * i);
  return ticks;
}

function timeText(seconds) {
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  if (seconds % 60 === 0) return `${seconds / 60} min`;
  return `${seconds} s`;
}

function labelledSelect(text) {
  const group = element("span", "ucxnb-live-choice");
  const label = group.appendChild(element("label", "", text));
  const select = group.appendChild(element("select"));
  label.htmlFor = select.id = uniqueId();
  return [group, select];
}

function saveBlob(name, blob) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// ---- the points, kept once for all views of a widget

class Store {
  heard = Date.now(); // when something came last
  sources = {};
  now = 0;
  counters = {};
  texts = {};
  views = new Set();

  constructor(model) {
    const { sources = {}, ...content } = model.get("snapshot");
    Object.assign(this, content);
    for (const [name, columns] of Object.entries(sources)) {
      this.sources[name] = {};
      for (const [column, values] of Object.entries(columns))
        this.sources[name][column] = Array.isArray(values) ? values : toFloats(values);
    }
    model.on("msg:custom", (message, buffers) => {
      if (message.kind === "points") this.receive(message, buffers);
    });
  }

  // A source with a length grows by what comes, up to that; the others are replaced.
  receive({ full, sources, now, counters, texts }, [buffer]) {
    this.heard = Date.now();
    const numbers = toFloats(buffer);
    let next = 0;
    for (const { name, columns, count, texts: words, length } of sources) {
      const known = (this.sources[name] ??= {});
      for (const column of columns) {
        const added = numbers.slice(next, (next += count));
        const grows = length && !full && known[column];
        known[column] = grows ? joined(known[column], added, length) : added;
      }
      Object.assign(known, words);
    }
    Object.assign(this, { now, counters, texts });
    for (const view of this.views) view.schedule();
  }
}

// ---- one view

class View extends StoreView {
  #bokehDocument = null;
  #root = null;
  #colors = {};
  #free = () => {};

  constructor(model, el, store) {
    super(model, el, store);
    this.#build();
  }

  #build() {
    const header = element("div", "ucxnb-live-header");
    const windows = this.model.get("windows").map((seconds) => [seconds, timeText(seconds)]);
    header.append(
      element("span", "ucxnb-live-title", "Traffic"),
      this.badge,
      this.button,
      element("span", "ucxnb-live-space"),
      this.#choice("Show", "window", windows, Number),
      this.#choice("Breakdown of", "measure", [
        ["bytes", "bytes"],
        ["messages", "messages"],
      ]),
      this.#choice("as", "drawn_as", [
        ["lines", "lines"],
        ["stacked", "stacked areas"],
      ]),
      this.#saver(),
    );
    this.counters = element("div", "ucxnb-live-counters");
    this.frame = element("div", "ucxnb-live-plots");
    this.frame.setAttribute("role", "img");
    this.frame.setAttribute("aria-label", this.model.get("label"));
    const body = element("div", "ucxnb-live-body");
    body.append(this.counters, this.frame);
    this.el.append(header, body);
  }

  // A select for one of the model's values.
  #choice(text, name, options, read = String) {
    const [group, select] = labelledSelect(text);
    for (const [value, words] of options) select.append(new Option(words, value));
    select.value = this.model.get(name);
    select.addEventListener("change", () => this.set(name, read(select.value)));
    this.model.on(`change:${name}`, () => {
      select.value = this.model.get(name);
    });
    return group;
  }

  // Which plot to save, and a button for each format.
  #saver() {
    const [group, select] = labelledSelect("Save");
    this.saved = select;
    for (const format of ["png", "svg"]) {
      const button = group.appendChild(element("button", "", format.toUpperCase()));
      button.type = "button";
      button.setAttribute("aria-label", `Save the plot as ${format.toUpperCase()}`);
      button.addEventListener("click", () => this.save(this.saved.value, format));
    }
    return group;
  }

  async start(Bokeh) {
    await this.#embed(Bokeh);
    if (!this.#bokehDocument) return () => {};
    const onItem = () => this.#embed(Bokeh);
    this.model.on("change:item", onItem);
    const unfollow = this.follow(["ended", "gone"]);
    return () => {
      unfollow();
      this.model.off("change:item", onItem);
      this.#bokehDocument = null;
      this.#free();
    };
  }

  // Show the layout, in place of the one that was shown.
  async #embed(Bokeh) {
    this.#bokehDocument = null;
    this.#free();
    const target = element("div");
    this.frame.replaceChildren(target);
    const repainted = () => {
      this.#colors = {};
      if (this.#bokehDocument) this.draw();
    };
    const embedded = await embedLayout(Bokeh, this.model, this.el, target, repainted);
    if (!embedded) return;
    if (!target.isConnected) return embedded.free(); // another layout has come meanwhile
    this.#bokehDocument = embedded.bokehDocument;
    this.#root = embedded.root;
    this.#free = embedded.free;
    const plots = [...this.#bokehDocument._all_models.values()].filter((m) => m.type === "Figure");
    const chosen = this.saved.value;
    this.saved.replaceChildren(...plots.map((plot) => new Option(plot.title.text, plot.name)));
    if (plots.some((plot) => plot.name === chosen)) this.saved.value = chosen;
    this.draw();
  }

  draw() {
    const page = this.#bokehDocument;
    if (!page) return;
    const { now, texts, sources } = this.store;
    const window = this.model.get("window");
    if (now && this.el.dataset.now !== String(now)) {
      this.el.dataset.now = now;
      page.get_model_by_name("time-range").setv({ start: now - window, end: now });
      page.get_model_by_name("time-ticks").ticks = timeTicks(window, now);
    }
    for (const [name, text] of Object.entries(texts)) {
      const entry = page.get_model_by_name(name);
      if (entry?.type === "Title") entry.text = text;
      else if (entry && (entry.label?.value !== text || entry.visible !== Boolean(text)))
        entry.setv({ label: { value: text }, visible: Boolean(text) });
    }
    for (const [name, columns] of Object.entries(sources)) {
      const color = columns.paint?.map((paint) => this.#css(paint));
      const source = page.get_model_by_name(name);
      if (source) source.data = color ? { ...columns, color } : { ...columns };
    }
    this.#drawCounters(this.store.counters);
  }

  #css(name) {
    return (this.#colors[name] ??= getComputedStyle(this.el)
      .getPropertyValue(`--ucxnb-${name}`)
      .trim());
  }

  async save(name, format) {
    const plot = [...viewsBelow(this.#root)].find((view) => view.model.name === name);
    const layer = plot.export(format, true);
    if (format === "png") {
      const context = layer.canvas.getContext("2d");
      context.globalCompositeOperation = "destination-over"; // the plot itself has no background
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.fillStyle = this.#css("background");
      context.fillRect(0, 0, layer.canvas.width, layer.canvas.height);
    }
    saveBlob(`${name}.${format}`, await layer.to_blob());
  }

  #drawCounters({ pairs = [], singles = [] }) {
    if (!pairs.length) return;
    if (!this.cells) this.#buildCounters(pairs, singles);
    const texts = [...pairs.flatMap((row) => row.slice(1)), ...singles.map((row) => row[1])];
    texts.forEach((text, i) => {
      if (this.cells[i].textContent !== text) this.cells[i].textContent = text;
    });
  }

  #buildCounters(pairs, singles) {
    this.cells = [];
    const table = element("table", "ucxnb-live-table");
    const head = table.createTHead().insertRow();
    head.append(element("td"));
    for (const name of ["sent", "received"]) {
      const cell = head.appendChild(element("th"));
      cell.scope = "col";
      cell.append(element("span", `ucxnb-live-key ucxnb-live-key-${name}`), name);
    }
    const body = table.createTBody();
    for (const [label, ...values] of [...pairs, ...singles]) {
      const row = body.insertRow();
      row.appendChild(element("th", "", label)).scope = "row";
      for (const _ of values) {
        const cell = row.appendChild(element("td"));
        cell.colSpan = 3 - values.length;
        this.cells.push(cell);
      }
    }
    this.counters.replaceChildren(table);
  }
}

// A factory, for initialize and render are handed different proxies of one model.
export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
    },
    async render({ model, el }) {
      return new View(model, el, store).start(loadBokeh(model));
    },
  };
};
