// Controls, and the first drawing.
function drawControls() {
  const known = steps(), here = step();
  byId("kind").value = state.kind;
  byId("method").value = state.variant;
  byId("protect").checked = state.protect;
  byId("protect").disabled = !(hasTwin(state.variant, true) && hasTwin(state.variant, false));
  for (const id of ["threshold", "gallery-threshold"]) {
    const slider = byId(id);
    slider.max = Math.max(known.length - 1, 0);
    slider.value = here;
    slider.disabled = known.length < 2;
    slider.setAttribute("aria-valuetext", `threshold ${known[here].threshold}`);
    byId(`${id}-value`).textContent = String(known[here].threshold);
  }
}
followers.unshift(drawControls);

function startControls() {
  fill(byId("kind"), ...data.groups.map((of, i) => make("option", { value: i }, `${kindName(i)} (${number(of.images)})`)));
  fill(byId("method"), ...variants.map((variant) => make("option", { value: variant }, variant)));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("kind").addEventListener("change", (event) => choose({ kind: Number(event.target.value) }));
  byId("method").addEventListener("change", (event) => {
    const variant = event.target.value;
    choose({ variant, protect: hasTwin(variant, state.protect) ? state.protect : !state.protect });
  });
  byId("protect").addEventListener("change", (event) => choose({ protect: event.target.checked }));
  for (const id of ["threshold", "gallery-threshold"]) {
    byId(id).addEventListener("input", (event) => choose({ threshold: steps()[Number(event.target.value)].threshold }));
  }
}

function startTheme() {
  const button = byId("theme"), root = document.documentElement;
  const name = () => { button.textContent = root.dataset.theme === "dark" ? "Light colours" : "Dark colours"; };
  const set = (theme) => { root.dataset.theme = theme; name(); for (const draw of [drawDistribution, drawCurves, drawSavings, drawShrinking]) draw(); };
  button.addEventListener("click", () => {
    set(root.dataset.theme === "dark" ? "light" : "dark");
    try { localStorage.setItem("pixelprune-theme", root.dataset.theme); } catch { /* not allowed to remember */ }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    try { if (localStorage.getItem("pixelprune-theme")) return; } catch { /* nothing is remembered */ }
    set(event.matches ? "dark" : "light");
  });
  name();
}

function startContents() {
  byId("about").textContent = data.about;
  byId("settings").textContent = data.how;
  fill(byId("contents"), ...[...document.querySelectorAll("main > section")].filter((section) => !section.hidden)
    .map((section) => make("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)));
}

function startWidths() {
  let narrow = isNarrow();
  addEventListener("resize", () => {
    if (narrow === isNarrow()) return;
    narrow = isNarrow();
    for (const draw of [drawDistribution, drawCurves, drawSavings, drawShrinking]) draw();
  });
}

if (!data.groups[0].images) {
  // Nothing was measured: only the summary and the errors have something to say.
  for (const section of document.querySelectorAll("main > section")) section.hidden = !["summary", "unread"].includes(section.id);
  byId("controls").hidden = true;
  followers.splice(0, followers.length, drawSummary);
}
startControls();
startGallery();
startTheme();
drawUnread();
startContents();
startWidths();
// The gallery starts with the image that is most like the others.
const typical = (image) => Math.abs(image.counts[0] / image.tokens - data.groups[0].quartiles[0][2]);
state.image = data.gallery.reduce((best, image, i) => (typical(image) < typical(data.gallery[best]) ? i : best), 0);
const first = data.settings.find((s) => s.name === "pred_2d" && !s.protect && s.threshold === 0) ?? data.settings[0];
choose({ variant: first.name, protect: first.protect, threshold: first.threshold });
