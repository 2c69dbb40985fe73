// The console, as somebody uses it who has just set Postern up. The steps follow one another in one world.
const assert = require('node:assert');
const { until } = require('./world');

async function signIn(page, world, path = '') {
  await page.goto(`${world.url}/console${path}`);
  await page.getByLabel('Token').fill(world.token);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

module.exports = {
  async 'a wrong token is refused and a right one leads where one wanted to go'({ page, world, looks, wrong }) {
    await page.goto(`${world.url}/console/triggers`);
    await page.getByLabel('Token').fill('postern_wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('not, or no longer, known').waitFor();
    await looks.at(page, 'login');
    // The refusal itself: a page with the status 403.
    wrong.splice(0);
    await page.goto(`${world.url}/console/triggers`);
    await page.getByLabel('Token').fill(world.token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Triggers' }).waitFor();
    const [cookie] = await page.context().cookies();
    assert.ok(cookie.httpOnly && cookie.sameSite === 'Lax', JSON.stringify(cookie));
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Token').waitFor();
  },

  async 'an SMTP connection is added, wrong fields are named, and the check says that it works'({ page, world, looks, wrong }) {
    const { smtp } = world.sandbox;
    await signIn(page, world);
    await page.getByText('There is no connection yet').waitFor();
    await looks.at(page, 'overview-empty');
    await page.goto(`${world.url}/console/connections/new?kind=smtp`);
    await page.getByLabel('Id', { exact: true }).fill('Shop!');
    await page.getByLabel('Server', { exact: true }).fill(smtp.host);
    await page.getByLabel('Port').fill(String(smtp.port));
    await page.getByLabel('User name').fill(smtp.username);
    await page.getByLabel('Password').fill(smtp.password);
    await page.getByLabel('Sender').fill(world.sandbox.accounts[1]);
    await page.getByText('Authorities to trust').click();
    await page.getByLabel('Certificates').fill(smtp.ca_certificates);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('alert').waitFor();
    assert.match(await page.locator('.wrong').first().textContent(), /\[a-z\]/);
    assert.strictEqual(await page.getByLabel('Server', { exact: true }).inputValue(), smtp.host, 'what was typed stays');
    await looks.at(page, 'connection-wrong');
    wrong.splice(0);
    await page.getByLabel('Id', { exact: true }).fill('shop');
    await page.getByLabel('Password').fill(smtp.password);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('heading', { name: 'shop' }).waitFor();
    await page.getByRole('button', { name: 'Check now' }).click();
    await page.getByText('It works.').waitFor();
    await looks.at(page, 'connection-checked');
    assert.ok(!(await page.content()).includes(smtp.password), 'the password is nowhere');
  },

  async 'a mail that is tried out arrives live as an event'({ page, context, world, looks }) {
    const [reader] = world.sandbox.accounts;
    await world.connectOutlook('office', reader);
    await world.call('event.TriggerService', 'CreateTrigger', {
      connection: 'connections/office', trigger_id: 'new-mail', trigger: { interval: { seconds: 1 }, new_email: {} },
    });
    await signIn(page, world, '/events');
    await page.getByText('live', { exact: true }).waitFor();
    const other = await context.newPage();
    await other.goto(`${world.url}/console/try-out`);
    await other.getByLabel('Connection').selectOption({ label: 'shop (smtp)' });
    await other.getByLabel('To', { exact: true }).fill(reader);
    await other.getByLabel('Subject').fill('Hello <b>there</b>');
    await other.getByLabel('Body', { exact: true }).fill('<p id="evil" onclick="document.title=1">A <em>body</em><script>parent.document.title="broken"</script></p>');
    await other.getByLabel('the body is HTML').check();
    await looks.at(other, 'try-out');
    await other.getByRole('button', { name: 'Send' }).click();
    await other.getByText('Handed over.').waitFor();
    await other.getByText('accepted').waitFor();
    await looks.at(other, 'try-out-sent');
    const item = page.locator('#live li').filter({ hasText: 'Hello <b>there</b>' });
    await item.waitFor();
    await item.locator('summary').click();
    await item.locator('pre').getByText('email.received').waitFor();
    const frame = item.frameLocator('iframe');
    await frame.getByText('body').waitFor();
    assert.strictEqual(await item.locator('iframe').getAttribute('sandbox'), '');
    assert.match(await page.title(), /^Live events/, 'the mail could not act');
    await looks.at(page, 'events');
    await page.getByRole('button', { name: 'Pause' }).click();
    await world.call('smtp.SmtpService', 'SendEmail', {
      connection: 'connections/shop', email: { to: [reader], subject: 'While paused', body: 'x' },
    });
    await page.getByText('1 waiting').waitFor();
    assert.strictEqual(await page.locator('#live li').filter({ hasText: 'While paused' }).count(), 0);
    await page.getByRole('button', { name: 'Go on' }).click();
    await page.locator('#live li').filter({ hasText: 'While paused' }).waitFor();
    await page.getByLabel('Type').fill('connection');
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.getByText('live', { exact: true }).waitFor();
    assert.strictEqual(await page.locator('#live li').filter({ hasText: 'While paused' }).count(), 0);
  },

  async 'a trigger is tried, paused and resumed'({ page, world, looks }) {
    await signIn(page, world, '/triggers');
    await looks.at(page, 'triggers');
    await page.getByRole('button', { name: 'Try' }).click();
    await page.getByRole('heading', { name: 'What it would tell' }).waitFor();
    await page.getByText('While paused').first().waitFor();
    await looks.at(page, 'tried');
    await page.getByRole('link', { name: 'Back' }).click();
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByText('paused', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Resume' }).click();
    await page.getByText('active', { exact: true }).waitFor();
  },

  async 'the outbox shows what waits, and takes it back'({ page, world, looks }) {
    await world.call('outbox.OutboxService', 'QueueEmail', {
      connection: 'connections/shop', email: { to: world.sandbox.accounts, subject: 'Next week', body: 'x' },
      schedule_time: { seconds: Math.floor(Date.now() / 1000) + 7 * 86_400 },
    });
    await world.call('outbox.OutboxService', 'QueueEmail', {
      connection: 'connections/shop', email: { to: [world.sandbox.refused], subject: 'To nobody', body: 'x' },
    });
    await signIn(page, world, '/outbox');
    await page.getByRole('heading', { name: 'Outbox' }).waitFor();
    await until('the refused mail has failed', async () => {
      await page.reload();
      return page.getByText('failed', { exact: true }).and(page.locator('.state')).count();
    });
    await looks.at(page, 'outbox');
    await page.getByRole('button', { name: 'Take back' }).click();
    await page.getByText('cancelled', { exact: true }).and(page.locator('.state')).waitFor();
    await page.goto(`${world.url}/console`);
    await looks.at(page, 'overview');
  },

  async 'a form that is not of the session is refused'({ page, world, wrong }) {
    await signIn(page, world, '/connections/shop');
    await page.locator('input[name=csrf]').first().evaluateAll(() => {
      for (const field of document.querySelectorAll('input[name=csrf]')) field.value = 'guessed';
    });
    await page.getByRole('button', { name: 'Check now' }).click();
    await page.getByText('none of this session').waitFor();
    wrong.splice(0);
  },

  async 'every page works without script and by keyboard'({ context, world }) {
    const plain = await context.browser().newContext({ javaScriptEnabled: false });
    try {
      const page = await plain.newPage();
      await signIn(page, world, '/connections');
      await page.getByRole('link', { name: 'shop' }).click();
      await page.getByRole('button', { name: 'Check now' }).click();
      await page.getByText('It works.').waitFor();
      await page.goto(`${world.url}/console/events`);
      await page.getByText('Hello <b>there</b>').first().waitFor();
    } finally {
      await plain.close();
    }
    const page = await context.newPage();
    await signIn(page, world);
    await page.getByRole('heading', { name: 'Overview' }).waitFor();
    await page.keyboard.press('Tab');
    assert.strictEqual(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
    await page.keyboard.press('Enter');
    assert.match(page.url(), /#main$/);
  },

  async 'a connection is deleted with its triggers'({ page, world }) {
    await signIn(page, world, '/connections/office');
    await page.getByText('Delete this connection').click();
    await page.getByLabel('and its triggers').check();
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'Connections' }).waitFor();
    assert.strictEqual(await page.getByRole('link', { name: 'office' }).count(), 0);
  },
};
