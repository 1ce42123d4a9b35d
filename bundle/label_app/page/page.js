// The page of the Label server: everything is asked of this server, and every text is put in as text.

const AXES = { axial: [0, 1], coronal: [0, 2], sagittal: [1, 2] };  // across and up; axes towards right, anterior, superior
const LETTERS = [["R", "L"], ["A", "P"], ["S", "I"]];  // at the high and the low end of each axis
const KEPT_SLICES = 400;
const FAST = 5;  // voxels, with Shift
const POLL_MS = 1500;

const $ = (id) => document.getElementById(id);
const state = { about: null, studies: [], study: null, cross: null, answer: null, graded: null, order: "", asked: 0 };
const slices = new Map();  // address -> promise of a bitmap
let panels = [];

// Asking

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const text = await response.text();
  let detail = text;
  try {
    detail = JSON.parse(text).detail;
  } catch { /* no JSON: the text itself */ }
  throw new Error(typeof detail === "string" && detail ? detail : `${response.status} ${response.statusText}`);
}

const askJson = async (path, options) => (await ask(path, options)).json();

function infer(model, query, params, output) {
  const form = new FormData();
  form.append("params", JSON.stringify(params));
  return ask(`/infer/${model}?${new URLSearchParams({ ...query, output })}`, { method: "POST", body: form });
}

function tell(error) {
  $("message").textContent = error ? error.message : "";
  $("message").hidden = !error;
}

// Runs what a control asks for; its error is told, and the control rests meanwhile.
async function attempt(section, button, work) {
  tell(null);
  if (button) button.disabled = true;
  $(section).setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    tell(error);
  } finally {
    $(section).setAttribute("aria-busy", "false");
    if (button) button.disabled = false;
  }
}

function make(tag, text = "", properties = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  return Object.assign(element, properties);
}

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => make("option", value, { value })));
  if (chosen !== undefined) select.value = chosen;
}

// What is served

async function showAbout() {
  const about = await askJson("/page/about");
  state.about = about;
  $("title").textContent = `${about.classes.join(" or ")}?`;
  document.title = `${$("title").textContent} ${about.name}`;
  for (const plane of Object.keys(about.planes)) $("planes").append(make("option", plane, { value: plane }));
  fill($("explanation"), about.explanations, about.explanations.includes("gradcam") ? "gradcam" : undefined);
  for (const name of about.classes) {
    const label = make("label", "");
    label.append(make("input", "", { type: "radio", name: "found", value: name, required: true }), name);
    $("label-class").append(label);
  }
  $("epochs").value = about.train.max_epochs;
  $("draw").hidden = about.generate === null;
  if (about.generate) {
    fill($("draw-class"), about.generate.class);
    $("steps").value = about.generate.num_inference_steps;
  }
  showWeights(about.weights);
}

function showWeights(weights) {
  // An answer stands beside the record of the weights that gave it, or not at all.
  if (state.answer && state.answer.weights.sha256 !== weights?.sha256) {
    forget();
    show();
  }
  if (!weights) {
    $("simulated").textContent = "The weights and their record do not belong together. Serve earlier weights again.";
    $("seen").replaceChildren();
    return;
  }
  // Research use is written on the page itself; that the weights saw no patient is told by their record.
  $("simulated").textContent = weights.simulated ? weights.notice : "";
  const rows = {
    "Cohorts": weights.cohorts.join(", "),
    "Subjects": String(weights.num_subjects),
    "Images": weights.simulated ? "simulated only" : "of patients",
    "Synthetic sets": String(weights.num_synthetic_sets),
    "Setup": weights.setup ?? "none",
    "Bundle": `${state.about.name} ${state.about.version}`,
    "SHA-256": weights.sha256,
  };
  $("seen").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
}

// Studies

