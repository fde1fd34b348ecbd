"use strict";
// Draws the page from the JSON in #data. Texts of users reach the page by
// `textContent` alone, and plotly, which knows some markup, through `literal`.
(() => {
  const content = JSON.parse(document.getElementById("data").textContent);
  const opacity = document.querySelector("#opacity input");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const MAP_TITLES = {
    map: "activation map, sum of squares",
    gate: "gate, mean of channels",
    scores: "attention scores, mean of queries",
    class: "class activation (Grad-CAM)",
  };
  let example = 0;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // The page's colors, of its style, for plotly.
  function color(name) {
    return getComputedStyle(document.documentElement)
      .getPropertyValue(`--${name}`).trim();
  }

  function literal(text) {
    return String(text)
      .replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  // A group of radio buttons: the keyboard works them without our help.
  function choices(box, name, labels, chosen, onChange, images) {
    box.replaceChildren(...labels.map((label, n) => {
      const choice = element("label", "choice" + (images ? " image" : ""));
      const input = element("input");
      Object.assign(input, {
        type: "radio", name, value: n, checked: n === chosen,
      });
      input.addEventListener("change", () => onChange(n));
      const span = element("span");
      if (images) {
        const image = element("img");
        image.src = images[n];
        image.alt = "";
        span.append(image);
      }
      // Long names of layers break where their parts end.
      String(label).split(/(?<=[/_])/).forEach((part, i) => {
        if (i) span.append(element("wbr"));
        span.append(part);
      });
      choice.append(input, span);
      return choice;
    }));
  }

  class Panel {
    constructor(model, number) {
      this.model = model;
      this.number = number;
      const first = (name) => model.layers.findIndex(
        (layer) => layer.plots.some((plot) => plot.name === name));
      this.layer = [first("class"), first("map"), 0].find((n) => n >= 0);
      this.head = 0;
      this.box = element("section", "panel");
      this.box.id = `panel-${number}`;
      this.prediction = element("p", "prediction");
      this.box.append(element("h2", "", model.name), this.prediction);
      const columns = element("div", "columns");
      this.layers = this.fieldset("Layer", "layers");
      this.right = element("div", "plots");
      this.heads = this.fieldset("Head", "heads");
      this.figures = element("div");
      this.right.append(this.heads, this.figures);
      columns.append(this.layers, this.right);
      this.box.append(columns);
      choices(
        this.layers.lastChild, `layer-${number}`,
        model.layers.map((layer) => layer.name), this.layer,
        (n) => { this.layer = n; this.draw(); },
      );
    }

    fieldset(title, className) {
      const box = element("fieldset", className);
      box.append(element("legend", "", title), element("div", "choices"));
      return box;
    }

    // Puts the layer that is chosen at first where it is seen.
    scrollToLayer() {
      const box = this.layers.lastChild;
      box.scrollTop = box.children[this.layer].offsetTop;
    }

    draw() {
      this.prediction.textContent = this.model.predictions
        ? `predicts ${this.model.predictions[example]}` : "";
      const layer = this.model.layers[this.layer];
      const count = Math.max(...layer.plots.map(
        (plot) => headsOf(plot)?.length ?? 0));
      this.heads.hidden = count < 2;
      this.head = Math.min(this.head, Math.max(count - 1, 0));
      choices(
        this.heads.lastChild, `head-${this.number}`,
        Array.from({ length: Math.max(count, 0) }, (_, n) => String(n)),
        this.head,
        (n) => { this.head = n; this.drawFigures(layer); },
      );
      this.drawFigures(layer);
    }

    drawFigures(layer) {
      while (this.figures.children.length > layer.plots.length) {
        const last = this.figures.lastChild;
        Plotly.purge(last.lastChild);
        last.remove();
      }
      layer.plots.forEach((plot, n) => {
        let box = this.figures.children[n];
        if (!box) {
          box = element("div");
          box.append(element("h3"), element("div", "plot"));
          this.figures.append(box);
        }
        const figure = FIGURES[plot.kind](plot, this.head);
        box.firstChild.textContent = figure.title;
        Plotly.react(box.lastChild, figure.traces, {
          margin: { l: 48, r: 10, t: 12, b: 44 },
          font: {
            family: "system-ui, sans-serif", size: 11, color: color("ink"),
          },
          paper_bgcolor: color("paper"),
          plot_bgcolor: color("paper"),
          ...figure.layout,
        }, { responsive: true, displayModeBar: false });
      });
    }
  }

  // The values of each head, of scores and of filters of all kinds.
  function headsOf(plot) {
    if (plot.kind === "scores") return plot.values[example];
    if (plot.kind !== "filters" || isShared(plot)) return null;
    return plot.values[example];
  }

  // Filters that are the same for all examples: heads and taps alone.
  function isShared(plot) {
    return !Array.isArray(plot.values[0][0]);
  }

  function ticks(texts) {
    const size = texts.length > 24 ? 8 : 11;
    return {
      tickmode: "array",
      tickvals: texts.map((_, n) => n),
      ticktext: texts.map(literal),
      tickfont: { size },
      automargin: true,
      showgrid: false,
      zeroline: false,
    };
  }

  function titled(text) {
    return { title: { text }, gridcolor: color("line"), zeroline: false };
  }

  function heatmap(values, options) {
    return {
      type: "heatmap", z: values, colorscale: "Viridis",
      colorbar: { thickness: 12, len: 1, outlinewidth: 0 },
      ...options,
    };
  }

  const FIGURES = {
    map(plot) {
      const values = plot.values[example];
      const shape = [values.length, values[0].length];
      const axis = {
        visible: false, fixedrange: true, constrain: "domain",
      };
      return {
        title: MAP_TITLES[plot.name]
          + (plot.classes ? ` of ${plot.classes[example]}` : ""),
        traces: [heatmap(values, {
          ...(plot.name === "class" && {
            zmin: 0, zmax: Math.max(...values.flat()) || 1,
          }),
          opacity: opacity.value / 100,
          hovertemplate: "row %{y}, column %{x}: %{z}<extra></extra>",
        })],
        layout: {
          height: 330,
          margin: { l: 8, r: 8, t: 10, b: 10 },
          xaxis: { ...axis, range: [-0.5, shape[1] - 0.5] },
          // The image's shape is the map's: positions are plotted as squares.
          yaxis: {
            ...axis, range: [shape[0] - 0.5, -0.5], scaleanchor: "x",
          },
          images: [{
            source: content.examples[example].image, layer: "below",
            xref: "x", yref: "y", x: -0.5, y: -0.5,
            sizex: shape[1], sizey: shape[0], sizing: "stretch",
          }],
        },
      };
    },

    channels(plot) {
      const values = plot.values[example];
      return {
        title: "gate of each channel",
        traces: [{
          type: "bar", y: values, marker: { color: color("chosen") },
          hovertemplate: "channel %{x}: %{y}<extra></extra>",
        }],
        layout: {
          height: 260, bargap: values.length > 64 ? 0 : 0.2,
          xaxis: { ...titled("channel"), rangemode: "tozero" },
          yaxis: { ...titled("gate"), rangemode: "tozero" },
        },
      };
    },

    scores(plot, head) {
      const words = content.examples[example].words;
      const values = plot.values[example][head];
      const [queries, keys] = plot.padding[example];
      const labels = [values.length, values[0].length].map((count) =>
        words.length === count ? words
          : Array.from({ length: count }, (_, n) => String(n)));
      const strip = (n, axis) => ({
        type: "rect", layer: "above", line: { width: 0 },
        fillcolor: "rgba(90, 99, 117, 0.35)",
        xref: axis === "x" ? "x" : "paper", yref: axis === "x" ? "paper" : "y",
        x0: axis === "x" ? n - 0.5 : 0, x1: axis === "x" ? n + 0.5 : 1,
        y0: axis === "x" ? 0 : n - 0.5, y1: axis === "x" ? 1 : n + 0.5,
      });
      return {
        title: "scores: a row for each query; plain gray is a score of 0, "
          + "shaded padding",
        traces: [heatmap(values, {
          zmin: 0, zmax: 1, hoverongaps: false,
          text: labels[0].map((query) =>
            labels[1].map((key) => literal(`${query} → ${key}`))),
          hovertemplate: "%{text}: %{z}<extra></extra>",
        })],
        layout: {
          height: Math.max(340, 16 * values.length + 120),
          plot_bgcolor: color("unseen"),
          xaxis: { ...ticks(labels[1]), tickangle: -90, constrain: "domain" },
          yaxis: {
            ...ticks(labels[0]), autorange: "reversed", constrain: "domain",
            ...(values.length === values[0].length && { scaleanchor: "x" }),
          },
          shapes: [
            ...queries.flatMap((is, n) => (is ? [strip(n, "y")] : [])),
            ...keys.flatMap((is, n) => (is ? [strip(n, "x")] : [])),
          ],
        },
      };
    },

    filters(plot, head) {
      const shared = isShared(plot);
      const values = shared ? plot.values : plot.values[example][head];
      const words = content.examples[example].words;
      const rows = shared ? values.map((_, n) => `head ${n}`) : words;
      return {
        title: shared ? "filters, the same at each position"
          : "filters: a row for each position",
        traces: [heatmap(values, {
          x: plot.offsets,
          hovertemplate: "offset %{x}: %{z}<extra></extra>",
        })],
        layout: {
          height: Math.max(260, 16 * values.length + 120),
          xaxis: {
            ...titled("offset"), dtick: Math.ceil(plot.offsets.length / 12),
          },
          yaxis: { ...ticks(rows), autorange: "reversed" },
        },
      };
    },
  };

  const panels = content.models.map((model, n) => new Panel(model, n));
  const drawAll = () => panels.forEach((panel) => panel.draw());
  const images = content.examples[0].image
    && content.examples.map((each) => each.image);
  document.querySelector("h1").textContent = content.title;
  document.getElementById("panels").append(...panels.map((each) => each.box));
  document.getElementById("opacity").hidden = !images;
  choices(
    document.querySelector("#examples .choices"), "example",
    content.examples.map((each) => each.label), 0,
    (n) => { example = n; drawAll(); }, images,
  );
  opacity.addEventListener("input", drawAll);
  dark.addEventListener("change", drawAll);
  drawAll();
  panels.forEach((panel) => panel.scrollToLayer());
})();
