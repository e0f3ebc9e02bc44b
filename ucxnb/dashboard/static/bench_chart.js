// Lays runs over each other in two plots (see bench_chart.py); stands after size_chart.js.

const LIMIT = "limit (ucx_perftest)";
// The curve of one figure, as columns of a multi-line source; what was not measured leaves a gap.
function curves(runs, pick, color, label) {
  const made = { xs: [], ys: [], color: [], run: [] };
  for (const run of runs) {
    const rows = run.rows.filter((row) => row.nbytes > 0 && pick(row) > 0);
    if (!rows.length) continue;
    made.xs.push(rows.map((row) => row.nbytes));
    made.ys.push(rows.map(pick));
    made.color.push(color(run));
    made.run.push(label(run));
  }
  return made;
}

function points(runs, pick, color, texts) {
  const made = { x: [], y: [], color: [], run: [], size: [] };
  for (const name of Object.keys(texts)) made[name] = [];
  for (const run of runs)
    for (const row of run.rows) {
      if (!(row.nbytes > 0 && pick(row) > 0)) continue;
      made.x.push(row.nbytes);
      made.y.push(pick(row));
      made.color.push(color(run));
      made.run.push(run.name);
      made.size.push(sizeText(row.nbytes));
      for (const [name, text] of Object.entries(texts)) made[name].push(text(row));
    }
  return made;
}

const bandwidth = (row) => (row.message_rate === null ? null : row.message_rate * row.nbytes);
const limitBandwidth = (row) => (row.limit_rate === null ? null : row.limit_rate * row.nbytes);
const nanoseconds = (us) => (us === null ? null : us * 1000);

function sources(runs, css) {
  const own = (run) => css(`run-${run.color}`);
  const grey = () => css("limit");
  const name = (run) => run.name;
  const limit = () => LIMIT;
  return {
    p50: curves(runs, (row) => row.p50_us * 1000, own, name),
    p99: curves(runs, (row) => row.p99_us * 1000, own, name),
    p999: curves(runs, (row) => row.p999_us * 1000, own, name),
    limit_latency: curves(runs, (row) => nanoseconds(row.limit_us), grey, limit),
    rate: curves(runs, bandwidth, own, name),
    limit_bandwidth: curves(runs, limitBandwidth, grey, limit),
    latency_points: points(runs, (row) => row.p50_us * 1000, own, {
      p50: (row) => scaled(row.p50_us * 1000, TIMES),
      p99: (row) => scaled(row.p99_us * 1000, TIMES),
      p999: (row) => scaled(row.p999_us * 1000, TIMES),
      limit: (row) => scaled(nanoseconds(row.limit_us), TIMES),
    }),
    bandwidth_points: points(runs, bandwidth, own, {
      bandwidth: (row) => scaled(bandwidth(row), RATES),
      messages: (row) => scaled(row.message_rate, COUNTS),
      limit: (row) => scaled(limitBandwidth(row), RATES),
    }),
  };
}

class ChartView {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    el.classList.add("ucxnb-chart");
    this.plots = el.appendChild(element("div", "ucxnb-chart-plots"));
    this.plots.setAttribute("role", "img");
    this.plots.setAttribute("aria-label", model.get("label"));
    const key = el.appendChild(element("div", "ucxnb-chart-key"));
    for (const [line, text] of [
      ["p50", "median (p50)"],
      ["p99", "99 % are faster (p99)"],
      ["p999", "99.9 % are faster (p99.9)"],
      ["limit", "the limit: ucx_perftest, median"],
    ]) {
      const entry = key.appendChild(element("span"));
      entry.append(element("span", `ucxnb-chart-line ucxnb-chart-line-${line}`), text);
    }
  }

  async start(Bokeh) {
    const draw = () => this.#draw();
    const embedded = await embedLayout(Bokeh, this.model, this.el, this.plots, draw);
    if (!embedded) return () => {};
    Object.assign(this, embedded);
    draw();
    this.model.on("change:runs", draw);
    this.el.dataset.ready = "yes";
    return () => {
      this.model.off("change:runs", draw);
      this.bokehDocument = null;
      embedded.free();
    };
  }

  #css(name) {
    return getComputedStyle(this.el).getPropertyValue(`--ucxnb-${name}`).trim();
  }

  #draw() {
    if (!this.bokehDocument) return;
    const runs = this.model.get("runs");
    const data = sources(runs, (name) => this.#css(name));
    for (const [name, columns] of Object.entries(data))
      this.bokehDocument.get_model_by_name(name).data = columns;
    const ticks = sizeTicks(data.latency_points.x);
    for (const name of ["latency", "bandwidth"])
      this.bokehDocument.get_model_by_name(`${name}-sizes`).ticks = ticks;
    this.el.dataset.points = data.latency_points.x.length;
  }

  picture(name) {
    const drawn = this.root.export("png", true).canvas;
    const canvas = document.createElement("canvas");
    canvas.width = drawn.width;
    canvas.height = drawn.height;
    const context = canvas.getContext("2d");
    context.fillStyle = this.el.dataset.theme === "dark" ? "#111111" : "#ffffff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(drawn, 0, 0);
    canvas.toBlob((blob) => save(name, URL.createObjectURL(blob)));
  }
}

// A factory, for initialize and render are handed different proxies of one model.
export default () => {
  const views = new Set();
  return {
    initialize({ model }) {
      // Here and not in a view: there may be several of those, and one file is enough.
      model.on("msg:custom", (message) => {
        if (message.kind === "download")
          save(message.name, URL.createObjectURL(new Blob([message.text])));
        if (message.kind === "picture") [...views].at(-1)?.picture(message.name);
      });
    },
    async render({ model, el }) {
      const view = new ChartView(model, el);
      const free = await view.start(loadBokeh(model));
      views.add(view);
      return () => {
        views.delete(view);
        free();
      };
    },
  };
};
