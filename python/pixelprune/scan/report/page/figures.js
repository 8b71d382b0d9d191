// The summary: one sentence and the tiles.
function drawSummary() {
  const of = group(), i = current(), saved = 1 - of.kept[i] / of.tokens;
  const setting = steps()[step()];
  const where = state.kind === 0 ? "" : ` of kind ${of.name}`;
  if (!of.images) {
    fill(byId("verdict"), "No image could be read.");
    fill(byId("tiles"));
    return;
  }
  fill(byId("verdict"),
    `At threshold ${setting.threshold}, ${nameOf(state.variant, state.protect)} drops `, make("strong", {}, percent(saved)),
    ` of the tokens of ${count(of.images, "image")}${where}` + (setting.threshold === 0 ? ", and no pixel is lost." : "."));
  const tiles = [
    ["Tokens kept", percent(of.kept[i] / of.tokens), `${short(of.kept[i])} of ${short(of.tokens)}`, of.kept[i] / of.tokens],
    ["Median image keeps", percent(of.quartiles[i][2]), `half of the images from ${percent(of.quartiles[i][1], 0)} to ${percent(of.quartiles[i][3], 0)}`, of.quartiles[i][2]],
  ];
  if (data.model) {
    const total = (n) => of.vision[n] + of.prefill[n];
    const left = total(i + 1) / total(0);
    tiles.push(["FLOPs left", percent(left), `saves ${flops(total(0) - total(i + 1))} with ${data.model}`, left]);
  }
  tiles.push(["Dropped with content", percent(of.content[i] / of.tokens, 2), `${count(of.content[i], "token")} in ${count(of.touched[i], "image")}`, of.content[i] / of.tokens]);
  fill(byId("tiles"), ...tiles.map(([title, value, note, share], n) => make("div", { class: n === 0 ? "tile first" : title.startsWith("Dropped") ? "tile lost" : "tile" },
    make("span", {}, title), make("b", {}, value), make("span", {}, note),
    make("div", { class: "bar", "aria-hidden": "true" }, make("i", { style: `width:${Math.min(100, 100 * share)}%` })))));
}
followers.push(drawSummary);
