"use strict";
// One recording, stepped through. Everything that is shown comes from the JSON in #data; text is
// only ever set as textContent, so that recorded code can't become part of the page.
(() => {
  const SIGNS = {
    created: "●", "changed in place": "■", replaced: "◆", rebound: "◆", removed: "✖", kept: "○", moved: "⬡",
  };
  const COLOURS = { created: "created", "changed in place": "in-place", replaced: "replaced", rebound: "replaced",
                    removed: "removed", kept: "other", moved: "other" };
  const LANE = 16;         // pixels
  const CARDS = window.matchMedia("(max-width: 760px)").matches ? 4 : 12;   // changes drawn at once
  const ROWS = 8;          // places of a box that are shown unfolded
  const HITS = 60;

  const recorded = JSON.parse(document.getElementById("data").textContent);
  const { code, steps, kinds, boxes, places, values, findings } = recorded;
  const octets = Uint8Array.from(atob(recorded.heats), (letter) => letter.charCodeAt(0));
  const at = (id) => document.getElementById(id);
  let now = 0;
  let playing = 0;

  // --- small things -------------------------------------------------------------------------

  function make(tag, options = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") element.textContent = value;
      else if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // A dotted name may break after a dot or an underscore.
  function breakable(name) {
    return name.split(/(?<=[._])/).flatMap((part, number) => (number ? [make("wbr"), part] : [part]));
  }

  // `code` in a sentence, as the texts of findings have it.
  function sentence(text) {
    return text.split("`").map((part, number) => (number % 2 ? make("code", { text: part }) : part));
  }

  const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const isTensor = (value) => Array.isArray(value);

  function described(number) {
    const value = values[number];
    if (!isTensor(value)) return value;
    const [shape, type, norm, single] = value;
    if (single) return single;
    return norm ? `${shape}, norm ${norm}` : `${shape} ${type}`;
  }

  // Both sides of a change; of a tensor that keeps its shape, the shape once.
  function fromTo(before, after) {
    const [first, second] = [described(before), described(after)];
    if (!first || !second || first === second) return second || first;
    const [a, b] = [values[before], values[after]];
    const alike = isTensor(a) && isTensor(b) && a[0] === b[0] && !a[3] && !b[3] && b[2];
    return `${first} → ${alike ? b[2] : second}`;
  }

  // A change as an object; rows are arrays in the file, to keep it small.
  function change(row) {
    const [place, kind, far, before, after, moved = "", difference = 0] = row;
    return { place, kind: kinds[kind], far, before, after, moved, difference };
  }

  // --- heat maps ----------------------------------------------------------------------------

  function draw(canvas, heat, most, label) {
    const [start, rows, columns, scale] = heat;
    canvas.width = columns;
    canvas.height = rows;
    canvas.className = `heat ${rows === 1 ? "strip" : "square"}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${label}: heat map of ${rows} by ${columns} means, up to ${scale} in size`);
    canvas.title = `${columns} x ${rows} means, up to ±${scale}`;
    const zero = style("--zero").split(",").map(Number);
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    for (let cell = 0; cell < rows * columns; cell += 1) {
      const signed = (octets[start + cell] << 24) >> 24;
      const strength = most ? (Math.abs(signed) / 127) * (scale / most) : 0;
      const full = signed === -128 ? [200, 0, 200] : signed < 0 ? [0, 114, 178] : [213, 94, 0];
      const part = signed === -128 ? 1 : Math.min(1, strength);
      for (let channel = 0; channel < 3; channel += 1) {
        image.data[4 * cell + channel] = zero[channel] + part * (full[channel] - zero[channel]);
      }
      image.data[4 * cell + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  const heatOf = (number) => (isTensor(values[number]) ? values[number][4] : 0);

  // --- code ---------------------------------------------------------------------------------

  const lines = [];

  function buildCode() {
    const flagged = new Set(findings.filter((one) => one.step).map((one) => steps[one.step - 1][0]));
    code.forEach(([line, text, indent, head], number) => {
      if (head) at("code").append(make("li", { class: "head", text: head }));
      const item = make("li", {},
        make("span", { class: "number", text: line }),
        make("span", { class: "text", text: "    ".repeat(indent) + text.split("\n").join("\n" + "    ".repeat(indent)) }));
      if (flagged.has(number)) item.append(make("span", { class: "flag", text: "▲", title: "a finding is about this line" }));
      lines.push(item);
      at("code").append(item);
    });
  }

  function lightCode() {
    const lit = now ? steps[now - 1][0] : -1;
    lines.forEach((item, number) => {
      item.classList.toggle("lit", number === lit);
      if (number === lit) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    if (lit < 0) return;
    const list = at("code");
    const top = lines[lit].offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + lines[lit].offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 2;
    }
  }

  // --- what this statement changes ----------------------------------------------------------

  function sign(one) {
    return make("span", { class: one.kind.split(" ")[0], text: `${SIGNS[one.kind]} ${one.kind}` });
  }

  function card(one) {
    const [label] = places[one.place];
    const box = make("article", { class: "card" }, make("h3", {}, ...breakable(label)));
    const how = make("p", {}, sign(one));
    if (one.moved) how.append(`, by ${one.moved}`);
    if (one.far) how.append(make("strong", { text: " at a distance" }));
    box.append(how);
    const words = fromTo(one.before, one.after);
    if (words) box.append(make("p", { text: words }));
    const maps = [["before", heatOf(one.before)], ["after", heatOf(one.after)]];
    const most = Math.max(...maps.map(([, heat]) => (heat ? heat[3] : 0)));
    const shown = [...maps.map(([name, heat]) => [name, heat, most]), ["difference", one.difference, one.difference[3]]];
    const row = make("div", { class: "maps" });
    for (const [name, heat, limit] of shown) {
      if (!heat) continue;
      const canvas = make("canvas");
      draw(canvas, heat, limit, `${label}, ${name}`);
      const size = Number(limit).toPrecision(2);
      const caption = make("figcaption", { text: name }, make("span", { text: `±${Number(size)}` }));
      row.append(make("figure", {}, canvas, caption));
    }
    if (row.childElementCount) box.append(row);
    return box;
  }

  function showNow() {
    const said = at("now");
    const cards = at("cards");
    cards.replaceChildren();
    if (!now) {
      said.textContent = "Before the first statement. Move the slider, or press Play.";
      return;
    }
    const [row, iterations, raised, changes] = steps[now - 1];
    const owner = "it doesn't name their owner";
    const found = changes.map(change);
    const far = found.filter((one) => one.far).length;
    const what = found.length ? `changes ${counted(found.length, "place")}` : "changes nothing that is watched";
    const where = iterations ? `, iteration ${iterations}` : "";
    said.replaceChildren(make("code", { text: code[row][1].split("\n")[0] }),
      ` (line ${code[row][0]}${where}) ${what}${far ? `, ${far === found.length ? "all" : far} of them at a distance: ${owner}` : ""}.`);
    if (raised) said.append(make("span", { class: "raised", text: ` It raised ${raised}` }));
    cards.append(...found.slice(0, CARDS).map(card));
    if (found.length > CARDS) {
      const show = (event) => event.target.replaceWith(...found.slice(CARDS).map(card));
      cards.append(make("button", { type: "button", text: `Show ${found.length - CARDS} more`, onclick: show }));
    }
  }

  // --- boxes --------------------------------------------------------------------------------

  const initial = places.map(() => 0);   // the value of each place before the first statement
  const rows = [];                       // of each place: its elements, and the value that they show
  const frames = [];

  function findInitial() {
    const met = new Set();
    for (const [, , , changes] of steps) {
      for (const [place, , , before] of changes) {
        if (!met.has(place)) initial[place] = before;
        met.add(place);
      }
    }
  }

  function buildBoxes() {
    const lists = boxes.map(([owner, part]) => {
      const list = make("ul");
      const frame = make("article", { class: "box" }, make("h3", { text: [owner, part].filter(Boolean).join(" ") }), list);
      frames.push(frame);
      return list;
    });
    places.forEach(([, name, box], place) => {
      const canvas = make("canvas", { hidden: "" });
      const what = make("span", { class: "what" });
      const item = make("li", {}, make("span", { class: "name" }, ...breakable(name)), what, canvas);
      rows[place] = { item, what, canvas, shown: -1 };
      const list = lists[box];
      if (list.childElementCount < ROWS) {
        list.append(item);
        return;
      }
      let rest = list.nextElementSibling;
      if (!rest) {
        rest = make("details", {}, make("summary"), make("ul"));
        list.after(rest);
      }
      rest.lastElementChild.append(item);
      rest.firstElementChild.textContent = `${rest.lastElementChild.childElementCount} more`;
    });
    at("boxes").append(...frames);
  }

  function showBoxes() {
    const held = initial.slice();
    for (const [, , , changes] of steps.slice(0, now)) {
      for (const [place, , , , after] of changes) held[place] = after;
    }
    const acted = new Set(now ? steps[now - 1][3].map(([place]) => place) : []);
    const lit = new Set([...acted].map((place) => places[place][2]));
    frames.forEach((frame, box) => frame.classList.toggle("lit", lit.has(box)));
    rows.forEach((row, place) => {
      row.item.classList.toggle("lit", acted.has(place));
      if (row.shown === held[place]) return;
      row.shown = held[place];
      row.item.classList.toggle("empty", !row.shown);
      row.what.textContent = row.shown ? described(row.shown) : "nothing";
      const heat = heatOf(row.shown);
      row.canvas.hidden = !heat;
      if (heat) draw(row.canvas, heat, heat[3], places[place][0]);
      row.canvas.hidden = !heat;
    });
  }

  // --- timeline -----------------------------------------------------------------------------

  const chart = make("canvas");

  function buildTimeline() {
    const names = make("ul");
    for (const [owner, part] of boxes) names.append(make("li", { text: [owner, part].filter(Boolean).join(" ") }));
    at("timeline").append(names, chart);
    const choose = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const area = chart.getBoundingClientRect();
      stop();
      go(Math.round(((event.clientX - area.left) / area.width) * steps.length + 0.5));
    };
    chart.addEventListener("pointerdown", choose);
    chart.addEventListener("pointermove", choose);
    const used = new Set(steps.flatMap(([, , , changes]) => changes.map((row) => kinds[row[1]])));
    at("signs").append(...kinds.filter((kind) => used.has(kind)).map((kind) => sign({ kind })));
    new ResizeObserver(showTimeline).observe(at("timeline"));
  }

  function showTimeline() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [chart.clientWidth, LANE * boxes.length];
    if (!width || !height) return;
    chart.style.height = `${height}px`;
    chart.width = width * ratio;
    chart.height = height * ratio;
    const context = chart.getContext("2d");
    context.scale(ratio, ratio);
    const wide = width / steps.length;
    context.fillStyle = style("--shade");
    boxes.forEach((_, box) => context.fillRect(0, box * LANE + 2, width, LANE - 4));
    const mark = Math.max(1.5, Math.min(wide - 1, 10));
    const colours = Object.fromEntries(Object.entries(COLOURS).map(([kind, name]) => [kind, style(`--${name}`)]));
    steps.forEach(([, , , changes], step) => {
      for (const row of changes) {
        const box = places[row[0]][2];
        context.fillStyle = colours[kinds[row[1]]];
        context.fillRect((step + 0.5) * wide - mark / 2, box * LANE + 3, mark, LANE - 6);
      }
    });
    if (now) {
      context.strokeStyle = style("--ink");
      context.lineWidth = 1.5;
      context.strokeRect((now - 1) * wide + 0.75, 0.75, Math.max(2, wide - 1.5), height - 1.5);
    }
  }

  // --- findings and search ------------------------------------------------------------------

  function buildFindings() {
    at("found").hidden = !findings.length;
    at("alerts").hidden = !findings.some((one) => one.step);
    for (const one of findings) {
      const box = make("article", { class: `finding ${one.severity}` });
      box.append(make("h3", { text: `${one.severity === "certain" ? "Certain" : "Question"}: ${one.code}` }));
      if (one.step) {
        const show = () => { stop(); go(one.step); at("player").scrollIntoView(); };
        box.append(make("button", { type: "button", text: `Go to line ${one.line}`, onclick: show }));
        at("alerts").append(make("button", { type: "button", class: one.severity, text: `Line ${one.line}: ${one.code}`, onclick: show }));
      }
      box.append(make("p", {}, ...sentence(`${one.what} ${one.why}`)), make("pre", { text: one.fix, tabindex: "0", "aria-label": "What to write" }));
      if (/^https:\/\//.test(one.link)) {
        box.append(make("p", {}, "Met in ", make("a", { href: one.link, rel: "noreferrer", text: one.link })));
      }
      at("findings").append(box);
    }
  }

  function find() {
    const query = at("query").value.trim().toLowerCase();
    const list = at("hits");
    list.replaceChildren();
    at("hits-head").textContent = "";
    at("course").hidden = true;
    if (!query) return;
    const exact = places.findIndex(([label]) => label.toLowerCase() === query);
    const hits = [];
    steps.forEach(([row, , , changes], step) => {
      const wanted = changes.map(change).filter((one) => (exact >= 0 ? places[one.place][0] === places[exact][0]
        : places[one.place][0].toLowerCase().includes(query)));
      if (wanted.length) hits.push([step + 1, row, wanted]);
      else if (exact < 0 && code[row][1].toLowerCase().includes(query)) hits.push([step + 1, row, []]);
    });
    at("hits-head").textContent = hits.length > HITS ? `${hits.length} statements, the first ${HITS}:` : counted(hits.length, "statement");
    for (const [step, row, wanted] of hits.slice(0, HITS)) {
      const said = wanted.slice(0, 3).map((one) => `${places[one.place][0]} ${one.kind}${one.moved ? ` by ${one.moved}` : ""}`).join(", ");
      const rest = wanted.length > 3 ? ` and ${wanted.length - 3} more` : "";
      const text = `${step}. ${code[row][1].split("\n")[0]}${said ? `: ${said}${rest}` : ""}`;
      const show = () => { stop(); go(step); at("player").scrollIntoView(); };
      list.append(make("li", {}, make("button", { type: "button", text, onclick: show })));
    }
    if (exact >= 0) drawCourse(places[exact][0]);
  }

  // The norm of one tensor over the whole recording.
  function drawCourse(label) {
    const points = [];
    steps.forEach(([, , , changes], step) => changes.map(change).forEach((one) => {
      const value = values[one.after];
      const size = isTensor(value) ? Number(value[2]) : Number(value);
      if (places[one.place][0] === label && one.after && Number.isFinite(size)) points.push([step, size]);
    }));
    if (points.length < 2) return;
    const canvas = at("course");
    canvas.hidden = false;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const sizes = points.map(([, size]) => size);
    const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
    canvas.setAttribute("aria-label", `Norm of ${label} over the recording, from ${sizes[0]} to ${sizes.at(-1)}`);
    const x = (step) => 8 + (step / Math.max(1, steps.length - 1)) * (width - 16);
    const y = (size) => height - 20 - ((size - least) / (most - least || 1)) * (height - 38);
    context.strokeStyle = style("--accent");
    context.lineWidth = 1.5;
    context.beginPath();
    points.forEach(([step, size], number) => context[number ? "lineTo" : "moveTo"](x(step), y(size)));
    context.stroke();
    context.fillStyle = style("--quiet");
    context.font = "12px system-ui, sans-serif";
    context.fillText(`norm ${most}`, 6, 12);
    context.fillText(`${least}`, 6, height - 5);
  }

  // --- going --------------------------------------------------------------------------------

  function go(step) {
    now = Math.max(0, Math.min(steps.length, step));
    at("slider").value = now;
    at("slider").setAttribute("aria-valuetext", now ? `statement ${now}: ${code[steps[now - 1][0]][1]}` : "before the first statement");
    at("where").textContent = `${now} of ${steps.length}`;
    at("back").disabled = now === 0;
    at("next").disabled = now === steps.length;
    lightCode();
    showNow();
    showBoxes();
    showTimeline();
    if (!recorded.embedded) {
      try { history.replaceState(null, "", now ? `#${now}` : "#"); } catch { /* a page without an address */ }
    }
  }

  function stop() {
    clearTimeout(playing);
    playing = 0;
    at("play").textContent = "Play";
    at("now").setAttribute("aria-live", "polite");
  }

  function tick() {
    if (now === steps.length) return stop();
    go(now + 1);
    playing = setTimeout(tick, 1000 / Number(at("speed").value));
    return undefined;
  }

  function toggle() {
    if (playing) return stop();
    if (now === steps.length) now = 0;
    at("play").textContent = "Pause";
    at("now").setAttribute("aria-live", "off");   // a screen reader can't keep up
    return tick();
  }

  function keys(event) {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: steps.length }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    stop();
    go(target);
  }

  // In a notebook: its theme, and as much height as the page needs.
  function settleIn() {
    const frame = window.frameElement;
    if (!frame) return;
    const colour = getComputedStyle(frame.ownerDocument.body).backgroundColor.match(/\d+/g);
    if (colour) document.documentElement.dataset.theme = colour.slice(0, 3).reduce((a, b) => a + Number(b), 0) < 384 ? "dark" : "light";
  }

  if (recorded.embedded) {
    try { settleIn(); } catch { /* another origin keeps its theme to itself */ }
  }
  at("slider").max = steps.length;
  at("notes").append(...recorded.notes.map((note) => make("li", { text: note })));
  at("notes").hidden = !recorded.notes.length;
  at("labels").append(...[...new Set(places.map(([label]) => label))].map((label) => make("option", { value: label })));
  at("whole").open = false;
  if (!steps.length) return;
  at("player").hidden = false;
  findInitial();
  buildCode();
  buildBoxes();
  buildTimeline();
  buildFindings();
  at("slider").addEventListener("input", () => { stop(); go(Number(at("slider").value)); });
  at("back").addEventListener("click", () => { stop(); go(now - 1); });
  at("next").addEventListener("click", () => { stop(); go(now + 1); });
  at("play").addEventListener("click", toggle);
  at("query").addEventListener("input", find);
  document.addEventListener("keydown", keys);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    rows.forEach((row) => { row.shown = -1; });
    go(now);
  });
  const asked = Number(location.hash.slice(1));
  go(!recorded.embedded && asked ? asked : recorded.start);
})();