async function showStudies() {
  state.studies = await askJson("/page/studies");
  const labeled = state.studies.filter((study) => study.labeled).length;
  $("count").textContent = `(${state.studies.length})`;
  $("labeled").textContent = `${labeled} of ${state.studies.length} studies are labeled.`;
  $("training-start").disabled = !labeled;
  listStudies();
}

function listStudies() {
  const wanted = $("filter").value.trim().toLowerCase();
  const listed = state.studies.filter((study) => study.id.toLowerCase().includes(wanted));
  const chosen = state.study?.id ?? $("studies").value;
  $("studies").replaceChildren(
    ...listed.map((study) => make("option", study.labeled ? `${study.id} (labeled)` : study.id, { value: study.id })));
  $("studies").value = chosen;
}

const choose = (id) => attempt("images", null, async () => {
  const asked = ++state.asked;
  Object.assign(state, { study: null, cross: null });
  slices.clear();
  forget();
  $("panels").replaceChildren();
  $("grade").disabled = true;
  $("place").textContent = `Reading ${id} …`;
  $("order").hidden = true;
  let study;
  try {
    study = await askJson(`/page/study?${new URLSearchParams({ image: id, channel_order: state.order })}`);
  } catch (error) {
    if (asked !== state.asked) return;
    $("place").textContent = `${id} cannot be shown.`;
    $("order").hidden = !error.message.includes("channel_order");
    throw error;
  }
  if (asked !== state.asked) return;
  state.study = study;
  state.cross = study.shape.map((size) => Math.floor(size / 2));
  $("order").hidden = !state.order;
  $("grade").disabled = false;
  buildPanels();
  show();
});

// Planes

function buildPanels() {
  panels = [];
  const only = $("planes").value;
  $("panels").classList.toggle("single", only !== "");
  $("panels").replaceChildren();
  for (const [plane, axis] of Object.entries(state.about.planes)) {
    if (only && plane !== only) continue;
    const box = make("div", "", { className: "plane" });
    const row = make("div", "", { className: "row" });
    const slider = make("input", "", { type: "range", min: 0, max: state.study.shape[axis] - 1, step: 1, id: `slice-${plane}` });
    slider.addEventListener("input", () => move(axis, Number(slider.value) - state.cross[axis]));
    const label = make("label", plane, { htmlFor: slider.id });
    label.append(slider);
    for (const [column, modality] of state.study.modalities.entries()) {
      const figure = document.createElement("figure");
      const canvas = make("canvas", "", { tabIndex: column ? -1 : 0 });
      canvas.setAttribute("role", "application");
      canvas.dataset.modality = modality;
      canvas.dataset.plane = plane;
      const panel = { plane, axis, modality, canvas, slider, bitmap: null, address: "" };
      canvas.addEventListener("click", (event) => { canvas.focus(); point(panel, event); });
      canvas.addEventListener("dblclick", grade);
      canvas.addEventListener("keydown", (event) => steer(panel, event));
      canvas.addEventListener("wheel", (event) => {
        if (document.activeElement !== canvas) return;
        event.preventDefault();
        move(axis, event.deltaY < 0 ? 1 : -1);
      }, { passive: false });
      figure.append(canvas, make("figcaption", modality));
      row.append(figure);
      panels.push(panel);
    }
    box.append(label, row);
    $("panels").append(box);
  }
}

function point(panel, event) {
  const box = panel.canvas.getBoundingClientRect();
  const place = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  const [across, up] = AXES[panel.plane];
  const within = (share, size) => Math.min(size - 1, Math.max(0, size - 1 - Math.floor(share * size)));
  state.cross[across] = within(place.x, state.study.shape[across]);
  state.cross[up] = within(place.y, state.study.shape[up]);
  show();
}

function move(axis, voxels) {
  state.cross[axis] = Math.min(state.study.shape[axis] - 1, Math.max(0, state.cross[axis] + voxels));
  show();
}

