"use strict";
(() => {
  const PER_PAGE = 10, MOST_CLASSES = 300, LONG_TEXT = 260, SHOWN_NUMBERS = 8, OFTEN = 24;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { samples, targets } = read("data");
  const meta = read("meta");
  const byId = (id) => document.getElementById(id);

  // Every text of the data is set as textContent or as an attribute, never parsed as markup.
  function element(tag, options = {}, ...children) {
    const { class: name, text, ...attributes } = options;
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  function drawn(tag, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }
  const known = (value) => value !== undefined && value !== null;
  const isolated = (text, name = "") => element("bdi", { class: name, text });
  const size = (value, count) => (value >= 1e6 || (value > 0 && value < 1e-3) ? value.toExponential(count - 1)
    : Number(value.toPrecision(count)).toLocaleString("en-US", { maximumFractionDigits: 8 }));
  const digits = (value, count = 3) => (value < 0 ? "−" : "") + size(Math.abs(value), Math.max(count, Number.isInteger(value) ? 7 : 0));
  const signed = (score) => (score < 0 ? "−" : "+") + size(Math.abs(score), 3);
  const named = (sample) => `${sample.s} ${sample.r}`;
  const spoken = (sample) => named(sample) + (known(sample.l) ? `, label ${sample.l}` : "");

  // ---- the values of a sample ----
  function valueOf(value, sample, only) {
    switch (value.t) {
      case "image": return image(value, sample);
      case "series": return series(value);
      case "tokens": return tokens(value);
      default: return text(value, only);
    }
  }
  function image(value, sample) {
    const about = value.n === "image" ? "" : `${value.n} of `;
    return element("img", { src: value.u, width: value.w, height: value.h, alt: `${about}${spoken(sample)}`,
      class: Math.max(value.w, value.h) <= 64 ? "picture pixels" : "picture", loading: "lazy" });
  }
  function series(value) {
    const width = 200, height = 64, margin = 3;
    const finite = value.y.flat().filter(known);
    const low = Math.min(...finite), high = Math.max(...finite), range = high - low || 1;
    const about = `${value.n}: ${value.m} values` + (value.c > 1 ? ` in ${value.c} channels` : "") +
      (finite.length ? `, from ${digits(low)} to ${digits(high)}` : "");
    const plot = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": about, class: "series" });
    value.y.forEach((channel, number) => {
      let path = "", pen = "M";
      channel.forEach((y, place) => {
        if (!known(y)) { pen = "M"; return; }
        const x = margin + (width - 2 * margin) * (channel.length > 1 ? place / (channel.length - 1) : 0.5);
        path += `${pen}${x.toFixed(1)} ${(height - margin - (height - 2 * margin) * (y - low) / range).toFixed(1)}`;
        pen = "L";
      });
      plot.append(drawn("path", { d: path, class: `line line-${number % 6}` }));
    });
    return element("figure", { class: "series-box" }, plot,
      element("figcaption", { text: finite.length ? `${value.n}, ${value.m} values, ${digits(low)} to ${digits(high)}` : value.n }));
  }
  function tokens(value) {
    const all = value.p.length >= value.x.length - 1;
    const marked = new Set(all ? [] : value.p);
    const shown = element("p", { class: "text", dir: "auto" });
    if (value.o) shown.append("… ");
    value.x.forEach((token, place) => shown.append(marked.has(place) ? element("mark", { text: token }) : token));
    const length = value.x.reduce((sum, token) => sum + token.length, 0);
    const about = element("p", { class: "small legend", text: all ? "Every token is predicted." : "Marked: predicted tokens." });
    const cut = value.m ? element("p", { class: "small", text: `Tokens ${value.o + 1} to ${value.o + value.x.length} of ${value.m}.` }) : null;
    return element("div", {}, length > LONG_TEXT ? folded(shown, !all && value.p[0] > 40) : shown, about, cut);
  }
  function text(value, only) {
    const content = known(value.x) ? String(value.x) : "";
    const shown = element("p", { class: "text", dir: "auto", text: content });
    const cut = value.m ? element("p", { class: "small", text: `The first ${content.length} of ${value.m} characters.` }) : null;
    const name = only || value.n === "text" ? null : element("p", { class: "name" }, isolated(value.n));
    return element("div", {}, name, content.length > LONG_TEXT ? folded(shown) : shown, cut);
  }
  function folded(shown, scrolled = false) {
    const box = element("div", { class: "fold" }, shown);
    const button = element("button", { type: "button", class: "link", "aria-expanded": "false", text: "Show all" });
    button.addEventListener("click", () => {
      const open = box.classList.toggle("open");
      button.textContent = open ? "Show less" : "Show all";
      button.setAttribute("aria-expanded", String(open));
    });
    if (scrolled) requestAnimationFrame(() => {
      const mark = shown.querySelector("mark");
      if (mark) box.scrollTop = Math.max(0, mark.offsetTop - box.offsetTop - 24);
    });
    return element("div", {}, box, button);
  }
  function numbers(values) {
    const shown = (some) => element("dl", { class: "numbers" }, ...some.flatMap((value) => [
      element("dt", {}, isolated(value.n)), element("dd", { text: known(value.x) ? digits(value.x, 4) : "not finite" })]));
    if (values.length <= SHOWN_NUMBERS) return shown(values);
    const rest = element("details", {}, element("summary", { text: `${values.length - SHOWN_NUMBERS} more` }),
      shown(values.slice(SHOWN_NUMBERS)));
    return element("div", {}, shown(values.slice(0, SHOWN_NUMBERS)), rest);
  }
  function contents(sample) {
    const rows = sample.v.filter((value) => value.t === "number");
    const others = sample.v.filter((value) => value.t !== "number");
    const box = element("div", { class: "contents" }, ...others.map((value) => valueOf(value, sample, sample.v.length === 1)));
    if (rows.length) box.append(numbers(rows));
    if (!sample.v.length) box.append(element("p", { class: "bare", text: known(sample.l) ? String(sample.l) : named(sample) }));
    return box;
  }

  // ---- targets ----
  const own = (target) => (target.g ? null : samples[target.i]);
  const labelOf = (target) => own(target)?.l;
  const probabilityOf = (target) => own(target)?.p;
  const wrongOf = (sample) => (known(sample?.m) && known(sample.m[2]) ? !sample.m[2] : null);
  const labelText = (sample) => (typeof sample.l === "number" ? digits(sample.l, 5) : sample.l);
  const predictedText = (sample) => `${typeof sample.m[0] === "number" ? digits(sample.m[0], 5) : sample.m[0]} (${sample.m[1].toFixed(2)})`;
  function agreementOf(target) {
    const label = labelOf(target);
    const labels = target.a.map(([place]) => samples[place].l).filter(known);
    return known(label) && labels.length ? labels.filter((one) => one === label).length / labels.length : null;
  }
  const words = (sample) => [named(sample), `${sample.s}:${sample.r}`, known(sample.l) ? `label ${sample.l}` : null, ...sample.v.map((value) =>
    value.t === "tokens" ? value.x.join("") : value.t === "text" ? value.x : "")].filter(known).join("\n").toLowerCase();
  const searched = targets.map((target) => [...(target.g ?? [target.i]), ...target.a.map(([place]) => place), ...target.b.map(([place]) => place)]);
  const cache = new Map();
  const wordsOf = (place) => { if (!cache.has(place)) cache.set(place, words(samples[place])); return cache.get(place); };
  const nameOf = (place) => `${samples[place].s}:${samples[place].r}`.toLowerCase();

  function chip(name, value, kind = "") {
    return element("span", { class: `chip ${kind}` }, `${name} `, isolated(String(value)));
  }
  function chips(sample) {
    const box = element("p", { class: "chips" });
    const wrong = wrongOf(sample);
    if (known(sample.l)) box.append(chip("label", labelText(sample), "strong"));
    if (wrong !== false && known(sample.p)) box.append(chip("p(label)", sample.p.toFixed(sample.p > 0.995 || sample.p < 0.005 ? 4 : 2), sample.p < 0.5 ? "low" : ""));
    else if (wrong !== false && known(sample.f)) box.append(chip("f", digits(sample.f)));
    if (wrong === false) box.append(chip("predicted with", sample.m[1].toFixed(2)));
    else if (known(sample.m)) box.append(chip(wrong ? "predicted, wrong:" : "predicted", predictedText(sample), wrong ? "low" : ""));
    if (known(sample.q)) box.append(chip("self-influence", digits(sample.q)));
    return box;
  }
  function tile([place, score], label, strongest) {
    const sample = samples[place];
    const differs = !(numeric || labels.length > MOST_CLASSES) && known(label) && known(sample.l) && sample.l !== label;
    const button = element("button", { type: "button", class: "link", title: "Show the targets for which this sample is listed" },
      isolated(named(sample)));
    button.addEventListener("click", () => { byId("search").value = `${sample.s}:${sample.r}`; select("targets"); refresh(); byId("search").focus(); });
    const bar = element("span", { class: "meter", "aria-hidden": "true" });
    bar.style.setProperty("--share", `${strongest ? 100 * Math.abs(score) / strongest : 0}%`);
    const wrong = wrongOf(sample);
    const chance = wrong === false ? sample.m[1] : sample.p; // of the label, which is the predicted class or not
    const facts = [known(sample.l) ? `label ${labelText(sample)}` : null, known(chance) ? `p ${chance.toFixed(2)}` : null].filter(known);
    const guess = known(sample.m) && wrong !== false ? `predicted ${predictedText(sample)}${wrong ? ", wrong" : ""}` : "";
    const self = known(sample.q) ? `self ${digits(sample.q, 2)}` : "";
    return element("li", { class: `tile ${score < 0 ? "harms" : "helps"}` }, contents(sample),
      element("div", { class: "caption" }, element("p", { class: "score", text: signed(score) }), bar,
        element("p", {}, button), element("p", { class: "small" }, isolated(facts.join(" · "))),
        guess ? element("p", { class: wrong ? "wrong" : "small" }, isolated(guess)) : null,
        self ? element("p", { class: "small", text: self }) : null,
        differs ? element("p", { class: "differs", text: "other label" }) : null));
  }
  function end(heading, about, list, label, strongest) {
    return element("section", { class: "end" }, element("h4", { text: heading }), element("p", { class: "small", text: about }),
      list.length ? element("ol", { class: "tiles" }, ...list.map((one) => tile(one, label, strongest)))
        : element("p", { class: "small", text: "None of the stored scores has this sign." }));
  }
  function histogram(target) {
    if (!target.c) return null;
    const half = target.c.length / 2;
    let far = target.c.reduce((most, count, bin) => (count ? Math.max(most, bin < half ? half - bin : bin - half + 1) : most), 1);
    far = Math.min(half, Math.max(far, 4));
    const counts = target.c.slice(half - far, half + far), reach = target.w * far / half;
    const bins = counts.length, width = 200, height = 34, top = Math.log1p(Math.max(...counts));
    const total = counts.reduce((sum, count) => sum + count, 0);
    const plot = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "histogram",
      "aria-label": `Histogram of ${total} scores between ${signed(-reach)} and ${signed(reach)}` });
    counts.forEach((count, bin) => {
      if (!count) return;
      const tall = height * Math.log1p(count) / top;
      plot.append(drawn("rect", { x: bin * width / bins, y: height - tall, width: width / bins - 0.4, height: tall,
        class: bin < bins / 2 ? "below" : "above" }));
    });
    return element("figure", { class: "spread" }, plot, element("figcaption", { text: `all ${total.toLocaleString("en-US")} scores, log counts` }));
  }
  function card(target, number) {
    const sample = own(target), title = sample ? named(sample) : `The mean over ${target.n ?? target.g.length} targets of ${target.s}`;
    const heading = element("h3", { id: `target-${number}` }, isolated(title));
    const strongest = Math.max(0, ...[...target.a, ...target.b].map(([, score]) => Math.abs(score)));
    const self = element("div", { class: "own" }, heading, sample ? chips(sample) : null,
      sample ? contents(sample) : element("ol", { class: "tiles members" }, ...target.g.map((place) =>
        element("li", { class: "tile" }, contents(samples[place]), element("p", { class: "small" }, isolated(spoken(samples[place])))))),
      histogram(target));
    return element("article", { class: "card", tabindex: "0", "aria-labelledby": `target-${number}` }, self,
      element("div", { class: "ends" },
        end("Helpful", "Training on these raised the output.", target.a, sample?.l, strongest),
        end("Harmful", "Training on these lowered the output.", target.b, sample?.l, strongest)));
  }

  // ---- filters and pages ----
  let found = [], page = 0;
  const chosen = (id) => byId(id).value;
  function matches(target, number) {
    const query = chosen("search").trim().toLowerCase(), agreement = agreementOf(target);
    if (chosen("class") && String(labelOf(target)) !== chosen("class")) return false;
    if (chosen("split") && target.s !== chosen("split")) return false;
    if (chosen("agreement") === "same" && !(agreement !== null && agreement >= 0.5)) return false;
    if (chosen("agreement") === "other" && !(agreement !== null && agreement < 0.5)) return false;
    if (chosen("model") && !known(probabilityOf(target))) return false;
    if (chosen("model") === "likely" && probabilityOf(target) < 0.5) return false;
    if (chosen("model") === "unlikely" && probabilityOf(target) >= 0.5) return false;
    if (chosen("wrong") && wrongOf(own(target)) !== (chosen("wrong") === "wrong")) return false;
    if (!query) return true;
    const exact = query.includes(":") && searched[number].some((place) => nameOf(place) === query);
    return exact || (target.g ?? [target.i]).some((place) => wordsOf(place).includes(query));
  }
  const ORDERS = {
    row: () => 0,
    probability: (a, b) => (probabilityOf(a) ?? 2) - (probabilityOf(b) ?? 2),
    agreement: (a, b) => (agreementOf(a) ?? 2) - (agreementOf(b) ?? 2),
  };
  function refresh() {
    found = targets.filter(matches).sort(ORDERS[chosen("order")]);
    show(0);
  }
  function show(wanted) {
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(Math.max(wanted, 0), pages - 1);
    const first = page * PER_PAGE;
    byId("cards").replaceChildren(...found.slice(first, first + PER_PAGE).map((target, place) => card(target, first + place)));
    byId("count").textContent = found.length === targets.length ? `${targets.length.toLocaleString("en-US")} target${targets.length === 1 ? "" : "s"}`
      : `${found.length.toLocaleString("en-US")} of ${targets.length.toLocaleString("en-US")} targets match`;
    byId("pager").hidden = pages === 1;
    byId("place").textContent = `Page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  }
  function turn(step) {
    show(page + step);
    const first = document.querySelector(".card");
    if (first) first.focus();
    byId("filters").scrollIntoView({ block: "start" });
  }
  function options(id, values) {
    const box = byId(id);
    box.append(...values.map((value) => element("option", { value: String(value), text: String(value) })));
    if (values.length < 2) box.closest("label").hidden = true;
  }
  const labels = [...new Set(targets.map(labelOf).filter(known))];
  const numeric = labels.some((label) => typeof label === "number" && !Number.isInteger(label));
  const ordered = labels.sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))));
  options("class", numeric || labels.length > MOST_CLASSES ? [] : ordered);
  options("split", [...new Set(targets.map((target) => target.s))]);
  byId("agreement").closest("label").hidden = numeric || !targets.some((target) => agreementOf(target) !== null);
  byId("model").closest("label").hidden = !targets.some((target) => known(probabilityOf(target)));
  byId("wrong").closest("label").hidden = !targets.some((target) => wrongOf(own(target)) !== null);
  for (const option of byId("order").options) {
    option.hidden = (option.value === "probability" && byId("model").closest("label").hidden) ||
      (option.value === "agreement" && byId("agreement").closest("label").hidden);
  }
  byId("filters").addEventListener("input", refresh);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(refresh));
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));

  // ---- suspicious samples ----
  const cell = (value) => element("td", { class: typeof value === "number" ? "number" : "" }, typeof value === "number" ? digits(value) : isolated(known(value) ? String(value) : ""));
  const table = document.querySelector("#suspect-table tbody");
  if (table) table.append(...meta.suspects.map(([place, ...values]) => element("tr", {},
    element("td", {}, element("div", { class: "small" }, isolated(named(samples[place]))), contents(samples[place])),
    cell(samples[place].l), ...values.map(cell))));
  const harmed = new Map();
  for (const target of targets) for (const [place] of target.b) harmed.set(place, (harmed.get(place) ?? 0) + 1);
  const often = [...harmed].filter(([, count]) => count > 1).sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, OFTEN);
  byId("often").append(...often.map(([place, count]) => {
    const button = element("button", { type: "button", class: "link" }, isolated(named(samples[place])));
    button.addEventListener("click", () => { byId("search").value = `${samples[place].s}:${samples[place].r}`; select("targets"); refresh(); byId("search").focus(); });
    return element("li", { class: "tile" }, contents(samples[place]), element("div", { class: "caption" },
      element("p", { class: "score", text: `harmful for ${count} targets` }), element("p", {}, button), chips(samples[place])));
  }));
  if (!often.length) byId("often").replaceWith(element("p", { class: "prose", text: "No training sample is among the most harmful ones of two targets." }));

  // ---- parts, keys, theme ----
  const tabs = [...document.querySelectorAll("[role=tab]")];
  function select(id, focus = false) {
    for (const tab of tabs) {
      const on = tab.getAttribute("aria-controls") === id;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !on;
      if (on && focus) tab.focus();
    }
  }
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => select(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      select(tabs[(next + tabs.length) % tabs.length].getAttribute("aria-controls"), true);
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = document.activeElement;
    if (event.key === "/" && !["INPUT", "SELECT", "TEXTAREA"].includes(at.tagName)) {
      event.preventDefault();
      select("targets");
      byId("search").focus();
    } else if (at.classList.contains("card")) {
      const next = { ArrowDown: at.nextElementSibling, ArrowUp: at.previousElementSibling }[event.key];
      if (next) { event.preventDefault(); next.focus(); next.scrollIntoView({ block: "nearest" }); }
      if (event.key === "ArrowRight" && !byId("next").disabled) { event.preventDefault(); turn(1); }
      if (event.key === "ArrowLeft" && !byId("previous").disabled) { event.preventDefault(); turn(-1); }
    }
  });
  const THEMES = ["automatic", "dark", "light"];
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const theme = THEMES[(THEMES.indexOf(root.dataset.theme ?? "automatic") + 1) % THEMES.length];
    if (theme === "automatic") delete root.dataset.theme; else root.dataset.theme = theme;
    byId("theme").textContent = `Theme: ${theme}`;
  });
  refresh();
})();
