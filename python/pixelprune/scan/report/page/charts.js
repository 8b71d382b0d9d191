// Charts, in the colours of the page.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
// plotly reads some HTML in labels: a name must not be any.
const label = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
const clipped = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const isNarrow = () => innerWidth < 640;

function plot(id, traces, layout, height) {
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), tickfont: { color: colour("soft") }, fixedrange: true };
  const title = (text) => (text ? { text, font: { color: colour("soft"), size: 13 }, standoff: 10 } : undefined);
  const { xaxis = {}, yaxis = {}, ...rest } = layout;
  Plotly.react(id, traces, {
    height,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
    margin: { l: 56, r: 12, t: 12, b: 48 },
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("ink") } },
    legend: { orientation: "h", y: -0.22, x: 0, font: { color: colour("ink") } },
    dragmode: false,
    ...rest,
    xaxis: { ...axis, automargin: true, ...xaxis, title: title(xaxis.title) },
    yaxis: { ...axis, automargin: true, ...yaxis, title: title(yaxis.title) },
  }, { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false });
}

const series = (index) => colour(`series-${(index % 5) + 1}`);
const shownGroups = () => (state.kind ? [state.kind] : data.groups.map((_, i) => i).slice(data.groups.length === 2 ? 1 : 0));

function drawDistribution() {
  const i = current(), shown = shownGroups().slice().reverse().filter((g) => data.groups[g].images);
  const bins = data.bins, names = shown.map((g) => label(clipped(kindName(g), isNarrow() ? 14 : 28)));
  // The root spreads the colours, so that a few images in a cell can be seen beside many in another.
  const share = shown.map((g) => data.groups[g].bins[i].map((n) => Math.sqrt(n / data.groups[g].images)));
  const text = shown.map((g) => data.groups[g].bins[i].map((n, b) =>
    `${label(kindName(g))}<br>${count(n, "image")} keep ${Math.round(100 * b / bins)} to ${Math.round(100 * (b + 1) / bins)} %`));
  const low = colour("wash"), high = colour("accent");
  plot("distribution-chart", [
    { type: "heatmap", x: Array.from({ length: bins }, (_, b) => (b + 0.5) / bins), y: shown.map((_, n) => n), z: share, text,
      hovertemplate: "%{text}<extra></extra>", zmin: 0, zmax: Math.max(0.5, ...share.flat()), showscale: false, xgap: 2, ygap: 8,
      colorscale: [[0, low], [1, high]] },
    { type: "scatter", mode: "markers", x: shown.map((g) => data.groups[g].quartiles[i][2]), y: shown.map((_, n) => n),
      marker: { symbol: "line-ns", size: 26, line: { width: 3, color: colour("ink") } }, hovertemplate: "median %{x:.1%}<extra></extra>", cliponaxis: false },
  ], { showlegend: false, margin: { l: 20, r: 24, t: 4, b: 48 },
       xaxis: { range: [0, 1], tickvals: [0, 0.25, 0.5, 0.75, 1], tickformat: ".0%", showgrid: false, title: "Retained tokens of an image", zeroline: false },
       yaxis: { tickvals: shown.map((_, n) => n), ticktext: names, showgrid: false, zeroline: false, ticklen: 6, tickcolor: "rgba(0,0,0,0)", tickfont: { color: colour("ink") } } },
  70 + 40 * shown.length);
}

function drawCurves() {
  const of = group();
  const traces = variants.flatMap((variant, v) => [false, true].map((protect) => {
    const points = thresholdsOf(variant, protect), mine = variant === state.variant && protect === state.protect;
    return { type: "scatter", mode: points.length > 1 ? "lines+markers" : "markers", name: label(nameOf(variant, protect)),
      x: points.map((p) => p.threshold), y: points.map((p) => of.kept[p.index] / of.tokens), cliponaxis: false,
      line: { color: series(v), width: mine ? 4 : 2, dash: protect ? "dash" : "solid" },
      marker: { color: series(v), opacity: 1, line: { width: 0 }, size: points.map((p) => (mine && p.threshold === state.threshold ? 13 : points.length > 1 ? 6 : 9)), symbol: points.length > 1 ? "circle" : "diamond" },
      hovertemplate: `${label(nameOf(variant, protect))} at %{x}: %{y:.1%}<extra></extra>` };
  })).filter((trace) => trace.x.length);
  const most = Math.max(...data.settings.map((s) => s.threshold));
  plot("curves-chart", traces, { xaxis: { title: "Threshold", range: [-0.03 * (most || 1), 1.02 * (most || 1)], zeroline: false },
    yaxis: { tickformat: ".0%", rangemode: "tozero", title: isNarrow() ? "" : "Tokens kept" }, legend: { orientation: "h", y: isNarrow() ? -0.2 : -0.18, x: 0 } }, isNarrow() ? 460 : 440);
}

