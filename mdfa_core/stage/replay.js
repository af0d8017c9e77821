// The player of a replay: it follows stage.js and film.js in one inline module, so that the file needs nothing else.

const recording = JSON.parse(document.getElementById("recording").textContent);
const $ = (name) => document.getElementById(name);

class Player {
  constructor(scene, rows) {
    Object.assign(this, { scene, rows, at: 0, playing: false, timer: 0 });
    this.count = rows[0].length;
    this.film = new Film(scene);
    this.reader = new Reader(scene);
    this.series = rows.map((frames) => frames.map((frame) => this.reader.read(frame, 0)));
    $("seek").max = this.count - 1;
    $("play").addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    $("seek").addEventListener("input", () => { this.pause(); this.show(Number($("seek").value)); });
    $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
    document.addEventListener("keydown", (event) => {
      if (event.key !== " " || event.target.closest("button, select, summary, .layer")) return;
      event.preventDefault();
      $("play").click();
    });
    this.charts = [...document.querySelectorAll(".chart canvas")].map((canvas) => new Chart(this, canvas));
    new ResizeObserver(() => this.draw()).observe($("stage"));
    render({ model: this.film, el: $("stage") });
    addEventListener("hashchange", () => this.open());
    this.open();
  }

  /** #frame=12 shows one moment. */
  open() {
    const frame = /frame=(\d+)/.exec(location.hash);
    if (frame) {
      this.pause();
      this.show(Math.min(this.count - 1, Number(frame[1])));
    } else {
      this.show(0);
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.play();
    }
  }

  show(at) {
    this.at = at;
    const bytes = new Uint8Array(this.rows.length * this.reader.size);
    this.rows.forEach((frames, row) => bytes.set(frames[at], row * this.reader.size));
    this.film.set({ frame: bytes });
    const { step, epoch } = this.series.map((frames) => frames[at]).find(Boolean);
    const text = `epoch ${epoch} of ${this.scene.epochs} · ${step.toLocaleString("en")} mini-batch${step === 1 ? "" : "es"}`;
    $("seek").value = at;
    $("seek").setAttribute("aria-valuetext", text);
    $("at").textContent = text;
    this.draw();
  }

  draw() {
    for (const chart of this.charts) chart.draw();
  }

  play() {
    if (this.at === this.count - 1) this.show(0);
    this.playing = true;
    this.film.set({ moving: true });
    $("play").textContent = "❚❚ Pause";
    const next = () => {
      this.show(this.at + 1);
      if (this.at === this.count - 1) this.pause();
      else this.timer = setTimeout(next, 1000 / Number($("speed").value));
    };
    clearTimeout(this.timer);
    this.timer = setTimeout(next, 600);
  }

  pause() {
    clearTimeout(this.timer);
    this.playing = false;
    this.film.set({ moving: false });
    $("play").textContent = this.at === this.count - 1 ? "↺ Again" : "▶ Play";
  }
}

/** One value of all rows over the frames; a pointer chooses the moment. */
class Chart {
  constructor(player, canvas) {
    Object.assign(this, { player, canvas, of: canvas.dataset.of });
    const seek = (event) => {
      if (!event.buttons) return;
      const box = canvas.getBoundingClientRect(), share = (event.clientX - box.left - 40) / (box.width - 40 - this.right);
      player.pause();
      player.show(Math.round(Math.min(1, Math.max(0, share)) * (player.count - 1)));
    };
    canvas.addEventListener("pointerdown", seek);
    canvas.addEventListener("pointermove", seek);
    this.right = 54;
    // The axis begins at 50 % if nothing is below.
    const values = player.series.flat().map((frame) => frame?.[this.of]).filter(Number.isFinite);
    this.low = Math.min(...values, 1) >= 0.5 ? 0.5 : 0;
  }

  draw() {
    const { canvas, player, low, right } = this, ratio = window.devicePixelRatio || 1;
    const wide = canvas.clientWidth, high = canvas.clientHeight;
    if (!wide) return;
    if (canvas.width !== Math.round(wide * ratio)) Object.assign(canvas, { width: Math.round(wide * ratio), height: Math.round(high * ratio) });
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const muted = style.getPropertyValue("--muted"), line = style.getPropertyValue("--line"), text = style.getPropertyValue("--text");
    const dark = document.documentElement.dataset.theme === "dark";
    const x = (at) => 40 + (at / Math.max(1, player.count - 1)) * (wide - 40 - right), y = (value) => 8 + (1 - (value - low) / (1 - low)) * (high - 16);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, wide, high);
    pen.font = `11px ${FONT}`;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    pen.lineWidth = 1;
    for (const value of low ? [0.5, 0.75, 1] : [0, 0.5, 1]) {
      pen.fillStyle = muted;
      pen.fillText(`${100 * value} %`, 35, y(value));
      pen.strokeStyle = line;
      pen.beginPath();
      pen.moveTo(40, y(value));
      pen.lineTo(wide - right, y(value));
      pen.stroke();
    }
    pen.strokeStyle = text;
    pen.beginPath();
    pen.moveTo(x(player.at), 4);
    pen.lineTo(x(player.at), high - 4);
    pen.stroke();
    const ends = [];
    player.series.forEach((frames, number) => {
      const row = player.scene.rows[number];
      pen.strokeStyle = row.colours[dark ? 1 : 0];
      pen.lineWidth = 1.8;
      pen.setLineDash(row.dash);
      pen.beginPath();
      let drawn = false;
      frames.forEach((frame, at) => {
        const value = frame?.[this.of];
        if (!Number.isFinite(value)) { drawn = false; return; }
        if (drawn) pen.lineTo(x(at), y(value));
        else pen.moveTo(x(at), y(value));
        drawn = true;
      });
      pen.stroke();
      pen.setLineDash([]);
      const last = frames.at(-1)?.[this.of];
      if (Number.isFinite(last)) ends.push({ title: row.title, colour: pen.strokeStyle, at: y(last) });
    });
    // Labels stay at their lines, but not on each other.
    ends.sort((a, b) => a.at - b.at);
    ends.forEach((end, n) => { if (n) end.at = Math.max(end.at, ends[n - 1].at + 12); });
    const over = (ends.at(-1)?.at ?? 0) - (high - 6);
    pen.textAlign = "left";
    pen.font = `600 11px ${FONT}`;
    for (const end of ends) {
      pen.fillStyle = end.colour;
      pen.fillText(end.title, wide - right + 5, end.at - Math.max(0, over));
    }
  }
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light" : "Dark";
  for (const chart of window.player?.charts ?? []) chart.draw();
}

setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
$("settings").textContent = Object.entries(recording.settings)
  .filter(([, value]) => value !== null)
  .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(" · ");
const rows = await Promise.all(recording.frames.map((text) => unpack(text, recording.count)));
window.player = new Player(recording.scene, rows);
