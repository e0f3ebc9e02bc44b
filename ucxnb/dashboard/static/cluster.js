// Shows a cluster: a table of its workers, and heat maps of what is between each two (see cluster's view.py).

const MOST_TICKS = 16;
const TEXTS = ["worker", "host", "state", "note"]; // columns that are no numbers

function toFloats({ buffer, byteOffset, byteLength }) {
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

// The smallest and largest above 0, as a logarithmic scale wants them: never the same.
function limits(numbers) {
  let low = Infinity;
  let high = 0;
  for (const number of numbers) {
    if (!(number > 0)) continue;
    if (number < low) low = number;
    if (number > high) high = number;
  }
  if (!high) return { low: 1, high: 10 };
  return low * 1.5 < high ? { low, high } : { low: low / 1.5, high: high * 1.5 };
}

function rankTicks(size) {
  const step = Math.ceil(size / MOST_TICKS);
  const ticks = [];
  for (let rank = 0; rank < size; rank += step) ticks.push(rank + 0.5);
  return ticks;
}

// ---- the latest, kept once for all views of a widget

class Store {
  heard = Date.now(); // when something came last
  views = new Set();
  updates = 0;

  constructor(model) {
    const { squares = {}, ...content } = model.get("snapshot");
    this.content = content;
    this.squares = {};
    for (const [name, square] of Object.entries(squares)) this.squares[name] = toFloats(square);
    model.on("msg:custom", (message, buffers) => {
      if (message.kind !== "cluster") return;
      this.heard = Date.now();
      this.updates += 1;
      this.content = message;
      message.maps.forEach((name, i) => {
        this.squares[name] = toFloats(buffers[i]);
      });
      for (const view of this.views) view.schedule();
    });
  }
}

// ---- one view

class View extends StoreView {
  #bokehDocument = null;
  #ndarray = null;

  constructor(model, el, store) {
    super(model, el, store);
    this.#build();
  }

  #build() {
    const header = element("div", "ucxnb-live-header");
    this.summary = element("span", "ucxnb-live-choice");
    this.progress = element("span", "ucxnb-live-choice");
    this.progress.setAttribute("role", "status");
    this.measure = element("button");
    this.measure.type = "button";
    this.measure.title = "Latency and bandwidth between each two, one pair of a host at a time";
    this.measure.addEventListener("click", () =>
      this.model.send({ kind: this.model.get("measuring") ? "stop" : "measure" }),
    );
    header.append(
      element("span", "ucxnb-live-title", "Cluster"),
      this.badge,
      this.button,
      this.summary,
      element("span", "ucxnb-live-space"),
      this.progress,
      this.measure,
    );
    this.columns = this.model.get("columns");
    const table = element("table", "ucxnb-cluster-table");
    const head = table.createTHead().insertRow();
    for (const name of this.columns) {
      const cell = head.appendChild(element("th", this.#kind(name), name));
      cell.scope = "col";
    }
    this.body = table.createTBody();
    const frame = element("div", "ucxnb-cluster-table-frame");
    frame.tabIndex = 0; // so that it can be scrolled by keyboard
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "Workers of the cluster");
    frame.append(table);
    this.plots = element("div", "ucxnb-live-plots");
    this.plots.setAttribute("role", "img");
    this.plots.setAttribute("aria-label", this.model.get("label"));
    this.key = element("div", "ucxnb-cluster-key");
    this.el.append(header, frame, this.plots, this.key);
  }

  #kind(column) {
    if (column === "state") return "ucxnb-cluster-text ucxnb-cluster-state-cell";
    return TEXTS.includes(column) ? "ucxnb-cluster-text" : "";
  }

  async start(Bokeh) {
    const target = this.plots.appendChild(element("div"));
    const repainted = () => this.draw();
    const embedded = await embedLayout(Bokeh, this.model, this.el, target, repainted);
    if (!embedded) return () => {};
    this.#bokehDocument = embedded.bokehDocument;
    this.#ndarray = Bokeh.require("core/util/ndarray").ndarray;
    this.draw();
    const unfollow = this.follow(["ended", "measuring", "progress"]);
    return () => {
      unfollow();
      this.#bokehDocument = null;
      embedded.free();
    };
  }

  draw() {
    const { content, squares } = this.store;
    if (!this.#bokehDocument || !content.rows) return;
    this.summary.textContent = content.summary;
    this.#drawTable(content.rows);
    this.#drawMaps(content, squares);
    this.el.dataset.updates = this.store.updates;
  }

  #drawTable(rows) {
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    while (this.body.rows.length < rows.length) {
      const row = this.body.insertRow();
      for (const name of this.columns) {
        const cell = row.appendChild(element("td", this.#kind(name)));
        if (name === "state") cell.append(element("span", "ucxnb-cluster-state"));
      }
    }
    rows.forEach(({ state, cells }, i) => {
      const row = this.body.rows[i];
      if (row.dataset.state !== state) row.dataset.state = state;
      cells.forEach((text, j) => {
        const cell = row.cells[j].firstElementChild ?? row.cells[j];
        if (cell.textContent === text) return;
        cell.textContent = text;
        row.cells[j].title = text;
      });
    });
  }

  #drawMaps({ names, words, families }, squares) {
    const page = this.#bokehDocument;
    const style = getComputedStyle(this.el);
    const css = (name) => style.getPropertyValue(`--ucxnb-${name}`).trim();
    const size = names.length;
    page.get_model_by_name("names").data = { name: names };
    page.get_model_by_name("words").data = { word: words };
    for (const [name, numbers] of Object.entries(squares)) {
      if (numbers.length !== size * size || !size) continue;
      const colors = page.get_model_by_name(`${name}-colors`);
      if (name === "transports") {
        const palette = families.length ? families.map(css) : ["#000000"];
        colors.setv({ palette, low: -0.5, high: palette.length - 0.5 });
      } else colors.setv(limits(numbers));
      page.get_model_by_name(`${name}-x`).setv({ start: 0, end: size });
      page.get_model_by_name(`${name}-y`).setv({ start: size, end: 0 });
      page.get_model_by_name(`${name}-ticks`).ticks = rankTicks(size);
      const image = this.#ndarray(numbers, { dtype: "float32", shape: [size, size] });
      page.get_model_by_name(name).data = { image: [image], size: [size] };
    }
    const key = words.map((word, i) => [word, css(families[i])]);
    const text = JSON.stringify(key);
    if (this.key.dataset.text === text) return;
    this.key.dataset.text = text;
    this.key.replaceChildren(
      ...key.map(([word, color]) => {
        const entry = element("span");
        const swatch = entry.appendChild(element("span", "ucxnb-cluster-swatch"));
        swatch.style.background = color;
        entry.append(word);
        return entry;
      }),
    );
  }

  showState() {
    super.showState();
    this.measure.hidden = Boolean(this.model.get("ended"));
    this.measure.textContent = this.model.get("measuring") ? "Stop measuring" : "Measure pairs";
    this.progress.textContent = this.model.get("progress");
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