function drawSavings() {
  if (!data.model) return;
  const of = group(), i = current() + 1;
  const power = powerOf(of.vision[0] + of.prefill[0]), scaled = (value) => value / 1000 ** power;
  const bar = (name, values, tone, pattern) => ({ type: "bar", orientation: "h", name, y: ["Pruned", "All tokens"], x: [scaled(values[i]), scaled(values[0])],
    marker: { color: tone, pattern: { shape: pattern, fgcolor: colour("paper"), size: 6, solidity: 0.3 } }, hovertemplate: `${name}: %{text}<extra></extra>`, text: [flops(values[i]), flops(values[0])], textposition: "inside", insidetextanchor: "middle", insidetextfont: { color: colour("accent-ink") }, textangle: 0 });
  plot("savings-chart", [bar("ViT", of.vision, colour("series-1"), ""), bar("Language model, prefill", of.prefill, colour("series-2"), "")],
    { barmode: "stack", bargap: 0.35, xaxis: { title: "", tickformat: "~f", ticksuffix: ` ${UNITS[power]}`, nticks: isNarrow() ? 4 : 8 }, yaxis: { tickfont: { color: colour("ink") } }, margin: { l: 20, r: 12, t: 4, b: 30 },
      legend: { orientation: "h", y: -0.28, x: 0, traceorder: "normal" }, uniformtext: { mode: "hide", minsize: 10 } }, 190);
}

// Means of the sample: detail that is left, and the mean squared error, of pruning and of shrinking.
function compared(index) {
  const images = data.gallery.filter((image) => state.kind === 0 || image.kind === state.kind);
  const mean = (side, field) => {
    const values = images.map((image) => image[side][index]).filter((v) => v !== null).map((v) => v[field]).filter((v) => v !== null);
    return values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;
  };
  const tokens = images.reduce((sum, image) => sum + image.tokens, 0);
  const kept = images.reduce((sum, image) => sum + image.counts[index], 0);
  return { images: images.length, share: tokens ? kept / tokens : null,
    detail: [mean("pruned", 1), mean("shrunk", 1)], error: [mean("pruned", 0), mean("shrunk", 0)] };
}

function drawShrinking() {
  const points = steps().map((s) => ({ ...s, ...compared(s.index) }));
  const line = (name, n, tone, dash) => ({ type: "scatter", mode: "lines+markers", name, x: points.map((p) => p.threshold), y: points.map((p) => p.detail[n]), cliponaxis: false,
    line: { color: tone, width: 3, dash }, marker: { color: tone, opacity: 1, line: { width: 0 }, size: points.map((p) => (p.threshold === state.threshold ? 13 : 7)) }, customdata: points.map((p) => p.share),
    hovertemplate: `${name}: %{y:.1%} of the detail<br>with %{customdata:.1%} of the tokens<extra></extra>` });
  const most = Math.max(...points.map((p) => p.threshold)) || 0.01;
  plot("shrinking-chart", [line("Pruned", 0, colour("series-1"), "solid"), line("Shrunk to as many tokens", 1, colour("series-2"), "dot")],
    { xaxis: { title: "Threshold", range: [-0.03 * most, 1.03 * most], zeroline: false }, yaxis: { tickformat: ".0%", range: [0, 1.02], title: isNarrow() ? "" : "Detail that is left" }, legend: { orientation: "h", y: -0.24, x: 0 } }, 340);
}

followers.push(drawDistribution, drawCurves, drawSavings, drawShrinking);
