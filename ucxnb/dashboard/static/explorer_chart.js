// Lays profiles over the protocols of one of them (see explorer_chart.py); stands after size_chart.js.

const PLOTS = {
  latency: { value: (point) => point.latency * 1e9, units: TIMES },
  bandwidth: { value: (point) => point.bandwidth, units: RATES },
};

// The estimate as points like the measured ones: of one message at a time.
const estimated = (expected) =>
  expected.map(([nbytes, seconds]) => ({ nbytes, latency: seconds, bandwidth: nbytes / seconds }));

function lines(profiles, expected, value, css) {
  const made = { xs: [], ys: [], color: [], dash: [], width: [] };
  const add = (points, color, dash, width) => {
    if (!points.length) return;
    made.xs.push(points.map((point) => point.nbytes));
    made.ys.push(points.map(value));
    made.color.push(color);
    made.dash.push(dash);
    made.width.push(width);
  };
  add(estimated(expected), css("limit"), "dashed", 2);
  for (const profile of profiles) add(profile.points, css(`run-${profile.color}`), "solid", 2.5);
  return made;
}

function dots(profiles, { value, units }, css) {
  const made = { x: [], y: [], color: [], run: [], size: [], value: [] };
  for (const profile of profiles)
    for (const point of profile.points) {
      made.x.push(point.nbytes);
      made.y.push(value(point));
      made.color.push(css(`run-${profile.color}`));
      made.run.push(profile.name);
      made.size.push(sizeText(point.nbytes));
      made.value.push(scaled(value(point), units));
    }
  return made;
}

function strips(bands, end, css) {
  const made = { x0: [], x1: [], color: [], sizes: [], protocol: [], words: [], lane: [], expects: [] };
  for (const band of bands) {
    if (band.last === 0) continue; // no place on a logarithmic axis
    made.x0.push(Math.max(1, band.first));
    made.x1.push(Math.min(end, band.last === null ? end : band.last + 1));
    made.color.push(css(`kind-${band.kind}`));
    for (const name of ["sizes", "protocol", "words", "expects"]) made[name].push(band[name]);
    made.lane.push(band.lane || "no lane");
  }
  return made;
}

class ExplorerView {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    el.classList.add("ucxnb-chart", "ucxnb-explorer-chart");
    this.plots = el.appendChild(element("div", "ucxnb-chart-plots"));
    this.plots.setAttribute("role", "img");
    this.plots.setAttribute("aria-label", model.get("label"));
    this.key = el.appendChild(element("div", "ucxnb-chart-key"));
    this.protocols = el.appendChild(element("div", "ucxnb-chart-key"));
    this.protocols.setAttribute("role", "list");
  }

  async start(Bokeh) {
    const draw = () => this.#draw();
    const embedded = await embedLayout(Bokeh, this.model, this.el, this.plots, draw);
    if (!embedded) return () => {};
    Object.assign(this, embedded);
    draw();
    const changes = "change:profiles change:bands change:expected change:of";
    this.model.on(changes, draw);
    this.el.dataset.ready = "yes";
    return () => {
      this.model.off(changes, draw);
      this.bokehDocument = null;
      embedded.free();
    };
  }

  #css(name) {
    return getComputedStyle(this.el).getPropertyValue(`--ucxnb-${name}`).trim();
  }

  #draw() {
    if (!this.bokehDocument) return;
    const css = (name) => this.#css(name);
    const named = (name) => this.bokehDocument.get_model_by_name(name);
    const profiles = this.model.get("profiles");
    const bands = this.model.get("bands");
    const range = named("explorer-range");
    const measured = profiles.flatMap((profile) => profile.points.map((point) => point.nbytes));
    const start = (measured.length ? Math.min(...measured) : 8) / 1.25;
    const end = 1.25 * (measured.length ? Math.max(...measured) : 4 << 20);
    range.setv({ start, end });
    const inside = (size) => size > start && size < end;
    const edges = bands.map((band) => band.first).filter(inside);
    const expected = this.model.get("expected").filter(([size]) => inside(size));
    for (const [name, plot] of Object.entries(PLOTS)) {
      named(`explorer-${name}-bands`).data = strips(bands, end, css);
      named(`explorer-${name}-edges`).data = { x: edges, color: edges.map(() => css("limit")) };
      named(`explorer-${name}-thresholds`).ticks = edges;
      named(`explorer-${name}-lines`).data = lines(profiles, expected, plot.value, css);
      named(`explorer-${name}-points`).data = dots(profiles, plot, css);
      named(`explorer-${name}-sizes`).ticks = sizeTicks([start, end]);
    }
    this.#drawKeys(profiles, bands, expected.length > 0);
    this.el.dataset.points = measured.length;
  }

  #drawKeys(profiles, bands, expects) {
    const entry = (style, text) => {
      const item = element("span");
      const line = item.appendChild(element("span", "ucxnb-chart-line"));
      Object.assign(line.style, style);
      item.append(text);
      return item;
    };
    const latencyOf = profiles[0]?.latency_of;
    this.key.replaceChildren(
      ...profiles.map((profile) =>
        entry({ borderTopColor: this.#css(`run-${profile.color}`) }, profile.name),
      ),
      ...(expects
        ? [entry({ borderTop: "2px dashed var(--ucxnb-limit)" }, `UCX expects: ${this.model.get("of")}, one message at a time`)]
        : []),
      ...(latencyOf ? [element("span", "", `latency: ${latencyOf}, median`)] : []),
    );
    this.protocols.replaceChildren(
      ...bands.map((band) => {
        const item = element("span");
        item.setAttribute("role", "listitem");
        item.title = band.words;
        const swatch = item.appendChild(element("span", "ucxnb-explorer-swatch"));
        swatch.style.background = this.#css(`kind-${band.kind}`);
        item.append(`${band.sizes}: ${band.protocol}`);
        return item;
      }),
    );
  }
}

export default {
  async render({ model, el }) {
    return await new ExplorerView(model, el).start(loadBokeh(model));
  },
};
