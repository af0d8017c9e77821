// Draws networks that learn: one row a rule, every hidden unit a dot that is right, wrong or undefined.
//
// An ES module by anywidget's convention: it exports `{ render }` as its default. It needs no other file and runs in the served page, in notebooks and in a
// replay. The model has
//   scene   what stays the same (mdfa_core.stage.Scene.to_dict); null draws nothing
//   frame   bytes: one frame (mdfa_core.stage.Frame.to_bytes) for each row of the scene, in its order
//   moving  whether the networks train, so that the error moves along its path
//   opens   whether layers can be chosen; the model then hears {layer: {row, layer}}
//   depth   {now, most} hidden layers, if the host lets them be added and removed; the model then hears {depth: number}
//   asks    whether the host answers for single units; the model then hears {look: {row, layer, unit}} or {look: null}
//   signals its answer (mdfa_core.stage.UnitSignals.to_dict) for as long as the unit is looked at

export const PALETTES = {
  light: {
    ground: "#ffffff", text: "#1b2433", muted: "#566173", line: "#dfe4eb", right: "#00795c", wrong: "#c44e00",
    none: "#868fa0", warn: "#7a5a00", positive: "#0067b1", negative: "#b07500", signal: "#b3261e", accent: "#2456d6",
    classes: ["#0067b1", "#c44e00", "#00795c", "#b0327f", "#857000", "#6b4fd0", "#2f7f86", "#4a5361", "#9b1c1c", "#4f7300"],
  },
  dark: {
    ground: "#171d26", text: "#e8edf4", muted: "#9fabbb", line: "#2e3846", right: "#2fc79b", wrong: "#ff9a3d",
    none: "#66738a", warn: "#e6d84a", positive: "#5ab4f0", negative: "#d9b13b", signal: "#ff8a80", accent: "#7aa2ff",
    classes: ["#5ab4f0", "#f5a142", "#2fc79b", "#ee8ac4", "#e6d84a", "#b9a5ff", "#8fd0d4", "#d0d6e0", "#ff8a80", "#a6d854"],
  },
};
const LEVELS = 16; // of the share right, as dots show it
const NEARLY = 0.9; // from this share right on, a number is not orange
const HEADER = 6; // numbers at the begin of a frame
const NARROW = 560; // px: below, the facts of a row stand above its network
const FEW_PICTURES = 400; // px: below, fewer images are shown
const LARGEST_PITCH = 16;
const USUAL_PITCH = 12; // px: larger only if the layers then take less than half of the room
const SMALLEST_PITCH = 2.5;
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
const WHOLE_MS = 1000; // between two paintings of the weights and filters while the networks train
const NUMBERS_MS = 240; // between two changes of the numbers, which nobody reads faster
const SCATTER_PX = 124; // of the true and delivered signals of a unit
const PERIOD = 9, SHIFT = 3; // px: of the dashes of the way of the error, and how far they move at every second frame
const THEME_MS = 2000; // between two looks at the theme, which a host may change in a way of its own
const RESTS_MS = 80; // that the pointer is on a unit before the host hears of it
const SPOKEN_MS = 1500; // between two changes of the texts that screen readers read

const STYLE = `
.mdfa-stage { font: 13px/1.35 ${FONT}; color: var(--st-text); display: grid; gap: 10px; text-align: left; }
.mdfa-stage * { box-sizing: border-box; }
.mdfa-stage .legend { display: flex; flex-wrap: wrap; gap: 2px 16px; color: var(--st-muted); font-size: 12px; margin: 0; }
.mdfa-stage .legend span { display: inline-flex; gap: 5px; align-items: center; white-space: nowrap; }
.mdfa-stage .legend svg { width: 13px; height: 13px; overflow: visible; flex: none; }
.mdfa-stage .legend svg.long { width: 24px; }
.mdfa-stage .legend.lines { margin-top: -8px; } /* close to the dots above */
.mdfa-stage .depth { margin-left: auto; }
.mdfa-stage .depth[hidden] { display: none; }
.mdfa-stage .depth output { color: var(--st-text); font-variant-numeric: tabular-nums; }
.mdfa-stage .depth button {
  font: 700 14px/1 ${FONT}; width: 24px; height: 22px; margin: -3px 0; padding: 0; border: 1px solid var(--st-line); border-radius: 6px;
  background: var(--st-ground); color: var(--st-accent); cursor: pointer;
}
.mdfa-stage .depth button:hover:enabled { border-color: var(--st-accent); }
.mdfa-stage .depth button:focus-visible { outline: 2px solid var(--st-accent); outline-offset: 1px; }
.mdfa-stage .depth button:disabled { color: var(--st-none); cursor: default; }
@media print { .mdfa-stage .depth { display: none; } }
.mdfa-stage .row {
  display: grid; grid-template-columns: clamp(158px, 21%, 194px) minmax(0, 1fr); gap: 6px 10px; background: var(--st-ground); min-width: 0;
  border: 1px solid var(--st-line); border-left: 5px solid var(--st-rule); border-radius: 9px; padding: 10px 12px 6px 14px; margin: 0;
}
.mdfa-stage .row::before, .mdfa-stage .row::after { content: none; } /* Bootstrap, in the classic notebook, adds boxes to every row */
.mdfa-stage .facts { display: flex; flex-direction: column; min-width: 0; }
.mdfa-stage h3 { margin: 0; font-size: 19px; line-height: 1.15; font-weight: 700; color: var(--st-rule); display: flex; align-items: center; gap: 8px; }
.mdfa-stage h3 svg { width: 30px; height: 6px; overflow: visible; }
.mdfa-stage .meaning { margin: 1px 0 7px; color: var(--st-muted); font-size: 12px; line-height: 1.25; }
.mdfa-stage dl { margin: 0; display: grid; gap: 8px; font-variant-numeric: tabular-nums; }
.mdfa-stage :is(dt, dd) { float: none; width: auto; padding: 0; } /* JupyterLab has ideas of its own */
.mdfa-stage dl div { display: grid; grid-template-columns: 1fr; }
.mdfa-stage dd { margin: 0; font-weight: 650; font-size: 15px; line-height: 1.1; order: -1; white-space: nowrap; height: 1.15em; contain: strict; }
.mdfa-stage dt { margin: 0; font-weight: 400; color: var(--st-muted); font-size: 11.5px; line-height: 1.1; }
.mdfa-stage dd.signs { font-size: 25px; font-weight: 720; letter-spacing: -0.01em; }
.mdfa-stage dd.signs.right { color: var(--st-right); }
.mdfa-stage dd.signs.wrong { color: var(--st-wrong); }
.mdfa-stage dd.signs.warn { color: var(--st-warn); }
.mdfa-stage .note { margin: 4px 0 0; color: var(--st-warn); font-size: 12px; font-weight: 600; line-height: 1.25; }
.mdfa-stage .note:empty { display: none; }
.mdfa-stage .net { position: relative; min-width: 0; }
.mdfa-stage canvas { display: block; width: 100%; }
.mdfa-stage .layer {
  position: absolute; padding: 0; margin: 0; border: 0; background: none; border-radius: 6px; cursor: default; font: inherit;
}
.mdfa-stage button.layer { cursor: pointer; }
.mdfa-stage .layer:hover { box-shadow: 0 0 0 1.5px var(--st-line); }
.mdfa-stage .layer:focus-visible { outline: 2px solid var(--st-accent); outline-offset: 1px; }
.mdfa-stage .tip {
  position: absolute; z-index: 5; pointer-events: none; background: var(--st-ground); color: var(--st-text); border-radius: 8px;
  border: 1px solid var(--st-muted); box-shadow: 0 3px 14px #0003; padding: 6px 9px 7px; font-size: 12px; line-height: 1.3;
  width: max-content; max-width: min(276px, 100%);
}
.mdfa-stage .tip[hidden] { display: none; }
.mdfa-stage .tip p { margin: 0; }
.mdfa-stage .tip .small { color: var(--st-muted); font-size: 11px; }
.mdfa-stage .tip .seen { display: flex; gap: 10px; align-items: flex-end; margin: 3px 0; }
.mdfa-stage .tip .scatter { width: ${SCATTER_PX}px; height: ${SCATTER_PX}px; flex: none; }
.mdfa-stage .tip figure { margin: 0; display: grid; gap: 2px; justify-items: center; }
.mdfa-stage .tip figcaption { color: var(--st-muted); font-size: 11px; line-height: 1.15; text-align: center; max-width: 84px; }
.mdfa-stage .tip figure canvas { width: 56px; height: 56px; image-rendering: pixelated; border-radius: 3px; }
.mdfa-stage .heard { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.mdfa-stage.narrow .row { grid-template-columns: minmax(0, 1fr); padding: 9px 10px 4px 11px; }
.mdfa-stage.narrow .legend.lines { order: 1; margin: 0; }
.mdfa-stage.narrow .meaning { margin-bottom: 4px; }
.mdfa-stage.narrow dl { grid-template-columns: 1.25fr 1fr 1fr; align-items: end; }
.mdfa-stage.narrow dd.signs { font-size: 22px; }
`;

