// Questions put to people by mail, as whoever gets the mail sees them, and whatever opens it before them.
const assert = require('node:assert');
const { signIn, until } = require('./world');

// Sooner than this after a page was opened, its button is taken for a machine's.
const A_LOOK = 1_300;

async function ask(world, subject, more = {}, options = []) {
  const [reader] = world.sandbox.accounts;
  const { approval } = await world.call('approval.ApprovalService', 'SendApprovalEmail', {
    connection: 'connections/shop', question: { to: [reader], subject, body: 'Two new chairs, 240 €.', ...more }, options,
  });
  const html = await until(`the mail "${subject}" is there`, async () => {
    const { emails } = await world.call('outlook.MailService', 'GetEmails', { connection: 'connections/office', top: 50 });
    return emails.find((it) => it.subject === subject)?.body;
  });
  const links = [...html.matchAll(/href="([^"]+\/approvals\/[^"]+)"/g)].map(([, link]) => link);
  assert.strictEqual(links.length, options.length || 2, `${links}`);
  assert.ok(links.every((link) => !link.includes(reader.split('@')[0])), 'nothing personal in a link');
  return { name: approval.name, html, links, approve: links[0], reject: links[1] };
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

// What a scanner does in a browser of its own that opens every link of a mail and sends every form that it finds, those of
// the pages that it then gets included: by script, with cookies, and as patiently as a person. Gives how many it sent.
async function scan(browser, links) {
  const context = await browser.newContext();
  const through = async (link) => {
    let sent = 0;
    await fetch(link, { method: 'HEAD' });
    const page = await context.newPage();
    // The forms of each page, by each way in which a script sends one, and then those of what came of it.
    for (const [send, order] of [['submit', [1, 1]], ['requestSubmit', [0, 1, 1]], ['click', [1, 1, 0, 1]]]) {
      await page.goto(link);
      for (const place of order) {
        await page.waitForTimeout(A_LOOK);
        // What the browser itself refuses to send leads nowhere: it asks for no page.
        const asked = page.waitForRequest((request) => request.isNavigationRequest(), { timeout: 1_000 }).catch(() => null);
        const loaded = page.waitForNavigation().catch(() => null);
        sent += await page.evaluate(([at, how]) => {
          const form = document.forms[at];
          if (!form) return 0;
          if (how === 'click') form.querySelector('button').click();
          else form[how]();
          return 1;
        }, [place, send]);
        if (await asked) await loaded;
      }
    }
    return sent;
  };
  try {
    const sent = await Promise.all(links.map(through));
    return sent.reduce((sum, count) => sum + count, 0);
  } finally {
    await context.close();
  }
}

let expiring;

module.exports = {
  async 'a scanner that opens everything and sends every form decides nothing'({ context, page, world, looks }) {
    const { smtp } = world.sandbox;
    await world.call('connection.ConnectionService', 'CreateConnection', {
      connection_id: 'shop',
      connection: {
        display_name: 'The shop',
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
    const twice = await ask(world, 'Scanned twice', { show_html_confirmation_dialog: true });
    const all = [question, twice];
    const sent = await Promise.all(all.map((it) => scan(context.browser(), [it.approve, it.reject])));
    assert.ok(sent.every((count) => count >= 16), `it did send forms: ${sent}`);
    for (const it of all) assert.strictEqual((await stands(world, it)).state, 'APPROVAL_STATE_PENDING');

    // Who comes after it is asked by a list, and answers.
    await page.goto(question.approve);
    await page.getByText('A program, such as a mail scanner').waitFor();
    await looks.at(page, 'approval-list');
    await page.waitForTimeout(A_LOOK);
    await page.getByLabel('choose your answer from the list').selectOption('I give no answer now');
    await page.getByRole('button', { name: /Approve/ }).click();
    await page.getByText('Nothing was answered.').waitFor();
    await page.waitForTimeout(A_LOOK);
    // By the keyboard alone.
    await page.getByLabel('choose your answer from the list').focus();
    await page.keyboard.type('Approve');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Thank you' }).waitFor();
    assert.strictEqual((await stands(world, question)).selected_option, 'Approve');
  },

  async 'a script without a click decides nothing where no form gives it away'({ context, page, world }) {
    // The visible form alone, sent by a script without its button: what a person presses, but for the person.
    const sent = await ask(world, 'By script');
    await page.goto(sent.approve);
    await page.waitForTimeout(A_LOOK);
    await page.evaluate(() => document.forms[1].requestSubmit());
    await page.getByRole('heading', { name: 'Are you sure?' }).waitFor();
    // By its button, but by nobody's hand: what is run through the debugger would count as a person's.
    const pressed = await ask(world, 'By a script that presses');
    const other = await context.browser().newContext();
    try {
      await other.addInitScript((wait) => {
        // Once: the page that comes of it is looked at.
        if (location.protocol !== 'http:' || window.name) return;
        window.name = 'pressed';
        const press = () => document.querySelector('form:not([hidden]) button').click();
        window.addEventListener('load', () => setTimeout(press, wait));
      }, A_LOOK);
      const alone = await other.newPage();
      // Whatever is asked of the page before that would count as somebody's hand, too.
      const sending = alone.waitForResponse((response) => response.request().method() === 'POST');
      await alone.goto(pressed.approve);
      await sending;
      await alone.getByRole('heading', { name: 'Are you sure?' }).waitFor();
    } finally {
      await other.close();
    }
    for (const it of [sent, pressed]) assert.strictEqual((await stands(world, it)).state, 'APPROVAL_STATE_PENDING');
    // A click in the same browser answers at once.
    const real = await ask(world, 'By a click');
    await answer(page, real.approve);
    await page.getByRole('heading', { name: 'Thank you' }).waitFor();
    assert.strictEqual((await stands(world, real)).selected_option, 'Approve');
  },

  async 'the mail reads well, in light and dark, narrow and wide'({ page, world, looks }) {
    const long = 'Ask me again in a week, when the budget of the quarter is known';
    const mails = [
      ['mail-text', {}, undefined],
      ['mail-html', {
        language: 'de', is_html: true,
        body: '<p>Liebe <b>Anna</b>, hier ist <a href="https://example.org">das Angebot</a>.</p><table border="1"><tr><td>Stuhl</td><td>240 €</td></tr></table>',
      }, ['Ja', 'Nein', long]],
    ];
    for (const [name, more, options] of mails) {
      const question = await ask(world, `Looked at: ${name}`, more, options);
      await page.setContent(question.html);
      assert.strictEqual(await page.getByRole('link').count(), question.links.length + (more.is_html ? 1 : 0));
      await looks.at(page, name);
    }
  },

  async 'the button approves, and a second click says who answered what'({ page, world, looks }) {
    const question = await ask(world, 'New chairs');
    await page.goto(question.approve);
    await page.getByRole('button', { name: /Approve/ }).waitFor();
    // Who asks, though the question names nobody, and until when.
    await page.getByText('The shop').waitFor();
    await page.getByText(/^\d{1,2} [A-Z][a-z]+ \d{4}, \d\d:\d\d UTC$/).waitFor();
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
    await signIn(page, world, '/approvals');
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
