// Tables: the numbers of the charts, and what is best read as numbers.
function drawDistributionTable() {
  const i = current();
  const head = [{ text: "Kind" }, ...["Images", "Tokens", "Kept", "Smallest", "25 %", "Median", "75 %", "Largest", "Pixel-unique"].map((text) => ({ text, number: true }))];
  const rows = shownGroups().filter((g) => data.groups[g].images).map((g) => {
    const of = data.groups[g];
    return { cells: [kindName(g), number(of.images), number(of.tokens), percent(of.kept[i] / of.tokens), ...of.quartiles[i].map((q) => percent(q)), percent(of.unique)] };
  });
  fill(byId("distribution-table"), table(head, rows));
}

const allThresholds = [...new Set(data.settings.map((s) => s.threshold))].sort((a, b) => a - b);

// One row a method, one column a threshold; `cell` gives the text and the class of a setting.
function grid(cell) {
  const head = [{ text: "Method" }, ...allThresholds.map((t) => ({ text: String(t), number: true }))];
  const rows = variants.flatMap((variant) => [false, true].filter((protect) => hasTwin(variant, protect)).map((protect) => {
    const points = thresholdsOf(variant, protect);
    return { cells: [nameOf(variant, protect), ...allThresholds.map((t) => {
      const point = points.find((p) => p.threshold === t);
      if (!point) return "";
      const { text, some } = cell(point.index);
      const now = point.index === current();
      return { text, class: [now ? "now" : "", some ? "some" : ""].join(" ").trim() || null };
    })] };
  }));
  return table(head, rows);
}

function drawCurvesTable() {
  const of = group();
  fill(byId("curves-table"), grid((i) => ({ text: percent(of.kept[i] / of.tokens) })));
}

function drawContentTable() {
  const of = group();
  fill(byId("content-table"), grid((i) => ({ text: number(of.content[i]), some: of.content[i] > 0 })));
}

function drawSavingsTable() {
  const of = group();
  const head = [{ text: "Threshold" }, ...["Tokens", "Kept"].map((text) => ({ text, number: true }))];
  if (data.model) head.push(...["ViT", "Prefill", "Both", "Saved", "Saved per image"].map((text) => ({ text, number: true })));
  const costs = (n) => (data.model ? [of.vision[n], of.prefill[n], of.vision[n] + of.prefill[n]] : []);
  const whole = costs(0);
  const rows = [{ cells: ["All tokens", number(of.tokens), percent(1), ...whole.map(flops), ...(data.model ? ["", ""] : [])] }];
  for (const point of steps()) {
    const own = costs(point.index + 1);
    rows.push({ now: point.index === current(), cells: [String(point.threshold), number(of.kept[point.index]), percent(of.kept[point.index] / of.tokens), ...own.map(flops),
      ...(data.model ? [percent(1 - own[2] / whole[2]), flops((whole[2] - own[2]) / of.images)] : [])] });
  }
  fill(byId("savings-table"), table(head, rows));
  byId("savings-figure").hidden = !data.model;
  fill(byId("savings-note"), data.model
    ? `${data.model}: matrix products of the ViT and of the language model's prefill of the image tokens, attention included. Prompt and answer are not counted. Method ${nameOf(state.variant, state.protect)}, ${state.kind ? `kind ${group().name}` : "the whole set"}.`
    : "No model was named, so that only tokens are counted.");
}

function drawShrinkingTable() {
  const head = [{ text: "Threshold" }, ...["Tokens kept", "Detail, pruned", "Detail, shrunk", "PSNR, pruned", "PSNR, shrunk"].map((text) => ({ text, number: true }))];
  const psnr = (error) => (error === null ? "" : error === 0 ? "exact" : `${(10 * Math.log10(255 ** 2 / error)).toFixed(1)} dB`);
  const share = (value) => (value === null ? "" : percent(value));
  fill(byId("shrinking-table"), table(head, steps().map((point) => {
    const of = compared(point.index);
    return { now: point.index === current(), cells: [String(point.threshold), share(of.share), ...of.detail.map(share), ...of.error.map(psnr)] };
  })));
}

function drawMisfits() {
  const i = current(), of = group(), [images, tokens] = of.misfits[i];
  const found = data.misfits[i].filter((m) => state.kind === 0 || m.kind + 1 === state.kind);
  const listed = found.reduce((sum, m) => sum + m.images, 0);
  byId("misfits-note").textContent = images
    ? `${count(images, "image")} of ${number(of.images)}, with ${percent(tokens / of.tokens)} of the tokens, ${images === 1 ? "keeps" : "keep"} at least ${percent(data.pays, 0)} of ${images === 1 ? "its" : "theirs"} at this setting. For ${images === 1 ? "it" : "them"}, pruning only costs the time of the selection.` +
      (listed < images ? ` The largest groups, ${count(listed, "image")}:` : "")
    : `No image keeps ${percent(data.pays, 0)} or more of its tokens at this setting.`;
  const loosest = steps()[steps().length - 1].threshold;
  const head = [{ text: "Kind" }, { text: "Format" }, { text: "Images", number: true }, { text: "Tokens", number: true }, { text: "Kept", number: true }, { text: `At ${loosest}`, number: true }, { text: "Why, and which" }];
  fill(byId("misfits-table"), found.length ? table(head, found.map((m) => ({ cells: [
    kindName(m.kind + 1), m.quality ? `${m.format}, quality ${m.quality}` : m.format, number(m.images), number(m.tokens), percent(m.retained), percent(m.loosest),
    make("div", {}, data.reasons[m.reason], make("div", { class: "files" }, m.names.join(", ") + (m.images > m.names.length ? `, and ${number(m.images - m.names.length)} more` : ""))),
  ] }))) : "");
}

function drawUnread() {
  byId("unread").hidden = data.unread === 0;
  if (!data.unread) return;
  byId("unread-note").textContent = data.unread === data.errors.length
    ? `${count(data.unread, "image")} could not be read and ${data.unread === 1 ? "is" : "are"} in no other figure.`
    : `${count(data.unread, "image")} could not be read and are in no other figure. The first ${number(data.errors.length)}:`;
  fill(byId("unread-table"), table([{ text: "Image" }, { text: "Error" }], data.errors.map(([name, error]) => ({ cells: [name, error] }))));
}

followers.push(drawDistributionTable, drawCurvesTable, drawContentTable, drawSavingsTable, drawShrinkingTable, drawMisfits);
