// Signing in by the key behind the link's `#`, and signing out. Everything else on these pages is plain HTML.

const state = document.getElementById("state");
if (state) {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  history.replaceState(null, "", location.pathname); // the key is not to stay in the address bar
  const answer = key && (await fetch("/ui/session", { method: "POST", headers: { authorization: `Bearer ${key}` } }));
  if (answer && answer.ok) {
    location.replace("/ui/webhooks");
  } else {
    state.textContent = "This link has ended, or is not whole. Ask whoever gave it to you for a new one.";
  }
}

const out = document.getElementById("sign-out");
if (out) {
  out.hidden = false;
  out.addEventListener("click", async () => {
    await fetch("/ui/session", { method: "DELETE" });
    location.replace("/ui/login");
  });
}