function render({ model, el }) {
  const stage = new Stage(model, el);
  const close = () => stage.close();
  if (typeof model.get !== "function") model.on("remove", close); // Panel does not call what is returned
  return close;
}

export default { render };

// ---------------------------------------------------------------------------------------------------------- the model

/** A value of the model: anywidget has `get`, Panel has properties. */
function read(model, name) {
  return typeof model.get === "function" ? model.get(name) : model[name];
}

function asBytes(value) {
  if (value == null) return null;
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

/** Takes the frames of a scene apart; the order of the parts is that of `Frame.to_bytes`. */
export class Reader {
  constructor(scene) {
    const lengths = [
      ...scene.layers.map((layer) => layer.shown.length),
      ...scene.links.map((link) => link.start.length),
      scene.pictures.shape[0],
      scene.points ? scene.resolution ** 2 : scene.filters.units.length * product(scene.filters.shape),
    ];
    this.layers = scene.layers.length;
    this.numbers = HEADER + 2 * this.layers;
    this.places = [4 * this.numbers];
    for (const length of lengths) this.places.push(this.places.at(-1) + length);
    this.size = this.places.at(-1);
  }

  /** Frame number `row` of several; null if it is not there (yet). */
  read(bytes, row) {
    if (!bytes || bytes.length < (row + 1) * this.size) return null;
    const view = new DataView(bytes.buffer, bytes.byteOffset + row * this.size, this.size);
    const number = (place) => view.getFloat32(4 * place, true);
    if (Number.isNaN(number(0))) return null;
    const part = (place) => bytes.subarray(row * this.size + this.places[place], row * this.size + this.places[place + 1]);
    const layers = Array.from({ length: this.layers }, (_, n) => ({
      signs: number(HEADER + 2 * n), undefined: number(HEADER + 2 * n + 1), units: part(n),
    }));
    const weights = Array.from({ length: this.layers + 1 }, (_, n) => part(this.layers + n));
    return {
      step: number(0), epoch: number(1), diverged: number(2) > 0, signs: number(3), updates: number(4), accuracy: number(5),
      layers, weights, certainty: part(2 * this.layers + 1), result: part(2 * this.layers + 2),
    };
  }
}

const sameBytes = (one, other) => one.length === other?.length && one.every((value, at) => value === other[at]);
const product = (numbers) => numbers.reduce((a, b) => a * b, 1);

// ----------------------------------------------------------------------------------------------------------- in words

/** A share as a percentage that says 100 % or 0 % only if it is exactly that. */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  if (share === 0 || share === 1) return `${100 * share} %`;
  return `${Math.min(99.9, Math.max(0.1, 100 * share)).toFixed(1)} %`;
}

const whole = (share) => (Number.isFinite(share) ? `${share === 1 ? 100 : Math.min(99, Math.round(100 * share))} %` : "–");

const sizeOf = ({ count, filters }) => `${count.toLocaleString("en")} ${filters ? "filter" : "unit"}${count === 1 ? "" : "s"}`;

/** What is said of the error signals without a sign; "" if nearly all have one. */
function note(frame) {
  if (frame.diverged) return "diverged";
  const { layers } = frame;
  const none = layers.filter((layer) => layer.undefined === 1).length;
  if (none && none === layers.length) return "no error signal has a sign";
  if (none) return `${none} of ${layers.length} layers ${none === 1 ? "has" : "have"} no signs`;
  const most = Math.max(0, ...layers.map((layer) => layer.undefined));
  return most > 0.01 ? `${whole(most)} of a layer have no sign` : "";
}

function verdict(frame) {
  if (!Number.isFinite(frame.signs) || frame.diverged) return "none";
  if (frame.signs < 1) return frame.signs < NEARLY ? "wrong" : "nearly";
  return note(frame) ? "warn" : "right";
}

function spoken(row, frame) {
  if (!frame) return `${row.title}: not measured yet`;
  return `${row.title}, ${row.meaning}: ${percent(frame.signs)} of the error signals right, ${percent(frame.updates)} of the updates right, `
    + `training accuracy ${percent(frame.accuracy)}${note(frame) && `; ${note(frame)}`}`;
}

function unitName(scene, layer, place) {
  const { filters, shown } = scene.layers[layer];
  return `Layer ${layer + 1}, ${filters ? "filter" : "unit"} ${shown[place]}`;
}

/** What a frame says of a unit's error signals, which is their share alone. */
function unitText(frame, layer, place) {
  const state = frame?.layers[layer].units[place];
  if (state === undefined) return "not measured yet";
  if (state === 0) return "none of its error signals has a sign.";
  return `${whole((state - 1) / 254)} of its error signals are right.`;
}

/** What the host says of a unit's error signals, as numbers. */
export function signalsText({ right, wrong, examples, positions }) {
  const total = examples * positions, none = total - right - wrong;
  const number = (count) => count.toLocaleString("en");
  const all = `${number(total)} ${positions > 1 ? "places" : `example${total === 1 ? "" : "s"}`}`;
  if (none === total) return `no sign in any of ${all}`;
  return `right in ${number(right)} of ${all}${none ? `, no sign in ${number(none)}` : ""}`;
}

// -------------------------------------------------------------------------------------------------------- the geometry

/** Where everything stands in a row that is `width` pixels wide; the same for all rows. */
export function layOut(scene, width) {
  const narrow = width < 480;
  const top = 24, tall = narrow ? 112 : 132, low = 42;
  const counts = scene.layers.map((layer) => layer.shown.length);
  // Where six images would be too small to see, there are three of them.
  const all = [...Array(scene.pictures.shape[0]).keys()];
  const shownPictures = width < FEW_PICTURES && all.length > 3 ? [0, Math.floor(all.length / 2), all.length - 1] : all;
  const pictures = shownPictures.length;
  const columns = pictures < 4 ? 1 : 2;
  const rows = Math.ceil(pictures / columns);
  const cell = pictures ? Math.min(narrow ? 26 : 36, Math.floor((tall - 4) / rows) - 8) : 0;
  const inputs = scene.points ? (narrow ? 44 : 84) : columns * (cell + 8) - 8;
  const result = narrow ? 66 : Math.round(Math.min(tall, Math.max(84, 0.18 * width)));
  const outputs = 26, beside = narrow ? 14 : 30;
  const room = width - 2 - inputs - outputs - beside - result;
  const least = Math.min(narrow ? 14 : 34, (0.55 * room) / (counts.length + 1));
  let pitch = LARGEST_PITCH, grids = [];
  for (; pitch >= SMALLEST_PITCH; pitch -= 0.5) {
    const most = Math.max(1, Math.floor(tall / pitch));
    grids = counts.map((count) => {
      const across = Math.ceil(count / most);
      return { across, down: Math.ceil(count / across) };
    });
    const taken = grids.reduce((sum, grid) => sum + grid.across * pitch, 0);
    const fits = taken + (counts.length + 1) * least <= room && (pitch <= USUAL_PITCH || taken < 0.4 * room);
    if (fits || pitch === SMALLEST_PITCH) break;
  }
  const taken = grids.reduce((sum, grid) => sum + grid.across * pitch, 0);
  const gap = Math.max(4, Math.min(170, (room - taken) / (counts.length + 1)));
  let x = Math.max(1, (width - inputs - outputs - beside - result - taken - gap * (counts.length + 1)) / 2);
  const place = { top, tall, height: top + tall + low, pitch, gap, width, narrow };
  place.inputs = { x, width: inputs, y: top, columns, rows, cell, pictures: shownPictures };
  x += inputs + gap;
  place.layers = grids.map((grid, layer) => {
    const wide = grid.across * pitch, high = grid.down * pitch;
    const made = { ...grid, count: counts[layer], x, y: top + (tall - high) / 2, wide, high, middle: x + wide / 2 };
    x += wide + gap;
    return made;
  });
  const shown = scene.drawn_outputs.length;
  place.output = { x: x + outputs / 2, y: top + tall / 2, radius: shown === 1 ? 12 : Math.min(7, (tall - 4) / shown / 2 - 0.5), shown };
  x += outputs + beside;
  place.result = { x, y: top + (narrow ? (tall - result) / 2 : 0), side: result };
  place.slot = Math.min(...place.layers.map((layer) => layer.wide + gap)); // px for the labels of a layer
  place.crowded = place.slot < 56;
  place.lane = top + tall + 30;
  return place;
}

