// The pinned runs. `model.shown` is as `shown` of mdfa_app/page/pins.py makes it.

const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const HEADS = ["", "signals", "updates", "accuracy"];

export function render({ model }) {
  const name = make("input", { type: "text", maxlength: 60, "aria-label": "Name of this run", autocomplete: "off", spellcheck: "false" });
  const form = make("form", { class: "pin" }, name, make("button", { type: "submit" }, "Pin this run"));
  const note = make("p", { class: "muted" }), list = make("div");
  let proposed = "";  // a name that the visitor has typed stays when another one is proposed
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    model.send_msg({ pin: name.value });
    name.value = proposed;
  });

  const head = (run) => {
    const remove = make("button", { type: "button", "aria-label": `Remove ${run.name}`, title: "Remove" }, "×");
    remove.addEventListener("click", () => model.send_msg({ unpin: run.name }));
    const open = make("a", { href: `?${run.query}`, target: "_blank", title: "Open a page with its settings" }, run.name);
    return make("h3", {}, open, remove);
  };
  const figures = (run) => make("table", { class: "figures", "aria-label": run.name },
    make("thead", {}, make("tr", {}, ...HEADS.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...run.rows.map(([rule, ...values]) => make("tr", {},
      make("th", { scope: "row" }, rule), ...values.map((value) => make("td", {}, value))))));
  const places = new Map();  // by name; a run that has not changed is left alone, and so is its focus
  // What has the focus may go: the focus then moves to the run that was just pinned, or to what is next in the list.
  const keepFocus = (change) => {
    const held = form.getRootNode().activeElement, section = held?.closest?.(".pinned");
    const inForm = form.contains(held), at = [...list.children].indexOf(section);
    change();
    if (inForm && form.hidden) list.lastElementChild?.querySelector("a").focus();
    else if (section && !section.isConnected) {
      const next = list.children[Math.min(at, list.children.length - 1)];
      (next?.querySelector("button") ?? (form.hidden ? null : name))?.focus();
    }
  };
  const show = () => keepFocus(() => {
    const { proposal, note: text, runs } = model.shown;
    if (name.value === proposed) name.value = proposal;
    proposed = proposal;
    form.hidden = !proposal;
    note.textContent = text;
    note.hidden = !text;
    const told = runs.map((run) => JSON.stringify(run));
    for (const [key, place] of places) {
      if (!runs.some((run) => run.name === key)) { place.box.remove(); places.delete(key); }
    }
    for (const [number, run] of runs.entries()) {
      let place = places.get(run.name);
      if (!place) {
        const body = make("div");
        place = { box: make("section", { class: "pinned", "aria-label": run.name }, head(run), body), body, told: "" };
        places.set(run.name, place);
        list.append(place.box);
      }
      if (place.told === told[number]) continue;
      place.told = told[number];
      place.body.replaceChildren(make("p", { class: "muted" }, run.what), figures(run),
        ...(run.more ? [make("p", { class: "muted" }, run.more)] : []));
    }
  });
  model.on("shown", show);
  show();
  return make("div", { class: "pins" }, form, note, list);
}