function steer(panel, event) {
  const [across, up] = AXES[panel.plane];
  const steps = {
    ArrowLeft: [across, 1], ArrowRight: [across, -1], ArrowUp: [up, 1], ArrowDown: [up, -1],
    PageUp: [panel.axis, 1], PageDown: [panel.axis, -1],
  };
  if (event.key === "Enter") {
    event.preventDefault();
    grade();
  } else if (event.key in steps) {
    event.preventDefault();
    const [axis, way] = steps[event.key];
    move(axis, way * (event.shiftKey ? FAST : 1));
  }
}

function fetchSlice(address) {
  let slice = slices.get(address);
  if (!slice) {
    slice = ask(address).then((response) => response.blob()).then(createImageBitmap);
    slices.set(address, slice);
    slice.catch(() => slices.delete(address));
    if (slices.size > KEPT_SLICES) slices.delete(slices.keys().next().value);
  }
  return slice;
}

function inFile(voxel) {
  return state.study.ras_to_file.slice(0, 3).map((row) => row[3] + voxel.reduce((sum, value, i) => sum + row[i] * value, 0));
}

const inMm = (voxel) => state.study.ras_affine.slice(0, 3).map((row) => row[3] + voxel.reduce((sum, value, i) => sum + row[i] * value, 0));

function show() {
  if (!state.study) return;
  const mm = inMm(state.cross).map((value) => value.toFixed(1));
  $("place").textContent = `Crosshair: voxel [${inFile(state.cross).join(", ")}] of ${state.study.file}, at ${mm.join(", ")} mm`;
  for (const panel of panels) showPanel(panel);
}

function showPanel(panel) {
  const index = state.cross[panel.axis];
  panel.slider.value = index;
  panel.slider.setAttribute("aria-valuetext", `slice ${index + 1} of ${state.study.shape[panel.axis]}`);
  panel.canvas.setAttribute("aria-label",
    `${panel.modality}, ${panel.plane} slice ${index + 1} of ${state.study.shape[panel.axis]}. Arrow keys move the crosshair, Page Up and Page Down change the slice, Enter grades.`);
  const { modality, plane } = panel;
  const query = { image: state.study.id, modality, plane, index, channel_order: state.order };
  const address = `/page/slice?${new URLSearchParams(query)}`;
  if (address === panel.address) {
    paint(panel);
    return;
  }
  panel.address = address;
  fetchSlice(address).then((bitmap) => {
    if (panel.address !== address) return;
    panel.bitmap = bitmap;
    paint(panel);
  }).catch((error) => {
    if (panel.address !== address) return;
    panel.address = "";
    tell(error);
  });
}

function paint(panel) {
  const { canvas, bitmap } = panel;
  if (!bitmap || !state.study) return;
  const [across, up] = AXES[panel.plane];
  const { shape, spacing_mm: spacing } = state.study;
  const sides = [shape[across] * spacing[across], shape[up] * spacing[up]];
  canvas.style.aspectRatio = `${sides[0]} / ${sides[1]}`;
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientWidth * scale * sides[1] / sides[0]);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  // The middle of a voxel; the picture runs from the high end of both axes to the low one.
  const x = (voxel) => (shape[across] - 0.5 - voxel) / shape[across] * width;
  const y = (voxel) => (shape[up] - 0.5 - voxel) / shape[up] * height;
  context.lineWidth = Math.max(1, scale);
  paintCrosshair(context, x(state.cross[across]), y(state.cross[up]), width, height, 6 * scale);
  paintCrop(context, panel, x, y, scale);
  paintLetters(context, LETTERS[across], LETTERS[up], width, height, scale);
}

function paintCrosshair(context, x, y, width, height, gap) {
  context.strokeStyle = "rgba(90, 200, 255, .8)";
  context.beginPath();
  for (const [from, to] of [[[0, y], [x - gap, y]], [[x + gap, y], [width, y]], [[x, 0], [x, y - gap]], [[x, y + gap], [x, height]]]) {
    context.moveTo(...from);
    context.lineTo(...to);
  }
  context.stroke();
}

