// The pages of approvals that are seldom met: looked at, and what they say.
const assert = require('node:assert');
const { press, signIn, until } = require('./world');

// Sooner than this after a page was opened, its button is taken for a machine's.
const A_LOOK = 1_300;

async function ask(world, subject, question = {}) {
  const [reader] = world.sandbox.accounts;
  const { approval } = await world.call('approval.ApprovalService', 'SendApprovalEmail', {
    connection: 'connections/shop', question: { to: [reader], subject, body: 'Two new chairs, 240 €.', ...question },
  });
  const link = await until(`the mail "${subject}" is there`, async () => {
    const { emails } = await world.call('outlook.MailService', 'GetEmails', { connection: 'connections/office', top: 50 });
    const email = emails.find((it) => it.subject === subject);
    return email && /href="([^"]+\/approvals\/[^"]+)"/.exec(email.body)[1];
  });
  return { name: approval.name, link };
}

module.exports = {
  async 'one is asked whether one is sure, where that is wished'({ page, world, looks }) {
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
    const question = await ask(world, 'Sure?', { show_html_confirmation_dialog: true });
    await page.goto(question.link);
    await page.waitForTimeout(A_LOOK);
    await page.getByRole('button', { name: /^Answer/ }).click();
    await page.getByRole('heading', { name: 'Are you sure?' }).waitFor();
    await looks.at(page, 'approval-sure');
    const { approval } = await world.call('approval.ApprovalService', 'GetApproval', { name: question.name });
    assert.strictEqual(approval.state, 'APPROVAL_STATE_PENDING', 'asking is not answering');
  },

  async 'a cancelled question and an unknown link say so'({ page, world, looks }) {
    const question = await ask(world, 'Cancelled');
    await world.call('approval.ApprovalService', 'CancelApproval', { name: question.name });
    await page.goto(question.link);
    await page.getByRole('heading', { name: 'No longer asked' }).waitFor();
    assert.strictEqual(await page.getByRole('button').count(), 0);
    await looks.at(page, 'approval-cancelled');
    await page.goto(`${question.link.slice(0, -8)}AAAAAAAA`);
    await page.getByRole('heading').waitFor();
    assert.strictEqual(await page.getByRole('button').count(), 0);
    await looks.at(page, 'approval-unknown');
  },

  async 'the console tells who was asked, who answered what, and until when'({ page, world, looks }) {
    const many = Array.from({ length: 12 }, (_, at) => `person-${at}@example.org`);
    await world.call('approval.ApprovalService', 'SendApprovalEmail', {
      connection: 'connections/shop',
      question: { to: many, subject: 'A question to many people whose subject line is rather long so that it wraps', body: 'x', policy: { quorum: 3 } },
    });
    const both = world.sandbox.accounts;
    const question = await ask(world, 'Both of you', { to: both, policy: { everybody: true } });
    await page.goto(question.link);
    await page.waitForTimeout(A_LOOK);
    await page.getByRole('button', { name: /^Answer/ }).click();
    await page.getByRole('heading', { name: 'Thank you' }).waitFor();
    await signIn(page, world, '/approvals');
    const row = (subject) => page.getByRole('row').filter({ hasText: subject });
    await row('A question to many').getByText('3 must choose the same').waitFor();
    await row('A question to many').getByText('0 of 12 people answered').click();
    await row('A question to many').getByText('person-11@example.org').waitFor();
    await row('Both of you').getByText('everybody must answer').waitFor();
    const answered = await row('Both of you').locator('.people li').allTextContents();
    assert.strictEqual(answered.length, 2);
    assert.strictEqual(answered.filter((text) => /: (Approve|Reject) /.test(text)).length, 1, `${answered}`);
    await row('Both of you').getByText(/^in (29|30) days$/).waitFor();
    await looks.at(page, 'approvals-many');
    await press(page, page.getByRole('link', { name: 'Ended without' }));
    await row('Cancelled').waitFor();
    assert.strictEqual(await row('Both of you').count(), 0);
    await press(page, page.getByRole('link', { name: 'Pending' }));
    await row('Both of you').waitFor();
    assert.strictEqual(await row('Cancelled').count(), 0);
  },
};
