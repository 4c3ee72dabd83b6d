// The report's own behaviour: the theme, the search, and the recordings. Without it everything can still be read.
// Text is only ever set as text.
(() => {
  "use strict";
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const one = (selector, root = document) => root.querySelector(selector);
  all(".js").forEach((element) => { element.hidden = false; });

  // The theme: the system's, light or dark.
  const theme = one("#theme");
  const themes = ["auto", "light", "dark"];
  const remember = (value) => { try { localStorage.setItem("theme", value); } catch { /* not for files, in some browsers */ } };
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const show = (value) => {
    if (value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
    theme.textContent = `Theme: ${value}`;
    theme.dataset.value = value;
  };
  show(themes.includes(remembered()) ? remembered() : "auto");
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(theme.dataset.value) + 1) % themes.length];
    show(next);
    remember(next);
  });

  // Recordings are packed: base64 of gzip.
  const IDLE_LIMIT = 2;
  const unpack = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const rest = String(whole % 60).padStart(2, "0");
    return whole < 3600 ? `${Math.floor(whole / 60)}:${rest}` : `${Math.floor(whole / 3600)}:${String(Math.floor(whole / 60) % 60).padStart(2, "0")}:${rest}`;
  };
  // The player shortens pauses, and counts time without them.
  const shortened = (cast, seconds) => {
    let at = 0;
    let played = 0;
    for (const line of cast.split("\n").slice(1)) {
      if (!line || line.startsWith("#")) continue;
      const interval = JSON.parse(line)[0];
      if (at + interval > seconds + 0.06) break;
      at += interval;
      played += Math.min(interval, IDLE_LIMIT);
    }
    return played;
  };
  const packs = new Map();
  const pack = (session) => {
    if (!packs.has(session)) {
      const block = one('script[type="application/json"]', session);
      packs.set(session, block ? JSON.parse(block.textContent) : null);
    }
    return packs.get(session);
  };
  const castOf = async (session) => (pack(session).text ??= await unpack(pack(session).cast));
  const linesOf = async (session) => (pack(session).shown ??= JSON.parse(await unpack(pack(session).lines)));

  const play = async (session, seconds = 0) => {
    const screen = one(".screen", session);
    const packed = pack(session);
    session.open = true;
    screen.hidden = false;
    one(".play", session).hidden = true;
    const cast = await castOf(session);
    const start = shortened(cast, seconds);
    if (!packed.player) {
      packed.player = AsciinemaPlayer.create({ data: cast }, screen, {
        fit: "width", idleTimeLimit: IDLE_LIMIT, preload: true, startAt: start, controls: true,
      });
      const wrapper = one(".ap-wrapper", screen);
      wrapper.setAttribute("role", "region");
      wrapper.setAttribute("aria-label", "Recording: space plays and pauses, arrow keys seek, question mark helps");
    } else {
      await packed.player.seek(start);
    }
    one(".ap-wrapper", screen).focus({ preventScroll: true });
    if (seconds) screen.scrollIntoView({ block: "nearest" });
    await packed.player.play();
  };

  const sessions = all(".session");
  for (const session of sessions) {
    const button = one(".play", session);
    if (!button) continue;
    if (typeof DecompressionStream === "undefined") {
      button.disabled = true;
      button.textContent = "This browser is too old to play the recording";
    }
    button.addEventListener("click", () => play(session));
    for (const jump of all(".jump", session)) jump.addEventListener("click", () => play(session, Number(jump.dataset.at)));
  }

  // The search: over the text of each session, and what its recording showed.
  const query = one("#query");
  if (!query) return;
  const person = one("#person");
  const kind = one("#kind");
  const found = one("#found");
  const texts = new Map();
  const textOf = (session) => {
    if (!texts.has(session)) {
      const parts = [one("summary", session).textContent];
      for (const part of one(".story", session).children) if (!part.matches(".recording")) parts.push(part.textContent);
      texts.set(session, parts.join(" ").replace(/\s+/g, " ").toLowerCase());
    }
    return texts.get(session);
  };
  const MOST_HITS = 8;
  const hitsOf = async (session, wanted) => {
    if (!pack(session) || typeof DecompressionStream === "undefined") return [];
    const hits = [];
    for (const [at, line] of await linesOf(session)) {
      if (line.toLowerCase().includes(wanted) && hits.push([at, line]) === MOST_HITS) break;
    }
    return hits;
  };
  const around = (line, wanted) => {
    const place = line.toLowerCase().indexOf(wanted);
    return place > 40 ? `…${line.slice(place - 30)}` : line;
  };
  const showHits = (session, hits, wanted) => {
    one(".hit", session)?.remove();
    const list = one(".hits", session);
    if (!list) return;
    list.replaceChildren();
    list.hidden = !hits.length;
    for (const [at, line] of hits) {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const time = document.createElement("span");
      const text = document.createElement("span");
      button.type = "button";
      time.className = "at";
      time.textContent = clock(at);
      text.textContent = around(line, wanted);
      button.append(time, text);
      button.addEventListener("click", () => play(session, at));
      item.append(button);
      list.append(item);
    }
    if (hits.length) {
      const note = document.createElement("span");
      note.className = "hit";
      note.textContent = `In the recording at ${clock(hits[0][0])}: ${around(hits[0][1], wanted)}`;
      one("summary", session).append(note);
    }
  };
  const mark = (shown, wanted) => {
    if (!("highlights" in CSS)) return;
    CSS.highlights.delete("found");
    if (!wanted) return;
    const ranges = [];
    for (const session of shown.slice(0, 200)) {
      const walker = document.createTreeWalker(session, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node && ranges.length < 2000; node = walker.nextNode()) {
        if (node.parentElement.closest("script, .screen")) continue;
        const text = node.data.toLowerCase();
        if (text.length !== node.data.length) continue;
        for (let at = text.indexOf(wanted); at >= 0 && ranges.length < 2000; at = text.indexOf(wanted, at + wanted.length)) {
          const range = new Range();
          range.setStart(node, at);
          range.setEnd(node, at + wanted.length);
          ranges.push(range);
        }
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
  };
  let latest = 0;
  const filter = async () => {
    const turn = ++latest;
    const wanted = query.value.trim().replace(/\s+/g, " ").toLowerCase();
    const shown = [];
    let recorded = 0;
    for (const session of sessions) {
      const isAsked = (!person.value || session.dataset.person === person.value)
        && (!kind.value || session.dataset.kinds.split(" ").includes(kind.value));
      const hits = isAsked && wanted ? await hitsOf(session, wanted) : [];
      if (turn !== latest) return;
      const matches = isAsked && (!wanted || hits.length > 0 || textOf(session).includes(wanted));
      session.hidden = !matches;
      showHits(session, matches ? hits : [], wanted);
      if (matches) shown.push(session);
      recorded += hits.length > 0;
    }
    one("#none").hidden = shown.length > 0 || !sessions.length;
    const isFiltered = wanted || person.value || kind.value;
    const inside = recorded ? `, ${recorded} by what the recording showed` : "";
    found.textContent = isFiltered ? `${shown.length} of ${sessions.length} sessions match${inside}.` : "";
    mark(shown, wanted);
  };
  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); };
  query.addEventListener("input", soon);
  for (const choice of [person, kind]) choice.addEventListener("change", filter);
  one(".search").addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea, .ap-wrapper");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      query.focus();
    } else if (event.key === "Escape" && event.target === query && query.value) {
      query.value = "";
      filter();
    }
  });
  const expand = one("#expand");
  expand.addEventListener("click", () => {
    const shown = sessions.filter((session) => !session.hidden);
    const isOpening = shown.some((session) => !session.open);
    for (const session of shown.slice(0, 500)) session.open = isOpening;
    expand.textContent = isOpening ? "Collapse all" : "Expand all";
  });

  // A link to a session opens it.
  const follow = () => {
    let name = "";
    try { name = decodeURIComponent(location.hash.slice(1)); } catch { /* not a link of ours */ }
    const target = name && document.getElementById(name);
    if (target && target.matches(".session")) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", follow);
  follow();
})();
