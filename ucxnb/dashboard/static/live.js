// Shows a bokeh layout and keeps it up to date from the kernel's binary messages (see live.py).

const COPIES = "__ucxnb_bokeh__";

// The page's own BokehJS if it has our version, else a private copy, with the loaders that would
// catch it (AMD, CommonJS) out of its sight.
function loadBokeh(model) {
  const version = model.get("bokeh_version");
  if (window.Bokeh?.version === version) return window.Bokeh;
  const copies = (window[COPIES] ??= {});
  if (!copies[version]) {
    const others = window.Bokeh;
    const run = new Function("define", "module", "exports", model.get("bokehjs"));
    run.call(window, undefined, undefined, undefined);
    copies[version] = window.Bokeh;
    if (others) window.Bokeh = others;
    else delete window.Bokeh;
  }
  return copies[version];
}

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

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
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

// ---- colours: bokeh draws on a canvas, so the page's theme must be read and set

function isLight(color) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return 0.299 * red + 0.587 * green + 0.114 * blue > 127;
}

function paint(bokehDocument, el) {
  el.dataset.theme = isLight(getComputedStyle(el).color) ? "dark" : "light";
  const style = getComputedStyle(el);
  const css = (name) => style.getPropertyValue(`--ucxnb-${name}`).trim();
  const font = style.fontFamily;
  for (const model of bokehDocument._all_models.values()) {
    if (model.type === "LinearAxis")
      model.setv({
        axis_line_color: model.name === "time" ? css("grid") : null,
        major_label_text_color: css("muted"),
        major_label_text_font: font,
      });
    else if (model.type === "Grid") model.setv({ grid_line_color: css("grid") });
    else if (model.type === "Title") model.setv({ text_color: css("text"), text_font: font });
    else if (model.type === "GlyphRenderer" && model.name)
      model.glyph.setv({ line_color: css(model.name) });
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
    const item = JSON.parse(this.model.get("item"));
    this.plots.id = `ucxnb-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    item.target_id = this.plots.id;
    // BokehJS looks its target up in the page, where the view arrives a moment after render.
    while (!this.plots.isConnected) await new Promise(requestAnimationFrame);
    const views = await Bokeh.embed.embed_item(item, this.plots.id);
    // Not "the newest of Bokeh.documents": another view may have been embedded meanwhile.
    const bokehDocument = [...views.roots][0].model.document;
    this.#bokehDocument = bokehDocument;

    const repaint = () => paint(bokehDocument, this.el);
    repaint();
    // The theme's stylesheet may arrive after the attribute that announces it.
    const themes = new MutationObserver(() => {
      repaint();
      setTimeout(repaint, 300);
    });
    themes.observe(document.body, { attributes: true });
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
      themes.disconnect();
      screen.disconnect();
      this.#bokehDocument = null;
      const index = Bokeh.documents.indexOf(bokehDocument);
      if (index >= 0) Bokeh.documents.splice(index, 1);
      bokehDocument.clear();
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
