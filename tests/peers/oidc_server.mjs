// oidc-provider as an identity platform to sign in at: node oidc_server.mjs ENTRY SETTINGS, the settings as JSON:
// redirect, client_id, scopes, base (of its paths), skew (how far its clock is off, in seconds), device_life (seconds),
// token_life (seconds). Writes a line of JSON with its URL once it listens, and ends when its input does.
import http from 'node:http';
import { pathToFileURL } from 'node:url';

const [, , entry, settings] = process.argv;
const wanted = JSON.parse(settings);
if (wanted.skew) {
  const now = Date.now;
  Date.now = () => now() + wanted.skew * 1000;
}
const { default: Provider } = await import(pathToFileURL(entry));

const server = http.createServer();
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const url = `http://127.0.0.1:${server.address().port}`;
const base = wanted.base;

const provider = new Provider(url, {
  clients: [{
    client_id: wanted.client_id,
    token_endpoint_auth_method: 'none',
    redirect_uris: [wanted.redirect],
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code'],
  }],
  scopes: ['openid', 'offline_access', ...wanted.scopes],
  claims: { openid: ['sub'], profile: ['preferred_username'] },
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: `${id}@example.org` }) }),
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true }, revocation: { enabled: true } },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  cookies: { keys: ['for a test'] },
  routes: {
    authorization: `${base}/authorize`,
    token: `${base}/token`,
    device_authorization: `${base}/devicecode`,
    code_verification: '/device',
  },
  ttl: {
    AccessToken: wanted.token_life ?? 3600,
    DeviceCode: wanted.device_life ?? 600,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 3600,
    RefreshToken: 86400,
    Session: 86400,
  },
});

const given = [];
const grants = new Set();
provider.on('access_token.saved', (token) => {
  given.push(token.jti);
  grants.add(token.grantId);
});

const serve = provider.callback();
server.on('request', async (request, response) => {
  if (request.url === '/control/tokens') {
    response.end(JSON.stringify(given));
  } else if (request.url === '/control/revoke') {
    // All that users have consented to, as an administrator takes it back.
    for (const grant of grants) {
      await provider.RefreshToken.revokeByGrantId(grant);
      await provider.AccessToken.revokeByGrantId(grant);
    }
    response.end('[]');
  } else {
    // This one knows no page to choose an account on: it asks to sign in and to consent.
    request.url = request.url.replace('prompt=select_account', 'prompt=login%20consent');
    serve(request, response);
  }
});
console.log(JSON.stringify({ url }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
