#!/usr/bin/env node
// What people see, in a real browser: the console, approvals and sign-in, against the built programs.
//
// main.js PROGRAMS [--pictures FOLDER] [STEP…]: the folder of the built programs; where to keep a picture of each page;
// which steps to run (all). Needs playwright-core, axe-core, @grpc/grpc-js and @grpc/proto-loader on NODE_PATH, and
// Chromium at /usr/bin/chromium. Exit code 0: all held.
const { chromium } = require('playwright-core');
const { Looks } = require('./looks');
const { World } = require('./world');

const STEPS = ['console', 'approvals', 'approval_pages', 'sign_in'];
// How long a page or an element may take, in milliseconds.
const PATIENCE = 20_000;
const CHROMIUM = process.env.POSTERN_CHROMIUM || '/usr/bin/chromium';

async function main() {
  const args = process.argv.slice(2);
  const programs = args.shift();
  const at = args.indexOf('--pictures');
  const pictures = at < 0 ? undefined : args.splice(at, 2)[1];
  const wanted = args.length ? args : STEPS;
  const looks = new Looks(pictures);
  const failures = [];
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update',
      '--disable-sync', '--no-first-run'],
  });
  try {
    for (const name of wanted) {
      const world = await World.start(programs);
      try {
        for (const [what, step] of Object.entries(require(`./${name}`))) {
          const context = await browser.newContext();
          context.setDefaultTimeout(PATIENCE);
          const page = await context.newPage();
          const wrong = [];
          page.on('pageerror', (error) => wrong.push(`script: ${error.message} (${page.url()})`));
          // A page that says that something is not possible says so by its status too; and a mail's script that is kept
          // from running is what its frame is for. Neither is a fault.
          const meant = /^(Failed to load resource.*status of (4(0[0349]|10)|503)|Blocked script execution in 'about:srcdoc')/;
          const said = (message) => message.type() === 'error' && !meant.test(message.text());
          page.on('console', (message) => said(message) && wrong.push(`${message.text()} (${page.url()})`));
          const begun = Date.now();
          try {
            await step({ page, context, world, looks, wrong });
            if (wrong.length) throw new Error(`the browser complains: ${wrong.join('; ')}`);
            console.log(`ok      ${name}: ${what} (${Date.now() - begun} ms)`);
          } catch (error) {
            failures.push(`${name}: ${what}`);
            console.log(`FAILED  ${name}: ${what}\n${error.stack}\n${world.log('gateway')}`);
            console.log(`the page, ${page.url()}:\n${(await page.content().catch(() => '')).slice(0, 4000)}`);
          } finally {
            await context.close();
          }
        }
      } finally {
        await world.stop();
      }
    }
  } finally {
    await browser.close();
  }
  for (const finding of looks.findings) console.log(`LOOKS   ${finding}`);
  if (failures.length || looks.findings.length) {
    throw new Error(`${failures.length} steps failed, ${looks.findings.length} findings`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