/** The middle of unit `place` of a layer. */
function middle(layer, pitch, place) {
  return [layer.x + ((place % layer.across) + 0.5) * pitch, layer.y + (Math.floor(place / layer.across) + 0.5) * pitch];
}

function outputHeight(output, place) {
  return output.y + (place - (output.shown - 1) / 2) * (2 * output.radius + 1);
}

/** The top of the picture of the way of the error. */
function wayTop({ output, top, tall }) {
  return Math.floor(Math.min(top + tall, outputHeight(output, output.shown - 1) + output.radius));
}

/** The lines of the drawn weights: start and end points. */
function linksOf(scene, place) {
  return scene.links.map((link, number) => {
    const from = number ? place.layers[number - 1] : null, to = place.layers[number] ?? null;
    const starts = link.start.map((at) => from
      ? [from.x + from.wide + 3, middle(from, place.pitch, at)[1]]
      : [place.inputs.x + place.inputs.width + 4, place.top + 4 + ((at + 0.5) / link.starts) * (place.tall - 8)]);
    const ends = link.end.map((at) => to
      ? [to.x - 3, middle(to, place.pitch, at)[1]]
      : [place.output.x - place.output.radius - 2, outputHeight(place.output, at)]);
    return starts.map((start, n) => [...start, ...ends[n]]);
  });
}

/** The ways of the error, each a list of points, with the place of its label. */
function waysOf(row, place) {
  const { layers, output, lane } = place;
  const low = place.top + place.tall + 5;
  const below = outputHeight(output, output.shown - 1) + output.radius + 14;
  if (row.route === "direct") {
    return layers.map((layer) => ({
      points: [[output.x, below], [output.x, lane], [layer.middle, lane], [layer.middle, low]],
      label: [layer.middle + 6, low + 15], mark: [layer.middle - 12, low + 11],
    }));
  }
  if (row.route === "chain") {
    return layers.map((layer, n) => {
      const above = layers[n + 1];
      const right = above ? above.middle - 5 : output.x, left = layer.middle + (n ? 5 : 0);
      return {
        points: [[right, above ? low : below], [right, lane], [left, lane], [left, low]],
        label: [(left + right) / 2 - 6, lane - 5], mark: [(left + right) / 2 - 18, lane - 9],
      };
    });
  }
  return [];
}

// --------------------------------------------------------------------------------------------------------- the stage

class Stage {
  constructor(model, el) {
    this.model = model;
    this.root = document.createElement("div");
    this.root.className = "mdfa-stage";
    const style = document.createElement("style");
    style.textContent = STYLE;
    el.append(style, this.root);
    this.rows = [];
    this.shift = 0;
    this.width = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.build = this.build.bind(this);
    this.update = this.update.bind(this);
    this.recolour = this.recolour.bind(this);
    this.answered = this.answered.bind(this);
    this.away = this.away.bind(this);
    this.paint = this.paint.bind(this);
    this.deepen = this.deepen.bind(this);
    this.depth = this.depthButtons();
    model.on("change:depth", this.deepen);
    model.on("change:scene", this.build);
    model.on("change:frame", this.update);
    model.on("change:signals", this.answered);
    document.addEventListener("pointerdown", this.away);
    addEventListener("beforeprint", this.paint);
    this.resizes = new ResizeObserver(() => this.resize());
    this.resizes.observe(this.root);
    this.themes = new MutationObserver(this.recolour);
    for (const place of [document.documentElement, document.body]) {
      this.themes.observe(place, { attributes: true, attributeFilter: ["class", "style", "data-theme", "data-jp-theme-light"] });
    }
    this.dark.addEventListener("change", this.recolour);
    this.looks = setInterval(this.recolour, THEME_MS);
    this.build();
  }

  close() {
    this.resizes.disconnect();
    this.themes.disconnect();
    clearInterval(this.looks);
    this.dark.removeEventListener("change", this.recolour);
    this.model.off?.("change:depth", this.deepen);
    this.model.off?.("change:scene", this.build);
    this.model.off?.("change:frame", this.update);
    this.model.off?.("change:signals", this.answered);
    document.removeEventListener("pointerdown", this.away);
    removeEventListener("beforeprint", this.paint);
    for (const row of this.rows) row.close();
    clearTimeout(this.asking);
    if (this.looked) this.send({ look: null });
    this.root.remove();
  }

  /** Make the rows of a new scene. */
  build() {
    const scene = read(this.model, "scene");
    for (const row of this.rows) row.close();
    this.rows = [];
    this.held = [...this.depth.children].find((part) => part.matches(":focus")) ?? this.held;
    this.scene = scene && scene.rows ? scene : null;
    this.root.replaceChildren();
    if (!this.scene) return;
    this.reader = new Reader(this.scene);
    const [dots, lines] = legend(this.scene);
    lines.append(this.depth);
    this.root.append(dots, lines);
    this.deepen();
    if (document.activeElement === document.body) this.held?.focus({ preventScroll: true }); // it lost the focus with the old scene
    this.held = null;
    this.pictures = picturesOf(this.scene);
    this.rows = this.scene.rows.map((row, number) => new RowView(this, row, number));
    this.theme = "";
    this.width = 0;
    this.place = null; // until the new rows have a size
    this.bytes = null;
    this.recolour();
    this.resize();
  }

  get moving() {
    return Boolean(read(this.model, "moving"));
  }

  get opens() {
    return Boolean(read(this.model, "opens"));
  }

  /** Two buttons and the number between them, as a visitor adds and removes hidden layers of all networks. */
  depthButtons() {
    const box = document.createElement("span");
    box.className = "depth";
    const button = (sign, words, by) => {
      const made = document.createElement("button");
      Object.assign(made, { type: "button", textContent: sign, title: words });
      made.setAttribute("aria-label", words);
      made.addEventListener("click", () => this.send({ depth: read(this.model, "depth").now + by }));
      return made;
    };
    const fewer = button("−", "Remove the last hidden layer", -1), more = button("+", "Add a hidden layer", 1);
    box.append(fewer, document.createElement("output"), more);
    return box;
  }

  deepen() {
    const depth = read(this.model, "depth"), [fewer, words, more] = this.depth.children;
    this.depth.hidden = typeof depth?.now !== "number";
    if (this.depth.hidden) return;
    words.textContent = `${depth.now} hidden ${depth.now === 1 ? "layer" : "layers"}`;
    fewer.disabled = depth.now <= 0;
    more.disabled = depth.now >= depth.most;
  }

