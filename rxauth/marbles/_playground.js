// The playground's page: it shows what Python drew, and tells Python what the reader changed.

const KINDS = [
  ["start", "s"], ["text", "t"], ["401", "e"], ["429", "x"], ["exception", "#"], ["complete", "|"],
];
const OUTCOMES = [["r", "a new token"], ["n", "the same token"], ["#", "an exception"]];
const LAST = 200; // ticks; a picture of more explains nothing

const kindOf = (letter) => KINDS.find(([name, each]) => each === letter && name !== "text")?.[0] ?? "text";
const spoken = (kind) => (Number(kind) ? `error ${kind}` : kind);

function letterOf(kind, state) { // each text has a letter of its own, as far as there are any
  if (kind !== "text") return KINDS.find(([name]) => name === kind)[1];
  const used = new Set(state.attempts.flat().map(([, letter]) => letter));
  return [..."abcdfghijklmnopqrtuvwyz0123456789"].find((letter) => !used.has(letter)) ?? "t";
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function render({ model, el }) {
  let selected = null; // "0.1": the second event of the first attempt; "refresh"
  let drag = null;
  let drawn = null; // the operators whose options are shown
  let changed = null; // when the reader changed what is not yet drawn
  const scene = () => structuredClone(model.get("scene"));
  const picture = () => model.get("picture");

  function change(edit) {
    changed ??= performance.now();
    const next = scene();
    edit(next);
    model.set("scene", next);
    model.save_changes();
    drawControls();
  }

  const eventOf = (state, name) => {
    const [attempt, index] = name.split(".").map(Number);
    return state.attempts[attempt][index];
  };

  function move(name, tick) {
    const last = picture().xs.length - 1;
    const to = Math.max(0, Math.min(tick, last));
    const sign = stage.querySelector(`[data-event="${name}"]`); // at once: the picture takes a moment
    sign?.setAttribute("transform", sign.getAttribute("transform").replace(/^translate\(\S+/, `translate(${picture().xs[to]}`));
    change((state) => {
      if (name === "refresh") state.refresh[0] = to;
      else eventOf(state, name)[0] = to;
    });
  }

  function tickOf(name) {
    const state = scene();
    return name === "refresh" ? state.refresh[0] : eventOf(state, name)[0];
  }

  function turn(kind) {
    if (selected === "refresh" || selected === null) return;
    change((state) => { eventOf(state, selected)[1] = letterOf(kind, state); });
  }

  function remove() {
    if (selected === null || selected === "refresh") return;
    const [attempt, index] = selected.split(".").map(Number);
    selected = null;
    change((state) => { state.attempts[attempt].splice(index, 1); });
    root.querySelector(`[data-add="${attempt}"]`)?.focus();
  }

  function add(attempt, tick = null) {
    change((state) => {
      const events = state.attempts[attempt];
      const last = events.reduce((most, [at]) => Math.max(most, at), -1);
      events.push([tick ?? last + 1, letterOf("text", state)]);
      selected = `${attempt}.${events.length - 1}`;
    });
    pendingFocus = selected;
  }

  // Where a pointer is, in ticks: the picture may be shrunk, and crowded ticks are further apart.
  function tickAt(clientX) {
    const svg = stage.querySelector("svg");
    const box = svg.getBoundingClientRect();
    const x = (clientX - box.left) * (svg.viewBox.baseVal.width / box.width);
    let best = 0;
    picture().xs.forEach((at, tick, all) => { if (Math.abs(at - x) < Math.abs(all[best] - x)) best = tick; });
    return best;
  }

  function drop() {
    if (drag) stage.querySelector(`[data-event="${drag.name}"]`)?.focus({ preventScroll: true });
    drag = null;
  }

  let pendingFocus = null;
  const stage = element("div", {
    class: "rxm-stage",
    onpointerdown(event) {
      const sign = event.target.closest("[data-event]");
      if (!sign) return;
      selected = sign.dataset.event;
      drag = { name: selected, pointer: event.pointerId };
      stage.setPointerCapture(event.pointerId);
      sign.focus({ preventScroll: true });
      mark();
      drawControls();
      event.preventDefault();
    },
    onpointermove(event) {
      if (!drag || event.pointerId !== drag.pointer) return;
      const tick = tickAt(event.clientX);
      if (tick !== tickOf(drag.name)) move(drag.name, tick);
    },
    onpointerup() { drop(); },
    onpointercancel() { drop(); },
    ondblclick(event) {
      const row = event.target.closest("[data-row]")?.dataset.row ?? "";
      const attempt = Number(row.replace("attempt ", "")) - 1;
      if (attempt >= 0) add(attempt, tickAt(event.clientX));
    },
    onfocusin(event) {
      const sign = event.target.closest("[data-event]");
      if (sign && selected !== sign.dataset.event) { selected = sign.dataset.event; mark(); drawControls(); }
    },
    onkeydown(event) {
      const sign = event.target.closest("[data-event]");
      if (!sign || event.ctrlKey || event.metaKey || event.altKey) return;
      selected = sign.dataset.event;
      const step = event.shiftKey ? 5 : 1;
      const kind = KINDS.find(([, letter]) => letter === event.key)?.[0];
      pendingFocus = selected;
      if (event.key === "ArrowLeft") move(selected, tickOf(selected) - step);
      else if (event.key === "ArrowRight") move(selected, tickOf(selected) + step);
      else if (event.key === "Delete" || event.key === "Backspace") { pendingFocus = null; remove(); }
      else if (event.key === "+") add(selected === "refresh" ? 0 : Number(selected.split(".")[0]));
      else if (kind) turn(kind);
      else return;
      event.preventDefault(); // the page would scroll
    },
  });
  const tools = element("div", { class: "rxm-tools", role: "toolbar", "aria-label": "The chosen event" });
  const options = element("div", { class: "rxm-options" });
  const view = element("p", { class: "rxm-view", role: "status", "aria-live": "polite" });
  const result = element("div", { class: "rxm-result" });
  const taken = element("textarea", { class: "rxm-taken", readonly: true, rows: 3, hidden: true, "aria-label": "The scene as code" });
  const take = (key, rows) => element("button", {
    type: "button",
    "data-take": key,
    onclick() {
      taken.hidden = false;
      taken.rows = rows;
      taken.dataset.shows = key;
      taken.value = picture()[key];
      taken.select();
      navigator.clipboard?.writeText(taken.value).catch(() => {}); // a page without permission still shows the text
    },
  }, key === "row" ? "copy as a table row" : "copy as a test");
  const help = element("p", { class: "rxm-help" },
    "Drag an event, or focus it and press ← → (with Shift: 5 ticks), s t e x # | for another kind, + to add, Delete to remove. Double-click a row to add a text.");
  function drawControls() {
    const state = scene();
    const letter = selected && selected !== "refresh" ? eventOf(state, selected)?.[1] : null;
    const kind = letter ? kindOf(letter) : null;
    tools.replaceChildren(
      ...KINDS.map(([name, key]) => element("button", {
        type: "button", "data-kind": name, "aria-pressed": String(kind === name), disabled: !kind,
        title: `key ${key}`, onclick() { pendingFocus = selected; turn(name); },
      }, spoken(name))),
      element("button", { type: "button", "data-remove": true, disabled: !kind, onclick: remove }, "remove"),
      ...state.attempts.map((_, attempt) => element("button", {
        type: "button", "data-add": attempt, onclick() { add(attempt); },
      }, `add to attempt ${attempt + 1}`)),
    );
    const chosen = Object.keys(state.operators).join();
    if (chosen !== drawn) { // an input that is replaced while the reader leaves it takes the focus with it
      options.replaceChildren(refreshChoice(state), operatorChoice(state));
      drawn = chosen;
    }
    const ticks = options.querySelector('[data-refresh="ticks"]');
    if (ticks !== document.activeElement) ticks.value = state.refresh[0];
  }

  function refreshChoice(state) {
    return element("fieldset", {}, element("legend", {}, "The refresh"),
      element("label", {}, "takes ", element("input", {
        type: "number", min: 0, max: LAST, value: state.refresh[0], "data-refresh": "ticks",
        onchange(event) {
          const ticks = Math.max(0, Math.min(Math.round(Number(event.target.value)) || 0, LAST));
          change((next) => { next.refresh[0] = ticks; });
        },
      }), " ticks and gives "),
      element("select", {
        "aria-label": "result of the refresh", "data-refresh": "outcome",
        onchange(event) { change((next) => { next.refresh[1] = event.target.value; }); },
      }, ...OUTCOMES.map(([value, text]) => element("option", { value, selected: value === state.refresh[1] }, text))));
  }

  function operatorChoice(state) {
    const known = model.get("operators");
    return element("fieldset", { class: "rxm-operators" }, element("legend", {}, "The operators, in this order"),
      ...Object.entries(known).map(([name, defaults]) => {
        const chosen = state.operators[name];
        const set = (option, value) => change((next) => { next.operators[name][option] = value; });
        return element("div", { class: "rxm-operator" },
          element("label", {}, element("input", {
            type: "checkbox", checked: Boolean(chosen), "data-operator": name,
            onchange(event) {
              change((next) => {
                if (event.target.checked) next.operators[name] = { ...defaults };
                else delete next.operators[name];
              });
              options.querySelector(`[data-operator="${name}"]`)?.focus();
            },
          }), ` ${name}`),
          ...(chosen ? Object.keys(defaults).map((option) => element("label", { class: "rxm-option" }, `${option} `,
            typeof defaults[option] === "boolean"
              ? element("input", {
                type: "checkbox", checked: Boolean(chosen[option]), "data-option": `${name}.${option}`,
                onchange(event) { set(option, event.target.checked); },
              })
              : element("input", {
                type: "number", min: 0, value: chosen[option] ?? "", placeholder: "none", "data-option": `${name}.${option}`,
                onchange(event) { set(option, event.target.value === "" ? defaults[option] : Number(event.target.value)); },
              }))) : []));
      }));
  }

  const stages = element("label", {}, element("input", {
    type: "checkbox", checked: Boolean(model.get("scene").stages), "data-stages": true,
    onchange(event) { change((next) => { next.stages = event.target.checked; }); },
  }), " draw the output of each operator");

  const root = element("div", { class: "rxm-play" },
    stage, tools, help, view, result, options,
    element("div", { class: "rxm-take" }, take("row", 2), take("snippet", 24), stages), taken);

  // JupyterLab takes keys for itself unless an element asks for them.
  root.setAttribute("data-lm-suppress-shortcuts", "true");

  function mark() {
    for (const sign of stage.querySelectorAll("[data-event]")) {
      sign.classList.toggle("rxm-selected", sign.dataset.event === selected);
    }
  }

  function draw() {
    const { script, result: drawn, view: words, error } = picture();
    const focused = pendingFocus ?? stage.querySelector("[data-event]:focus")?.dataset.event ?? null;
    view.textContent = error ?? words;
    if (error) return;
    stage.innerHTML = script;
    result.innerHTML = drawn;
    const state = scene();
    for (const sign of stage.querySelectorAll("[data-event]")) {
      const name = sign.dataset.event;
      const [attempt, index] = name.split(".").map(Number);
      const what = name === "refresh" ? `refresh, ${OUTCOMES.find(([letter]) => letter === state.refresh[1])?.[1]}`
        : `attempt ${attempt + 1}, ${spoken(kindOf(state.attempts[attempt]?.[index]?.[1]))}`;
      sign.setAttribute("tabindex", "0");
      sign.setAttribute("role", "slider");
      sign.setAttribute("aria-label", what);
      sign.setAttribute("aria-valuemin", "0");
      sign.setAttribute("aria-valuemax", String(picture().xs.length - 1));
      sign.setAttribute("aria-valuenow", sign.dataset.tick);
      sign.setAttribute("aria-valuetext", `tick ${sign.dataset.tick}`);
    }
    mark();
    if (focused !== null && !drag) stage.querySelector(`[data-event="${focused}"]`)?.focus({ preventScroll: true });
    pendingFocus = null;
    if (!taken.hidden) taken.value = picture()[taken.dataset.shows];
    if (changed !== null) performance.measure("rxm-redraw", { start: changed });
    changed = null;
  }

  model.on("change:picture", draw);
  model.on("change:scene", drawControls);
  drawControls();
  draw();
  el.append(root);
  return () => { model.off("change:picture", draw); model.off("change:scene", drawControls); };
}

export default { render };
