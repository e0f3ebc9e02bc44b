// A text with a button that copies it (see copy_text.py).

// Without https or localhost a page has no clipboard; the old way still works there.
async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("the browser does not allow it");
}

function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "ucxnb-copy-text";
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.className = "jupyter-button ucxnb-copy-button";
  const said = document.createElement("span");
  said.className = "ucxnb-spoken";
  said.setAttribute("role", "status");
  box.append(pre, button, said);
  el.append(box);

  const show = () => {
    const text = model.get("text");
    box.hidden = !text;
    pre.textContent = text;
    pre.setAttribute("aria-label", model.get("label"));
    button.title = `Copy ${model.get("label")}`;
    button.setAttribute("aria-label", button.title);
  };
  let back;
  button.addEventListener("click", async () => {
    clearTimeout(back);
    try {
      await copy(model.get("text"));
      button.textContent = said.textContent = "Copied";
    } catch (error) {
      button.textContent = said.textContent = "Not copied";
      console.warn(error);
    }
    back = setTimeout(() => {
      button.textContent = "Copy";
      said.textContent = "";
    }, 1500);
  });
  model.on("change:text change:label", show);
  show();
  return () => {
    clearTimeout(back);
    model.off("change:text change:label", show);
  };
}

export default { render };
