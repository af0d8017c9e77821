// A form of settings. `model.shown` has the fields by name, as `Field.to_dict` of mdfa_app/page/form.py makes them.

const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
};

// Each kind makes its controls and returns how they show a field. `send` reports a visitor's choice.
const KINDS = {
  segments(name, send) {
    const row = make("div", { class: "segments" });
    return { body: row, show(field) {
      const labels = field.options.join("|");
      if (row.dataset.labels !== labels) {
        row.dataset.labels = labels;
        row.replaceChildren(...field.options.map((label, place) => {
          const input = make("input", { type: "radio", name, value: place });
          input.addEventListener("change", () => send(place));
          return make("label", {}, input, make("span", {}, label));
        }));
      }
      for (const [place, input] of [...row.querySelectorAll("input")].entries()) {
        input.checked = place === field.value;
        input.disabled = field.disabled;
      }
    } };
  },
  select(name, send) {
    const box = make("select");
    box.addEventListener("change", () => send(box.selectedIndex));
    return { body: box, named: box, show(field) {
      const labels = field.options.join("|");
      if (box.dataset.labels !== labels) {
        box.dataset.labels = labels;
        box.replaceChildren(...field.options.map((label) => make("option", {}, label)));
      }
      box.selectedIndex = field.value;
      box.disabled = field.disabled;
    } };
  },
  slider(name, send) {
    const range = make("input", { type: "range", min: 0, step: 1 }), text = make("output");
    let labels = [];
    const tell = () => {
      text.textContent = labels[range.valueAsNumber] ?? "";
      range.setAttribute("aria-valuetext", text.textContent);
    };
    range.addEventListener("input", tell);
    range.addEventListener("change", () => send(range.valueAsNumber));
    return { body: make("div", { class: "slider" }, range, text), named: range, show(field) {
      labels = field.options;
      range.max = labels.length - 1;
      range.value = field.value;
      range.disabled = field.disabled;
      tell();
    } };
  },
  stepper(name, send) {
    const less = make("button", { type: "button" }, "−"), more = make("button", { type: "button" }, "+");
    const text = make("output");
    let field;
    const step = (by) => () => send(field.value + by);
    less.addEventListener("click", step(-1));
    more.addEventListener("click", step(1));
    return { body: make("div", { class: "stepper" }, less, text, more), show(now) {
      field = now;
      text.textContent = field.options[field.value] ?? "";
      less.setAttribute("aria-label", `${field.label}: one less`);
      more.setAttribute("aria-label", `${field.label}: one more`);
      less.disabled = field.disabled || field.value <= 0;
      more.disabled = field.disabled || field.value >= field.options.length - 1;
    } };
  },
  file(name, send) {
    const input = make("input", { type: "file", accept: ".csv,.tsv,.txt,.zip", tabindex: -1, "aria-hidden": "true" });
    const button = make("button", { type: "button" }, "Choose a file …"), said = make("p", { class: "said", role: "status" });
    const box = make("div", { class: "chooser" }, input, button, said);
    let largest = 0;
    const take = async (file) => {
      if (!file) return;
      send({ name: file.name, size: file.size });
      for (let start = 0; start < file.size && file.size <= largest; start += PART) {
        send({ part: await base64(file.slice(start, start + PART)).catch(() => "") });  // an empty part is refused
      }
    };
    button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => { take(input.files[0]); input.value = ""; });
    box.addEventListener("dragover", (event) => event.preventDefault());
    box.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
    return { body: box, show(field) {
      largest = field.largest;
      said.textContent = field.value;
    } };
  },
  number: (name, send) => typed(send, { inputmode: "decimal" }),
  text: (name, send) => typed(send, {}),
};

const PART = 96 * 1024;  // bytes of a file in one message

const base64 = (part) => new Promise((done, fail) => {
  const reader = new FileReader();
  reader.addEventListener("load", () => done(reader.result.slice(reader.result.indexOf(",") + 1)));
  reader.addEventListener("error", () => fail(reader.error));
  reader.readAsDataURL(part);
});

function typed(send, attributes) {
  const input = make("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  input.addEventListener("change", () => send(input.value));
  return { body: input, named: input, show(field) {
    input.value = field.value;
    input.disabled = field.disabled;
  } };
}

// The help of a field shows while the pointer is over its "?", after a click on it, and while the keyboard is in the field.
// Escape closes it until the field is left. So no "?" is a stop of the Tab key.
function explain(box, help, bubble) {
  let open = false;
  const show = (now, above = false) => {
    open = now;
    bubble.classList.toggle("open", now);
    bubble.classList.toggle("above", now && above);
    help.setAttribute("aria-expanded", now);
  };
  show(false);
  help.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") show(true); });
  help.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(false); });
  help.addEventListener("click", (event) => show(event.pointerType === "mouse" || !open));
  // A browser calls the focus of a text field visible after a click, too.
  let pointed = false;
  box.addEventListener("pointerdown", () => { pointed = true; }, true);
  box.addEventListener("focusin", (event) => {
    if (!pointed && !box.contains(event.relatedTarget) && event.target.matches(":focus-visible")) show(true, true);
    pointed = false;
  });
  box.addEventListener("focusout", (event) => {
    pointed = false;
    if (!box.contains(event.relatedTarget)) show(false);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !open) return;
    show(false);
    event.preventDefault();  // a drawer stays open
    event.stopPropagation();
  });
}

let forms = 0;

export function render({ model }) {
  const form = `form${++forms}`;
  const main = make("div", { class: "fields" }), more = make("div", { class: "fields" });
  const fold = make("details", {}, make("summary", {}, "More settings"), more);
  const places = new Map();

  const placed = (name, field) => {
    const id = `${form}-${name}`;
    const kind = KINDS[field.kind](id, (value) => model.send_msg({ name, value }));
    const bubble = make("span", { class: "bubble", id: `${id}-help` }, field.help);
    const help = make("button", { type: "button", class: "help", tabindex: -1, "aria-label": `Help: ${field.label}` }, "?");
    const wrong = make("p", { class: "wrong", id: `${id}-wrong`, role: "alert" });
    const group = !kind.named;
    if (kind.named) kind.named.id = id;
    const title = make(group ? "span" : "label", { for: group ? null : id, id: `${id}-title` }, field.label);
    const role = !group ? null : field.kind === "segments" ? "radiogroup" : "group";
    const box = make("div", { class: `field ${name}`, role, "aria-labelledby": group ? `${id}-title` : null },
      make("div", { class: "title" }, title, help, bubble), kind.body, wrong);
    explain(box, help, bubble);
    (kind.named ?? box).setAttribute("aria-describedby", `${id}-help ${id}-wrong`);
    (field.more ? more : main).append(box);
    return { box, kind, wrong, named: kind.named ?? box, told: "" };
  };

  const show = () => {
    for (const [name, field] of Object.entries(model.shown)) {
      if (!places.has(name)) places.set(name, placed(name, field));
      const place = places.get(name), { box, kind, wrong, named } = place, told = JSON.stringify(field);
      if (place.told === told) continue;  // a visitor may be typing into it
      place.told = told;
      box.hidden = !field.visible;
      kind.show(field);
      wrong.textContent = field.wrong;
      if (field.wrong) named.setAttribute("aria-invalid", "true");
      else named.removeAttribute("aria-invalid");
      if (field.wrong && field.more) fold.open = true;
    }
  };
  model.on("shown", show);
  show();
  return make("form", { class: "form" }, main, fold);
}
