// Users sign in at a real OAuth server, in a browser and by device code, from the console on.
const assert = require('node:assert');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const readline = require('node:readline');
const { press, signIn, until } = require('./world');

const CLIENT = 'postern-browser';
const BASE = '/oauth';

// oidc-provider, which ends with our end of its input.
async function platform(world) {
  const entry = process.env.POSTERN_OIDC_PROVIDER;
  assert.ok(entry, 'POSTERN_OIDC_PROVIDER names the entry of oidc-provider');
  const settings = { redirect: `${world.url}/sign-in/callback`, client_id: CLIENT, scopes: ['mail'], base: BASE };
  const program = path.join(__dirname, '..', 'peers', 'oidc_server.mjs');
  const child = spawn('node', [program, entry, JSON.stringify(settings)], { stdio: ['pipe', 'pipe', 'ignore'] });
  // It says other things before.
  const lines = readline.createInterface({ input: child.stdout });
  let said = '';
  while (!said.startsWith('{')) [said] = await once(lines, 'line');
  return { child, url: JSON.parse(said).url };
}

let server;

async function connect(world, id) {
  server ??= await platform(world);
  const at = (what) => `${server.url}${BASE}/${what}`;
  await world.call('connection.ConnectionService', 'CreateConnection', {
    connection_id: id,
    connection: {
      smtp: {
        server: world.sandbox.smtp.host, username: 'ann', auth_mechanism: 'AUTH_MECHANISM_XOAUTH2',
        oauth: {
          client_id: CLIENT, authorization_endpoint: at('authorize'), token_endpoint: at('token'),
          device_authorization_endpoint: at('devicecode'), scopes: ['openid', 'profile', 'offline_access', 'mail'],
        },
      },
    },
  });
}

async function openConnection(page, world, id) {
  await signIn(page, world, `/connections/${id}`);
  await page.getByText('needs sign-in').waitFor();
}

// The server's own pages: who one is, then whether one consents.
async function signInThere(page) {
  await page.locator('input[name=login]').fill('ann');
  await page.locator('input[name=password]').fill('whatever');
  await page.locator('button[type=submit]').click();
  await page.getByRole('button', { name: 'Continue' }).click();
}

// Takes out what the browser says of the server's own pages: ours have to be without fault.
function forgive(wrong, url = server.url) {
  const ours = wrong.filter((text) => !text.includes(`(${url}`));
  wrong.splice(0, wrong.length, ...ours);
}

function isReady(world, id) {
  return until(`${id} is ready`, async () => {
    const { connection } = await world.call('connection.ConnectionService', 'GetConnection', { name: `connections/${id}` });
    return connection.state === 'CONNECTION_STATE_READY';
  });
}

module.exports = {
  async 'a user signs in by a browser'({ page, world, looks, wrong }) {
    await connect(world, 'mail');
    await openConnection(page, world, 'mail');
    await looks.at(page, 'connection-needs-sign-in');
    await press(page, page.getByRole('button', { name: 'Sign in', exact: true }));
    await looks.at(page, 'sign-in-begun');
    await page.getByRole('link', { name: 'Go on to the provider' }).click();
    await signInThere(page);
    await page.waitForURL(`${world.url}/**`);
    await isReady(world, 'mail');
    assert.ok(!page.url().includes('code='), `nothing secret stays in the URL: ${page.url()}`);
    await looks.at(page, 'signed-in');
    forgive(wrong);
    await page.getByRole('link', { name: 'Back to the connection' }).click();
    await page.getByRole('heading', { name: 'mail', exact: true }).waitFor();
    await page.getByText('ready', { exact: true }).waitFor();
  },

  async 'a user who does not consent is told what that means'({ page, world, looks, wrong }) {
    await connect(world, 'other');
    await openConnection(page, world, 'other');
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await page.getByRole('link', { name: 'Go on to the provider' }).click();
    await page.getByRole('link', { name: 'Cancel' }).click();
    await page.waitForURL(`${world.url}/**`);
    await page.getByText('needs you').waitFor();
    await looks.at(page, 'sign-in-denied');
    forgive(wrong);
    await page.getByRole('link', { name: 'Begin a new sign-in' }).click();
    await page.getByRole('button', { name: 'Sign in', exact: true }).waitFor();
  },

  async 'a link that is none of a sign-in, and another account, are told as what they are'({ page, world, looks, wrong }) {
    await page.goto(`${world.url}/sign-in/callback?state=forged&code=x`);
    await page.getByText('This link cannot be used').waitFor();
    await looks.at(page, 'sign-in-stranger');
    const { graph, accounts } = world.sandbox;
    await world.call('connection.ConnectionService', 'CreateConnection', {
      connection_id: 'own',
      connection: {
        outlook: {
          tenant: graph.tenant, client_id: graph.client_id, mailbox: accounts[0], cloud: 'CLOUD_CUSTOM',
          custom_cloud: { graph_url: graph.graph_url, login_url: graph.login_url, allow_plaintext: true },
        },
        outlook_credentials: { user: {} },
      },
    });
    await openConnection(page, world, 'own');
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await page.getByRole('link', { name: 'Go on to the provider' }).click();
    await page.getByRole('button', { name: accounts[1] }).click();
    await page.waitForURL(`${world.url}/**`);
    await page.getByText('This is another account').waitFor();
    await looks.at(page, 'sign-in-other-account');
    forgive(wrong, graph.login_url);
  },

  async 'a user signs in by a device code'({ page, context, world, looks, wrong }) {
    try {
      await connect(world, 'device');
      await openConnection(page, world, 'device');
      await page.getByRole('button', { name: 'Sign in by code' }).click();
      const code = (await page.locator('.figure').textContent()).trim();
      await looks.at(page, 'device-code');
      const other = await context.newPage();
      await other.goto(await page.getByRole('link', { name: server.url }).getAttribute('href'));
      await other.locator('input[name=user_code]').fill(code);
      await other.locator('button[type=submit]').first().click();
      await other.getByRole('button', { name: 'Continue' }).click();
      await signInThere(other);
      await isReady(world, 'device');
      await page.getByRole('link', { name: 'look again' }).click();
      await page.getByText('ready', { exact: true }).waitFor();
      forgive(wrong);
    } finally {
      server.child.stdin.end();
    }
  },
};