  get asks() {
    return Boolean(read(this.model, "asks"));
  }

  send(word) {
    (this.model.send_msg ?? this.model.send)?.call(this.model, word);
  }

  choose(row, layer) {
    this.send({ layer: { row, layer } });
  }

  /** Tell the host which unit is looked at, once the pointer rests; null for none. */
  askFor(at) {
    if (!this.asks) return;
    clearTimeout(this.asking);
    this.asking = setTimeout(() => {
      if (!at && !this.looked) return;
      this.looked = at;
      this.send({ look: at });
    }, RESTS_MS);
  }

  /** What the host says of a unit; null if it says nothing (yet). */
  signalsOf(row, layer, unit) {
    const found = read(this.model, "signals");
    return found && found.row === row && found.layer === layer && found.unit === unit ? found : null;
  }

  answered() {
    for (const row of this.rows) row.answered();
  }

  /** A touch leaves its unit only when another place is touched. */
  away(event) {
    for (const row of this.rows) if (!event.composedPath().includes(row.net)) row.hideTip();
  }

  /** Take the theme from the colour of the text around. */
  recolour() {
    if (!this.scene) return;
    const colour = getComputedStyle(this.root.parentElement ?? this.root).color.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0];
    const theme = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 128 ? "dark" : "light";
    if (theme === this.theme) return;
    this.theme = theme;
    this.palette = PALETTES[theme];
    for (const [name, value] of Object.entries(this.palette)) {
      if (typeof value === "string") this.root.style.setProperty(`--st-${name}`, value);
    }
    for (const row of this.rows) row.recolour();
    this.restyle();
  }

  resize() {
    const width = Math.floor(this.root.clientWidth);
    if (!this.scene || !width || width === this.width) return;
    this.width = width;
    this.root.classList.toggle("narrow", width < NARROW);
    const inner = Math.floor(this.rows[0]?.net.clientWidth ?? 0);
    if (!inner) return;
    this.place = layOut(this.scene, inner);
    this.links = linksOf(this.scene, this.place);
    for (const row of this.rows) row.resize();
    this.restyle();
  }

  /** Size or colours have changed: everything that is painted in advance is painted anew. */
  restyle() {
    if (!this.place || !this.palette) return;
    this.look = {};
    this.atlas = dots(this.place.pitch, this.palette);
    this.points = this.scene.points && pointsPicture(this.pictures.points, this.place, this.palette);
    for (const row of this.rows) row.drawWays();
    this.draw();
    this.paint();
  }

  /** Paint all rows, also those out of sight: a canvas of a new size is blank, and a page may be printed. */
  paint() {
    for (const row of this.rows) if (!row.seen) row.paint();
  }

  update() {
    if (!this.scene) return;
    this.beat = !this.beat;
    if (this.beat && this.moving && !this.still.matches) this.shift = (this.shift + SHIFT) % PERIOD;
    this.bytes = asBytes(read(this.model, "frame"));
    this.draw();
  }

  draw() {
    if (!this.place || !this.palette) return;
    this.bytes ??= asBytes(read(this.model, "frame"));
    for (const row of this.rows) row.show(this.reader.read(this.bytes, row.number));
  }
}

