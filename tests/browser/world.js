// The world that pages are looked at in: a sandbox and an all-in-one gateway as processes, each on ports of the system's
// choosing, and a caller of the gateway's own services.
const assert = require('node:assert');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { spawn, spawnSync } = require('node:child_process');
const { promisify } = require('node:util');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

// How long a program may take to be ready, and a call to be answered, in milliseconds.
const PATIENCE = 30_000;

const proto = path.join(__dirname, '..', '..', 'proto');
const definition = loader.loadSync([
  'postern/approval/v1/approval_service.proto', 'postern/connection/v1/connection_service.proto',
  'postern/event/v1/event_service.proto', 'postern/event/v1/trigger_service.proto',
  'postern/outbox/v1/outbox_service.proto', 'postern/outlook/v1/mail_service.proto', 'postern/smtp/v1/smtp_service.proto',
], { includeDirs: [proto], keepCase: true, longs: String, enums: String, oneofs: true, defaults: true });
const { postern } = grpc.loadPackageDefinition(definition);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Asks until an answer is given that is not empty.
async function until(what, ask, patience = PATIENCE) {
  const end = Date.now() + patience;
  while (Date.now() < end) {
    const answer = await ask();
    if (answer) return answer;
    await sleep(100);
  }
  throw new Error(`${what}: not within ${patience / 1000} s`);
}

// A port that is free now, of those that systems do not give out by themselves: nobody is given it before we take it.
async function freePort() {
  for (let tried = 0; tried < 100; tried += 1) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = net.createServer();
    const listens = await new Promise((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (listens) {
      await new Promise((resolve) => server.close(resolve));
      return port;
    }
  }
  throw new Error('no port is free');
}

class World {
  static async start(programs) {
    const world = new World();
    world.programs = programs;
    world.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-browser-'));
    world.processes = [];
    try {
      await world.startAll();
    } catch (error) {
      await world.stop();
      throw error;
    }
    return world;
  }

  async startAll() {
    const token = spawnSync(path.join(this.programs, 'gateway'), ['token', 'browser'], { encoding: 'utf8' });
    assert.strictEqual(token.status, 0, token.stderr);
    this.token = /^token: (\S+)$/m.exec(token.stdout)[1];
    const tokens = path.join(this.folder, 'tokens');
    fs.writeFileSync(tokens, `${/^line for the tokens file: (.+)$/m.exec(token.stdout)[1]}\n`);
    this.sandbox = await this.launch('postern-sandbox',
      ['serve', '--listen-smtp', '127.0.0.1:0', '--listen-graph', '127.0.0.1:0']);
    this.url = `http://127.0.0.1:${await freePort()}`;
    const ready = await this.launch('gateway', [
      '--listen', '127.0.0.1:0', '--data-dir', path.join(this.folder, 'data'), '--tokens-file', tokens,
      '--http-listen', this.url.slice('http://'.length), '--public-url', this.url,
    ]);
    this.address = ready.address;
  }

  // Starts a program; gives what its ready file holds.
  async launch(name, args) {
    const ready = path.join(this.folder, `${name}.json`);
    const log = fs.openSync(path.join(this.folder, `${name}.log`), 'w');
    const child = spawn(path.join(this.programs, name), [...args, '--ready-file', ready], { stdio: ['ignore', log, log] });
    this.processes.push({ name, child });
    return until(`${name} is ready`, () => {
      assert.strictEqual(child.exitCode, null, `${name} ended; ${this.log(name)}`);
      try {
        return JSON.parse(fs.readFileSync(ready, 'utf8'));
      } catch {
        return null;
      }
    });
  }

  log(name) {
    return `its log:\n${fs.readFileSync(path.join(this.folder, `${name}.log`), 'utf8').slice(-4000)}`;
  }

  // A unary call of the gateway's services as a promise: world.call('connection.ConnectionService', 'GetConnection', {…}).
  call(service, method, request) {
    const [area, name] = service.split('.');
    const Service = postern[area].v1[name];
    const client = new Service(this.address, grpc.credentials.createInsecure());
    const shown = new grpc.Metadata();
    shown.set('authorization', `Bearer ${this.token}`);
    return promisify(client[method].bind(client))(request, shown, { deadline: Date.now() + PATIENCE })
      .finally(() => client.close());
  }

  // An Outlook connection to an account of the sandbox.
  connectOutlook(id, mailbox) {
    const { graph } = this.sandbox;
    return this.call('connection.ConnectionService', 'CreateConnection', {
      connection_id: id,
      connection: {
        outlook: {
          tenant: graph.tenant, client_id: graph.client_id, mailbox, cloud: 'CLOUD_CUSTOM',
          custom_cloud: { graph_url: graph.graph_url, login_url: graph.login_url, allow_plaintext: true },
        },
        outlook_credentials: { client_secret: graph.client_secret },
      },
    });
  }

  async stop() {
    for (const { child } of this.processes.reverse()) {
      if (child.exitCode !== null) continue;
      child.kill('SIGTERM');
      await until('a program stops', () => child.exitCode !== null || child.signalCode !== null);
    }
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

// Presses a button or a link and waits for the page that it leads to: until then what is asked of the page is asked of
// the one before, and to load another meanwhile fails in the browser.
async function press(page, what) {
  const came = page.waitForEvent('framenavigated', { predicate: (frame) => frame === page.mainFrame() });
  // Where the press itself fails, that is what is told.
  came.catch(() => {});
  await what.click();
  await came;
  await page.waitForLoadState();
}

// Opens a page of the console as somebody who signs in first.
async function signIn(page, world, path = '') {
  await page.goto(`${world.url}/console${path}`);
  await page.getByLabel('Token').fill(world.token);
  await press(page, page.getByRole('button', { name: 'Sign in' }));
}

module.exports = { World, press, signIn, until };