function paintCrop(context, panel, x, y, scale) {
  const box = state.graded;
  const index = state.cross[panel.axis];
  if (!box || index < box.low[panel.axis] || index > box.high[panel.axis]) return;
  const [across, up] = AXES[panel.plane];
  context.strokeStyle = "#ffd54f";
  context.lineWidth = 2 * scale;
  // A region that is larger than the image is framed at its edges.
  const within = (value, most) => Math.min(most - scale, Math.max(scale, value));
  const left = within(x(box.high[across]), context.canvas.width), right = within(x(box.low[across]), context.canvas.width);
  const top = within(y(box.high[up]), context.canvas.height), bottom = within(y(box.low[up]), context.canvas.height);
  context.strokeRect(left, top, Math.max(1, right - left), Math.max(1, bottom - top));
}

function paintLetters(context, [left, right], [top, bottom], width, height, scale) {
  const size = 12 * scale;
  Object.assign(context, { font: `bold ${size}px sans-serif`, fillStyle: "#ffd54f", textAlign: "center", textBaseline: "middle" });
  context.fillText(left, size * 0.7, height / 2);
  context.fillText(right, width - size * 0.7, height / 2);
  context.fillText(top, width / 2, size * 0.8);
  context.fillText(bottom, width / 2, height - size * 0.8);
}

// The voxels of the study that a patch covers: its corners, cell by cell to mm to voxels.
function boxOf(crop) {
  const inverse = invert(state.study.ras_affine);
  const size = [...crop.size, 1].slice(0, 3);
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (let corner = 0; corner < 8; corner++) {
    const cell = size.map((side, axis) => (corner >> axis & 1 ? side - 0.5 : -0.5));
    const mm = apply(crop.affine, cell);
    apply(inverse, mm).forEach((value, axis) => {
      low[axis] = Math.min(low[axis], value);
      high[axis] = Math.max(high[axis], value);
    });
  }
  return { low, high };
}

const apply = (matrix, point3) => matrix.slice(0, 3).map((row) => row[0] * point3[0] + row[1] * point3[1] + row[2] * point3[2] + row[3]);

function invert(affine) {
  const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = affine;
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const rows = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / det));
  return rows.map((row) => [...row, -(row[0] * x + row[1] * y + row[2] * z)]);
}

// Grading

function forget() {
  Object.assign(state, { answer: null, graded: null });
  $("verdict").textContent = "Put the crosshair into the lesion and grade.";
  $("bars").replaceChildren();
  $("crop").textContent = $("distance").textContent = "";
  $("explained").hidden = true;
  $("label-save").disabled = true;
}

function params(click) {
  return state.order ? { click, channel_order: state.order } : { click };
}

async function grade() {
  if (!state.study || $("grade").disabled) return;
  await attempt("answer", $("grade"), async () => {
    const { study } = state, click = inFile(state.cross);
    forget();
    $("verdict").textContent = "Grading …";
    let answer;
    try {
      answer = await (await infer("grade", { image: study.id }, params(click), "json")).json();
    } catch (error) {
      if (state.study === study) $("verdict").textContent = "Not graded.";
      throw error;
    }
    if (state.study !== study) return;
    state.answer = { ...answer, click };
    state.graded = boxOf(answer.crop);
    $("panels").dataset.graded = JSON.stringify(state.graded);
    showAnswer(answer);
    show();
    // In a narrow window the answer is below the images.
    $("answer").scrollIntoView({ block: "nearest" });
    await explain(study, click);
  });
}

