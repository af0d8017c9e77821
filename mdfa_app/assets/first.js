// Plays the recorded run of a first visit until the live networks are drawn. It follows stage.js and film.js in one module.

const part = (name) => document.getElementById(`first-${name}`);
const { scene, frames, count, milliseconds } = JSON.parse(part("run").textContent);
const box = document.getElementById("first"), live = document.querySelector('[data-part="nets"]');
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const film = new Film(scene);
let at = 0, timer = 0, close = null;

/** The newest number of the live networks; empty before they are drawn. */
const drawn = () => /\d/.test(live.firstElementChild?.shadowRoot?.querySelector("dd.signs")?.textContent ?? "");

/** Once the live networks are drawn, they take the place of the recorded ones. */
const look = () => {
  if (!drawn()) {
    requestAnimationFrame(look);
    return;
  }
  clearInterval(timer);
  close?.();
  for (const gone of [box, part("run")]) gone.remove();
};

const pause = () => {
  clearInterval(timer);
  timer = 0;
  film.set({ moving: false });
  part("pause").textContent = "Play";
};

const play = (show) => {
  film.set({ moving: true });
  part("pause").textContent = "Pause";
  timer = setInterval(() => {
    show(at + 1);
    if (at === count - 1) {
      pause();
      part("pause").hidden = true;
    }
  }, milliseconds);
};

look();
const rows = await Promise.all(frames.map((text) => unpack(text, count)));
if (box.isConnected) {
  const size = rows[0][0].length;
  const show = (next) => {
    const bytes = new Uint8Array(rows.length * size);
    at = next;
    rows.forEach((frames, row) => bytes.set(frames[at], row * size));
    film.set({ frame: bytes });
  };
  show(0);
  close = render({ model: film, el: part("nets") });
  part("pause").addEventListener("click", () => {
    const playing = timer !== 0;
    // Who stops the recorded networks does not want live ones that begin to move by themselves.
    document.documentElement.dataset.motion = playing ? "off" : "on";
    if (playing) pause();
    else play(show);
  });
  if (!still) {
    part("pause").hidden = false;
    play(show);
  }
}
