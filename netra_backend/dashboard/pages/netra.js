// The dashboard's script: signing in and out, actions, live pages. Everything that is read is in the HTML already.

document.documentElement.classList.add("js");
const csrf = document.querySelector('meta[name="netra-csrf"]')?.content ?? "";
const byId = (id) => document.getElementById(id);

document.querySelector(".parts a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// Signing in: by the key behind the `#` of a link, which browsers send to nobody, or by the one that is typed.

async function signIn(key) {
  const answer = await fetch("/ui/session", { method: "POST", headers: { authorization: `Bearer ${key}` } }).catch(() => null);
  if (answer?.ok) {
    location.replace("/ui/overview");
    return;
  }
  byId("state").textContent = answer?.status === 401 || answer?.status === 403
    ? "This key or link has ended, or is not whole. Ask whoever gave it to you for a new one."
    : "The server does not answer as it should. Try again.";
}

const form = byId("sign-in");
if (form) {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key) {
    history.replaceState(null, "", location.pathname); // the key is not to stay in the address bar
    byId("state").textContent = "One moment.";
    await signIn(key);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(form.elements.key.value.trim());
  });
}

byId("by-provider")?.addEventListener("submit", (event) => {
  event.preventDefault(); // sent as a form, the way on to the provider would be one that the page's policy forbids
  location.assign(`/ui/sso/${encodeURIComponent(event.target.elements.tenant.value.trim())}`);
});

byId("sign-out")?.addEventListener("click", async () => {
  await fetch("/ui/session", { method: "DELETE", headers: { "x-netra-csrf": csrf } });
  location.replace("/ui/login");
});

// Actions: a form becomes one request to the REST API, after a question.

function tell(words, bad = false) {
  const told = byId("told");
  told.classList.toggle("bad", bad);
  told.textContent = words;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { told.textContent = ""; }, bad ? 12000 : 5000);
}

function confirmed(words, label) {
  const dialog = byId("ask");
  byId("ask-title").textContent = `${label}?`;
  byId("ask-words").textContent = words;
  byId("ask-yes").textContent = label;
  dialog.returnValue = "no";
  dialog.showModal();
  byId("ask-yes").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

function showOnce(title, value) {
  byId("shown-title").textContent = title;
  byId("shown-value").textContent = value;
  byId("shown").showModal();
  return new Promise((resolve) => byId("shown").addEventListener("close", () => { byId("shown-value").textContent = ""; resolve(); }, { once: true }));
}

byId("shown-copy")?.addEventListener("click", () => navigator.clipboard?.writeText(byId("shown-value").textContent));

// A field's value as JSON: `data-as` says list (by commas), number, time (a date-time field, in UTC) or ago (seconds back from now).
function valueOf(field) {
  const text = field.value.trim();
  switch (field.dataset.as) {
    case "list": return text.split(/[,\n]/).map((each) => each.trim()).filter(Boolean);
    case "number": return Number(text);
    case "ago": return new Date(Date.now() - Number(text) * 1000).toISOString();
    default: return text;
  }
}

function bodyOf(act) {
  const body = act.dataset.body === undefined ? {} : JSON.parse(act.dataset.body);
  for (const field of act.elements) {
    if (field.name && field.value.trim() !== "") body[field.name] = valueOf(field);
  }
  return body;
}

async function send(act) {
  const { method, url } = act.dataset;
  const headers = { "x-netra-csrf": csrf };
  let body;
  if (method !== "GET" && method !== "DELETE") {
    headers["content-type"] = "application/json";
    headers["idempotency-key"] = crypto.randomUUID?.() ?? String(Math.random());
    body = JSON.stringify(bodyOf(act));
  }
  const answer = await fetch(url, { method, headers, body });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const detail = Array.isArray(said.detail) ? said.detail.map((each) => each.msg).join("; ") : said.detail;
    throw new Error([detail ?? `The server answered ${answer.status}.`, said.fix].filter(Boolean).join(" "));
  }
  return said;
}

document.addEventListener("submit", async (event) => {
  const act = event.target.closest("form[data-url]");
  if (!act) return;
  event.preventDefault();
  const button = event.submitter ?? act.querySelector("button");
  if (act.dataset.confirm && !(await confirmed(act.dataset.confirm, button.textContent.trim()))) return;
  button.disabled = true;
  try {
    const said = await send(act);
    const secret = act.dataset.secret && said[act.dataset.secret];
    if (secret) await showOnce(button.textContent.trim(), secret);
    if (act.dataset.result) act.querySelector("output").textContent = JSON.stringify(said, null, 1);
    tell(act.dataset.done);
    if (!act.dataset.result) await refresh();
  } catch (error) {
    tell(error.message, true);
  } finally {
    button.disabled = false;
  }
});

// Live: the page again whenever it has become another one. Only what differs is put in place, so focus and open details stay.

function put(html) {
  const next = new DOMParser().parseFromString(html, "text/html").getElementById("main");
  const main = byId("main");
  if (next) replace(main, next);
}

function replace(old, next) {
  if (old.isEqualNode(next)) return;
  if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== next.nodeName || old.namespaceURI !== "http://www.w3.org/1999/xhtml" ||
      old.childNodes.length !== next.childNodes.length || (old.nodeName === "FORM" && old.contains(document.activeElement))) {
    if (!old.contains(document.activeElement) || old === document.activeElement) old.replaceWith(document.importNode(next, true));
    return;
  }
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  [...old.childNodes].forEach((child, at) => replace(child, next.childNodes[at]));
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (answer.ok) put(await answer.text());
}

if (byId("live")) {
  const stream = new EventSource(location.href);
  const live = byId("live");
  stream.addEventListener("open", () => { live.classList.add("on"); live.textContent = "Live"; });
  stream.addEventListener("page", (event) => put(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    live.classList.remove("on");
    live.textContent = stream.readyState === EventSource.CLOSED ? "Not live: reload the page" : "Connecting again";
  });
}

// Records of a debug session as they come: through the REST API's stream, with the session's token, one line each.

async function follow(list) {
  const answer = await fetch(list.dataset.follow, { headers: { accept: "text/event-stream", "x-netra-csrf": csrf } });
  if (!answer.ok) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const events = (text + part.value).split("\n\n");
    text = events.pop();
    for (const event of events) show(list, event);
  }
}

function show(list, event) {
  const data = /^data: (.*)$/m.exec(event)?.[1];
  const record = data && JSON.parse(data);
  if (!record?.kind) return;
  const [line, head, body] = ["details", "summary", "pre"].map((name) => document.createElement(name));
  head.textContent = `${record.at} ${record.kind}`;
  body.textContent = JSON.stringify(record.data, null, 1);
  line.append(head, body);
  list.append(line);
  while (list.children.length > 500) list.firstElementChild.remove();
}

const records = document.querySelector("[data-follow]");
if (records) follow(records);