/** One rule. */
class RowView {
  constructor(stage, row, number) {
    Object.assign(this, { stage, row, number, frame: null, seen: true, spokenAt: -Infinity, toldAt: -Infinity, timer: 0 });
    this.box = document.createElement("section");
    this.box.className = "row";
    this.box.setAttribute("role", "group");
    this.box.innerHTML = `<div class="facts"><h3><span></span><svg aria-hidden="true" viewBox="0 0 30 6"><line x1="0" y1="3" x2="30" y2="3" stroke="currentColor"
      stroke-width="2.6" stroke-dasharray="${row.dash.join(" ")}"/></svg></h3><p class="meaning"></p>
      <dl><div><dt>error signals right</dt><dd class="signs"></dd></div><div><dt>updates right</dt><dd></dd></div><div><dt>training accuracy</dt><dd></dd></div></dl>
      <p class="note"></p></div><div class="net"><canvas aria-hidden="true"></canvas><div class="tip" hidden></div><div class="heard" aria-live="polite"></div></div>`;
    this.box.querySelector("h3 span").textContent = row.title;
    this.box.querySelector(".meaning").textContent = row.meaning;
    this.numbers = [...this.box.querySelectorAll("dd")];
    this.note = this.box.querySelector(".note");
    this.net = this.box.querySelector(".net");
    this.canvas = this.box.querySelector("canvas");
    this.tip = this.box.querySelector(".tip");
    this.heard = this.box.querySelector(".heard");
    this.layers = stage.scene.layers.map((layer, n) => this.layerButton(n));
    this.net.append(...this.layers);
    this.net.addEventListener("pointermove", (event) => this.point(event));
    this.net.addEventListener("pointerdown", (event) => {
      const { pointed } = this;
      this.point(event);
      this.touched = event.pointerType === "touch" && this.pointed !== pointed && this.pointed?.unit !== undefined;
    });
    this.net.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.hideTip(); });
    stage.root.append(this.box);
    this.sight = new IntersectionObserver((entries) => {
      this.seen = entries.at(-1).isIntersecting;
      if (this.seen) this.paint();
    });
    this.sight.observe(this.box);
    this.recolour();
  }

  close() {
    this.closed = true; // a row that goes loses pointer and focus, and must not paint any more
    this.sight.disconnect();
    for (const timer of [this.timer, this.late, this.soon]) clearTimeout(timer);
    if (this.pointed) this.stage.askFor(null);
  }

  recolour() {
    this.box.style.setProperty("--st-rule", this.row.colours[this.stage.theme === "dark" ? 1 : 0]);
  }

  resize() {
    const { place, scene } = this.stage;
    this.ratio = Math.min(3, window.devicePixelRatio || 1);
    this.canvas.width = Math.round(place.width * this.ratio);
    this.canvas.height = Math.round(place.height * this.ratio);
    this.canvas.style.height = `${place.height}px`;
    this.ways = waysOf(this.row, place);
    this.dots = place.layers.map((layer) => new Uint8Array(layer.count));
    for (const [n, button] of this.layers.entries()) {
      const layer = place.layers[n];
      Object.assign(button.style, { left: `${layer.x - 5}px`, top: `${place.top - 3}px`, width: `${layer.wide + 10}px`, height: `${place.tall + 6}px` });
    }
    this.hideTip();
  }

  // ------------------------------------------------------------------------------------------------- numbers and words

  show(frame) {
    this.frame = frame;
    this.tell();
    this.speak();
    if (this.seen) this.paint();
    if (this.pointed) this.fillTip();
  }

  tell() {
    const { frame } = this, now = performance.now();
    clearTimeout(this.soon);
    if (this.stage.moving && now - this.toldAt < NUMBERS_MS) {
      this.soon = setTimeout(() => this.tell(), NUMBERS_MS);
      return;
    }
    this.toldAt = now;
    const texts = frame ? [frame.signs, frame.updates, frame.accuracy].map(percent) : ["–", "–", "–"];
    texts.forEach((text, n) => { if (this.numbers[n].textContent !== text) this.numbers[n].textContent = text; });
    const kind = `signs ${frame ? verdict(frame) : "none"}`;
    if (this.numbers[0].className !== kind) this.numbers[0].className = kind;
    const words = frame ? note(frame) : "";
    if (this.note.textContent !== words) this.note.textContent = words;
  }

  /** Texts for screen readers change seldom: each change costs, and nobody can follow them. */
  speak() {
    const now = performance.now();
    clearTimeout(this.timer);
    if (now - this.spokenAt < SPOKEN_MS) {
      this.timer = setTimeout(() => this.speak(), SPOKEN_MS);
      return;
    }
    this.spokenAt = now;
    this.box.setAttribute("aria-label", spoken(this.row, this.frame));
    for (const [n, button] of this.layers.entries()) button.setAttribute("aria-label", this.layerText(n));
  }

  layerText(n) {
    const layer = this.stage.scene.layers[n], now = this.frame?.layers[n];
    const part = layer.shown.length < layer.count ? `, ${layer.shown.length} of them shown` : "";
    const share = !now ? "" : Number.isFinite(now.signs) ? `, ${percent(now.signs)} of the error signals right` : ", no error signal has a sign";
    return `${this.row.title}, layer ${n + 1}, ${sizeOf(layer)}${part}${share}. Arrow keys: single units.${this.stage.opens ? " Enter: details." : ""}`;
  }

  // ------------------------------------------------------------------------------------------------ pointer and keyboard

  layerButton(n) {
    const button = document.createElement(this.stage.opens ? "button" : "div");
    button.className = "layer";
    if (this.stage.opens) button.type = "button";
    else { button.tabIndex = 0; button.setAttribute("role", "img"); }
    button.addEventListener("click", () => {
      if (!this.touched) this.stage.choose(this.row.name, n); // the first touch of a unit shows it
      this.touched = false;
    });
    button.addEventListener("focus", () => { if (button.matches(":focus-visible") && !this.pointed) this.pointAt(n, 0); });
    button.addEventListener("keydown", (event) => {
      const layer = this.stage.place.layers[n];
      const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: layer.across, ArrowUp: -layer.across }[event.key];
      if (event.key === "Escape") this.hideTip();
      if (!move) return;
      event.preventDefault();
      const from = this.pointed?.layer === n ? this.pointed.unit + move : 0;
      this.pointAt(n, Math.min(layer.count - 1, Math.max(0, from)));
      this.hears = true;
      this.hear();
    });
    button.addEventListener("blur", () => { if (this.pointed?.layer === n) this.hideTip(); });
    return button;
  }

  point(event) {
    const { place, scene } = this.stage;
    if (!place || this.closed) return;
    const box = this.net.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    for (const [n, layer] of place.layers.entries()) {
      if (x < layer.x || x >= layer.x + layer.wide || y < layer.y || y >= layer.y + layer.high) continue;
      const unit = Math.floor((y - layer.y) / place.pitch) * layer.across + Math.floor((x - layer.x) / place.pitch);
      if (unit < layer.count) { this.pointAt(n, unit); return; }
    }
    const { inputs } = place;
    const column = Math.floor((x - inputs.x) / (inputs.cell + 8)), line = Math.floor((y - inputs.y) / (inputs.cell + 8));
    const picture = inputs.pictures[line * inputs.columns + column];
    if (column >= 0 && column < inputs.columns && line >= 0 && picture !== undefined) {
      const [left, top] = [column, line].map((at) => at * (inputs.cell + 8) + inputs.cell / 2);
      if (this.pointed?.unit !== undefined) this.hideTip();
      this.pointed = { picture, x: inputs.x + left, y: inputs.y + top, reach: inputs.cell / 2 };
      this.fillTip();
      return;
    }
    this.hideTip();
  }

  pointAt(layer, unit) {
    if (this.pointed?.layer === layer && this.pointed.unit === unit) return;
    const [x, y] = middle(this.stage.place.layers[layer], this.stage.place.pitch, unit);
    this.pointed = { layer, unit, x, y, reach: this.stage.place.pitch / 2 };
    this.hears = false;
    this.stage.askFor({ row: this.row.name, layer, unit: this.stage.scene.layers[layer].shown[unit] });
    this.fillTip();
    this.paint();
  }

  /** What the host says of the unit that is looked at; null if it says nothing (yet). */
  get signals() {
    const { stage, pointed } = this;
    return pointed?.unit === undefined
      ? null : stage.signalsOf(this.row.name, pointed.layer, stage.scene.layers[pointed.layer].shown[pointed.unit]);
  }

  /** The signals of a unit have come. */
  answered() {
    if (!this.signals) return;
    this.fillTip();
    if (this.hears) this.hear();
    this.hears = false; // a screen reader says them once
  }

  /** Screen readers hear of the unit that the arrow keys have reached. */
  hear() {
    const { signals, pointed: { layer, unit } } = this;
    this.heard.textContent = `${unitName(this.stage.scene, layer, unit)}: ${signals ? `${signalsText(signals)}.` : unitText(this.frame, layer, unit)}`;
  }

  hideTip() {
    if (!this.pointed) return;
    if (this.pointed.unit !== undefined) this.stage.askFor(null);
    this.pointed = null;
    this.tip.hidden = true;
    this.paint();
  }

  fillTip() {
    const { scene, place } = this.stage, { pointed } = this;
    if (pointed.picture !== undefined) {
      const name = scene.class_names[scene.labels[pointed.picture]];
      const sure = this.frame ? `: probability ${whole(this.frame.certainty[pointed.picture] / 255)}` : "";
      this.tip.replaceChildren(line(`Class “${name}”${sure}`));
    } else {
      this.tip.replaceChildren(...this.unitTip());
    }
    this.tip.hidden = false;
    const wide = this.tip.offsetWidth, high = this.tip.offsetHeight, away = pointed.reach + 8;
    const right = pointed.x + away, left = pointed.x - away - wide;
    const beside = right + wide <= place.width ? right : left >= 0 ? left : null;
    const box = this.stage.root.getBoundingClientRect(), net = this.net.getBoundingClientRect();
    // Beside the unit; if there is no room, below it, or else above. Never out of the stage, which a host may cut off.
    const low = box.bottom - net.top - high, below = pointed.y + away;
    let top = Math.min(place.height - high, Math.max(0, pointed.y - high / 2));
    if (beside === null) top = below <= low ? below : pointed.y - away - high;
    this.tip.style.left = `${beside ?? Math.max(0, Math.min(place.width - wide, pointed.x - wide / 2))}px`;
    this.tip.style.top = `${Math.max(box.top - net.top, Math.min(low, top))}px`;
  }

  /** A unit's error signals, true against delivered, and what it looks for; in a replay, the share that a frame has. */
  unitTip() {
    const { stage, frame, pointed: { layer, unit }, signals } = this, { scene, palette, asks } = stage;
    const { filters, shown } = scene.layers[layer];
    const title = Object.assign(document.createElement("b"), { textContent: unitName(scene, layer, unit) });
    const seen = Object.assign(document.createElement("div"), { className: "seen" });
    if (asks) seen.append(scatter(signals, palette));
    const at = layer === 0 ? scene.filters.units.indexOf(shown[unit]) : -1;
    const picture = signals?.picture ?? null;
    if (picture) {
      const pixels = decode(picture.pixels);
      const drawn = signals.plane ? planePicture(pixels, picture.shape[2], palette) : filtersPicture(pixels, picture.shape, palette);
      seen.append(figure(drawn, signals.plane ? "its output over the plane" : filters ? "its weights (kernel)" : "its weights"));
    } else if (at >= 0 && frame) {
      const size = product(scene.filters.shape);
      seen.append(figure(filtersPicture(frame.result.subarray(at * size, (at + 1) * size), scene.filters.shape, palette), "its weights"));
    }
    const said = signals ? signalsText(signals) : unitText(frame, layer, unit);
    const lines = [line(said[0].toUpperCase() + said.slice(1))];
    if (asks && !signals) lines.push(line("Waiting for its error signals …", "small"));
    if (signals) {
      const { true: ours, delivered } = signalValues(signals);
      const drawn = ours.length, total = signals.examples * signals.positions, each = signals.positions > 1 ? "place" : "example";
      const places = signals.positions > 1 ? `${signals.examples} examples × ${signals.positions} positions. ` : "";
      lines.push(line(`${places}${drawn < total ? `${drawn} ${each}s drawn.` : `Each mark: one ${each}.`} Shaded: right sign.`, "small"));
      lines.push(line(`Axes: true ±${brief(largest(ours))}, delivered ±${brief(largest(delivered))}.`, "small"));
    }
    if (this.touched && stage.opens) lines.push(line("Tap again for the layer's details.", "small"));
    return [title, seen, ...lines].filter((part) => part !== seen || seen.childElementCount);
  }

  // ------------------------------------------------------------------------------------------------------------ painting

  /**
   * Paint what has changed: a canvas that nothing touches costs nothing. Dots may change at every frame, labels and the
   * way of the error less often. All the rest costs much and is painted once a second while the networks train.
   */
  paint() {
    const { stage, frame, pointed } = this, { place } = stage;
    if (this.closed || !place || !this.ratio || !stage.palette) return;
    const pen = this.canvas.getContext("2d"), now = performance.now(), end = place.top + place.tall + 4;
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const same = this.painted && this.painted.look === stage.look && this.painted.pointed === pointed;
    clearTimeout(this.late);
    if (same && stage.moving && this.painted.frame && now - this.painted.at < WHOLE_MS) {
      this.paintDots(pen, true);
      if (frame && stage.scene.points && !sameBytes(frame.result, this.result)) this.paintResult(pen);
      this.late = setTimeout(() => this.paint(), WHOLE_MS);
    } else if (!same || this.painted.frame !== frame) {
      this.painted = { look: stage.look, pointed, frame, at: now };
      this.labels = this.shift = null;
      pen.clearRect(0, 0, place.width, place.height);
      this.paintInputs(pen);
      this.paintLinks(pen);
      this.paintOutputs(pen);
      this.paintDots(pen, false);
      if (frame) this.paintResult(pen);
    }
    const labels = frame ? frame.layers.map((layer) => whole(layer.signs)).join() : "";
    if (labels !== this.labels && (this.labels === null || now - this.labelsAt > NUMBERS_MS || !stage.moving)) {
      Object.assign(this, { labels, labelsAt: now });
      pen.clearRect(0, 0, place.width, place.top - 2);
      this.paintLabels(pen);
    }
    if (this.ways.length && this.shift !== stage.shift) {
      this.shift = stage.shift;
      const start = this.ways.at(-1).points[0], way = this.wayPictures[stage.shift / SHIFT];
      pen.clearRect(start[0] - 4, start[1] - 2, 8, end);
      pen.clearRect(0, end, place.width, place.height - end);
      pen.drawImage(way, 0, wayTop(place), place.width, place.height - wayTop(place));
    }
  }

  /** The way of the error at each of its phases: at each frame the next one is shown. */
  drawWays() {
    const { place } = this.stage, top = wayTop(place);
    this.wayPictures = Array.from({ length: PERIOD / SHIFT }, (_, phase) => {
      const picture = new OffscreenCanvas(this.canvas.width, Math.round((place.height - top) * this.ratio));
      const pen = picture.getContext("2d");
      pen.setTransform(this.ratio, 0, 0, this.ratio, 0, -top * this.ratio);
      this.paintWays(pen, phase * SHIFT);
      return picture.transferToImageBitmap();
    });
  }

  paintInputs(pen) {
    const { place, scene, palette, pictures } = this.stage, { inputs } = place;
    if (scene.points) {
      const side = inputs.width, y = place.top + (place.tall - side) / 2;
      paintPoints(pen, pictures.points, inputs.x, y, side, palette, 1);
      frameBox(pen, inputs.x, y, side, side, palette.line);
      return;
    }
    inputs.pictures.forEach((picture, n) => {
      const x = inputs.x + (n % inputs.columns) * (inputs.cell + 8), y = inputs.y + Math.floor(n / inputs.columns) * (inputs.cell + 8);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(pictures.images[picture], x, y, inputs.cell, inputs.cell);
      const sure = this.frame ? this.frame.certainty[picture] / 255 : 0;
      pen.fillStyle = palette.line;
      pen.fillRect(x, y + inputs.cell + 1.5, inputs.cell, 3);
      pen.fillStyle = sure > 0.5 ? palette.text : palette.none;
      pen.fillRect(x, y + inputs.cell + 1.5, inputs.cell * sure, 3);
    });
  }

  /** Weights: blue and solid above 0, ochre and dashed below; stronger ones darker. */
  paintLinks(pen) {
    const { frame, stage } = this, { palette, links } = stage;
    links.forEach((lines, number) => {
      const buckets = [[], [], [], [], [], []];
      lines.forEach((line, n) => {
        const value = frame ? (frame.weights[number][n] - 128) / 127 : 0;
        const strength = Math.abs(value);
        if (strength < 0.02) return;
        buckets[(value < 0 ? 3 : 0) + (strength > 0.6 ? 2 : strength > 0.25 ? 1 : 0)].push(line);
      });
      buckets.forEach((bucket, kind) => {
        if (!bucket.length) return;
        pen.beginPath();
        for (const [x, y, endX, endY] of bucket) {
          const bend = (endX - x) / 2;
          pen.moveTo(x, y);
          pen.bezierCurveTo(x + bend, y, endX - bend, endY, endX, endY);
        }
        pen.strokeStyle = kind < 3 ? palette.positive : palette.negative;
        pen.globalAlpha = [0.16, 0.3, 0.55][kind % 3];
        pen.lineWidth = [0.8, 1, 1.3][kind % 3];
        pen.setLineDash(kind < 3 ? [] : [4, 2.5]);
        pen.stroke();
      });
      pen.globalAlpha = 1;
      pen.setLineDash([]);
    });
  }

  /** The units; only those that have changed if `some`. */
  paintDots(pen, some) {
    const { frame, stage, pointed } = this, { palette, place, atlas } = stage, { pitch } = place;
    place.layers.forEach((layer, n) => {
      const states = frame?.layers[n].units, before = this.dots[n];
      for (let unit = 0; unit < layer.count; unit++) {
        const state = states ? states[unit] : 0;
        const tile = state === 0 ? 0 : 1 + Math.round(((state - 1) / 254) * LEVELS);
        if (some && before[unit] === tile) continue;
        before[unit] = tile;
        const [x, y] = middle(layer, pitch, unit);
        if (some) pen.clearRect(x - pitch / 2, y - pitch / 2, pitch, pitch);
        pen.drawImage(atlas.picture, tile * atlas.tile, 0, atlas.tile, atlas.tile, x - pitch / 2, y - pitch / 2, pitch, pitch);
      }
      if (pointed?.layer === n) {
        const [x, y] = middle(layer, pitch, pointed.unit);
        pen.beginPath();
        pen.arc(x, y, pitch / 2 + 1.5, 0, 7);
        pen.strokeStyle = palette.text;
        pen.lineWidth = 1.5;
        pen.stroke();
      }
    });
  }

  /** Above each layer its share, and its size if there is room for it; ⊕ above weights that are kept non-negative. */
  paintLabels(pen) {
    const { frame, stage, row } = this, { palette, place, scene } = stage, y = place.top - 11;
    const { inputs, output, result } = place;
    let end = -Infinity; // of the last number: one that would touch it is left out
    place.layers.forEach((layer, n) => {
      const { count, shown } = scene.layers[n], signs = frame?.layers[n].signs;
      const size = shown.length < count ? `${shown.length} of ${count.toLocaleString("en")}` : sizeOf(scene.layers[n]);
      const share = frame ? (place.crowded ? whole(signs).replace(" %", place.slot < 34 ? "" : "%") : whole(signs)) : "";
      const bold = `${place.crowded ? "600 9.5px" : "650 12px"} ${FONT}`;
      pen.font = bold;
      const first = share ? pen.measureText(share).width + 6 : 0;
      pen.font = `12px ${FONT}`;
      const both = first + pen.measureText(size).width;
      const roomy = both < layer.wide + place.gap - 30;
      const start = layer.middle - (roomy ? both : first - 6) / 2;
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      if (roomy) {
        pen.fillStyle = palette.muted;
        pen.fillText(size, start + first, y);
      }
      pen.font = bold;
      pen.fillStyle = !Number.isFinite(signs) ? palette.muted : signs === 1 ? palette.right : signs < NEARLY ? palette.wrong : palette.text;
      if (start > end) {
        pen.fillText(share, start, y);
        end = start + first - 6;
      }
    });
    row.weights_held.forEach((held, n) => {
      if (!held) return;
      const left = n ? place.layers[n - 1].x + place.layers[n - 1].wide : inputs.x + inputs.width;
      const right = place.layers[n]?.x ?? output.x - output.radius;
      plus(pen, (left + right) / 2, place.crowded ? place.top + place.tall / 2 : y, palette.positive, palette.ground);
    });
    const outputs = scene.outputs === 1 ? "output" : `${scene.outputs} outputs`;
    if (!place.narrow && place.gap > (scene.outputs === 1 ? 36 : 75)) caption(pen, outputs, output.x, y, palette.muted);
    if (scene.points && inputs.width > 60) caption(pen, "data", inputs.x + inputs.width / 2, y, palette.muted);
    caption(pen, scene.points ? "its decision" : place.narrow ? "filters" : "filters of layer 1", result.x + result.side / 2, y, palette.muted);
  }

  paintOutputs(pen) {
    const { place, palette } = this.stage, { output } = place;
    for (let n = 0; n < output.shown; n++) {
      pen.beginPath();
      pen.arc(output.x, outputHeight(output, n), output.radius, 0, 7);
      pen.fillStyle = palette.ground;
      pen.fill();
      pen.strokeStyle = palette.text;
      pen.lineWidth = output.shown === 1 ? 1.8 : 1.2;
      pen.stroke();
    }
    if (output.shown === 1) {
      pen.font = `italic 650 13px Georgia, "Times New Roman", serif`;
      pen.fillStyle = palette.text;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText("z", output.x, output.y + 0.5);
    }
  }

  /** The way of the error, from the output back to the layers. */
  paintWays(pen, shift) {
    const { stage, row, ways } = this, { palette, place } = stage, { output } = place;
    pen.strokeStyle = pen.fillStyle = palette.signal;
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    pen.setLineDash([5, PERIOD - 5]);
    pen.lineDashOffset = -shift;
    for (const { points } of ways) {
      pen.beginPath();
      points.forEach(([x, y], n) => (n ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.stroke();
    }
    pen.setLineDash([]);
    for (const { points } of ways) {
      const [x, y] = points.at(-1);
      pen.beginPath();
      pen.moveTo(x, y - 3);
      pen.lineTo(x - 4, y + 4);
      pen.lineTo(x + 4, y + 4);
      pen.fill();
    }
    if (!place.crowded) {
      pen.font = `11px ${FONT}`;
      pen.textAlign = "left";
      pen.textBaseline = "alphabetic";
      ways.forEach(({ label, mark }, n) => {
        pen.fillStyle = palette.signal;
        pen.fillText(row.carriers[n], ...label);
        if (row.carriers_held[n]) plus(pen, ...mark, palette.signal, palette.ground);
      });
    }
    pen.font = `italic 650 13px Georgia, "Times New Roman", serif`;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    pen.fillStyle = palette.signal;
    pen.fillText("e", output.x, outputHeight(output, output.shown - 1) + output.radius + 11);
  }

  paintResult(pen) {
    this.result = this.frame.result;
    const { stage, frame } = this, { scene, place, palette } = stage, { x, y, side } = place.result;
    if (scene.points) {
      pen.imageSmoothingEnabled = true;
      pen.imageSmoothingQuality = "medium";
      pen.drawImage(planePicture(frame.result, scene.resolution, palette, scene.class_names.length), x, y, side, side);
      pen.drawImage(stage.points, x, y, side, side);
      frameBox(pen, x, y, side, side, palette.line);
    } else {
      const { shape, units: { length: count } } = scene.filters, [, high, wide] = shape;
      const across = Math.ceil(Math.sqrt(count)), cell = Math.floor(side / across);
      const start = x + (side - across * cell) / 2;
      const picture = filtersPicture(frame.result, shape, palette);
      pen.imageSmoothingEnabled = false;
      for (let n = 0; n < count; n++) {
        pen.drawImage(picture, 0, n * high, wide, high, start + (n % across) * cell, y + Math.floor(n / across) * cell, cell - 3, cell - 3);
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------------------- painting

/** All states of a dot side by side: undefined, then from all wrong (a ring) to all right (a disc). */
function dots(pitch, palette) {
  const tile = Math.ceil(pitch * 3);
  const canvas = new OffscreenCanvas(tile * (LEVELS + 2), tile);
  const pen = canvas.getContext("2d");
  const radius = pitch * 0.41;
  pen.scale(tile / pitch, tile / pitch);
  for (let level = -1; level <= LEVELS; level++) {
    const x = (level + 1.5) * pitch, y = pitch / 2;
    const disc = (size) => { pen.beginPath(); pen.arc(x, y, size, 0, 7); };
    if (level < 0) {
      disc(Math.max(0.7, radius * 0.34));
      pen.fillStyle = palette.none;
      pen.fill();
      continue;
    }
    const share = level / LEVELS, ring = Math.max(0.9, radius * 0.36) * (1 - share ** 3);
    if (share < 1) {
      disc(radius - ring / 2);
      pen.strokeStyle = palette.wrong;
      pen.lineWidth = ring;
      pen.stroke();
    }
    if (share > 0) {
      disc((radius - ring) * Math.sqrt(share));
      pen.fillStyle = palette.right;
      pen.fill();
    }
  }
  return { picture: canvas.transferToImageBitmap(), tile }; // a canvas would be copied for each dot
}

function plus(pen, x, y, colour, ground) {
  pen.beginPath();
  pen.arc(x, y, 5.5, 0, 7);
  pen.fillStyle = ground;
  pen.fill();
  pen.moveTo(x - 3, y);
  pen.lineTo(x + 3, y);
  pen.moveTo(x, y - 3);
  pen.lineTo(x, y + 3);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.3;
  pen.setLineDash([]);
  pen.stroke();
}

function caption(pen, text, x, y, colour) {
  pen.font = `12px ${FONT}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillStyle = colour;
  pen.fillText(text, x, y);
}

function frameBox(pen, x, y, wide, high, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** 256 colours from below 0 (or class 0) over the ground to above 0 (or class 1). */
function ramp(palette, strength) {
  const [low, high] = palette.classes.map(rgb), ground = rgb(palette.ground);
  return Array.from({ length: 256 }, (_, at) => {
    const place = ((at - 127.5) / 127.5) * strength, end = place < 0 ? low : high;
    return ground.map((from, channel) => from + (end[channel] - from) * Math.abs(place));
  });
}

/** 256 colours for the bytes of `decision` in mdfa_core/training/inspection, for more than two classes. */
function classRamps(palette, strength, classes) {
  const ends = palette.classes.map(rgb), ground = rgb(palette.ground), width = Math.floor(256 / classes);
  return Array.from({ length: 256 }, (_, at) => {
    const label = Math.min(Math.floor(at / width), classes - 1), end = ends[label % ends.length];
    const share = (strength * Math.min(at - label * width, width - 1)) / (width - 1);
    return ground.map((from, channel) => from + (end[channel] - from) * share);
  });
}

const ramps = new Map();
function rampOf(palette, strength, classes = 2) {
  const key = `${palette.ground} ${strength} ${classes}`;
  if (!ramps.has(key)) ramps.set(key, classes === 2 ? ramp(palette, strength) : classRamps(palette, strength, classes));
  return ramps.get(key);
}

/** A picture of pixels; a bitmap, because a canvas would be copied whenever it is drawn. */
function bitmap(wide, high, colour) {
  const canvas = new OffscreenCanvas(wide, high), pen = canvas.getContext("2d"), image = pen.createImageData(wide, high);
  for (let at = 0; at < wide * high; at++) {
    const [red, green, blue] = colour(at);
    image.data.set([red, green, blue, 255], 4 * at);
  }
  pen.putImageData(image, 0, 0);
  return canvas.transferToImageBitmap();
}

/** Row 0 of the values is at the bottom. */
function planePicture(values, side, palette, classes) {
  const colours = rampOf(palette, 0.62, classes);
  return bitmap(side, side, (at) => colours[values[(side - 1 - Math.floor(at / side)) * side + (at % side)]]);
}

/** Filters, one below the other. */
function filtersPicture(values, [channels, high, wide], palette) {
  const size = high * wide, colours = rampOf(palette, 1);
  return bitmap(wide, values.length / channels / wide, (at) => {
    const place = (channels - 1) * size * Math.floor(at / size) + at;
    if (channels === 3) return [0, 1, 2].map((channel) => values[place + channel * size]);
    let sum = 0;
    for (let channel = 0; channel < channels; channel++) sum += values[place + channel * size];
    return colours[Math.round(sum / channels)];
  });
}

function line(text, kind = "") {
  return Object.assign(document.createElement("p"), { textContent: text, className: kind });
}

function figure(picture, text) {
  const box = document.createElement("figure");
  const canvas = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  box.append(canvas, Object.assign(document.createElement("figcaption"), { textContent: text }));
  return box;
}

const floats = (text) => new Float32Array(decode(text).buffer);
const signalValues = (signals) => ({ true: floats(signals.true), delivered: floats(signals.delivered) });
const largest = (values) => values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
const brief = (value) => (value === 0 ? "0" : value >= 0.01 && value < 1000 ? String(Number(value.toPrecision(2))) : value.toExponential(1));

/** Delivered error signals over true ones, with the quadrants of the right sign shaded; only axes without signals. */
function scatter(signals, palette) {
  const ratio = Math.min(3, window.devicePixelRatio || 1), side = SCATTER_PX, low = 13; // px for the names of the axes
  const canvas = Object.assign(document.createElement("canvas"), { className: "scatter", width: side * ratio, height: side * ratio });
  const pen = canvas.getContext("2d"), plot = side - low, half = plot / 2, [x, y] = [low + half, half];
  pen.scale(ratio, ratio);
  pen.fillStyle = palette.right;
  pen.globalAlpha = 0.14;
  pen.fillRect(x, 0, half, half);
  pen.fillRect(low, y, half, half);
  pen.globalAlpha = 1;
  frameBox(pen, low, 0, plot, plot, palette.line);
  pen.strokeStyle = palette.muted;
  pen.beginPath();
  pen.moveTo(low, y);
  pen.lineTo(side, y);
  pen.moveTo(x, 0);
  pen.lineTo(x, plot);
  pen.stroke();
  pen.font = `11px ${FONT}`;
  pen.fillStyle = palette.muted;
  pen.textAlign = "center";
  pen.textBaseline = "alphabetic";
  pen.fillText("true", x, side - 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText("delivered", -y, 9);
  pen.rotate(Math.PI / 2);
  if (!signals) return canvas;
  const values = signalValues(signals), ends = { true: largest(values.true) || 1, delivered: largest(values.delivered) || 1 };
  values.true.forEach((wanted, n) => {
    const came = values.delivered[n], sign = Math.sign(wanted) * Math.sign(came);
    if (!Number.isFinite(wanted) || !Number.isFinite(came)) return;
    pen.beginPath();
    pen.arc(x + (wanted / ends.true) * (half - 5), y - (came / ends.delivered) * (half - 5), sign ? 2.6 : 1.4, 0, 7);
    pen.globalAlpha = 0.75;
    if (sign < 0) {
      pen.strokeStyle = palette.wrong;
      pen.lineWidth = 1.4;
      pen.stroke();
    } else {
      pen.fillStyle = sign ? palette.right : palette.none;
      pen.fill();
    }
  });
  return canvas;
}

/** The marker of each class: a disc, then polygons by their corners. */
const CORNERS = [
  [],
  [[0, -2.6], [2.3, 1.7], [-2.3, 1.7]],
  [[-1.8, -1.8], [1.8, -1.8], [1.8, 1.8], [-1.8, 1.8]],
  [[0, -2.6], [2.2, 0], [0, 2.6], [-2.2, 0]],
  [[0, 2.6], [2.3, -1.7], [-2.3, -1.7]],
  [[0, -2.3], [2, -1.1], [2, 1.1], [0, 2.3], [-2, 1.1], [-2, -1.1]],
];

function paintPoints(pen, points, x, y, side, palette, size) {
  points.labels.forEach((label, n) => {
    const left = x + (points.xy[2 * n] / 255) * side, up = y + side - (points.xy[2 * n + 1] / 255) * side;
    pen.beginPath();
    const corners = CORNERS[label % CORNERS.length];
    if (corners.length === 0) pen.arc(left, up, 1.9 * size, 0, 7);
    for (const [right, down] of corners) pen.lineTo(left + right * size, up + down * size);
    pen.closePath();
    pen.fillStyle = palette.classes[label % palette.classes.length];
    pen.fill();
    pen.strokeStyle = palette.ground;
    pen.lineWidth = 0.6;
    pen.stroke();
  });
}

function pointsPicture(points, { result, narrow }, palette) {
  const scale = 2, side = scale * result.side;
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  paintPoints(canvas.getContext("2d"), points, 0, 0, side, palette, scale * (narrow ? 0.8 : 1.1));
  return canvas;
}

/** The images, or the points of the plane, decoded. */
function picturesOf(scene) {
  if (scene.points) return { points: { xy: decode(scene.points.xy), labels: scene.points.labels }, images: [] };
  const [count, channels, high, wide] = scene.pictures.shape, pixels = decode(scene.pictures.pixels), size = high * wide;
  const images = Array.from({ length: count }, (_, n) => {
    const start = n * channels * size;
    return bitmap(wide, high, (at) =>
      [0, 1, 2].map((channel) => pixels[start + (channels === 3 ? channel : 0) * size + at]));
  });
  return { images };
}

export function decode(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function legend(scene) {
  const dots = document.createElement("p"), lines = document.createElement("p");
  dots.className = "legend";
  lines.className = "legend lines"; // in a narrow stage, below the networks
  const filters = scene.layers.some((layer) => layer.filters), what = filters ? "unit or filter" : "unit";
  const sampled = Math.max(0, ...scene.layers.filter(({ shown, count }) => shown.length < count).map(({ shown }) => shown.length));
  dots.innerHTML = `
    <span><svg viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="5.4" fill="var(--st-right)"/></svg>${what} with the right direction</span>
    <span><svg viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="4.6" fill="none" stroke="var(--st-wrong)" stroke-width="1.8"/></svg>wrong direction</span>
    <span><svg viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="4.8" fill="none" stroke="var(--st-wrong)" stroke-width="1.3"/><circle cx="6" cy="6" r="3" fill="var(--st-right)"/></svg>right on some examples</span>
    <span><svg viewBox="0 0 12 12" aria-hidden="true"><circle cx="6" cy="6" r="1.9" fill="var(--st-none)"/></svg>no sign</span>`;
  lines.innerHTML = `
    <span><svg class="long" viewBox="0 0 24 12" aria-hidden="true"><path d="M0 6H24" stroke="var(--st-positive)" stroke-width="1.6"/></svg>weight &gt; 0</span>
    <span><svg class="long" viewBox="0 0 24 12" aria-hidden="true"><path d="M0 6H24" stroke="var(--st-negative)" stroke-width="1.6" stroke-dasharray="4 2.5"/></svg>&lt; 0</span>
    <span><svg viewBox="0 0 12 12" aria-hidden="true"><g fill="none" stroke="var(--st-positive)" stroke-width="1.3"><circle cx="6" cy="6" r="5.4"/><path d="M3 6H9M6 3V9"/></g></svg>kept ≥ 0</span>
    <span><svg class="long" viewBox="0 0 24 12" aria-hidden="true"><path d="M24 6H3" stroke="var(--st-signal)" stroke-width="1.6" stroke-dasharray="5 4"/><path d="M0 6L6 3V9Z" fill="var(--st-signal)"/></svg>path of the error</span>
    ${sampled ? `<span>of a larger layer, ${sampled} units are shown</span>` : ""}`;
  return [dots, lines];
}
