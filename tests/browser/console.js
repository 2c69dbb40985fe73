// The console, as somebody uses it who has just set Postern up. The steps follow one another in one world.
const assert = require('node:assert');
const everyPage = require('./every_page');
const { press, signIn, until } = require('./world');

// Fills what every Outlook connection to the sandbox needs.
async function fillOutlook(page, world, id, mailbox) {
  const { graph } = world.sandbox;
  await page.goto(`${world.url}/console/connections/new?kind=outlook`);
  await page.getByLabel('Id', { exact: true }).fill(id);
  await page.getByLabel('Tenant').fill(graph.tenant);
  await page.getByLabel('Client id').fill(graph.client_id);
  await page.getByLabel('Mailbox').fill(mailbox);
  await page.getByLabel('Cloud', { exact: true }).selectOption('CLOUD_CUSTOM');
  await page.getByText("Endpoints of one's own").last().click();
  await page.getByLabel('Graph URL').fill(graph.graph_url);
  await page.getByLabel('Login URL').fill(graph.login_url);
  await page.getByLabel('http:// URLs may be used').check();
}

// The figures that a chart tells.
const chart = (page, title) => page.getByRole('img', { name: new RegExp(`^${title}:`) }).getAttribute('aria-label');

module.exports = {
  async 'a wrong token is refused and a right one leads where one wanted to go'({ page, world, looks }) {
    await page.goto(`${world.url}/`);
    await page.waitForURL(`${world.url}/console/login?next=*`);
    await page.goto(`${world.url}/console/triggers`);
    await page.getByLabel('Token').fill('postern_wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('not, or no longer, known').waitFor();
    await looks.at(page, 'login');
    await page.goto(`${world.url}/console/triggers`);
    await page.getByLabel('Token').fill(world.token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Triggers' }).waitFor();
    const [cookie] = await page.context().cookies();
    assert.ok(cookie.httpOnly && cookie.sameSite === 'Lax', JSON.stringify(cookie));
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('Token').waitFor();
  },

  async 'an SMTP connection is added, wrong fields are named, and the check says that it works'({ page, world, looks }) {
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
    await page.getByRole('alert').getByText('type them again').waitFor();
    assert.deepStrictEqual(await page.locator('.wrong').allTextContents(),
      ['This cannot be an id: expected 3 to 63 lower case letters, digits and hyphens, a letter first.']);
    assert.strictEqual(await page.getByLabel('Server', { exact: true }).inputValue(), smtp.host, 'what was typed stays');
    await looks.at(page, 'connection-wrong');
    await page.getByLabel('Id', { exact: true }).fill('shop');
    await page.getByLabel('Password').fill(smtp.password);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('heading', { name: 'shop', exact: true }).waitFor();
    assert.strictEqual(await page.getByRole('button', { name: /^Sign in/ }).count(), 0, 'nobody signs in for a password');
    await page.getByRole('button', { name: 'Check now' }).click();
    await page.getByText('It works.').waitFor();
    await looks.at(page, 'connection-checked');
    assert.ok(!(await page.content()).includes(smtp.password), 'the password is nowhere');
  },

  async 'credentials that are refused are told of, and new ones heal the connection'({ page, world, looks }) {
    const { smtp } = world.sandbox;
    await signIn(page, world, '/connections/shop');
    await page.getByText('Give it new credentials').click();
    await page.getByLabel('Password').fill('wrong');
    await page.getByRole('button', { name: 'Store credentials' }).click();
    await page.getByText('It does not work.').waitFor();
    await page.getByText('needs sign-in', { exact: true }).waitFor();
    await looks.at(page, 'connection-broken');
    await page.goto(`${world.url}/console`);
    await page.getByText('shop needs a sign-in').waitFor();
    await page.getByRole('link', { name: 'The connection', exact: true }).click();
    await page.getByLabel('Password').fill(smtp.password);
    await page.getByRole('button', { name: 'Store credentials' }).click();
    await page.getByText('The new credentials are stored.').waitFor();
    await page.getByText('It works.').waitFor();
    await page.getByText('ready', { exact: true }).waitFor();
  },

  async 'an Outlook connection is added, and one by OAuth begins with what Microsoft and Google need'({ page, world, looks }) {
    const [reader] = world.sandbox.accounts;
    await signIn(page, world, '/connections/new?kind=outlook');
    await looks.at(page, 'connection-new-outlook');
    await fillOutlook(page, world, 'office', reader);
    await page.getByLabel('Who it acts for').selectOption('client_secret');
    await page.getByLabel('Client secret').fill(world.sandbox.graph.client_secret);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('heading', { name: 'office', exact: true }).waitFor();
    await page.getByRole('button', { name: 'Check now' }).click();
    await page.getByText('It works.').waitFor();
    await page.goto(`${world.url}/console/connections/new?kind=smtp`);
    for (const [preset, server] of [['Microsoft 365 by OAuth', 'smtp.office365.com'], ['Gmail by OAuth', 'smtp.gmail.com']]) {
      await press(page, page.getByRole('link', { name: preset }));
      assert.strictEqual(await page.getByLabel('Server', { exact: true }).inputValue(), server);
      await looks.at(page, `connection-new-${server.split('.')[1]}`);
      await page.getByLabel('Id', { exact: true }).fill(`by-${server.split('.')[1]}`);
      await page.getByLabel('User name').fill('ann@example.org');
      await page.getByLabel('Client id').fill('11111111-2222-3333-4444-555555555555');
      await page.getByRole('button', { name: 'Add' }).click();
      await page.getByRole('button', { name: 'Sign in', exact: true }).waitFor();
      const byCode = await page.getByRole('button', { name: 'Sign in by code' }).count();
      assert.strictEqual(byCode, preset.startsWith('Microsoft') ? 1 : 0);
      // They would stay troubles for the rest.
      await page.getByText('Delete this connection').click();
      await page.getByRole('button', { name: 'Delete' }).click();
      await page.getByRole('heading', { name: 'Connections' }).waitFor();
      await page.goto(`${world.url}/console/connections/new?kind=smtp`);
    }
    await page.goto(`${world.url}/console/connections`);
    await looks.at(page, 'connections');
  },

  async 'a mail that is tried out arrives live as an event'({ page, context, world, looks }) {
    const [reader] = world.sandbox.accounts;
    await world.call('event.TriggerService', 'CreateTrigger', {
      connection: 'connections/office', trigger_id: 'new-mail', trigger: { interval: { seconds: 1 }, new_email: {} },
    });
    await signIn(page, world, '/events');
    await page.getByText('live', { exact: true }).waitFor();
    const other = await context.newPage();
    await other.goto(`${world.url}/console/try-out`);
    await other.getByLabel('Connection').selectOption({ label: 'shop (SMTP)' });
    await other.getByLabel('To', { exact: true }).fill(reader);
    await other.getByLabel('Subject').fill('Hello <b>there</b>');
    await other.getByLabel('Body', { exact: true }).fill('<p id="evil" onclick="document.title=1">A <em>body</em><script>parent.document.title="broken"</script></p>');
    await other.getByLabel('the body is HTML').check();
    await looks.at(other, 'try-out');
    await other.getByRole('button', { name: 'Send' }).click();
    await other.getByText('Sent.', { exact: true }).waitFor();
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
    // By the outbox, which the event tells by what it sent.
    await other.getByLabel('Subject').fill('By the outbox');
    await other.getByLabel('put it into the outbox').check();
    await other.getByRole('button', { name: 'Send' }).click();
    await other.getByText('Handed over by the outbox.').waitFor();
    await page.locator('#live li').filter({ hasText: `Mail delivered “By the outbox” to ${reader}` }).waitFor();
    await looks.at(page, 'events');
    // To somebody who is refused.
    await other.getByLabel('To', { exact: true }).fill(world.sandbox.refused);
    await other.getByLabel('send it at once').check();
    await other.getByRole('button', { name: 'Send' }).click();
    await other.getByText('It was not sent.').waitFor();
    await other.getByText('smtp.code: 550').waitFor();
    await looks.at(other, 'try-out-refused');
  },

  async 'what comes while paused waits, and a filter holds for what comes later'({ page, world, looks }) {
    const [reader] = world.sandbox.accounts;
    const send = (subject) => world.call('smtp.SmtpService', 'SendEmail', {
      connection: 'connections/shop', email: { to: [reader], subject, body: 'x' },
    });
    const item = (text) => page.locator('#live li').filter({ hasText: text });
    await signIn(page, world, '/events');
    await page.getByText('live', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    await send('While paused');
    await page.getByText('1 waiting').waitFor();
    assert.strictEqual(await item('While paused').count(), 0);
    // The stream breaks off and comes again: it is still paused, and goes on behind what it had.
    await page.context().setOffline(true);
    await page.context().setOffline(false);
    await page.getByRole('button', { name: 'Go on' }).click();
    await item('While paused').waitFor();
    await page.getByText('live', { exact: true }).waitFor();
    await page.getByLabel('Type').fill('email.delivered');
    await press(page, page.getByRole('button', { name: 'Filter' }));
    await page.getByText('live', { exact: true }).waitFor();
    assert.strictEqual(await item('While paused').count(), 0);
    // First one that does not meet it, which arrives as another type; then one that does.
    await send('Not of this type');
    await until('the other is told of', async () => {
      const { events } = await world.call('event.EventService', 'ListEvents', { page_size: 1000 });
      return events.some((event) => event.data?.new_email?.subject === 'Not of this type');
    });
    await world.call('outbox.OutboxService', 'QueueEmail', {
      connection: 'connections/shop', email: { to: [reader], subject: 'Of this type', body: 'x' },
    });
    await item('Mail delivered “Of this type”').waitFor();
    assert.strictEqual(await item('Not of this type').count(), 0);
    await looks.at(page, 'events-filtered');
  },

  async 'a stream that was refused says why, and one that is signed out says so'({ page, world }) {
    await signIn(page, world, '/events');
    await page.getByText('live', { exact: true }).waitFor();
    // As while the gateway is started again.
    let starting = true;
    await page.route('**/events/stream*', (route) => (starting ? route.fulfill({ status: 503, body: 'starting' }) : route.continue()));
    await page.reload();
    await page.getByText('reconnecting', { exact: true }).waitFor();
    starting = false;
    await page.getByText('live', { exact: true }).waitFor();
    starting = true;
    await page.reload();
    await page.getByText('reconnecting', { exact: true }).waitFor();
    await page.context().clearCookies();
    await page.getByText('signed out: sign in again', { exact: true }).waitFor();
    await page.getByRole('link', { name: 'Sign in again' }).click();
    await page.getByLabel('Token').waitFor();
  },

  async 'a trigger is tried, looked after, paused and resumed'({ page, world, looks }) {
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
    // One that is due in an hour is looked after now.
    const name = 'connections/office/triggers/seldom';
    await world.call('event.TriggerService', 'CreateTrigger', {
      connection: 'connections/office', trigger_id: 'seldom', trigger: { interval: { seconds: 3600 }, event_created: {} },
    });
    const looked = async () => {
      const { trigger } = await world.call('event.TriggerService', 'GetTrigger', { name });
      return trigger.status?.last_poll_time && `${trigger.status.last_poll_time.seconds}.${trigger.status.last_poll_time.nanos}`;
    };
    const before = await until('it was looked after for the first time', looked);
    await page.reload();
    await press(page, page.getByRole('row').filter({ hasText: 'seldom' }).getByRole('button', { name: 'Look now' }));
    await until('it was looked after again', async () => (await looked()) !== before);
  },

  async 'a trigger that fails says why'({ page, world, looks }) {
    await world.connectOutlook('lost', world.sandbox.accounts[1]);
    await world.call('event.TriggerService', 'CreateTrigger', {
      connection: 'connections/lost', trigger_id: 'in-vain', trigger: { interval: { seconds: 1 }, new_email: {} },
    });
    // Its provider is gone: nobody listens on that port.
    const { login_url: login } = world.sandbox.graph;
    await world.call('connection.ConnectionService', 'UpdateConnection', {
      connection: {
        name: 'connections/lost',
        outlook: { custom_cloud: { graph_url: 'http://127.0.0.1:9', login_url: login, allow_plaintext: true } },
      },
      update_mask: { paths: ['outlook.custom_cloud'] },
    });
    await signIn(page, world, '/triggers');
    const row = page.getByRole('row').filter({ hasText: 'in-vain' });
    // What the provider pushes is looked at seldom by itself.
    await press(page, row.getByRole('button', { name: 'Look now' }));
    await until('it has failed three times', async () => {
      await page.reload();
      const text = await row.locator('.state').textContent();
      return Number(/failing \((\d+)\)/.exec(text)?.[1]) > 2;
    }, 60_000);
    await looks.at(page, 'triggers-failing');
  },

  async 'the outbox shows what waits, tries it now, and takes it back'({ page, world, looks }) {
    const queue = (subject, to, more = {}) => world.call('outbox.OutboxService', 'QueueEmail', {
      connection: 'connections/shop', email: { to, subject, body: 'x' }, ...more,
    });
    const nextWeek = { schedule_time: { seconds: Math.floor(Date.now() / 1000) + 7 * 86_400 } };
    await queue('Next week', world.sandbox.accounts, nextWeek);
    await queue('To nobody', [world.sandbox.refused]);
    await signIn(page, world, '/outbox');
    await page.getByRole('heading', { name: 'Outbox' }).waitFor();
    const row = (subject) => page.getByRole('row').filter({ hasText: subject });
    await until('the refused mail has failed', async () => {
      await page.reload();
      return row('To nobody').locator('.state').getByText('failed', { exact: true }).count();
    });
    await looks.at(page, 'outbox');
    await row('Next week').getByRole('button', { name: 'Take back' }).click();
    await row('Next week').locator('.state').getByText('cancelled', { exact: true }).waitFor();
    await press(page, row('Next week').getByRole('button', { name: 'Try now' }));
    await until('it is delivered now', async () => {
      await page.reload();
      return row('Next week').locator('.state').getByText('delivered', { exact: true }).count();
    });
    await press(page, page.getByRole('link', { name: 'Failed', exact: true }));
    await row('To nobody').waitFor();
    assert.strictEqual(await row('Next week').count(), 0, 'the filter holds');
  },

  async 'the overview tells what flows and what is wrong'({ page, world, looks }) {
    await signIn(page, world);
    await page.getByText('1 mail of the outbox failed for good in the last day.').waitFor();
    await page.getByText('connections/lost/triggers/in-vain has failed').waitFor();
    assert.strictEqual(await page.getByText('all is well').count(), 0);
    // Sent at once: two by hand and two by call, of which one was refused. By the outbox: three, of which the last failed,
    // and of the cancelled one that was tried now.
    const [, sent, failed] = /^Mails sent, and failures: (\d+) sent, (\d+) failed in the last hour$/
      .exec(await chart(page, 'Mails sent, and failures'));
    assert.deepStrictEqual([sent, failed], ["6", "2"], 'what was sent and what failed is counted');
    assert.match(await chart(page, 'How long calls took'), /99 of 100 took \d+(\.\d)? m?s at most$/);
    const events = Number(/: (\d+) in the last hour/.exec(await chart(page, 'Events a minute'))[1]);
    const { events: all } = await world.call('event.EventService', 'ListEvents', { page_size: 1000 });
    assert.ok(events >= 6 && events <= all.length, `${events} of ${all.length}`);
    await looks.at(page, 'overview');
    await page.getByRole('link', { name: 'The mails that failed' }).click();
    await page.getByText('To nobody', { exact: true }).waitFor();
  },

  async 'what is not there, and a form that is not of the session, are told as pages'({ page, world, looks }) {
    await signIn(page, world, '/connections/nothing');
    await page.getByRole('heading', { name: 'That did not work' }).waitFor();
    await looks.at(page, 'failed');
    await page.goto(`${world.url}/console/connections/office`);
    await page.getByText('Delete this connection').click();
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByText('tick “and its triggers”').waitFor();
    await page.getByRole('link', { name: 'Go back' }).click();
    await page.getByRole('heading', { name: 'office', exact: true }).waitFor();
    await page.goto(`${world.url}/console/connections/shop`);
    await page.locator('input[name=csrf]').first().evaluateAll(() => {
      for (const field of document.querySelectorAll('input[name=csrf]')) field.value = 'guessed';
    });
    await page.getByRole('button', { name: 'Check now' }).click();
    await page.getByRole('heading', { name: 'This form is out of date' }).waitFor();
    await looks.at(page, 'form-out-of-date');
  },

  // While there is something on each of them.
  ...everyPage,

  async 'a connection is deleted with its triggers'({ page, world }) {
    await signIn(page, world, '/connections/office');
    await page.getByText('Delete this connection').click();
    await page.getByLabel('and its triggers').check();
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'Connections' }).waitFor();
    assert.strictEqual(await page.getByRole('link', { name: 'office' }).count(), 0);
  },
};
