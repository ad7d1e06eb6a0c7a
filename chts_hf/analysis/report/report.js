"use strict";
(() => {
  const holder = document.getElementById("mask-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const canvas = document.getElementById("mask");
  const slider = document.getElementById("step");
  const shown = document.getElementById("shown");
  const layerChoice = document.getElementById("layer");
  const order = document.getElementById("order");
  const play = document.getElementById("play");
  const decoded = new Map();

  function bytes(text) {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  }

  // One number per cell: 0 or 1 for single links, 0 to 255 for the density of a block of them.
  function cells(layer, frame) {
    const key = layer.name + "@" + frame;
    if (!decoded.has(key)) {
      const raw = bytes(layer.frames[frame]);
      let found = raw;
      if (layer.coding !== "blocks") found = new Uint8Array(layer.rows * layer.columns);
      if (layer.coding === "bits") {
        for (let i = 0; i < found.length; i++) found[i] = (raw[i >> 3] >> (7 - (i & 7))) & 1;
      }
      if (layer.coding === "gaps") {
        let at = -1;
        for (const gap of raw) {
          at += gap === 255 ? 255 : gap + 1;
          if (gap !== 255) found[at] = 1;
        }
      }
      decoded.set(key, found);
    }
    return decoded.get(key);
  }

  function colour(name) {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }

  function draw() {
    const layer = data.layers[layerChoice.selectedIndex];
    const frame = Number(slider.value);
    const now = cells(layer, frame), first = cells(layer, 0);
    const sorted = order.checked && layer.row_order !== null;
    order.disabled = layer.row_order === null;
    // The longer side runs across.
    const turned = layer.rows > layer.columns;
    const across = turned ? layer.rows : layer.columns;
    canvas.width = across;
    canvas.height = turned ? layer.columns : layer.rows;
    const scale = Math.max(1, Math.min(10, Math.floor(Math.min(1040 / across, 540 / canvas.height))));
    canvas.style.width = across * scale + "px";
    canvas.style.maxHeight = "none";
    const context = canvas.getContext("2d");
    const picture = context.createImageData(canvas.width, canvas.height);
    const old = colour("--c0"), fresh = colour("--c1"), ground = colour("--rule");
    const single = layer.coding !== "blocks";
    for (let r = 0; r < layer.rows; r++) {
      for (let c = 0; c < layer.columns; c++) {
        const from = (sorted ? layer.row_order[r] : r) * layer.columns + (sorted ? layer.column_order[c] : c);
        const to = 4 * (turned ? c * across + r : r * across + c);
        if (now[from] !== 0) {
          picture.data.set(single && first[from] === 0 ? fresh : old, to);
          picture.data[to + 3] = single ? 255 : Math.min(255, 40 + now[from]);
        } else if (sorted && (r >= layer.rows_placed || c >= layer.columns_placed)) {
          picture.data.set(ground, to);
          picture.data[to + 3] = 150;
        }
      }
    }
    context.putImageData(picture, 0, 0);
    const step = data.steps[frame];
    shown.textContent = "step " + step;
    slider.setAttribute("aria-valuetext", "step " + step);
    const sides = turned ? "Outputs run across, inputs down. " : "Inputs run across, outputs down. ";
    const apart = [layer.rows - layer.rows_placed, layer.columns - layer.columns_placed];
    const shaded = sorted && apart[0] + apart[1] > 0
      ? " Shaded: " + apart[0] + " outputs and " + apart[1] + " inputs without a place in the disk." : "";
    const caption = sides + layer.captions[frame] + shaded;
    document.getElementById("mask-caption").textContent = caption;
    canvas.setAttribute("aria-label", "Mask of " + layer.name + " at step " + step + ": " + caption);
    canvas.dataset.step = step;
  }

  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ play";
  }
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (Number(slider.value) === data.steps.length - 1) slider.value = 0;
    play.textContent = "❚❚ pause";
    draw();
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      draw();
      if (Number(slider.value) === data.steps.length - 1) stop();
    }, 450);
  });
  slider.addEventListener("input", () => { stop(); draw(); });
  layerChoice.addEventListener("change", draw);
  order.addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