function showAnswer(answer) {
  $("verdict").textContent = `${answer.class} (${answer.subject_id})`;
  $("bars").replaceChildren(...Object.entries(answer.probabilities).map(([name, probability]) => {
    const row = make("div", "", { className: "bar" });
    row.dataset.class = name;
    row.dataset.probability = String(probability);
    const track = make("div", "", { className: "track" }), share = make("div", "", { className: "fill" });
    share.style.width = `${100 * probability}%`;
    track.append(share);
    row.append(make("span", name), track, make("span", probability.toFixed(3)));
    return row;
  }));
  const { crop } = answer;
  const cells = crop.spacing_mm === null ? "" : ` of ${Number(crop.spacing_mm.toPrecision(4))} mm`;
  $("crop").textContent = `Graded: ${crop.size.join(" × ")} cells${cells} around voxel [${crop.center_voxel.join(", ")}], chosen by ${crop.source}. ${answer.weights.notice}`;
  // Null where the weights have no such file, as those trained on labels here.
  $("distance").textContent = answer.training_distance?.text ?? "";
  $("label-save").disabled = false;
  showWeights(answer.weights);
}

async function explain(study, click) {
  const method = $("explanation").value;
  if (method === "none") return;
  const response = await infer("grade", { image: study.id }, { ...params(click), explanation: method }, "all");
  const parts = await response.formData();
  if (state.study !== study || !state.answer) return;
  const { weights } = JSON.parse(parts.get("params"));
  if (weights.sha256 !== state.answer.weights.sha256) {
    showWeights(weights);
    throw new Error("The weights were replaced meanwhile; grade once more.");
  }
  URL.revokeObjectURL($("picture").src);
  $("picture").src = $("whole").href = URL.createObjectURL(parts.get("image"));
  $("picture").alt = `Where the network looked in ${study.id}, by ${method}`;
  $("explained-by").textContent = `By ${method}, for ${study.id}; the patient's right is on the left, as in the images.`;
  $("explained").hidden = false;
}

// Labels and training

const saveLabel = (event) => {
  event.preventDefault();
  return attempt("train", null, async () => {
    const { answer, study } = state;
    if (!answer) throw new Error("Grade the study first: the graded region becomes its label.");
    const found = new FormData($("label")).get("found");
    const mask = await (await infer("grade_viewer", { image: study.id }, params(answer.click), "image")).blob();
    // The mask has the value of the class that was answered; whatever it is, it means what was found.
    const names = state.about.classes.map(() => ({ name: found }));
    const form = new FormData();
    form.append("label", mask, "label.nii.gz");
    form.append("params", JSON.stringify({ label_info: names }));
    await ask(`/datastore/label?${new URLSearchParams({ image: study.id })}`, { method: "PUT", body: form });
    await showStudies();
    $("labeled").textContent += ` ${study.id} is now labeled ${found}.`;
  });
};

