// The gallery: an image of the sample with its kept and dropped tokens, and the worst reconstructions.
function bitsOf(text) {
  const binary = atob(text);
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}
// The mask of a setting: `rows * cols` values, 1 for set. Each setting's bits fill whole bytes, highest bit first.
function maskOf(image, field, index) {
  image.bytes ??= {};
  const bytes = (image.bytes[field] ??= bitsOf(image[field]));
  const total = image.rows * image.cols, start = index * Math.ceil(total / 8);
  return Uint8Array.from({ length: total }, (_, i) => (bytes[start + (i >> 3)] >> (7 - (i & 7))) & 1);
}

const inKind = () => data.gallery.map((_, i) => i).filter((i) => state.kind === 0 || data.gallery[i].kind === state.kind);
const shownImage = () => data.gallery[inKind().includes(state.image) ? state.image : inKind()[0]];

function drawThumbnails() {
  const strip = byId("thumbnails"), shown = inKind();
  if (shown.length && !shown.includes(state.image)) state.image = shown[0];
  if (strip.dataset.kind !== String(state.kind)) {
    strip.dataset.kind = state.kind;
    fill(strip, ...shown.map((i) => make("div", { role: "option", id: `image-${i}`, "aria-label": data.gallery[i].name, title: data.gallery[i].name },
      make("img", { src: data.gallery[i].image, alt: "" }))));
  }
  for (const option of strip.children) {
    const selected = option.id === `image-${state.image}`;
    option.setAttribute("aria-selected", selected);
    option.tabIndex = selected ? 0 : -1;
    if (selected) strip.scrollLeft = Math.min(option.offsetLeft - 8, Math.max(strip.scrollLeft, option.offsetLeft + option.offsetWidth + 8 - strip.clientWidth));
  }
  byId("previous").disabled = byId("next").disabled = shown.length < 2;
  byId("viewer").hidden = !shown.length;
  const missing = data.missing ? ` ${count(data.missing, "image")} of the sample could not be opened again.` : "";
  byId("gallery-note").textContent = shown.length
    ? `${count(shown.length, "image")}${state.kind ? ` of kind ${group().name}` : ""}, a sample spread over kinds and retained ratios. Move the slider and see which tokens go.${missing}`
    : `No image of the sample is of this kind.${missing}`;
}

function drawOverlay() {
  const image = shownImage();
  if (!image) return;
  const canvas = byId("overlay"), stage = byId("stage");
  const ratio = devicePixelRatio || 1, width = stage.clientWidth, height = stage.clientHeight;
  if (!width || !height) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.hidden = byId("bare").checked;
  const { rows, cols } = image, kept = maskOf(image, "kept", current()), content = maskOf(image, "content", current());
  const x = (col) => Math.round(col * canvas.width / cols), y = (row) => Math.round(row * canvas.height / rows);
  const paint = canvas.getContext("2d");
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const i = row * cols + col;
      paint.fillStyle = kept[i] ? "rgba(38,194,108,0.18)" : content[i] ? "rgba(236,112,20,0.66)" : "rgba(128,128,128,0.66)";
      paint.fillRect(x(col), y(row), x(col + 1) - x(col), y(row + 1) - y(row));
    }
  }
  // A line where kept and dropped tokens meet.
  paint.fillStyle = "rgb(22,128,70)";
  const thick = Math.max(1, Math.round(ratio));
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const i = row * cols + col;
      if (col && kept[i] !== kept[i - 1]) paint.fillRect(x(col), y(row), thick, y(row + 1) - y(row) + thick);
      if (row && kept[i] !== kept[i - cols]) paint.fillRect(x(col), y(row), x(col + 1) - x(col) + thick, thick);
    }
  }
}

function drawImage() {
  const image = shownImage();
  if (!image) return;
  const i = current(), picture = byId("shown");
  if (picture.src !== image.image) picture.src = image.image;
  picture.alt = `${image.name}, ${image.width} x ${image.height} pixels`;
  byId("shown-name").textContent = image.name;
  const total = image.rows * image.cols, kept = image.counts[i], lost = image.losses[i];
  fill(byId("shown-figures"), make("strong", {}, `${percent(kept / total)} kept`),
    `: ${number(kept)} of ${number(total)} tokens (${image.cols} x ${image.rows}), ${nameOf(state.variant, state.protect)} at ${state.threshold}. ` +
    (lost ? `${count(lost, "dropped token")} with content.` : "No dropped token has content."));
  drawOverlay();
}

function drawWorst() {
  const i = current();
  const found = data.worst[i].filter((entry) => state.kind === 0 || data.gallery[entry.image].kind === state.kind);
  const rows = steps().map((point) => {
    const all = data.gallery.filter((image) => state.kind === 0 || image.kind === state.kind).map((image) => image.errors[point.index]).filter((e) => e !== null);
    const largest = Math.max(0, ...all.map((e) => e[0])), mean = all.length ? all.reduce((sum, e) => sum + e[1], 0) / all.length : 0;
    return { point, largest, mean, worst: Math.max(0, ...all.map((e) => e[1])) };
  });
  const levels = (value, digits) => (value > 0 && value * 255 < 0.005 ? "<0.01" : (255 * value).toFixed(value && digits));
  byId("worst-note").textContent = found.length
    ? "The images of the gallery whose reconstruction from the kept tokens is furthest from them on average; of each, its worst part. Errors are in levels of 0 to 255."
    : steps()[step()].threshold === 0
      ? "At threshold 0 every reconstruction equals its image to the last bit. Choose a larger threshold to see what changes."
      : "No reconstruction of the sample differs at this setting, or the method names no token that stands for a dropped one.";
  const side = (crop, text) => make("figure", {}, make("img", { src: data.crops[crop], alt: "" }), make("figcaption", {}, text));
  fill(byId("worst-list"), ...found.map((entry) => make("article", { class: "pair" },
    make("h3", {}, data.gallery[entry.image].name),
    make("p", { class: "soft small" }, `largest error ${levels(entry.largest, 0)}, mean ${levels(entry.mean, 2)}; part at x ${entry.at[0]}, y ${entry.at[1]}`),
    make("div", {}, side(entry.before, "Image"), side(entry.after, "Reconstruction")))));
  const head = [{ text: "Threshold" }, ...["Largest error", "Mean error", "Worst image's mean"].map((text) => ({ text, number: true }))];
  fill(byId("worst-table"), table(head, rows.map(({ point, largest, mean, worst }) => ({ now: point.index === i,
    cells: [String(point.threshold), levels(largest, 0), levels(mean, 2), levels(worst, 2)] }))));
}

function move(by, focus) {
  const shown = inKind();
  if (!shown.length) return;
  state.image = shown[(shown.indexOf(state.image) + by + shown.length) % shown.length];
  drawThumbnails();
  drawImage();
  if (focus) byId(`image-${state.image}`).focus({ preventScroll: true });
}

function startGallery() {
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("bare").addEventListener("change", drawOverlay);
  byId("shown").addEventListener("load", drawOverlay);
  new ResizeObserver(drawOverlay).observe(byId("stage"));
  const strip = byId("thumbnails");
  strip.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) move(inKind().indexOf(Number(option.id.slice(6))) - inKind().indexOf(state.image), true);
  });
  strip.addEventListener("keydown", (event) => {
    const here = inKind().indexOf(state.image);
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -here, End: inKind().length - 1 - here }[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(by, true);
  });
}

followers.push(drawThumbnails, drawImage, drawWorst);
