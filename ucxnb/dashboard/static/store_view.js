// A view of what a store holds, drawn again whenever something comes; stands between bokeh_widget.js
// and the code of a widget that has one.

const LEAST_SILENCE = 3000; // ms without news after which nobody should take it for live
const REST = 0.5; // of the time that drawing took, until the next: a slow browser stays usable

class StoreView {
  #due = false;
  #missed = false; // something has come while one drawing was due
  #onScreen = true;

  // `store` has the `views` that it tells of what comes, and when that was last, as `heard`.
  constructor(model, el, store) {
    Object.assign(this, { model, el, store });
    el.classList.add("ucxnb-live");
    this.badge = element("span", "ucxnb-live-badge");
    this.badge.setAttribute("role", "status");
    this.button = element("button", "ucxnb-live-pause");
    this.button.type = "button";
    this.button.addEventListener("click", () => this.set("paused", !model.get("paused")));
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  // Follow the store, and what of the model the header tells; gives what ends that.
  follow(told) {
    const screen = new IntersectionObserver(([entry]) => {
      this.#onScreen = entry.isIntersecting;
      this.schedule();
    });
    screen.observe(this.el);
    const onState = () => this.showState();
    const onPause = () => {
      this.store.heard = Date.now(); // nothing came while it was paused
      this.showState();
    };
    const silence = setInterval(onState, 1000);
    const events = told.map((name) => `change:${name}`).join(" ");
    this.model.on("change:paused", onPause);
    this.model.on(events, onState);
    this.store.views.add(this);
    this.showState();
    this.el.dataset.ready = "yes";
    return () => {
      this.store.views.delete(this);
      clearInterval(silence);
      this.model.off("change:paused", onPause);
      this.model.off(events, onState);
      screen.disconnect();
    };
  }

  // Draw once per animation frame at most: a slow browser drops frames instead of queueing them.
  schedule() {
    this.#missed = true;
    if (this.#due || !this.#onScreen || this.model.get("paused")) return;
    this.#due = true;
    this.#missed = false;
    afterFrame(() => {
      const began = performance.now();
      this.draw();
      afterFrame(() => setTimeout(() => this.#rested(), REST * (performance.now() - began)));
    });
  }

  // The page has had time for others: for clicks, above all.
  #rested() {
    this.#due = false;
    if (this.#missed) this.schedule();
  }

  // The kernel may have died, or the network: then nobody tells the page that nothing comes.
  #moving() {
    if (this.model.get("replay")) return "replay";
    const silence = Date.now() - this.store.heard;
    return silence > Math.max(LEAST_SILENCE, 3000 * this.model.get("interval")) ? "silent" : "live";
  }

  showState() {
    const ended = this.model.get("ended");
    const paused = this.model.get("paused");
    const state = ended ? "ended" : paused ? "paused" : this.#moving();
    const since = new Date(this.store.heard).toLocaleTimeString();
    const word = { ended, silent: `no news since ${since}` }[state] ?? state;
    const text = [word, ended ? "" : this.model.get("gone")].filter(Boolean).join(", ");
    if (this.badge.textContent === text) return; // else screen readers would say it every second
    this.badge.textContent = text;
    this.badge.dataset.state = state;
    this.button.textContent = paused ? "Resume" : "Pause";
    this.button.setAttribute("aria-pressed", String(paused));
    this.button.hidden = Boolean(ended);
    this.schedule();
  }
}