const startTraining = (event) => {
  event.preventDefault();
  return attempt("train", $("training-start"), async () => {
    const body = JSON.stringify({ max_epochs: Number($("epochs").value) });
    await ask("/train/grade", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    await followTraining();
  });
};

async function followTraining() {
  for (;;) {
    const task = await askJson("/page/training");
    if (!task) return;
    const running = ["SUBMITTED", "RUNNING"].includes(task.status);
    $("training-stop").hidden = !running;
    $("training-start").disabled = running;
    const served = running ? null : await showKept();
    // A stop or an error may come before the weights are replaced, or after.
    const now = served ? `${served.id} is served` : "the weights and their record do not belong together; serve earlier weights again";
    const words = {
      DONE: "Trained: the next answer comes from the new weights.",
      STOPPED: `Stopped: ${now}.`,
      ERROR: `Failed, and ${now}: ${task.last_line}`,
    };
    $("training-state").textContent = words[task.status] ?? `Training since ${task.start_ts} …`;
    if (!running) return;
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

async function showKept() {
  const weights = await askJson("/weights/");
  showWeights(weights.served);
  $("kept").replaceChildren(...weights.kept.map((kept) => {
    const item = document.createElement("li");
    const labels = kept.num_labeled_cases ? `trained on ${kept.num_labeled_cases} labels` : `of ${kept.cohorts.join(", ")}`;
    const button = make("button", "Serve again", { type: "button" });
    button.addEventListener("click", () => attempt("train", button, async () => {
      await ask(`/weights/${kept.id}`, { method: "POST" });
      await showKept();
      $("training-state").textContent = `${kept.id} is served again; grade once more.`;
    }));
    item.append(make("span", `${kept.id}, ${labels}, ${kept.size_mb} MB`), button);
    return item;
  }));
  if (!weights.kept.length) $("kept").append(make("li", "Nothing yet."));
  return weights.served;
}

// Synthetic images

const draw = (event) => {
  event.preventDefault();
  return attempt("draw", $("draw-start"), async () => {
    const asked = { class: $("draw-class").value, seed: Number($("seed").value), num_inference_steps: Number($("steps").value) };
    $("drawn-state").textContent = "Drawing …";
    let blob;
    try {
      blob = await (await infer("generate", {}, asked, "image")).blob();
    } catch (error) {
      $("drawn-state").textContent = "Nothing was drawn.";
      throw error;
    }
    const image = await readNifti(blob);
    const row = make("div", "", { className: "row" });
    for (let channel = 0; channel < image.channels; channel++) {
      const figure = document.createElement("figure");
      figure.append(canvasOf(image, channel), make("figcaption", state.study?.modalities[channel] ?? `channel ${channel + 1}`));
      row.append(figure);
    }
    $("drawn").replaceChildren(row);
    $("drawn-state").textContent = `Synthetic ${asked.class}, seed ${asked.seed}: an image of no patient. ${$("simulated").textContent}`;
    URL.revokeObjectURL($("download").href);
    Object.assign($("download"), { href: URL.createObjectURL(blob), download: `synthetic_${asked.class}_${asked.seed}.nii.gz`, hidden: false });
  });
};

// Our own files: gzipped NIfTI-1, little-endian float32, (I, J, K, C), the first axis fastest.
async function readNifti(blob) {
  const unpacked = await new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const header = new DataView(unpacked);
  if (header.getInt32(0, true) !== 348 || header.getInt16(70, true) !== 16) throw new Error("The image drawn must be NIfTI of float32.");
  const [across, up, depth, channels] = [1, 2, 3, 4].map((axis) => Math.max(1, header.getInt16(40 + 2 * axis, true)));
  return { across, up, depth, channels, values: new Float32Array(unpacked.slice(header.getFloat32(108, true))) };
}

function canvasOf({ across, up, depth, values }, channel) {
  const canvas = make("canvas", "", { width: across, height: up });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `channel ${channel + 1} of a synthetic image`);
  const pixels = new ImageData(across, up);
  const start = (channel * depth + Math.floor(depth / 2)) * across * up;
  for (let i = 0; i < across; i++) {
    for (let j = 0; j < up; j++) {
      const grey = 127.5 * (values[start + j * across + i] + 1);  // [-1, 1]
      // Cells run to the patient's right and to anterior; the picture from right and anterior.
      pixels.data.set([grey, grey, grey, 255], 4 * ((up - 1 - j) * across + across - 1 - i));
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

// Controls

$("filter").addEventListener("input", listStudies);
$("studies").addEventListener("change", () => { state.order = ""; choose($("studies").value); });
$("order").addEventListener("submit", (event) => {
  event.preventDefault();
  state.order = $("channel-order").value.trim();
  choose($("studies").value);
});
$("planes").addEventListener("change", () => { if (state.study) { buildPanels(); show(); } });
$("grade").addEventListener("click", grade);
$("label").addEventListener("submit", saveLabel);
$("training").addEventListener("submit", startTraining);
$("training-stop").addEventListener("click", () => attempt("train", $("training-stop"), () => ask("/train/", { method: "DELETE" })));
$("drawing").addEventListener("submit", draw);
new ResizeObserver(() => panels.forEach(paint)).observe($("panels"));

attempt("list", null, async () => {
  await Promise.all([showAbout(), showStudies()]);
  await Promise.all([followTraining(), showKept()]);
});
