// What every widget with a bokeh layout needs; stands before the widget's own code (see bokeh_widget.py).

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

// Call once the next animation frame, in which BokehJS draws, is over.
function afterFrame(call) {
  requestAnimationFrame(() => setTimeout(call, 0));
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function uniqueId() {
  return `ucxnb-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
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
  // How a page looks is its own affair: a server has nothing to know of it.
  const set = (model, colors) => model.setv(colors, { sync: false });
  for (const model of bokehDocument._all_models.values()) {
    if (["LinearAxis", "LogAxis", "CategoricalAxis"].includes(model.type))
      set(model, {
        axis_line_color: model.name === "time" ? css("grid") : null,
        major_label_text_color: css("muted"),
        major_label_text_font: font,
      });
    else if (model.type === "Grid") set(model, { grid_line_color: css("grid") });
    else if (model.type === "ColorBar")
      set(model, { major_label_text_color: css("muted"), major_label_text_font: font });
    else if (model.type === "Title")
      set(model, { text_color: css("text"), text_font: font });
    else if (model.type === "Legend")
      set(model, {
        label_text_color: css("text"),
        label_text_font: font,
        inactive_fill_color: css("veil"),
      });
    else if (model.type === "GlyphRenderer" && css(model.name)) {
      const colors = ["line_color", "fill_color", "text_color"].filter(
        (color) => color in model.glyph.properties,
      );
      set(model.glyph, Object.fromEntries(colors.map((color) => [color, css(model.name)])));
      if (colors.includes("text_color")) set(model.glyph, { text_font: font });
    }
  }
}

// ---- the layout in the page

function* viewsBelow(view) {
  yield view;
  for (const child of view.children?.() ?? []) yield* viewsBelow(child);
}

// Whenever it draws, bokeh asks the page's style for each property of each label, line and key, in
// case one is set there (`--bk-...`), and for the size of the font, in case a label's is given in
// em. Neither is so here, and in a page as large as JupyterLab these questions take half of the time.
function askNoStyle(root) {
  for (const view of viewsBelow(root)) {
    for (const visual of view.visuals ?? [])
      if (visual._get_css_value) visual._get_css_value = () => "";
    if (view.model.type === "Figure") Object.defineProperty(view, "base_font_size", { value: 13 });
  }
}

// Embeds a widget's layout into `target`, painted in the colours of the page around `el`, also
// when those change; `repainted` is called after each time. Gives bokeh's document, the view of
// its root and what frees them; or null, if the view has left the page meanwhile.
async function embedLayout(Bokeh, model, el, target, repainted = () => {}) {
  const item = JSON.parse(model.get("item"));
  target.id = uniqueId();
  item.target_id = target.id;
  // BokehJS looks its target up in the page, where the view arrives a moment after render.
  while (!target.isConnected) await new Promise(requestAnimationFrame);
  let views;
  try {
    views = await Bokeh.embed.embed_item(item, target.id);
  } catch (error) {
    if (target.isConnected) throw error;
    return null; // it was closed before it had appeared
  }
  // Not "the newest of Bokeh.documents": another view may have been embedded meanwhile.
  const root = [...views.roots][0];
  const bokehDocument = root.model.document;
  askNoStyle(root);

  const repaint = () => {
    paint(bokehDocument, el);
    repainted();
  };
  repaint();
  // The theme's stylesheet may arrive after the attribute that announces it.
  const themes = new MutationObserver(() => {
    repaint();
    setTimeout(repaint, 300);
  });
  themes.observe(document.body, { attributes: true });
  const free = () => {
    themes.disconnect();
    const index = Bokeh.documents.indexOf(bokehDocument);
    if (index >= 0) Bokeh.documents.splice(index, 1);
    bokehDocument.clear();
  };
  return { bokehDocument, root, free };
}
