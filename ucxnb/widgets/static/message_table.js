// A table of messages that asks the kernel for the rows in sight (see message_table.py).

const ROW = 24; // px, as in panels.css
const SPARE = 20; // rows asked for above and below those in sight
const MOST_KEPT = 2000; // rows
const COLUMNS = ["Time", "From", "Tag", "Size", "Message"];

function element(tag, className, role) {
  const node = document.createElement(tag);
  node.className = className;
  if (role) node.setAttribute("role", role);
  return node;
}

function render({ model, el }) {
  const grid = element("div", "ucxnb-grid", "grid");
  grid.tabIndex = 0;
  grid.setAttribute("aria-label", "Received messages");
  const head = grid.appendChild(element("div", "ucxnb-grid-row ucxnb-grid-head", "row"));
  head.setAttribute("aria-rowindex", "1");
  for (const name of COLUMNS) {
    head.appendChild(element("span", "ucxnb-cell", "columnheader")).textContent = name;
  }
  const body = grid.appendChild(element("div", "ucxnb-grid-body", "rowgroup"));
  const empty = element("div", "ucxnb-empty");
  empty.textContent = "Nothing received yet.";
  const uid = `ucxnb-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  el.append(empty, grid);

  const rows = new Map(); // by their place in the table
  let count = 0;
  let following = true; // the end, until somebody scrolls away from it
  let asked = false;
  let active = -1; // the place that keys move
  let chosen = false; // whether the row there is chosen as soon as it is known

  const inSight = () => {
    const first = Math.floor(grid.scrollTop / ROW);
    const height = Math.max(grid.clientHeight - ROW, 0);
    return [Math.max(0, Math.min(first, count - 1)), Math.min(count, first + Math.ceil(height / ROW) + 1)];
  };

  const ask = () => {
    if (asked || !count) return;
    const [first, last] = inSight();
    for (let i = first; i < last; i += 1) {
      if (rows.has(i)) continue;
      asked = true;
      model.send({ kind: "rows", start: Math.max(0, i - SPARE), stop: last + SPARE });
      return;
    }
  };

  const draw = () => {
    grid.hidden = !count;
    empty.hidden = Boolean(count);
    grid.setAttribute("aria-rowcount", String(count + 1));
    body.style.height = `${count * ROW}px`;
    if (following) grid.scrollTop = grid.scrollHeight;
    const [first, last] = inSight();
    const selected = model.get("selected");
    const lines = [];
    let activeId = null;
    for (let i = first; i < last; i += 1) {
      const row = rows.get(i);
      const line = element("div", "ucxnb-grid-row", "row");
      line.style.top = `${i * ROW}px`;
      line.id = `${uid}-${i}`;
      line.dataset.place = i;
      line.setAttribute("aria-rowindex", String(i + 2));
      line.setAttribute("aria-selected", String(row !== undefined && row[0] === selected));
      if (i === active) activeId = line.id;
      for (let column = 0; column < COLUMNS.length; column += 1) {
        const cell = line.appendChild(element("span", "ucxnb-cell", "gridcell"));
        cell.textContent = row === undefined ? "…" : row[column + 1];
      }
      lines.push(line);
    }
    body.replaceChildren(...lines);
    if (activeId) grid.setAttribute("aria-activedescendant", activeId);
    else grid.removeAttribute("aria-activedescendant");
    ask();
  };

  let planned = 0;
  const plan = () => {
    planned ||= requestAnimationFrame(() => {
      planned = 0;
      draw();
    });
  };

  const select = () => {
    const row = rows.get(active);
    if (!chosen || !row) return;
    chosen = false;
    model.set("selected", row[0]);
    model.save_changes();
  };

  const receive = (message) => {
    if (message.kind !== "rows") return;
    if (message.stale || message.count < count) {
      rows.clear();
      active = -1;
    }
    if (rows.size > MOST_KEPT) rows.clear();
    count = message.count;
    asked = false;
    message.rows.forEach((row, i) => rows.set(message.start + i, row));
    select();
    plan();
  };

  const choose = (place) => {
    active = Math.max(0, Math.min(count - 1, place));
    chosen = true;
    select();
    const top = active * ROW;
    const height = grid.clientHeight - ROW;
    following = false;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + ROW > grid.scrollTop + height) grid.scrollTop = top + ROW - height;
    plan();
  };

  const onScroll = () => {
    following = grid.scrollTop + grid.clientHeight >= grid.scrollHeight - ROW / 2;
    plan();
  };
  const onClick = (event) => {
    const line = event.target.closest("[data-place]");
    if (line) choose(Number(line.dataset.place));
  };
  const onKey = (event) => {
    const page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 2);
    const from = active < 0 ? inSight()[0] - 1 : active;
    const place = {
      ArrowDown: from + 1,
      ArrowUp: from - 1,
      PageDown: from + page,
      PageUp: from - page,
      Home: 0,
      End: count - 1,
    }[event.key];
    if (place === undefined || !count) return;
    // JupyterLab would move to another cell.
    event.preventDefault();
    event.stopPropagation();
    choose(place);
  };
  grid.addEventListener("scroll", onScroll);
  grid.addEventListener("click", onClick);
  grid.addEventListener("keydown", onKey);
  model.on("msg:custom", receive);
  model.on("change:selected", plan);
  const resized = new ResizeObserver(plan);
  resized.observe(grid);
  draw();
  model.send({ kind: "rows", start: 0, stop: 1 }); // the answer says how many there are
  return () => {
    cancelAnimationFrame(planned);
    resized.disconnect();
    model.off("msg:custom", receive);
    model.off("change:selected", plan);
  };
}

export default { render };
