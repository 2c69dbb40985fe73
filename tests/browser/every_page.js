// What holds for every page of the console: it works without script, and by keyboard. Steps of a world that has a
// connection shop, a connection office with a trigger new-mail, and a mail that came.
const assert = require('node:assert');
const { press, signIn } = require('./world');

// How often Tab is pressed at most to get round a page.
const ROUND = 80;
const PAGES = {
  '': 'Overview', '/connections': 'Connections', '/connections/shop': 'shop', '/connections/new?kind=smtp': 'Add an SMTP server',
  '/connections/new?kind=outlook': 'Add an Outlook account', '/triggers': 'Triggers', '/events': 'Live events',
  '/approvals': 'Approvals', '/outbox': 'Outbox', '/try-out': 'Try out',
};

// What can be used on a page, told so that it is found again.
const usable = (page) => page.evaluate(() => {
  const shown = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')]
    .filter((it) => it.checkVisibility() && !it.disabled);
  shown.forEach((it, at) => { it.dataset.at = at; });
  // Of the buttons of one choice, Tab reaches the one that is chosen.
  return shown.filter((it) => it.type !== 'radio' || it.checked).map((it) => ({ at: it.dataset.at, what: it.outerHTML.slice(0, 120) }));
});

// What Tab reaches, in its order.
async function reached(page) {
  const order = [];
  for (let step = 0; step < ROUND; step += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => document.activeElement?.dataset?.at);
    if (at !== undefined && order.includes(at)) break;
    if (at !== undefined) order.push(at);
  }
  return order;
}

module.exports = {
  async 'every page works without script'({ context, world }) {
    const plain = await context.browser().newContext({ javaScriptEnabled: false });
    try {
      const page = await plain.newPage();
      await signIn(page, world);
      for (const [path, heading] of Object.entries(PAGES)) {
        await page.goto(`${world.url}/console${path}`);
        await page.getByRole('heading', { name: heading, exact: true, level: 1 }).waitFor();
      }
      await page.goto(`${world.url}/console/connections`);
      await page.getByRole('link', { name: 'shop' }).click();
      await page.getByRole('button', { name: 'Check now' }).click();
      await page.getByText('It works.').waitFor();
      await page.goto(`${world.url}/console/events`);
      await page.getByLabel('Source').fill('connections/office');
      await press(page, page.getByRole('button', { name: 'Filter' }));
      const item = page.locator('#live li').filter({ hasText: 'Hello <b>there</b>' });
      await item.locator('summary').click();
      await item.locator('pre').getByText('email.received').waitFor();
      assert.strictEqual(await page.getByText('Mail delivered').count(), 0);
      await page.goto(`${world.url}/console/try-out`);
      await page.getByLabel('To', { exact: true }).fill(world.sandbox.accounts[0]);
      await page.getByLabel('Connection').selectOption({ label: 'shop (SMTP)' });
      await page.getByRole('button', { name: 'Send' }).click();
      await page.getByText('Sent.', { exact: true }).waitFor();
      await page.goto(`${world.url}/console/triggers`);
      const row = page.getByRole('row').filter({ hasText: 'new-mail' });
      await row.getByRole('button', { name: 'Pause' }).click();
      await row.getByRole('button', { name: 'Resume' }).click();
      await row.getByText('active', { exact: true }).waitFor();
      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.getByLabel('Token').waitFor();
    } finally {
      await plain.close();
    }
  },

  async 'every page is used by keyboard'({ page, world }) {
    await page.goto(`${world.url}/console`);
    // The field is where one begins.
    await page.waitForFunction(() => document.activeElement?.id === 'token');
    await page.keyboard.type(world.token);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Overview' }).waitFor();
    await page.keyboard.press('Tab');
    assert.strictEqual(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content');
    await page.keyboard.press('Enter');
    await page.waitForURL(/#main$/);
    for (const path of Object.keys(PAGES)) {
      await page.goto(`${world.url}/console${path}`);
      const wanted = await usable(page);
      const order = await reached(page);
      const missed = wanted.filter(({ at }) => !order.includes(at)).map(({ what }) => what);
      assert.deepStrictEqual(missed, [], `${path}: Tab does not reach these`);
      assert.deepStrictEqual(order, [...order].sort((a, b) => a - b), `${path}: in the order of the page`);
      assert.ok(order.length > 8, `${path}: ${order.length}`);
    }
    await page.goto(`${world.url}/console/connections/shop`);
    const focused = () => page.evaluate(() => document.activeElement.textContent.trim());
    for (let step = 0; step < ROUND && (await focused()) !== 'Check now'; step += 1) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByText('It works.').waitFor();
    await page.goto(`${world.url}/console/events`);
    await page.locator('#live summary').first().focus();
    await page.keyboard.press('Enter');
    await page.locator('#live li').first().locator('pre').waitFor();
  },
};
