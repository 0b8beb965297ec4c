// The certified oidc-provider as a process of tests and of the demo (certified.py), with faults of ours in front of its token endpoint.
// certified.mjs MODULE OPTIONS, where MODULE is its own module and OPTIONS a JSON object: {"rotate": true, "lifetime_s": 3600, "keys": [],
// "back": where users are sent back to}; for each public key there is a client `signs-N` that proves itself by it.
//
// Prints {"event":"ready","url"} on stdout when it listens. For tests: POST /control and GET /stats, which tells every token request: grant, a
// fingerprint of the code or the token that came, status, and whether its answer was lost; how many are under way; and which refreshes were
// `superseded`: with a token that had been traded before, by an answer that was not lost. Control: "fault" and "times" of the next token
// requests: "drop" cuts the socket after the provider has done its work, so after rotation; "drop-before" before; "slow" answers 300 ms late.
// "outage" of everything until it is "none" again: "error" (503), "cut", "held" (no answer). "subject": who logs in from now on.

import { createHash, generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

const [module, options] = process.argv.slice(2);
const { Provider } = await import(module);
const { rotate = true, lifetime_s: lifetime = 3600, keys = [], back = "http://127.0.0.1/back" } = JSON.parse(options);

// Nobody is left behind: it ends with the pipe of whoever started it, however that one ends.
process.stdin.resume().on("end", () => process.exit(0));

const server = createServer();
server.listen(0, "127.0.0.1");
await once(server, "listening");
const url = `http://127.0.0.1:${server.address().port}`;

const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const signing = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });

const provider = new Provider(url, {
  jwks: { keys: [{ ...signing, use: "sig", alg: "RS256" }] },
  clients: [
    {
      client_id: "netra",
      client_secret: "secret-a",
      redirect_uris: [back],
      grant_types: ["authorization_code", "refresh_token", "client_credentials", EXCHANGE],
      response_types: ["code"],
      scope: "openid read",
    },
    ...keys.map((key, number) => ({
      client_id: `signs-${number}`,
      redirect_uris: [back],
      grant_types: ["authorization_code", "refresh_token", "client_credentials", EXCHANGE],
      response_types: ["code"],
      scope: "openid read",
      token_endpoint_auth_method: "private_key_jwt",
      token_endpoint_auth_signing_alg: key.alg,
      jwks: { keys: [key] },
    })),
  ],
  scopes: ["openid", "read"],
  routes: { userinfo: "/userinfo" },
  pkce: { required: () => true },
  rotateRefreshToken: rotate,
  issueRefreshToken: async () => true,
  expiresWithSession: async () => false,
  ttl: { AccessToken: lifetime, ClientCredentials: lifetime, RefreshToken: 86400, Grant: 86400, Session: 86400, Interaction: 3600, IdToken: 3600, AuthorizationCode: 60 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
  },
  cookies: { keys: ["of a test"] },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  // Everybody consents to everything.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope("openid read");
    await grant.save();
    return grant;
  },
});

// Token exchange (RFC 8693) for its own access tokens, as its documentation has grants of one's own added.
provider.registerGrantType(EXCHANGE, exchanged, ["subject_token", "subject_token_type", "actor_token", "actor_token_type", "audience", "scope"]);

async function exchanged(ctx) {
  const { subject_token: subject, subject_token_type: type, scope = "" } = ctx.oidc.params;
  const refuse = (error, words) => Object.assign(ctx, { status: 400, body: { error, error_description: words } });
  if (type !== ACCESS_TOKEN) return refuse("invalid_request", "only access tokens are traded");
  const found = await provider.AccessToken.find(subject);
  if (!found) return refuse("invalid_request", "the subject's token is not accepted");
  const has = new Set(found.scope.split(" "));
  if (scope.split(" ").some((each) => each && !has.has(each))) return refuse("invalid_scope", "more than the subject's token has");
  const { accountId, grantId, gty = "", claims } = found;
  const made = new provider.AccessToken({ accountId, grantId, claims, client: ctx.oidc.client, gty, scope: scope || found.scope });
  ctx.body = {
    access_token: await made.save(),
    issued_token_type: ACCESS_TOKEN,
    token_type: "Bearer",
    expires_in: made.expiration,
    scope: made.scope,
  };
}

let fault = "none";
let times = 0;
let outage = "none";
let subject = "user";
const held = new Set();
let inFlight = 0;
const stats = { requests: [], most_in_flight: 0 };
const fingerprint = (token) => (token ? createHash("sha256").update(token).digest("hex").slice(0, 16) : null);

function take() {
  if (times <= 0) return "none";
  times -= 1;
  return fault;
}

provider.use(async (ctx, next) => {
  if (ctx.method !== "POST" || ctx.path !== "/token") return next();
  const striking = take();
  inFlight += 1;
  stats.most_in_flight = Math.max(stats.most_in_flight, inFlight);
  const line = { grant: null, came: null, status: 0, lost: striking.startsWith("drop") };
  stats.requests.push(line);
  try {
    if (striking === "drop-before") return cut(ctx);
    await next();
    line.grant = ctx.oidc?.params?.grant_type ?? null;
    const { refresh_token, code, subject_token } = ctx.oidc?.params ?? {};
    line.came = fingerprint(refresh_token ?? code ?? subject_token);
    line.status = ctx.status;
    if (striking === "drop") return cut(ctx);
    if (striking === "slow") await new Promise((resolve) => setTimeout(resolve, 300));
  } finally {
    inFlight -= 1;
  }
});

function superseded() {
  const traded = new Set();
  return stats.requests.filter(({ grant, came, status, lost }) => {
    if (grant !== "refresh_token") return false;
    const again = traded.has(came);
    if (status === 200 && !lost) traded.add(came);
    return again;
  });
}

function cut(ctx) {
  ctx.respond = false;
  ctx.req.socket.destroy();
}

const answer = provider.callback();

async function body(request) {
  let text = "";
  for await (const piece of request) text += piece;
  return JSON.parse(text);
}

server.on("request", async (request, response) => {
  try {
    if (request.url === "/stats") return void response.end(JSON.stringify({ ...stats, in_flight: inFlight, superseded: superseded() }));
    if (request.url === "/control") {
      ({ fault = fault, times = times, outage = outage, subject = subject } = await body(request));
      for (const each of held) each.destroy();
      held.clear();
      return void response.end("{}");
    }
    if (outage === "cut") return void request.socket.destroy();
    if (outage === "held") return void held.add(request.socket);
    if (outage === "error") return void response.writeHead(503, { "content-type": "application/json" }).end('{"error":"server_error"}');
    if (request.url.startsWith("/interaction/")) {
      return await provider.interactionFinished(request, response, { login: { accountId: subject } });
    }
    answer(request, response);
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
    response.end();
  }
});

console.log(JSON.stringify({ event: "ready", url }));
