// Keeps a bokeh layout up to date from the kernel's binary messages (see live.py).

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

// ---- the points, kept once for all views of a widget

class Store {
  sources = {};
  counters = {};
  views = new Set();

  constructor(model) {
    const { sources = {}, counters = {} } = model.get("snapshot");
    this.counters = counters;
    for (const [name, columns] of Object.entries(sources)) {
      this.sources[name] = {};
      for (const [column, view] of Object.entries(columns))
        this.sources[name][column] = toFloats(view);
    }
    model.on("msg:custom", (message, buffers) => {
      if (message.kind === "points") this.receive(message, buffers);
    });
  }

  receive({ full, sources, counters }, buffers) {
    let next = 0;
    for (const { name, columns, length } of sources) {
      const known = (this.sources[name] ??= {});
      for (const column of columns) {
        const added = toFloats(buffers[next++]);
        known[column] = full || !known[column] ? added : joined(known[column], added, length);
      }
    }
    this.counters = counters;
    for (const view of this.views) view.schedule();
  }
}

// ---- one view

class View {
  #due = false;
  #onScreen = true;
  #bokehDocument = null;

  constructor(model, el, store) {
    this.model = model;
    this.el = el;
    this.store = store;
    el.classList.add("ucxnb-live");
    this.#build();
  }

  #build() {
    const header = element("div", "ucxnb-live-header");
    this.badge = element("span", "ucxnb-live-badge");
    this.badge.setAttribute("role", "status");
    this.button = element("button", "ucxnb-live-pause");
    this.button.type = "button";
    this.button.addEventListener("click", () => {
      this.model.set("paused", !this.model.get("paused"));
      this.model.save_changes();
    });
    header.append(element("span", "ucxnb-live-title", "Traffic"), this.badge, this.button);
    this.counters = element("div", "ucxnb-live-counters");
    this.plots = element("div", "ucxnb-live-plots");
    this.plots.setAttribute("role", "img");
    this.plots.setAttribute("aria-label", this.model.get("label"));
    const body = element("div", "ucxnb-live-body");
    body.append(this.counters, this.plots);
    this.el.append(header, body);
  }

  async start(Bokeh) {
    const embedded = await embedLayout(Bokeh, this.model, this.el, this.plots);
    if (!embedded) return () => {};
    const { bokehDocument, free } = embedded;
    this.#bokehDocument = bokehDocument;
    const screen = new IntersectionObserver(([entry]) => {
      this.#onScreen = entry.isIntersecting;
      this.schedule();
    });
    screen.observe(this.el);
    const onState = () => this.#showState();
    this.model.on("change:paused change:ended", onState);
    this.store.views.add(this);
    this.#showState();
    this.draw();
    this.el.dataset.ready = "yes";

    return () => {
      this.store.views.delete(this);
      this.model.off("change:paused change:ended", onState);
      screen.disconnect();
      this.#bokehDocument = null;
      free();
    };
  }

  // Draw once per animation frame at most: a slow browser drops frames instead of queueing them.
  schedule() {
    if (this.#due || !this.#onScreen || this.model.get("paused")) return;
    this.#due = true;
    requestAnimationFrame(() => setTimeout(() => this.draw(), 0));
  }

  draw() {
    this.#due = false;
    if (!this.#bokehDocument) return;
    for (const [name, columns] of Object.entries(this.store.sources)) {
      const latest = columns.time?.at(-1);
      const ago = columns.time?.map((time) => time - latest);
      this.#bokehDocument.get_model_by_name(name).data = { ...columns, ago };
    }
    this.#drawCounters(this.store.counters);
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

  #showState() {
    const ended = this.model.get("ended");
    const paused = this.model.get("paused");
    this.badge.textContent = ended || (paused ? "paused" : "live");
    this.badge.dataset.state = ended ? "ended" : paused ? "paused" : "live";
    this.button.textContent = paused ? "Resume" : "Pause";
    this.button.setAttribute("aria-pressed", String(paused));
    this.button.hidden = Boolean(ended);
    this.schedule();
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
