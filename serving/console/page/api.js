// The service's routes, by their relative addresses: the page also works behind a proxy that adds a path.

let token = "";

export function useToken(text) {
  token = text.trim();
}

// What went wrong, as a sentence for a person.
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function asked(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused("The service does not answer.", 0);
  }
  const body = await response.json().catch(() => null);
  if (response.ok || (path === "readyz" && body?.readiness)) return body;
  throw new Refused(sentence(response.status, body), response.status);
}

function sentence(status, problem) {
  const detail = problem?.detail ?? `The service answered ${status}.`;
  const whole = detail.charAt(0).toUpperCase() + detail.slice(1).replace(/[.\s]*$/, ".");
  if (status === 401) return `${whole} Open “Token” at the top and enter one.`;
  if (status === 503) return `${whole} It may be back in a moment.`;
  return whole;
}

const sent = (path, body) => asked(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
});

const PATIENCE = 8;  // seconds until what was sent can be read

export const health = () => asked("readyz");
export const overview = () => asked("v1/overview");
export const choices = () => asked("v1/choices");
export const generations = () => asked("v1/generations");
export const rollBack = (expected) => sent("v1/generations/rollback", { expected, reason: "rollback in the console" });
export const storedUser = (id) => asked(`v1/users/${encodeURIComponent(id)}`);
export const signUp = (user_id, attributes) => sent(`v1/users?wait=${PATIENCE}`, { user_id, attributes });
export const behave = (behaviours) => sent(`v1/behaviours?wait=${PATIENCE}`, { behaviours });
export const behaviourMap = () => asked("v1/map");
export const placeOnMap = (id) => asked(`v1/map/user?user_id=${encodeURIComponent(id)}`);
export const compare = (user_id, items) => sent("v1/compare", { user_id, items });

// The list of a user, from `candidates`. The one place that asks for a ranking: a trial teaches nobody, so none is shown.
export const recommended = (user_id, candidates) =>
  sent("v1/rank", { user_id, items: candidates, explain: true, shown: 0 });
