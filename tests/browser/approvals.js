// Questions put to people by mail, as whoever gets the mail sees them, and whatever opens it before them.
const assert = require('node:assert');
const { until } = require('./world');

// Sooner than this after a page was opened, its button is taken for a machine's.
const A_LOOK = 1_300;

async function ask(world, subject, more = {}) {
  const [reader] = world.sandbox.accounts;
  const { approval } = await world.call('approval.ApprovalService', 'SendApprovalEmail', {
    connection: 'connections/shop', question: { to: [reader], subject, body: 'Two new chairs, 240 €.', ...more },
  });
  const links = await until(`the mail "${subject}" is there`, async () => {
    const { emails } = await world.call('outlook.MailService', 'GetEmails', { connection: 'connections/office', top: 50 });
    const email = emails.find((it) => it.subject === subject);
    return email && [...email.body.matchAll(/href="([^"]+\/approvals\/[^"]+)"/g)].map(([, link]) => link);
  });
  assert.strictEqual(links.length, 2, `${links}`);
  assert.ok(links.every((link) => !link.includes(reader.split('@')[0])), 'nothing personal in a link');
  return { name: approval.name, approve: links[0], reject: links[1] };
}

async function stands(world, question) {
  const { approval } = await world.call('approval.ApprovalService', 'GetApproval', { name: question.name });
  return approval;
}

// The button, pressed as people do: after a look.
async function answer(page, link) {
  await page.goto(link);
  await page.waitForTimeout(A_LOOK);
  await page.getByRole('button', { name: /^Answer/ }).click();
}

// What a scanner does that opens every link and sends every form that it finds.
async function scan(link) {
  await fetch(link, { method: 'HEAD' });
  const text = await (await fetch(link)).text();
  for (const [, form] of text.matchAll(/<form[^>]*method="post"[^>]*>(.*?)<\/form>/gs)) {
    const fields = new URLSearchParams([...form.matchAll(/name="([^"]+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    await fetch(link, { method: 'POST', body: fields });
  }
}

let expiring;

module.exports = {
  async 'a scanner that opens everything and sends every form decides nothing'({ world }) {
    const { smtp } = world.sandbox;
    await world.call('connection.ConnectionService', 'CreateConnection', {
      connection_id: 'shop',
      connection: {
        smtp: {
          server: smtp.host, port: smtp.port, username: smtp.username, ca_certificates: smtp.ca_certificates,
          default_from: world.sandbox.accounts[1],
        },
        smtp_credentials: { password: smtp.password },
      },
    });
    await world.connectOutlook('office', world.sandbox.accounts[0]);
    expiring = await ask(world, 'In a minute', { expire_after: { seconds: 60 } });
    const question = await ask(world, 'Scanned');
    await scan(question.approve);
    await scan(question.reject);
    assert.strictEqual((await stands(world, question)).state, 'APPROVAL_STATE_PENDING');
  },

  async 'the button approves, and a second click says who answered what'({ page, world, looks }) {
    const question = await ask(world, 'New chairs');
    await page.goto(question.approve);
    await page.getByRole('button', { name: /Approve/ }).waitFor();
    await looks.at(page, 'approval-asked');
    assert.strictEqual((await stands(world, question)).state, 'APPROVAL_STATE_PENDING', 'opening decides nothing');
    await answer(page, question.approve);
    await page.getByRole('heading', { name: 'Thank you' }).waitFor();
    await looks.at(page, 'approval-thanks');
    const { state, selected_option: selected, responder } = await stands(world, question);
    assert.deepStrictEqual([state, selected, responder], ['APPROVAL_STATE_ANSWERED', 'Approve', world.sandbox.accounts[0]]);
    await page.goto(question.reject);
    await page.getByRole('heading', { name: 'Already answered' }).waitFor();
    await page.getByText(/“Approve”/).waitFor();
    assert.strictEqual(await page.getByRole('button').count(), 0);
    await looks.at(page, 'approval-answered');
  },

  async 'the other button rejects, without script too'({ context, world }) {
    const question = await ask(world, 'Newer chairs');
    const plain = await context.browser().newContext({ javaScriptEnabled: false });
    try {
      const page = await plain.newPage();
      await answer(page, question.reject);
      await page.getByRole('heading', { name: 'Thank you' }).waitFor();
    } finally {
      await plain.close();
    }
    assert.strictEqual((await stands(world, question)).selected_option, 'Reject');
  },

  async 'a page asks in the language of the browser'({ context, world }) {
    const question = await ask(world, 'Stühle');
    const german = await context.browser().newContext({ locale: 'de-DE' });
    try {
      const page = await german.newPage();
      await page.goto(question.approve);
      assert.strictEqual(await page.locator('html').getAttribute('lang'), 'de');
    } finally {
      await german.close();
    }
  },

  async 'a cancelled question says so, on the console and to who was asked'({ page, world, looks }) {
    const question = await ask(world, 'Never mind');
    await page.goto(`${world.url}/console/approvals`);
    await page.getByLabel('Token').fill(world.token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    const row = page.getByRole('row').filter({ hasText: 'Never mind' });
    await looks.at(page, 'approvals');
    await row.getByRole('button', { name: 'Cancel' }).click();
    await row.getByText('cancelled', { exact: true }).waitFor();
    await page.goto(question.approve);
    await page.getByRole('heading', { name: 'No longer asked' }).waitFor();
  },

  async 'an expired link says so'({ page, world, looks }) {
    // It was asked first, and a minute is the shortest there is.
    const end = Date.now() + 75_000;
    while ((await stands(world, expiring)).state === 'APPROVAL_STATE_PENDING') {
      assert.ok(Date.now() < end, 'it expires');
      await page.waitForTimeout(500);
    }
    await page.goto(expiring.approve);
    await page.getByRole('heading', { name: 'The time is over' }).waitFor();
    assert.strictEqual(await page.getByRole('button').count(), 0);
    await looks.at(page, 'approval-expired');
  },
};
