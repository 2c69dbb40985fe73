#!/usr/bin/env node
// The loop as a client in Node sees it, with no generated code: the .proto files are read when it starts. A subscriber
// listens, a mail sent by SMTP comes back as an event, many mails go over one stream, and an error says what it is.
//
// client.js GATEWAY WORLD: the gateway's HOST:PORT, and the file that `postern-sandbox serve --ready-file` writes.
// Needs @grpc/grpc-js and @grpc/proto-loader on NODE_PATH. Exit code 0: all held.
const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { randomUUID } = require('node:crypto');
const { promisify } = require('node:util');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

// How many mails go over one stream, and how long anything may take, in milliseconds.
const MANY = 50;
const PATIENCE = 30_000;

const proto = path.join(__dirname, '..', '..', 'proto');
const definition = loader.loadSync([
  'postern/connection/v1/connection_service.proto', 'postern/event/v1/event_service.proto',
  'postern/event/v1/trigger_service.proto', 'postern/smtp/v1/smtp_service.proto',
], { includeDirs: [proto], keepCase: true, longs: String, enums: String, oneofs: true, defaults: true });
const { postern } = grpc.loadPackageDefinition(definition);

const [gateway, worldFile] = process.argv.slice(2);
const world = JSON.parse(fs.readFileSync(worldFile, 'utf8'));
const tail = randomUUID().slice(0, 8);
const [reader, sender] = [world.accounts[0], world.accounts.at(-1)];
const smtpName = `connections/node-smtp-${tail}`;
const outlookName = `connections/node-outlook-${tail}`;
const triggerName = `${outlookName}/triggers/new-mail`;

const credentials = grpc.credentials.createInsecure();
const [connections, triggers, events, smtp] = [
  postern.connection.v1.ConnectionService, postern.event.v1.TriggerService,
  postern.event.v1.EventService, postern.smtp.v1.SmtpService,
].map((Service) => new Service(gateway, credentials));

const deadline = () => ({ deadline: Date.now() + PATIENCE });
// A unary call as a promise.
const call = (client, method, request) => promisify(client[method].bind(client))(request, deadline());

const mail = (subject, to) => ({ from: sender, to: [to], subject, body: '<p>Grüße aus <b>Node</b></p>', is_html: true });

async function connect() {
  const { smtp: server, graph } = world;
  await call(connections, 'CreateConnection', {
    connection_id: smtpName.split('/')[1],
    connection: {
      smtp: {
        server: server.host, port: server.port, username: server.username, ca_certificates: server.ca_certificates,
      },
      smtp_credentials: { password: server.password },
    },
  });
  await call(connections, 'CreateConnection', {
    connection_id: outlookName.split('/')[1],
    connection: {
      outlook: {
        tenant: graph.tenant, client_id: graph.client_id, mailbox: reader, cloud: 'CLOUD_CUSTOM',
        custom_cloud: { graph_url: graph.graph_url, login_url: graph.login_url, allow_plaintext: true },
      },
      outlook_credentials: { client_secret: graph.client_secret },
    },
  });
  await call(triggers, 'CreateTrigger', {
    connection: outlookName,
    trigger_id: 'new-mail',
    trigger: { interval: { seconds: 1 }, new_email: { subject_filter: `node ${tail}` } },
  });
}

// The event of a mail that is sent once the stream is open.
async function loop() {
  const stream = events.Subscribe({ filter: { sources: [triggerName] }, start: { latest: {} } }, deadline());
  try {
    for await (const answer of stream) {
      if (answer.kind === 'opened') {
        const sent = await call(smtp, 'SendEmail', {
          connection: smtpName, request_id: `first-${tail}`, email: mail(`Hello from node ${tail}`, reader),
        });
        assert.strictEqual(sent.recipients[0].state, 'RECIPIENT_STATE_ACCEPTED');
      } else if (answer.kind === 'batch') {
        assert.strictEqual(answer.batch.events.length, 1);
        const [event] = answer.batch.events;
        assert.strictEqual(event.type, 'email.received');
        assert.strictEqual(event.data.new_email.subject, `Hello from node ${tail}`);
        assert.match(event.data.new_email.body, /Grüße aus <b>Node<\/b>/);
        return;
      } else {
        assert.strictEqual(answer.kind, 'heartbeat');
      }
    }
    assert.fail('the stream ended before the event came');
  } finally {
    stream.on('error', () => {}).cancel();
  }
}

// Many mails on one stream: each is answered once, the bad one fails alone.
async function many() {
  const stream = smtp.SendEmails(deadline());
  for (let number = 0; number < MANY; number += 1) {
    const request = { request_id: `many-${number}-${tail}`, email: mail(`Many ${number}`, number === 7 ? 'nobody' : sender) };
    stream.write(number === 0 ? { connection: smtpName, ...request } : request);
  }
  stream.end();
  const outcomes = new Map();
  for await (const answer of stream) {
    assert.ok(!outcomes.has(answer.request_id), `${answer.request_id} is answered twice`);
    outcomes.set(answer.request_id, answer);
  }
  assert.strictEqual(outcomes.size, MANY);
  const failed = [...outcomes.values()].filter((answer) => answer.outcome === 'failure');
  assert.deepStrictEqual(failed.map((answer) => answer.request_id), [`many-7-${tail}`]);
  assert.strictEqual(failed[0].failure.reason, 'FIELD_INVALID');
}

// What is refused says why, in the code and in google.rpc.Status.
async function refused() {
  const wrong = call(smtp, 'SendEmail', { connection: smtpName, email: mail('Wrong', 'not an address') });
  await assert.rejects(wrong, (error) => {
    assert.strictEqual(error.code, grpc.status.INVALID_ARGUMENT);
    const [details] = error.metadata.get('grpc-status-details-bin');
    for (const part of ['FIELD_INVALID', 'postern', 'email.to']) assert.ok(details.includes(part), `${part} in the details`);
    return true;
  });
}

async function remove() {
  await call(triggers, 'DeleteTrigger', { name: triggerName });
  for (const name of [smtpName, outlookName]) await call(connections, 'DeleteConnection', { name });
}

async function main() {
  for (const step of [connect, loop, many, refused, remove]) {
    const begun = performance.now();
    await step();
    console.log(`  node ${step.name.padEnd(10)}${((performance.now() - begun) / 1000).toFixed(2).padStart(6)} s`);
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
