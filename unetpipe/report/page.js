"use strict";
const $ = (selector, from = document) => [...from.querySelectorAll(selector)];

// ---------------------------------------------------------------- tables

const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent.trim();
  return text === "" ? null : isNaN(text) ? text : Number(text);
};

// Unknown values come last in both directions.
const compare = (a, b, sign) => {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
};

const sort = (heading) => {
  const body = heading.closest("table").tBodies[0];
  const ascending = heading.ariaSort !== "ascending";
  $("th", heading.parentNode).forEach((other) => other.removeAttribute("aria-sort"));
  heading.ariaSort = ascending ? "ascending" : "descending";
  const rows = [...body.rows].sort((a, b) =>
    compare(valueOf(a, heading.cellIndex), valueOf(b, heading.cellIndex), ascending ? 1 : -1),
  );
  body.append(...rows);
};
$(".sortable th").forEach((heading) => heading.addEventListener("click", () => sort(heading)));

document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const row of document.getElementById("table").tBodies[0].rows)
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});

// ---------------------------------------------------------------- pictures

const LAYERS = ["image", "probability", "outlines", "errors"];
const show = (layer) => (document.documentElement.dataset.layer = layer);
$("button[data-layer]").forEach((button) => button.addEventListener("click", () => show(button.dataset.layer)));

const viewer = document.getElementById("viewer");
const stage = document.getElementById("stage");
let home = null; // where the picture in the viewer stands in the page
let place = { x: 0, y: 0, scale: 1 };

const moved = () => {
  const { x, y, scale } = place;
  stage.firstChild.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
};

// Around a point of the window, which stays where it is.
const zoom = (factor, clientX, clientY) => {
  const scale = Math.min(40, Math.max(1, place.scale * factor));
  const box = stage.firstChild.getBoundingClientRect();
  const grown = scale / place.scale - 1;
  place = { x: place.x - (clientX - box.left) * grown, y: place.y - (clientY - box.top) * grown, scale };
  if (scale === 1) place = { x: 0, y: 0, scale };
  moved();
};

const open = (stack) => {
  home = stack.parentNode;
  document.getElementById("caption").textContent = home.textContent.trim();
  stage.append(stack);
  viewer.showModal();
  const image = stack.querySelector(".image");
  const fit = Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight);
  stack.style.width = `${fit * image.naturalWidth}px`;
  place = { x: 0, y: 0, scale: 1 };
  moved();
};

viewer.addEventListener("close", () => {
  const stack = stage.firstChild;
  stack.removeAttribute("style");
  home.prepend(stack);
});
document.getElementById("close").addEventListener("click", () => viewer.close());

$(".stack").forEach((stack) => {
  const enlarge = () => viewer.open || open(stack);
  stack.addEventListener("click", enlarge);
  stack.addEventListener("keydown", (event) => event.key === "Enter" && enlarge());
});
$("a.open").forEach((link) =>
  link.addEventListener("click", (event) => {
    const sample = document.getElementById(link.hash.slice(1));
    event.preventDefault();
    sample.open = true;
    open(sample.querySelector(".stack"));
  }),
);

const middle = () => {
  const box = stage.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
};
$("button[data-zoom]").forEach((button) =>
  button.addEventListener("click", () => zoom(Number(button.dataset.zoom), ...middle())),
);
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
});

const fingers = new Map(); // pointers that are down
const spread = () => {
  const [a, b] = [...fingers.values()];
  return { size: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
};
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
});
stage.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const old = fingers.size === 2 && spread();
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  const share = 1 / fingers.size;
  place.x += (event.clientX - before.x) * share;
  place.y += (event.clientY - before.y) * share;
  moved();
  if (old) zoom(spread().size / old.size, spread().x, spread().y);
});
for (const kind of ["pointerup", "pointercancel"])
  stage.addEventListener(kind, (event) => fingers.delete(event.pointerId));

addEventListener("keydown", (event) => {
  const number = Number(event.key);
  if (event.target.tagName !== "INPUT" && LAYERS[number - 1]) show(LAYERS[number - 1]);
});
